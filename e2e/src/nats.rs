//! A NATS server with JetStream, up at once.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::io;
use crate::ports::free_ports;
use crate::{Error, Result};

/// How long a start may take on a busy machine before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the server and waits. When standard input closes, which also happens when the test process dies, the server is
/// killed.
const KEEPER: &str = r#"
folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -9 $server
"#;

/// A running server; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    keeper: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    folder: TempDir,
}

impl Server {
    /// Starts a server on a free loopback port and waits until it takes connections. The program is `nats-server` in the
    /// tests' virtual environment.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::NotStarted`] with its log.
    pub async fn start() -> Result<Self> {
        let program = find()?;
        let folder = TempDir::new().map_err(io("making a folder for NATS"))?;
        let port = free_ports(1)?.into_iter().next().unwrap_or_default();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(folder.path())
            .arg(program)
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(io("starting NATS"))?;
        let lifeline = keeper.stdin.take();
        let server = Self { port, keeper, lifeline, folder };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if began.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(Error::NotStarted { program: "nats-server", reason: log });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The keeper kills the server at once, and never fails to end.
        let _status = self.keeper.wait();
    }
}

fn find() -> Result<PathBuf> {
    let program = Path::new(env!("WORKSPACE_ROOT")).join(".venv/bin/nats-server");
    if program.is_file() {
        return Ok(program);
    }
    let tried = program.display().to_string();
    Err(Error::Missing { program: "nats-server", tried, install: "run scripts/setup --test" })
}
