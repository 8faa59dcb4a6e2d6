//! Garbage collection.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use model_registry::artifacts::Artifacts;
use model_registry::gc::{GcReport, gc};
use model_registry::store::Store;
use platform::database::Address;
use platform::object_store::Location;
use serde_json::{Value, json};

use crate::common::Registry;

/// For the child process of [`killed_at_any_moment_it_leaves_nothing_that_names_missing_files`]: tables, and files.
const TABLES: &str = "REGISTRY_TEST_TABLES";
const FILES: &str = "REGISTRY_TEST_FILES";

const HOUR: Duration = Duration::from_secs(3600);

/// A registry with things in it, as clients leave them.
struct World {
    registry: Registry,
}

impl World {
    async fn new() -> Self {
        Self { registry: Registry::new().await }
    }

    async fn experiment(&self, name: &str) -> String {
        let made = self.registry.must("POST", "experiments/create", json!({ "name": name })).await;
        made["experiment_id"].as_str().unwrap().to_owned()
    }

    /// A run with a file; its identifier and where its files are.
    async fn run(&self, experiment: &str) -> (String, String) {
        let made = self.registry.must("POST", "runs/create", json!({"experiment_id": experiment})).await;
        let info = &made["run"]["info"];
        let uri = info["artifact_uri"].as_str().unwrap().to_owned();
        self.write(&format!("{uri}/model/weights"), 100);
        (info["run_id"].as_str().unwrap().to_owned(), uri)
    }

    async fn logged_model(&self, experiment: &str) -> (String, String) {
        let made =
            self.registry.must("POST", "logged-models", json!({"experiment_id": experiment, "name": "net"})).await;
        let info = &made["model"]["info"];
        let uri = info["artifact_uri"].as_str().unwrap().to_owned();
        self.write(&format!("{uri}/MLmodel"), 10);
        (info["model_id"].as_str().unwrap().to_owned(), uri)
    }

    fn path(&self, uri: &str) -> PathBuf {
        let key = uri.strip_prefix("mlflow-artifacts:/").unwrap();
        self.registry.home.path().join("artifacts").join(key)
    }

    fn write(&self, uri: &str, size: usize) {
        let path = self.path(uri);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x".repeat(size)).unwrap();
    }

    fn has(&self, uri: &str) -> bool {
        self.path(uri).exists()
    }

    /// Lets the grace period of all that is deleted by now pass.
    async fn wait(&self) {
        for sql in [
            "UPDATE run SET deleted_at = deleted_at - 7200000",
            "UPDATE logged_model SET deleted_at = deleted_at - 7200000",
            "UPDATE experiment SET updated_at = updated_at - 7200000",
            "UPDATE orphan SET since = since - 7200000",
        ] {
            self.registry.change(sql).await;
        }
    }

    async fn collect(&self, dry_run: bool) -> GcReport {
        gc(&self.registry.app.store, &self.registry.app.artifacts, HOUR, dry_run).await.unwrap()
    }

    /// Every row that names files in this store names files that are there.
    async fn names_no_missing_files(&self) {
        let database = platform::database::Database::open(&self.registry.address).await.unwrap();
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT artifact_uri FROM run UNION ALL SELECT artifact_location FROM logged_model
             UNION ALL SELECT storage_location FROM model_version",
        )
        .fetch_all(database.pool())
        .await
        .unwrap();
        database.pool().close().await;
        for (uri,) in rows.iter().filter(|(uri,)| uri.starts_with("mlflow-artifacts:")) {
            assert!(self.has(uri), "{uri} is named and not there");
        }
    }
}

#[tokio::test]
async fn what_was_sent_for_a_version_that_is_not_there_goes_too() {
    let world = World::new().await;
    let registry = &world.registry;
    let sent = json!([{"key": "safari.idempotency_key", "value": "k"}]);
    let mut made = Vec::new();
    for (name, tags) in [("used", &sent), ("broken off", &sent), ("logged", &json!([]))] {
        let body = json!({"experiment_id": "0", "name": name, "tags": tags});
        let info = registry.must("POST", "logged-models", body).await["model"]["info"].clone();
        let uri = info["artifact_uri"].as_str().unwrap().to_owned();
        world.write(&format!("{uri}/MLmodel"), 10);
        made.push((info["model_id"].as_str().unwrap().to_owned(), uri));
    }
    registry.must("POST", "registered-models/create", json!({"name": "owl"})).await;
    let version = json!({"name": "owl", "source": format!("models:/{}", made[0].0), "model_id": made[0].0});
    registry.must("POST", "model-versions/create", version).await;

    // One that was begun a moment ago may still be under way.
    assert_eq!(world.collect(false).await.given_up, 0);
    registry.change("UPDATE logged_model SET created_at = created_at - 90000000").await;
    assert_eq!((world.collect(true).await.given_up, world.collect(false).await.given_up), (1, 1));
    assert_eq!(world.collect(false).await.logged_models, 0);
    world.wait().await;
    assert_eq!(world.collect(false).await.logged_models, 1);
    world.wait().await;
    world.collect(false).await;
    assert_eq!(made.iter().map(|(_, uri)| world.has(uri)).collect::<Vec<_>>(), [true, false, true]);

    // The version goes, and whoever removed it died before its files were given up.
    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": "1"})).await;
    assert_eq!(world.collect(false).await.given_up, 1);
    world.wait().await;
    assert_eq!(world.collect(false).await.logged_models, 1);
    assert!(!world.has(&made[0].1) && world.has(&made[2].1));
}

