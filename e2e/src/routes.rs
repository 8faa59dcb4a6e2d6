//! An API server that knows HTTPRoutes of the Gateway API: a real one for everything else, and routes that are kept here, since
//! the control plane of the tests dies of kinds that are not its own (it is older than the Go that it was built with).
//!
//! Of the API's rules for such objects it has what decides a race: a version that grows with each change, a generation that
//! grows with what was asked for, 409 for a change of a version that is no more, and lists that are changed as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use kube::Client;
use kube::client::Body as KubeBody;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Result;
use crate::error::io;

/// The most bytes of a request that are read.
const MOST: usize = 16 * 1024 * 1024;
const GROUP: &str = "gateway.networking.k8s.io/v1";

/// An API server with HTTPRoutes; it ends when this value is dropped.
#[derive(Debug)]
pub struct Front {
    routes: Routes,
    folder: TempDir,
    serving: JoinHandle<()>,
}

/// The routes, by namespace and name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<Mutex<BTreeMap<(String, String), Value>>>);

#[derive(Clone)]
struct Shared {
    client: Client,
    routes: Routes,
}

impl Front {
    /// Starts on a free loopback port; whoever asks it has the rights of `client`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when there is no port or folder for it.
    pub async fn start(client: Client) -> Result<Self> {
        let routes = Routes::default();
        let shared = Shared { client, routes: routes.clone() };
        let router = Router::new()
            .route("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes", get(list))
            .route(
                "/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}",
                get(one).patch(change),
            )
            .fallback(pass_on)
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(io("find a port for an API server"))?;
        let address = listener.local_addr().map_err(io("find a port for an API server"))?;
        let folder = TempDir::new().map_err(io("make a folder for a kubeconfig"))?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "tests", "user": {}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        });
        std::fs::write(folder.path().join("kubeconfig"), config.to_string()).map_err(io("write a kubeconfig"))?;
        let serving = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { routes, folder, serving })
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The routes, for whoever made them and for their gateway.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Routes {
    /// The route, if it is there.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Value> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Gives a route what was asked for, whoever has changed it meanwhile; one that is not there is made.
    pub fn set(&self, namespace: &str, name: &str, spec: &Value) {
        let change = json!({"spec": spec});
        let _ = self.merge(namespace, name, &change, true);
    }

    /// Tells a route how it stands.
    pub(crate) fn tell(&self, namespace: &str, name: &str, status: &Value) {
        let _ = self.merge(namespace, name, &json!({"status": status}), false);
    }

    fn merge(&self, namespace: &str, name: &str, change: &Value, makes: bool) -> std::result::Result<Value, Problem> {
        let mut all = self.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let now = match all.get(&key) {
            Some(now) => now.clone(),
            None if makes => json!({
                "apiVersion": GROUP, "kind": "HTTPRoute",
                "metadata": {"name": name, "namespace": namespace, "generation": 0, "resourceVersion": "0", "uid": name},
            }),
            None => return Err(Problem::NotFound(name.to_owned())),
        };
        let wanted = &change["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != now["metadata"]["resourceVersion"] {
            return Err(Problem::Conflict(name.to_owned()));
        }
        let mut next = now.clone();
        for part in ["spec", "status"] {
            if !change[part].is_null() {
                merge(&mut next[part], &change[part]);
            }
        }
        if next == now {
            return Ok(now);
        }
        let grown = |text: &Value| text.as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default() + 1;
        next["metadata"]["resourceVersion"] = json!(grown(&now["metadata"]["resourceVersion"]).to_string());
        if next["spec"] != now["spec"] {
            next["metadata"]["generation"] = json!(now["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
        }
        all.insert(key, next.clone());
        Ok(next)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a route is not changed.
enum Problem {
    NotFound(String),
    Conflict(String),
    BadRequest(String),
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let of = |name: &str| format!("httproutes.gateway.networking.k8s.io \"{name}\"");
        let (code, reason, message) = match self {
            Self::NotFound(name) => (StatusCode::NOT_FOUND, "NotFound", format!("{} not found", of(&name))),
            Self::Conflict(name) => {
                let message = format!("Operation cannot be fulfilled on {}: the object has been modified", of(&name));
                (StatusCode::CONFLICT, "Conflict", message)
            }
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, "BadRequest", message),
        };
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code.as_u16(),
        });
        (code, Json(status)).into_response()
    }
}

async fn list(State(shared): State<Shared>, Path(namespace): Path<String>) -> Json<Value> {
    let all = shared.routes.lock();
    let items: Vec<&Value> = all.iter().filter(|(key, _)| key.0 == namespace).map(|(_, route)| route).collect();
    Json(json!({"apiVersion": GROUP, "kind": "HTTPRouteList", "metadata": {"resourceVersion": "1"}, "items": items}))
}

async fn one(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
) -> std::result::Result<Json<Value>, Problem> {
    shared.routes.get(&namespace, &name).map(Json).ok_or(Problem::NotFound(name))
}

async fn change(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> std::result::Result<Json<Value>, Problem> {
    let change: Value = serde_json::from_slice(&body).map_err(|error| Problem::BadRequest(error.to_string()))?;
    shared.routes.merge(&namespace, &name, &change, false).map(Json)
}

/// Everything else is the real server's.
async fn pass_on(State(shared): State<Shared>, request: Request) -> Response {
    let bad = |error: &dyn std::fmt::Display| (StatusCode::BAD_GATEWAY, error.to_string()).into_response();
    let (mut parts, body) = request.into_parts();
    let bytes = match axum::body::to_bytes(body, MOST).await {
        Ok(bytes) => bytes,
        Err(error) => return bad(&error),
    };
    parts.headers.remove("host");
    let request = axum::http::Request::from_parts(parts, KubeBody::from(bytes));
    match shared.client.send(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => bad(&error),
    }
}

/// RFC 7386: objects are merged, lists replaced.
fn merge(now: &mut Value, change: &Value) {
    match (now, change) {
        (_, Value::Null) => {}
        (Value::Object(now), Value::Object(change)) => {
            for (key, value) in change {
                merge(now.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (now, change) => *now = change.clone(),
    }
}
