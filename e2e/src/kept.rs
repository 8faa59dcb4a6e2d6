//! A server of one process and one port, which ends with the tests that need it.

use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::io;
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
pub(crate) struct Kept {
    port: u16,
    keeper: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    folder: TempDir,
}

impl Kept {
    /// Starts `program`, which is to listen on `port` of 127.0.0.1 and may write into `folder`, and waits until it takes
    /// connections.
    ///
    /// # Errors
    /// [`Error::NotStarted`] with its log.
    pub(crate) async fn start(
        program: &'static str,
        path: &Path,
        args: &[&str],
        port: u16,
        folder: TempDir,
    ) -> Result<Self> {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(folder.path())
            .arg(path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(io("starting the shell that keeps a server"))?;
        let lifeline = keeper.stdin.take();
        let server = Self { port, keeper, lifeline, folder };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if began.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
                return Err(Error::NotStarted { program, reason: log });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The keeper kills the server at once, and never fails to end.
        let _status = self.keeper.wait();
    }
}