#[tokio::test]
async fn what_was_deleted_goes_when_its_grace_period_is_over() {
    let world = World::new().await;
    let registry = &world.registry;
    let experiment = world.experiment("old").await;
    let (_, of_experiment) = world.run(&experiment).await;
    let (_, net_of_experiment) = world.logged_model(&experiment).await;
    let (gone, gone_uri) = world.run("0").await;
    let (_, kept_uri) = world.run("0").await;
    let (net, net_uri) = world.logged_model("0").await;
    registry.must("POST", "runs/delete", json!({"run_id": gone})).await;
    registry.must("DELETE", &format!("logged-models/{net}"), Value::Null).await;
    registry.must("POST", "experiments/delete", json!({"experiment_id": experiment})).await;
    let early = world.collect(false).await;
    assert_eq!((early.runs, early.logged_models, early.experiments, early.files), (0, 0, 0, 0), "{early}");

    world.wait().await;
    let planned = world.collect(true).await;
    assert_eq!((planned.runs, planned.logged_models, planned.experiments), (2, 2, 1), "{planned}");
    assert_eq!((planned.files, planned.bytes), (4, 220));
    for uri in [&of_experiment, &net_of_experiment, &gone_uri, &net_uri, &kept_uri] {
        assert!(world.has(uri), "a plan removes nothing");
    }
    assert_eq!(registry.sql("SELECT count(*) FROM run").await, 3);

    let done = world.collect(false).await;
    assert_eq!((done.runs, done.logged_models, done.experiments, done.files, done.bytes), (2, 2, 1, 4, 220), "{done}");
    for uri in [&of_experiment, &net_of_experiment, &gone_uri, &net_uri] {
        assert!(!world.has(&format!("{uri}/model/weights")) && !world.has(&format!("{uri}/MLmodel")), "{uri}");
    }
    assert!(world.has(&format!("{kept_uri}/model/weights")));
    assert_eq!(registry.sql("SELECT count(*) FROM run").await, 1);
    assert_eq!(registry.sql("SELECT count(*) FROM experiment").await, 1);
    assert_eq!(registry.sql("SELECT count(*) FROM orphan").await, 0);
    let again = world.collect(false).await;
    assert_eq!((again.runs, again.files), (0, 0));
}

#[tokio::test]
async fn files_that_a_version_needs_stay_and_go_after_it() {
    let world = World::new().await;
    let registry = &world.registry;
    let experiment = world.experiment("old").await;
    let (run, uri) = world.run(&experiment).await;
    let (other, other_uri) = world.run("0").await;
    let (net, net_uri) = world.logged_model("0").await;
    registry.model("owl", 0).await;
    for body in [
        json!({"name": "owl", "source": format!("{uri}/model"), "run_id": run}),
        json!({"name": "owl", "source": format!("runs:/{other}/model"), "run_id": other}),
        json!({"name": "owl", "source": format!("models:/{net}"), "model_id": net}),
    ] {
        registry.must("POST", "model-versions/create", body).await;
    }
    registry.must("POST", "runs/delete", json!({"run_id": other})).await;
    registry.must("DELETE", &format!("logged-models/{net}"), Value::Null).await;
    registry.must("POST", "experiments/delete", json!({"experiment_id": experiment})).await;
    world.wait().await;
    for dry_run in [true, false] {
        let report = world.collect(dry_run).await;
        assert_eq!((report.runs, report.logged_models, report.experiments, report.files), (0, 0, 0, 0), "{report:?}");
        assert_eq!(report.kept.len(), 4, "{report:?}");
        let reasons: Vec<&str> = report.kept.iter().map(|kept| kept.reason.as_str()).collect();
        assert!(reasons.contains(&"version 2 of owl needs its files"), "{reasons:?}");
    }
    world.names_no_missing_files().await;

    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": "2"})).await;
    registry.must("DELETE", "registered-models/delete", json!({"name": "owl"})).await;
    let report = world.collect(false).await;
    assert_eq!((report.runs, report.logged_models, report.experiments), (2, 1, 1), "{report:?}");
    assert!(!world.has(&format!("{other_uri}/model/weights")) && !world.has(&format!("{net_uri}/MLmodel")));
    assert!(!world.has(&format!("{uri}/model/weights")));
}

#[tokio::test]
async fn a_deleted_version_of_a_live_run_takes_no_files_with_it() {
    let world = World::new().await;
    let registry = &world.registry;
    let (run, uri) = world.run("0").await;
    registry.model("owl", 0).await;
    let body = json!({"name": "owl", "source": format!("{uri}/model"), "run_id": run});
    registry.must("POST", "model-versions/create", body).await;
    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": "1"})).await;
    world.wait().await;
    let report = world.collect(false).await;
    assert_eq!(report.files, 0, "{report:?}");
    assert!(world.has(&format!("{uri}/model/weights")));
    assert_eq!(registry.sql("SELECT count(*) FROM orphan").await, 0, "the note has gone");
}

