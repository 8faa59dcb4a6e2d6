//! A Docker daemon of a test's own, with its own images and containers.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::error::io;
use crate::{Error, Result};

const PROGRAM: &str = "/usr/sbin/dockerd";

/// How long a start may take on a busy machine before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running daemon without networks; it ends when this value is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Starts a daemon on a socket in a folder of its own. Only root may, on a kernel that lets containers be made.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::NotStarted`] with its log.
    pub fn start() -> Result<Self> {
        if !Path::new(PROGRAM).is_file() {
            let install = "run scripts/setup --test";
            return Err(Error::Missing { program: "dockerd", tried: PROGRAM.to_owned(), install });
        }
        let folder = TempDir::new().map_err(io("making a folder for Docker"))?;
        let at = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(at("log")).map_err(io("writing Docker's log"))?;
        let child = Command::new(PROGRAM)
            // Neither the machine's own settings nor its networks are touched.
            .args(["--config-file", "/dev/null", "--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("socket").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io("starting dockerd"))?;
        let mut daemon = Self { child, folder };
        let began = Instant::now();
        while !daemon.answers() {
            let ended = daemon.child.try_wait().map_err(io("waiting for dockerd"))?.is_some();
            if ended || began.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(daemon.folder.path().join("log")).unwrap_or_default();
                return Err(Error::NotStarted { program: "dockerd", reason: log });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    /// `docker`, for this daemon.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.folder.path().join("socket").display()));
        command
    }

    fn answers(&self) -> bool {
        let asked = self.command().arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked to end, it unmounts what it mounted; its folder could not be removed otherwise.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _status = self.child.wait();
    }
}
