//! A registry of container images: Debian's `docker-registry`.

use std::path::Path;

use tempfile::TempDir;

use crate::error::io;
use crate::kept::Kept;
use crate::ports::free_port;
use crate::{Error, Result};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// A running registry; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
}

impl Server {
    /// Starts a registry that lets everybody write, on a free loopback port, and waits until it takes connections.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::NotStarted`] with its log.
    pub async fn start() -> Result<Self> {
        let (program, path) = ("docker-registry", Path::new(PROGRAM));
        if !path.is_file() {
            let install = "run scripts/setup --test";
            return Err(Error::Missing { program, tried: PROGRAM.to_owned(), install });
        }
        let folder = TempDir::new().map_err(io("making a folder for the registry of images"))?;
        let port = free_port()?;
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            folder.path().join("data").display()
        );
        std::fs::write(&config, text).map_err(io("writing the settings of the registry of images"))?;
        let kept = Kept::start(program, path, &["serve", &config.display().to_string()], port, folder).await?;
        Ok(Self { kept })
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> String {
        self.kept.host()
    }
}
