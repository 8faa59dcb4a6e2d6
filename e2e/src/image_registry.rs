//! A registry of container images: Debian's `docker-registry`.

use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::io;
use crate::ports::free_ports;
use crate::{Error, Result};

/// How long a start may take on a busy machine before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(30);

const PROGRAM: &str = "/usr/bin/docker-registry";

/// Starts the server and waits. When standard input closes, which also happens when the test process dies, the server is
/// killed.
const KEEPER: &str = r#"
folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -9 $server
"#;

/// A running registry; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    keeper: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    folder: TempDir,
}

impl Server {
    /// Starts a registry that lets everybody write, on a free loopback port, and waits until it takes connections.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::NotStarted`] with its log.
    pub async fn start() -> Result<Self> {
        if !Path::new(PROGRAM).is_file() {
            let install = "run scripts/setup --test";
            return Err(Error::Missing { program: "docker-registry", tried: PROGRAM.to_owned(), install });
        }
        let folder = TempDir::new().map_err(io("making a folder for the registry of images"))?;
        let port = free_ports(1)?.into_iter().next().unwrap_or_default();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            folder.path().join("data").display()
        );
        std::fs::write(&config, text).map_err(io("writing the settings of the registry of images"))?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(folder.path())
            .args([PROGRAM, "serve"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(io("starting the registry of images"))?;
        let lifeline = keeper.stdin.take();
        let server = Self { port, keeper, lifeline, folder };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if began.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(Error::NotStarted { program: "docker-registry", reason: log });
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
