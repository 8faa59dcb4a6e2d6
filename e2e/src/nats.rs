//! A NATS server with JetStream, up at once.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::io;
use crate::kept::Kept;
use crate::ports::free_port;
use crate::{Error, Result};

/// A running server; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
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
        let port = free_port()?;
        let (number, data) = (port.to_string(), folder.path().join("data").display().to_string());
        let args = ["-js", "-a", "127.0.0.1", "-p", &number, "-sd", &data];
        let kept = Kept::start("nats-server", &program, &args, port, folder).await?;
        Ok(Self { kept })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://{}", self.kept.host())
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
