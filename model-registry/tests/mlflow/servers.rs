//! Servers of these tests: ours on either database, and MLflow's own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use model_registry::serve::{Options, Places, Service};
use model_registry::store::Store;
use model_registry::webhooks::WebhookOptions;
use platform::database::{Address, Engine};
use platform::object_store::Location;
use platform::serve::Entrance;
use tempfile::TempDir;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

/// The database server of all tests of this binary.
static POSTGRES: OnceCell<e2e::postgres::Server> = OnceCell::const_new();
/// MLflow's own server takes many seconds to start: one serves all tests.
static REAL: OnceCell<e2e::mlflow::Server> = OnceCell::const_new();

/// Our server, listening.
pub struct Ours {
    pub url: String,
    pub home: TempDir,
    serving: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Ours {
    /// One that lets everybody in.
    pub async fn start(engine: Engine) -> Self {
        Self::behind(engine, Entrance::default()).await
    }

    pub async fn behind(engine: Engine, entrance: Entrance) -> Self {
        let home = tempfile::tempdir().unwrap();
        let database = address(engine, home.path()).await;
        // Ours brings SQLite's tables up to date by itself; on PostgreSQL it is `safari migrate` that does.
        drop(Store::open(&database, "mlflow-artifacts:").await.unwrap());
        let places = Places {
            database,
            artifacts: Location::from(home.path().join("artifacts").as_path()),
            home: home.path().to_owned(),
            webhooks: WebhookOptions::default(),
        };
        let options = Options { listen: "127.0.0.1:0".parse().unwrap(), entrance, places };
        let service = Service::open(&options).await.unwrap();
        let url = format!("http://{}", service.address());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(async move { service.run(stopped).await });
        Self { url, home, serving, _stop: stop }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// MLflow's own server.
pub async fn real() -> &'static e2e::mlflow::Server {
    REAL.get_or_init(|| async { e2e::mlflow::Server::start().await.unwrap() }).await
}

/// What a Python program of these tests prints; it must succeed.
pub async fn python(program: &Path, args: &[&str]) -> String {
    let mut command = tokio::process::Command::new(program);
    command.arg("-B").args(args).current_dir(scripts()).kill_on_drop(true);
    // Settings of the one who runs the tests would lead the client elsewhere.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MLFLOW_")) {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}\n{said}\n{errors}");
    said
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

async fn address(engine: Engine, home: &Path) -> Address {
    match engine {
        Engine::Sqlite => Address::Sqlite(home.join("registry.db")),
        Engine::Postgres => {
            let server = POSTGRES.get_or_init(|| async { e2e::postgres::Server::start().await.unwrap() }).await;
            Address::Postgres(server.database().await.unwrap())
        }
    }
}
