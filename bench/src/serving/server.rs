//! `safari serve`, or the bare server, in a process of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::http::{Connection, Request};
use crate::machine;
use crate::workplace::Workplace;

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(60);

/// Plain models, as the tests of the protocol have them.
const TINY: &str = "serving/tests/models";

/// A server that is ready; it ends with this value.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) started_in: Duration,
    child: Child,
    _home: TempDir,
}

impl Server {
    /// Starts `safari serve` and waits until it is ready.
    pub(super) async fn start(place: &Workplace) -> Result<Self> {
        Self::start_as(|home, port| place.serve(home, port, &place.root.join(TINY))).await
    }

    /// The same with the bare server.
    pub(super) async fn start_bare(place: &Workplace) -> Result<Self> {
        Self::start_as(|_, port| place.bare_server(port)).await
    }

    async fn start_as(command: impl FnOnce(&Path, u16) -> Command) -> Result<Self> {
        let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let port = e2e::free_port().map_err(|error| Error::failed("a port", error.to_string()))?;
        let mut command = command(home.path(), port);
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(Error::io("a server"))?;
        let mut server = Self { port, started_in: Duration::ZERO, child, _home: home };
        while !server.is_ready().await {
            if began.elapsed() > START {
                return Err(Error::failed("a server", format!("it is not ready; see why by hand: {command:?}")));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.started_in = began.elapsed();
        Ok(server)
    }

    /// Seconds of the processor that it has taken.
    pub(super) fn processor_seconds(&self) -> f64 {
        machine::processor_seconds(self.child.id())
    }

    /// Its memory.
    pub(super) fn mebibytes(&self) -> f64 {
        machine::mebibytes(self.child.id())
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.port).await else { return false };
        connection.ask(&Request::get("/healthz/ready")).await.is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
