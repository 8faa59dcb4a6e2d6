//! MLflow's own tracking server, on SQLite and a folder of artifacts, with one worker; it takes some seconds to start.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::io;
use crate::ports::free_port;
use crate::{Error, Result};

/// How long a start may take on a busy machine before it counts as failed: it is Python's imports for the most part.
const START_TIMEOUT: Duration = Duration::from_secs(240);

/// Another process may take a port between its choice and its use; then everything is tried again.
const START_ATTEMPTS: u32 = 3;

/// Starts the server as the leader of a session of its own and says which it is. When standard input closes, which also
/// happens when the test process dies, all processes of that session are killed.
const KEEPER: &str = r#"
folder=$1; shift
setsid "$@" >"$folder/log" 2>&1 </dev/null &
server=$!
echo $server
cat >/dev/null
# Its workers have process groups of their own, but its session.
kill -9 $(ps -o pid= -s $server) 2>/dev/null
wait $server
"#;

/// A running server; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    process: u32,
    started_in: Duration,
    keeper: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    folder: TempDir,
}

impl Server {
    /// Starts a server on a free loopback port and waits until it answers. The program is `mlflow` in the virtual
    /// environment `.venv-mlflow`. It keeps its rows in SQLite and serves artifacts from a folder. Its runner of jobs
    /// (scorers and the like), six more processes, stays off.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::NotStarted`] with its log.
    pub async fn start() -> Result<Self> {
        let program = program("mlflow")?;
        let mut attempt = 1;
        loop {
            let mut server = Self::spawn(&program)?;
            match server.wait_until_ready().await {
                Ok(()) => return Ok(server),
                Err(error) if attempt >= START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The first of its processes, which leads the session of all of them.
    pub fn process_id(&self) -> u32 {
        self.process
    }

    /// From the start of the process to the first answer.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its SQLite file.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("mlflow.db")
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn spawn(program: &Path) -> Result<Self> {
        use std::io::{BufRead, BufReader};

        let folder = TempDir::new().map_err(io("making a folder for MLflow"))?;
        let port = free_port()?;
        let database = format!("sqlite:///{}", folder.path().join("mlflow.db").display());
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "sh"]).arg(folder.path()).arg(program).arg("server");
        shell.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"]);
        shell.args(["--backend-store-uri", &database, "--artifacts-destination"]).arg(folder.path().join("artifacts"));
        // Settings of the one who runs the tests would lead it elsewhere.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MLFLOW_")) {
            shell.env_remove(name);
        }
        shell.env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false").env("MLFLOW_DISABLE_TELEMETRY", "true");
        shell.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = shell.spawn().map_err(io("start the shell that keeps MLflow"))?;
        let lifeline = keeper.stdin.take();
        let mut line = String::new();
        if let Some(said) = keeper.stdout.take() {
            BufReader::new(said).read_line(&mut line).map_err(io("read MLflow's process"))?;
        }
        let process = line.trim().parse().unwrap_or_default();
        Ok(Self { port, process, started_in: Duration::ZERO, keeper, lifeline, folder })
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            if self.is_healthy().await {
                self.started_in = began.elapsed();
                return Ok(());
            }
            let log = self.log();
            if began.elapsed() > START_TIMEOUT || log.contains("address already in use") || log.contains("Traceback") {
                let lines: Vec<&str> = log.lines().collect();
                let reason = lines[lines.len().saturating_sub(20)..].join("\n");
                return Err(Error::NotStarted { program: "mlflow", reason });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_healthy(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        ask.await.is_ok_and(|answer| answer.ends_with("OK"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The keeper kills the server at once, and never fails to end.
        let _status = self.keeper.wait();
    }
}

/// A program in the environment of the newest MLflow: `mlflow` or `python`.
///
/// # Errors
/// [`Error::Missing`] when it is not installed.
pub fn program(name: &'static str) -> Result<PathBuf> {
    find(".venv-mlflow", name)
}

/// Python in the environment of the client that is a year older.
///
/// # Errors
/// [`Error::Missing`] when it is not installed.
pub fn old_python() -> Result<PathBuf> {
    find(".venv-mlflow-old", "python")
}

fn find(environment: &str, name: &'static str) -> Result<PathBuf> {
    let path = Path::new(env!("WORKSPACE_ROOT")).join(environment).join("bin").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Missing { program: name, tried: path.display().to_string(), install: "run scripts/setup --test" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn all_its_processes_end_with_it() {
        let server = Server::start().await.unwrap();
        let session = server.process_id();
        assert!(processes_of(session) > 1, "{}", server.log());
        assert!(server.database().is_file());
        drop(server);
        // Killed processes are gone when the system has tidied them up.
        let began = Instant::now();
        while processes_of(session) > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "processes are left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Living processes whose session is this one: the sixth field of `/proc/PID/stat`.
    fn processes_of(session: u32) -> usize {
        let stats = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        let of_session = |stat: &String| {
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            fields[0] != "Z" && fields[3] == session.to_string()
        };
        stats.filter(of_session).count()
    }
}
