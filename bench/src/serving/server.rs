//! `safari serve` in a process of its own.

use std::process::{Child, Stdio};
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
    /// Starts it and waits until it is ready.
    pub(super) async fn start(place: &Workplace) -> Result<Self> {
        let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let port = e2e::free_port().map_err(|error| Error::failed("a port", error.to_string()))?;
        let mut command = place.serve(home.path(), port, &place.root.join(TINY));
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(Error::io("safari serve"))?;
        let mut server = Self { port, started_in: Duration::ZERO, child, _home: home };
        while !server.is_ready().await {
            if began.elapsed() > START {
                return Err(Error::failed("safari serve", "it is not ready; start it by hand to see why"));
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
