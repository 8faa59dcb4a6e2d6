//! A Redis server, up at once.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::io;
use crate::kept::Kept;
use crate::ports::free_port;
use crate::{Error, Result};

/// Where Debian puts it.
const PROGRAM: &str = "/usr/bin/redis-server";

/// A running server; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
}

impl Server {
    /// Starts a server on a free loopback port and waits until it takes connections. It keeps nothing on the disk.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::NotStarted`] with its log.
    pub async fn start() -> Result<Self> {
        let port = free_port()?;
        Self::start_on(port).await
    }

    /// As [`Server::start`], on a port where one was before.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_on(port: u16) -> Result<Self> {
        let program = find()?;
        let folder = TempDir::new().map_err(io("making a folder for Redis"))?;
        let (number, data) = (port.to_string(), folder.path().display().to_string());
        let args = ["--bind", "127.0.0.1", "--port", &number, "--save", "", "--appendonly", "no", "--dir", &data];
        let kept = Kept::start("redis-server", &program, &args, port, folder).await?;
        Ok(Self { kept })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.kept.host())
    }
}

fn find() -> Result<PathBuf> {
    if Path::new(PROGRAM).is_file() {
        return Ok(PROGRAM.into());
    }
    Err(Error::Missing { program: "redis-server", tried: PROGRAM.to_owned(), install: "run scripts/setup --test" })
}
