//! The servers beside ours: LitServe and MLServer, with the same TorchScript files, one thread a process and as many
//! processes as cores.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::http::{Connection, Request};
use crate::machine::{self, cores};
use crate::workplace::Workplace;

/// How long one may take to start: it imports torch in each of its processes.
const START: Duration = Duration::from_secs(120);

/// The shipped networks.
const MODEL: &str = "detector/model/wildlife";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    LitServe,
    MlServer,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::LitServe, Self::MlServer];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LitServe => "LitServe",
            Self::MlServer => "MLServer",
        }
    }

    fn environment(self) -> &'static str {
        match self {
            Self::LitServe => ".venv-bench-litserve/bin",
            Self::MlServer => ".venv-bench-mlserver/bin",
        }
    }
}

/// One that runs. It leads a session of its own, and all of that session is ended with it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) kind: Kind,
    pub(super) port: u16,
    pub(super) started_in: Duration,
    child: Child,
    _folder: TempDir,
}

impl Peer {
    /// Starts it and waits until all of its models answer; `Err` of the inner kind says why there is none.
    pub(super) async fn start(place: &Workplace, kind: Kind) -> Result<std::result::Result<Self, String>> {
        let programs = place.root.join(kind.environment());
        if !programs.exists() {
            let reason = format!("skipped: {} is missing; run scripts/setup --bench", programs.display());
            return Ok(Err(reason));
        }
        let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let port = e2e::free_port().map_err(|error| Error::failed("a port", error.to_string()))?;
        let began = Instant::now();
        let child = command(place, kind, &programs, folder.path(), port)?.spawn().map_err(Error::io(kind.name()))?;
        let mut peer = Self { kind, port, started_in: Duration::ZERO, child, _folder: folder };
        while !peer.is_ready().await {
            if began.elapsed() > START {
                return Err(Error::failed(kind.name(), "it is not ready; start it by hand to see why"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peer.started_in = began.elapsed();
        Ok(Ok(peer))
    }

    /// A photograph.
    pub(super) fn picture(&self, jpeg: &[u8]) -> Request {
        self.with_bytes("detections", "image", jpeg)
    }

    /// A row of a small table.
    pub(super) fn row(&self) -> Request {
        match self.kind {
            Kind::LitServe => Request::post("/row", &json!({ "index": [2] })),
            Kind::MlServer => infer("row", &json!({ "name": "index", "shape": [1], "datatype": "INT64", "data": [2] })),
        }
    }

    /// The length of what comes.
    pub(super) fn length(&self, payload: &[u8]) -> Request {
        self.with_bytes("length", "payload", payload)
    }

    /// Both take bytes as base64 in JSON.
    fn with_bytes(&self, model: &str, field: &str, bytes: &[u8]) -> Request {
        let text = BASE64_STANDARD.encode(bytes);
        match self.kind {
            Kind::LitServe => Request::post(format!("/{model}"), &json!({ field: text })),
            Kind::MlServer => infer(
                model,
                &json!({
                    "name": field, "shape": [1], "datatype": "BYTES",
                    "parameters": { "content_type": "base64" }, "data": [text],
                }),
            ),
        }
    }

    /// Seconds of the processor that its processes have taken.
    pub(super) fn processor_seconds(&self) -> Result<f64> {
        Ok(machine::of_session(self.child.id())?.into_iter().map(machine::processor_seconds).sum())
    }

    /// Memory of its processes.
    pub(super) fn mebibytes(&self) -> Result<f64> {
        Ok(machine::of_session(self.child.id())?.into_iter().map(machine::mebibytes).sum())
    }

    /// Whether each model answers; LitServe is asked for a row, which one of its processes gives.
    async fn is_ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.port).await else { return false };
        for ask in [self.row(), self.length(b"abc")] {
            if connection.ask(&ask).await.is_err() {
                return false;
            }
        }
        match self.kind {
            Kind::LitServe => connection.ask(&Request::get("/health")).await.is_ok(),
            Kind::MlServer => connection.ask(&Request::get("/v2/models/detections/ready")).await.is_ok(),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for pid in machine::of_session(self.child.id()).unwrap_or_default() {
            // It may have ended meanwhile.
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        drop(self.child.wait());
    }
}

fn infer(model: &str, input: &Value) -> Request {
    Request::post(format!("/v2/models/{model}/infer"), &json!({ "inputs": [input] }))
}

fn command(place: &Workplace, kind: Kind, programs: &Path, folder: &Path, port: u16) -> Result<Command> {
    let scripts = place.root.join("scripts/bench");
    let with_options = |command: &mut Command, script: &str| {
        command.arg(scripts.join(script)).arg("--model").arg(place.root.join(MODEL));
        command.args(["--port", &port.to_string(), "--workers", &cores().to_string()]);
    };
    // A session of its own, so that all of its processes are found.
    let mut command = Command::new("setsid");
    match kind {
        Kind::LitServe => {
            command.arg(programs.join("python"));
            with_options(&mut command, "litserve_server.py");
        }
        Kind::MlServer => {
            let mut prepare = Command::new(programs.join("python"));
            with_options(&mut prepare, "mlserver_models.py");
            crate::process::time({
                prepare.arg(folder);
                prepare
            })?;
            command.arg(programs.join("mlserver")).arg("start").arg(folder);
        }
    }
    command.current_dir(&scripts).env("PYTHONPATH", &scripts);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}
