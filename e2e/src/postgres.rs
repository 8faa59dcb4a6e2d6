//! A PostgreSQL server, up in a second or two.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use platform::database::{Address, Database};
use tempfile::TempDir;
use uuid::Uuid;

use crate::error::io;
use crate::ports::free_port;
use crate::{Error, Result};

/// How long a start may take on a busy machine before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Another process may take a port between its choice and its use; then everything is tried again.
const START_ATTEMPTS: u32 = 3;

/// Where Debian puts the programs of each version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// The administrator of the server.
const USER: &str = "safari";

/// Starts the server and waits. When standard input closes, which also happens when the test process dies, the server is
/// stopped at once and its files are removed. The line `restart` restarts it as a crash would: all its processes are killed,
/// and a new server recovers from its log; `stop` and `start` do half of that. `kill` ends all its processes with SIGKILL.
const KEEPER: &str = r#"
folder=$1; shift
start() { "$@" >>"$folder/log" 2>&1 </dev/null & server=$!; echo $server; }
stop() { kill -QUIT $server 2>/dev/null; wait $server; }
end() {
    kill -STOP $server 2>/dev/null
    kill -KILL $server $(cat /proc/$server/task/$server/children) 2>/dev/null
    wait $server
}
start "$@"
while read -r line; do
    case $line in
    stop) stop ;;
    start) start "$@" ;;
    kill) end ;;
    restart) stop; start "$@" ;;
    esac
done
stop
rm -rf "$folder"
"#;

/// A running server. It ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    password: String,
    log: PathBuf,
    keeper: Child,
    /// A line on it restarts the server; closing it ends it.
    lifeline: Option<ChildStdin>,
    _folder: TempDir,
}

impl Server {
    /// Starts a server on a free loopback port and waits until it answers.
    ///
    /// The programs are looked for in the folder `SAFARI_POSTGRES_BIN`, and where Debian puts them. PostgreSQL refuses to
    /// run as root: then the user `postgres` of Debian's package runs it. One server is enough for all tests of a binary:
    /// keep it in a [`tokio::sync::OnceCell`] and give each test its own [`Server::database`]. Nothing is flushed to the
    /// disk, as the files live no longer than the server.
    ///
    /// # Errors
    /// [`Error::Missing`] when PostgreSQL is not installed, [`Error::NotStarted`] with the end of its log.
    pub async fn start() -> Result<Server> {
        Self::start_with(&["fsync=off"]).await
    }

