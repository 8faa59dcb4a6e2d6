//! What pods have written, for the API server: HTTPS, as a kubelet gives it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use platform::identity::Guard;
use platform::serve::{Entrance, Server, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::io;
use crate::{Error, Result};

/// Files of what pods have written.
#[derive(Clone, Debug)]
pub(super) struct Logs(Arc<TempDir>);

/// The server of the logs.
pub(super) struct Serving {
    pub(super) port: u16,
    pub(super) task: JoinHandle<()>,
}

impl Logs {
    pub(super) fn new(folder: TempDir) -> Self {
        Self(Arc::new(folder))
    }

    /// Where a container writes.
    pub(super) fn file(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.0.path().join(format!("{namespace}_{pod}_{container}.log"))
    }

    /// Answers until `stopped`.
    pub(super) async fn serve(&self, stopped: watch::Receiver<bool>) -> Result<Serving> {
        let failed = |reason: String| Error::NotStarted { program: "kubelet", reason };
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).map_err(|error| failed(error.to_string()))?;
        let (certificate, key) = (self.0.path().join("tls.crt"), self.0.path().join("tls.key"));
        std::fs::write(&certificate, cert.pem()).map_err(io("write a certificate"))?;
        std::fs::write(&key, signing_key.serialize_pem()).map_err(io("write a key"))?;
        let entrance =
            Entrance { guard: Guard::Open, tls: Some(Tls::open(&certificate, &key)?), ..Entrance::default() };
        let server = Server::bind(([127, 0, 0, 1], 0).into(), &entrance).await?;
        let port = server.address().port();
        let router =
            Router::new().route("/containerLogs/{namespace}/{pod}/{container}", get(log)).with_state(self.clone());
        Ok(Serving { port, task: tokio::spawn(server.run(router, stopped)) })
    }
}

async fn log(
    State(logs): State<Logs>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(asked): Query<HashMap<String, String>>,
) -> std::result::Result<String, StatusCode> {
    let file = logs.file(&namespace, &pod, &container);
    let bytes = std::fs::read(file).map_err(|_| StatusCode::NOT_FOUND)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let most = asked.get("tailLines").and_then(|most| most.parse().ok());
    let from = most.map_or(0, |most| lines.len().saturating_sub(most));
    Ok(lines[from..].concat())
}