#[tokio::test]
async fn an_upload_that_nobody_completes_goes() {
    let world = World::new().await;
    let begin = "/api/2.0/mlflow-artifacts/mpu/create/0/run/artifacts/model";
    let begun = world.registry.ask_as(&[], "POST", begin, json!({"path": "weights", "num_parts": 2})).await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    assert_eq!(world.collect(false).await.uploads, 0, "it may still be under way");
    world.registry.change("UPDATE upload SET created_at = created_at - 7200000").await;
    for (dry_run, left) in [(true, 1), (false, 0)] {
        assert_eq!(world.collect(dry_run).await.uploads, 1);
        assert_eq!(world.registry.sql("SELECT count(*) FROM upload").await, left);
    }
}

#[tokio::test]
async fn a_restored_run_stays() {
    let world = World::new().await;
    let (run, uri) = world.run("0").await;
    world.registry.must("POST", "runs/delete", json!({"run_id": run})).await;
    world.registry.must("POST", "runs/restore", json!({"run_id": run})).await;
    world.wait().await;
    assert_eq!(world.collect(false).await.runs, 0);
    assert!(world.has(&uri));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_broken_off_anywhere_leaves_nothing_that_names_missing_files() {
    let world = World::new().await;
    for _ in 0..20 {
        let (run, uri) = world.run("0").await;
        for file in 0..5 {
            world.write(&format!("{uri}/more/{file}"), 1);
        }
        world.registry.must("POST", "runs/delete", json!({"run_id": run})).await;
    }
    world.wait().await;
    // Dropped at its next step, as a process ends that is killed: what is done is done, and nothing is tidied up.
    let mut broken_off = 0;
    for polls in 1..2000 {
        let collecting = gc(&world.registry.app.store, &world.registry.app.artifacts, HOUR, false);
        let ended = {
            let mut collecting = Box::pin(collecting);
            let mut left = polls;
            std::future::poll_fn(|context| {
                left -= 1;
                match collecting.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done.unwrap())),
                    std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
                    std::task::Poll::Pending => std::task::Poll::Pending,
                }
            })
            .await
        };
        if broken_off % 10 == 0 {
            world.names_no_missing_files().await;
        }
        if ended.is_some() {
            break;
        }
        broken_off += 1;
    }
    assert!(broken_off > 10, "it was broken off {broken_off} times");
    world.names_no_missing_files().await;
    assert_eq!(world.registry.sql("SELECT count(*) FROM run").await, 0);
    assert_eq!(world.registry.sql("SELECT count(*) FROM orphan").await, 0);
    assert_eq!(files_below(&world.registry.home.path().join("artifacts")), Vec::<PathBuf>::new());
}

/// The child: this test binary again. It collects until it is done, unless it is killed first.
#[test]
fn child() {
    let (Ok(tables), Ok(files)) = (std::env::var(TABLES), std::env::var(FILES)) else { return };
    let address = match tables.strip_prefix("postgres") {
        Some(_) => Address::Postgres(tables),
        None => Address::Sqlite(tables.into()),
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::open(&address, "mlflow-artifacts:").await.unwrap();
        let artifacts = Artifacts::open(&Location::from(Path::new(&files))).await.unwrap();
        gc(&store, &artifacts, HOUR, false).await.unwrap();
    });
}

#[tokio::test]
async fn killed_at_any_moment_it_leaves_nothing_that_names_missing_files() {
    let world = World::new().await;
    for _ in 0..60 {
        let (run, uri) = world.run("0").await;
        for file in 0..20 {
            world.write(&format!("{uri}/more/{file}"), 1);
        }
        world.registry.must("POST", "runs/delete", json!({"run_id": run})).await;
    }
    let (_, live) = world.run("0").await;
    world.wait().await;
    let tables = match &world.registry.address {
        Address::Sqlite(file) => file.display().to_string(),
        Address::Postgres(url) => url.clone(),
    };
    let files = world.registry.home.path().join("artifacts");
    let (mut kills, mut patience) = (0_u32, Duration::from_millis(20));
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["collect::child", "--exact"])
            .envs([(TABLES, tables.as_str()), (FILES, files.to_str().unwrap())])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(patience).await;
        let ended = child.try_wait().unwrap();
        // SIGKILL. One that has ended by itself has done it all.
        let _it_may_have_ended = child.kill();
        child.wait().unwrap();
        world.names_no_missing_files().await;
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            break;
        }
        kills += 1;
        patience += Duration::from_millis(7);
    }
    assert!(kills > 0, "it was never killed");
    assert_eq!(world.registry.sql("SELECT count(*) FROM run").await, 1);
    assert_eq!(world.registry.sql("SELECT count(*) FROM orphan").await, 0);
    let left = files_below(&files);
    assert!(left.iter().all(|file| file.starts_with(world.path(&live))) && left.len() == 1, "{left:?}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut left = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { left.push(entry.path()) }
        }
    }
    left
}