    /// The same, with every commit flushed to the disk: for measurements.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_durable() -> Result<Server> {
        Self::start_with(&[]).await
    }

    /// The same with settings of the caller's own, such as `archive_mode=on`.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(settings: &[&str]) -> Result<Server> {
        Self::start_in(settings, &[]).await
    }

    /// The same with variables for the server and the programs that it calls.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_in(settings: &[&str], variables: &[(&str, &str)]) -> Result<Server> {
        let programs = find_programs()?;
        let mut attempt = 1;
        loop {
            let mut server = Self::spawn(&programs, settings, variables)?;
            match server.wait_until_ready().await {
                Ok(()) => return Ok(server),
                Err(error) if attempt >= START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's refusal.
    pub async fn database(&self) -> Result<String> {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let server = Database::open(&Address::Postgres(self.url("postgres"))).await?;
        let made = sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(server.pool()).await;
        server.pool().close().await;
        made.map_err(|source| Error::Database { action: "make a database", source })?;
        Ok(self.url(&name))
    }

    /// Stops the server without a word to its clients and starts it again, as after a crash; waits until it answers.
    ///
    /// # Errors
    /// [`Error::NotStarted`] with the end of its log.
    pub async fn restart(&mut self) -> Result<()> {
        self.tell("restart")?;
        // The old server may still answer while the keeper stops it; it has read the line within this time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.wait_until_ready().await
    }

    /// Kills all processes of the server; its files stay. Gives back when its port is closed.
    ///
    /// # Errors
    /// [`Error::NotStarted`] when it is still there after a minute.
    pub async fn stop(&mut self) -> Result<()> {
        self.tell("stop")?;
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            if began.elapsed() > START_TIMEOUT {
                return Err(self.not_started("it does not end"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The keeper has waited for the process by now, or does so within this time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }

    /// Ends all processes of the server with SIGKILL, as a machine that is lost; its files stay. Gives back when they are gone.
    ///
    /// # Errors
    /// [`Error::NotStarted`] when one is still there after a minute.
    pub async fn kill(&mut self) -> Result<()> {
        let processes = self.processes();
        self.tell("kill")?;
        let began = Instant::now();
        while processes.iter().any(|process| lives(*process)) {
            if began.elapsed() > START_TIMEOUT {
                return Err(self.not_started("it does not end"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// The server's process and its children.
    fn processes(&self) -> Vec<u32> {
        let note = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(server) = note.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else {
            return Vec::new();
        };
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|process| process.parse().ok());
        std::iter::once(server).chain(children).collect()
    }

    /// Starts the server that was stopped or killed, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::NotStarted`] with the end of its log.
    pub async fn start_again(&mut self) -> Result<()> {
        self.tell("start")?;
        self.wait_until_ready().await
    }

    /// The folder of its files.
    pub fn data(&self) -> PathBuf {
        self.socket().join("data")
    }

    /// The folder of its socket.
    pub fn socket(&self) -> PathBuf {
        self.log.parent().map(Path::to_owned).unwrap_or_default()
    }

    fn tell(&mut self, word: &str) -> Result<()> {
        use std::io::Write;
        if let Some(lifeline) = &mut self.lifeline {
            writeln!(lifeline, "{word}").map_err(io("tell the server's keeper"))?;
        }
        Ok(())
    }

    /// Writes a backup of a database to a file, while others use it.
    ///
    /// # Errors
    /// [`Error::Failed`] with the words of `pg_dump`.
    pub fn back_up(&self, url: &str, file: &Path) -> Result<()> {
        // What the backup is put into may hold what came later.
        run("pg_dump", &["--clean", "--if-exists", "--file"], file, url)
    }

    /// Puts a backup back in the place of what the database holds.
    ///
    /// # Errors
    /// [`Error::Failed`] with the words of `psql`.
    pub fn put_back(&self, url: &str, file: &Path) -> Result<()> {
        run("psql", &["--quiet", "--set", "ON_ERROR_STOP=1", "--single-transaction", "--file"], file, url)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    fn spawn(programs: &Path, more_settings: &[&str], variables: &[(&str, &str)]) -> Result<Server> {
        let folder = tempfile::Builder::new().prefix("safari-postgres-").tempdir().map_err(io("make a folder"))?;
        let password = Uuid::new_v4().simple().to_string();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, &password).map_err(io("write the server's password"))?;
        let data = folder.path().join("data");
        let as_user = user_switch(folder.path())?;

        let mut initdb = command(&as_user, &programs.join("initdb"));
        initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.arg("--username").arg(USER).arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&data);
        let made = initdb.current_dir(folder.path()).output().map_err(io("start initdb"))?;
        if !made.status.success() {
            let reason = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(Error::NotStarted { program: "initdb", reason });
        }

        let port = free_port()?;
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(KEEPER).arg("keeper").arg(folder.path());
        shell.args(&as_user).arg(programs.join("postgres")).arg("-D").arg(&data);
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.path().display()),
            "max_connections=300".to_owned(),
        ];
        for setting in settings.iter().map(String::as_str).chain(more_settings.iter().copied()) {
            shell.arg("-c").arg(setting);
        }
        shell.envs(variables.iter().copied());
        shell.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut keeper = shell.spawn().map_err(io("start the shell that keeps PostgreSQL"))?;
        let lifeline = keeper.stdin.take();
        Ok(Server { port, password, log: folder.path().join("log"), keeper, lifeline, _folder: folder })
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            let last = match Database::open(&Address::Postgres(self.url("postgres"))).await {
                Ok(database) => {
                    database.pool().close().await;
                    return Ok(());
                }
                Err(error) => error.to_string(),
            };
            if started.elapsed() > START_TIMEOUT || self.has_failed() {
                return Err(self.not_started(&last));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A port that another program took, or settings that are refused, do not get better by waiting.
    fn has_failed(&self) -> bool {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().any(|line| line.contains("FATAL:  could not") || line.contains("FATAL:  configuration"))
    }

    fn not_started(&self, last: &str) -> Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::NotStarted { program: "postgres", reason: format!("{last}; its log ends with\n{end}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The keeper stops the server at once, and never fails to end.
        let _status = self.keeper.wait();
    }
}

/// Whether a process is there and is not only waiting for somebody to ask how it ended.
fn lives(process: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    // The state follows the name, which is in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Runs a program of PostgreSQL's on a file and a database.
fn run(program: &'static str, args: &[&str], file: &Path, url: &str) -> Result<()> {
    let mut command = Command::new(find_programs()?.join(program));
    let output = command.args(args).arg(file).arg(url).output().map_err(io("start a program of PostgreSQL's"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Failed { program, reason: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// The newest version that is installed.
fn find_programs() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("SAFARI_POSTGRES_BIN").filter(|path| !path.is_empty()) {
        let folder = PathBuf::from(named);
        return if folder.join("postgres").is_file() { Ok(folder) } else { Err(missing()) };
    }
    let versions = std::fs::read_dir(DEBIAN_FOLDER).map_err(|_| missing())?;
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.flatten().map(|entry| entry.path()).max_by_key(version);
    newest.map(|folder| folder.join("bin")).filter(|bin| bin.join("postgres").is_file()).ok_or_else(missing)
}

fn missing() -> Error {
    Error::Missing {
        program: "postgres",
        tried: format!("in SAFARI_POSTGRES_BIN and {DEBIAN_FOLDER}"),
        install: "run scripts/setup --test, or install Debian's package postgresql",
    }
}

/// As root: the words that run a program as the user `postgres`, to whom the folder is given.
fn user_switch(folder: &Path) -> Result<Vec<String>> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(folder).map_err(io("look at the server's folder"))?.uid() != 0 {
        return Ok(Vec::new());
    }
    let given = Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder).status();
    if !given.map_err(io("give the folder to the user postgres"))?.success() {
        return Err(missing());
    }
    let words = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
    Ok(words.map(str::to_owned).to_vec())
}

fn command(as_user: &[String], program: &Path) -> Command {
    let Some((first, rest)) = as_user.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn keeps_its_databases_through_a_crash_and_leaves_nothing_behind() {
        let mut server = Server::start().await.unwrap();
        let folder = server.log.parent().unwrap().to_owned();
        let address = Address::Postgres(server.database().await.unwrap());
        let database = Database::open(&address).await.unwrap();
        sqlx::query("CREATE TABLE t (x BIGINT)").execute(database.pool()).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (7)").execute(database.pool()).await.unwrap();
        database.pool().close().await;

        server.restart().await.unwrap();
        let database = Database::open(&address).await.unwrap();
        let kept: i64 = sqlx::query_scalar("SELECT x FROM t").fetch_one(database.pool()).await.unwrap();
        assert_eq!(kept, 7);
        database.pool().close().await;

        let port = server.port;
        drop(server);
        assert!(!folder.exists());
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    }

    #[tokio::test]
    async fn a_wrong_password_is_told_without_showing_it() {
        let server = Server::start().await.unwrap();
        let url = server.url("postgres").replace(&server.password, "wrong-password");
        let error = Database::open(&Address::Postgres(url)).await.unwrap_err().to_string();
        assert!(error.contains("check user and password in `state.url`"), "{error}");
        assert!(!error.contains("wrong-password"), "{error}");
        let url = server.url("nowhere");
        let error = Database::open(&Address::Postgres(url)).await.unwrap_err().to_string();
        assert!(error.contains("create the database"), "{error}");
    }
}
