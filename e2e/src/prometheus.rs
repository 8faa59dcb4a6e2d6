//! A Prometheus server that scrapes every second.

use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::error::io;
use crate::kept::Kept;
use crate::ports::free_port;
use crate::{Error, Result};

/// A running server; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    kept: Kept,
    targets: PathBuf,
}

impl Server {
    /// Starts a server on a free loopback port and waits until it takes connections. The program is Debian's `prometheus`.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not installed, [`Error::NotStarted`] with its log.
    pub async fn start() -> Result<Self> {
        let program = find(&std::env::var_os("PATH").unwrap_or_default())?;
        let folder = TempDir::new().map_err(io("make a folder for Prometheus"))?;
        let targets = folder.path().join("targets.json");
        let settings = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{
                "job_name": "safari",
                "file_sd_configs": [{"files": [targets.display().to_string()], "refresh_interval": "1s"}],
            }],
        });
        let file = folder.path().join("prometheus.yaml");
        std::fs::write(&file, settings.to_string()).map_err(io("write the settings of Prometheus"))?;
        write(&targets, &[])?;
        let port = free_port()?;
        let args = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let kept = Kept::start("prometheus", &program, &args, port, folder).await?;
        Ok(Self { kept, targets })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.kept.host())
    }

    /// Lets it scrape `/metrics` of these, each `HOST:PORT`, in the place of those before.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be told.
    pub fn scrape(&self, targets: &[String]) -> Result<()> {
        write(&self.targets, targets)
    }
}

fn write(file: &Path, targets: &[String]) -> Result<()> {
    let text = json!([{"targets": targets, "labels": {"namespace": "e2e"}}]).to_string();
    let next = file.with_extension("next");
    std::fs::write(&next, text).map_err(io("write the targets of Prometheus"))?;
    std::fs::rename(&next, file).map_err(io("tell Prometheus its targets"))
}

fn find(path: &std::ffi::OsStr) -> Result<PathBuf> {
    let found = std::env::split_paths(path).map(|folder| folder.join("prometheus")).find(|program| program.is_file());
    found.ok_or_else(|| Error::Missing {
        program: "prometheus",
        tried: "in PATH".to_owned(),
        install: "run scripts/setup --test, or `apt-get install prometheus`",
    })
}
