//! The two servers: ours and MLflow's own, each a process with what it starts.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::mlflow;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::http::{Connection, Request};
use crate::machine;
use crate::workplace::Workplace;

/// How long ours may take to start.
const START: Duration = Duration::from_secs(30);

/// A server that is measured.
pub(super) struct Contestant {
    pub(super) port: u16,
    pub(super) database: PathBuf,
    pub(super) started_in: Duration,
    processes: Processes,
    folder: PathBuf,
}

enum Processes {
    Ours { child: Child, _home: TempDir },
    Real(mlflow::Server),
}

impl Contestant {
    /// `safari registry` on SQLite and a folder, in its usual configuration.
    pub(super) async fn ours(place: &Workplace) -> Result<Self> {
        let parts = Parts::new()?;
        let command = place.registry(parts.home.path(), parts.port, &parts.database, &parts.folder);
        Self::started(parts, command).await
    }

    /// The same by the program without libtorch, if that was built.
    pub(super) async fn small(place: &Workplace) -> Result<Option<Self>> {
        let parts = Parts::new()?;
        match place.small_registry(parts.home.path(), parts.port, &parts.database, &parts.folder) {
            Some(command) => Ok(Some(Self::started(parts, command).await?)),
            None => Ok(None),
        }
    }

    async fn started(parts: Parts, mut command: Command) -> Result<Self> {
        let Parts { home, database, folder, port } = parts;
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(Error::io("safari registry"))?;
        let mut started = Self {
            port,
            database,
            started_in: Duration::ZERO,
            processes: Processes::Ours { child, _home: home },
            folder,
        };
        while !started.answers().await {
            if began.elapsed() > START {
                return Err(Error::failed("safari registry", "it does not answer; start it by hand to see why"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        started.started_in = began.elapsed();
        Ok(started)
    }

    /// `mlflow server` on SQLite and a folder, with one worker and without its runner of jobs.
    pub(super) async fn real() -> Result<Self> {
        let server =
            mlflow::Server::start().await.map_err(|error| Error::failed("mlflow server", error.to_string()))?;
        let database = server.database();
        let folder = database.with_file_name("artifacts");
        let port = server.url().rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        Ok(Self { port, database, started_in: server.started_in(), processes: Processes::Real(server), folder })
    }

    async fn answers(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.port).await else { return false };
        connection.ask(&Request::get("/health")).await.is_ok()
    }

    /// A file of its artifacts.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Seconds of the processor that its processes have taken, from `/proc/PID/stat`.
    pub(super) fn processor_seconds(&self) -> Result<f64> {
        Ok(self.pids()?.into_iter().map(machine::processor_seconds).sum())
    }

    /// MiB of memory of its processes; pages that several share count once (`Pss`).
    pub(super) fn mebibytes(&self) -> Result<f64> {
        Ok(self.pids()?.into_iter().map(machine::mebibytes).sum())
    }

    fn pids(&self) -> Result<Vec<u32>> {
        match &self.processes {
            Processes::Ours { child, .. } => Ok(vec![child.id()]),
            Processes::Real(server) => machine::of_session(server.process_id()),
        }
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        if let Processes::Ours { child, .. } = &mut self.processes {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Where a server of ours keeps its things.
struct Parts {
    home: TempDir,
    database: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Parts {
    fn new() -> Result<Self> {
        let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let (database, folder) = (home.path().join("registry.db"), home.path().join("artifacts"));
        let port = e2e::free_port().map_err(|error| Error::failed("a port", error.to_string()))?;
        Ok(Self { home, database, folder, port })
    }
}
