//! Jobs and homes for tests.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pipeline::{Dag, Job, JobContext, JobError, JobOutput, JobRegistry, RunOutcome, Runner, RunnerOptions, Store};
use platform::database::{Address, Database, Engine};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

type Work = Pin<Box<dyn Future<Output = Result<JobOutput, JobError>> + Send>>;
type Function = dyn Fn(JobContext, Value) -> Work + Send + Sync;

/// A job made of a function.
pub struct FunctionJob {
    kind: &'static str,
    function: Box<Function>,
}

#[async_trait::async_trait]
impl Job for FunctionJob {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        match with.get("forbidden") {
            Some(_) => Err("`forbidden` is not allowed".to_string()),
            None => Ok(()),
        }
    }

    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        (self.function)(context, with).await
    }
}

/// A job of a kind that does what the function says.
pub fn job<F, W>(kind: &'static str, function: F) -> Arc<dyn Job>
where
    F: Fn(JobContext, Value) -> W + Send + Sync + 'static,
    W: Future<Output = Result<JobOutput, JobError>> + Send + 'static,
{
    Arc::new(FunctionJob { kind, function: Box::new(move |context, with| Box::pin(function(context, with))) })
}

/// Jobs that every test may use: `give` gives back `with.value`, `fail` fails with `with.message`, `sleep` sleeps.
pub fn registry(jobs: impl IntoIterator<Item = Arc<dyn Job>>) -> JobRegistry {
    let mut registry = JobRegistry::new();
    let basic = [
        job("give", |_, with| async move { Ok(JobOutput::new(with.get("value").cloned().unwrap_or_default())) }),
        job("fail", |_, with| async move {
            Err(JobError::permanent(with["message"].as_str().unwrap_or("it failed").to_string()))
        }),
        job("sleep", |context: JobContext, with| async move {
            let time = Duration::from_millis(with["ms"].as_u64().unwrap_or(10));
            tokio::select! {
                () = tokio::time::sleep(time) => Ok(JobOutput::new(json!(null))),
                () = context.cancel.cancelled() => Err(JobError::interrupted()),
            }
        }),
    ];
    for job in basic.into_iter().chain(jobs) {
        registry.register(job).unwrap();
    }
    registry
}

/// The file in a home folder that names the home's own database on the server.
const URL_FILE: &str = "state.url";

const BACKUP_FILE: &str = "backup";

/// The server of all tests of this binary.
static SERVER: OnceCell<e2e::postgres::Server> = OnceCell::const_new();

/// The store of a home folder; processes that share the folder share it.
pub async fn store(home: &Path) -> Store {
    Store::open(database(home).await).await.unwrap()
}

/// The database of a home folder, without tables until there is a store.
pub async fn database(home: &Path) -> Database {
    Database::open(&address(home).await).await.unwrap()
}

/// Where that is.
pub async fn address(home: &Path) -> Address {
    match crate::ENGINE {
        Engine::Sqlite => Address::Sqlite(home.join("state.db")),
        Engine::Postgres => Address::Postgres(own_database(home).await),
    }
}

/// Writes a backup of the home's database while others use it.
pub async fn back_up(home: &Path) {
    let backup = home.join(BACKUP_FILE);
    if crate::ENGINE == Engine::Postgres {
        let url = own_database(home).await;
        return SERVER.get().unwrap().back_up(&url, &backup).unwrap();
    }
    let database = database(home).await;
    let written = sqlx::query(sqlx::AssertSqlSafe(format!("VACUUM INTO '{}'", backup.display())));
    written.execute(database.pool()).await.unwrap();
    database.pool().close().await;
}

/// Puts the backup back when nobody uses the database.
pub async fn put_back(home: &Path) {
    let backup = home.join(BACKUP_FILE);
    if crate::ENGINE == Engine::Postgres {
        let url = own_database(home).await;
        return SERVER.get().unwrap().put_back(&url, &backup).unwrap();
    }
    // What the journal holds is newer than the backup.
    for file in ["state.db-wal", "state.db-shm"] {
        let _there_may_be_none = std::fs::remove_file(home.join(file));
    }
    std::fs::rename(backup, home.join("state.db")).unwrap();
}

/// Makes the home's database in this process: a child that made it would end the server with itself.
pub fn prepare(home: &Path) {
    if crate::ENGINE == Engine::Postgres {
        tokio::runtime::Runtime::new().unwrap().block_on(own_database(home));
    }
}

pub async fn own_database(home: &Path) -> String {
    let file = home.join(URL_FILE);
    if let Ok(url) = std::fs::read_to_string(&file) {
        return url;
    }
    let server = SERVER.get_or_init(|| async { e2e::postgres::Server::start().await.unwrap() }).await;
    let url = server.database().await.unwrap();
    // A link appears with its whole text; another task of this test may have been faster.
    let draft = home.join(format!("{URL_FILE}-{}", uuid::Uuid::new_v4()));
    std::fs::write(&draft, &url).unwrap();
    match std::fs::hard_link(&draft, &file) {
        Ok(()) => url,
        Err(_) => std::fs::read_to_string(&file).unwrap(),
    }
}

/// A runner on a home folder.
pub async fn runner(home: &Path, jobs: impl IntoIterator<Item = Arc<dyn Job>>) -> Runner {
    Runner::new(store(home).await, registry(jobs), RunnerOptions::new(home))
}

/// Parses a DAG that must be right.
pub fn dag(yaml: &str) -> Dag {
    Dag::parse("test.yaml", yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a DAG without parameters in a fresh home.
pub async fn run(yaml: &str, jobs: impl IntoIterator<Item = Arc<dyn Job>>) -> RunOutcome {
    let home = tempfile::tempdir().unwrap();
    let runner = runner(home.path(), jobs).await;
    run_in(&runner, yaml).await
}

/// Runs a DAG without parameters.
pub async fn run_in(runner: &Runner, yaml: &str) -> RunOutcome {
    let dag = dag(yaml);
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    runner.drive(start.run_id()).await.unwrap()
}
