//! Our client: against a server through a socket, and in this process without one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model_registry::VersionNumber;
use model_registry::api::router;
use model_registry::client::{Client, Credentials, Metric, NewVersion, Param, Progress, RunStatus, Source, Step};
use model_registry::copy::copy_model;
use model_registry::folder::{LINEAGE_FILE, Lineage, MANIFEST_FILE, StageOptions};
use model_registry::register::{Registration, fetch, register_folder, register_logged};
use model_registry::registered::Tag;

use crate::common::Registry;

/// A registry that listens, and clients on both ways to it.
struct Served {
    registry: Registry,
    port: u16,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn new() -> Self {
        let registry = Registry::new().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(axum::serve(listener, router(registry.app.clone())).into_future());
        Self { registry, port, server }
    }

    fn through_socket(&self) -> Client {
        Client::connect(&format!("http://127.0.0.1:{}", self.port), Credentials::None).unwrap()
    }

    fn in_process(&self) -> Client {
        Client::of_app(self.registry.app.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

/// A small model folder.
fn model(folder: &Path, weights: &[u8]) {
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let text = "flavors:\n  safari: {settings: settings.json}\nsignature:\n  inputs: '[{\"type\": \"binary\"}]'\n  outputs: \
                null\nmodel_uuid: 0123\n";
    std::fs::write(folder.join("MLmodel"), text).unwrap();
    std::fs::write(folder.join("data/weights #1.bin".replace('#', "no")), weights).unwrap();
    std::fs::write(folder.join("README.md"), "# Owl\n").unwrap();
}

#[tokio::test]
async fn runs_models_and_aliases() {
    let served = Served::new().await;
    for (number, client) in [served.through_socket(), served.in_process()].into_iter().enumerate() {
        let name = format!("owl {number} ' %");
        assert_eq!(client.experiment(&name).await.unwrap(), None);
        let experiment = client.ensure_experiment(&name).await.unwrap();
        assert_eq!(client.ensure_experiment(&name).await.unwrap(), experiment);
        let run = client.create_run(&experiment, "fit", &[tag("who", "ada")]).await.unwrap();
        let id = run.info.run_id.clone();
        let metric = |key: &str, value: f64| Metric { key: key.to_owned(), value, timestamp: 1, step: 2 };
        let mut metrics: Vec<Metric> = (0..1500).map(|step| Metric { step, ..metric("loss", step as f64) }).collect();
        metrics.extend([metric("nan", f64::NAN), metric("f1", 0.75)]);
        let params: Vec<Param> = (0..150).map(|n| Param { key: format!("p{n}"), value: n.to_string() }).collect();
        client.log(&id, &metrics, &params, &[tag("done", "yes")]).await.unwrap();
        client.end_run(&id, RunStatus::Finished).await.unwrap();
        let run = client.run(&id).await.unwrap().unwrap();
        assert_eq!((run.info.status, run.data.params.len()), (RunStatus::Finished, 150));
        let value = |key: &str| run.data.metrics.iter().find(|metric| metric.key == key).unwrap().value;
        assert!(value("nan").is_nan() && value("f1") == 0.75 && value("loss") == 1499.0);
        assert_eq!(client.run("0123456789abcdef0123456789abcdef").await.unwrap(), None);

        assert_eq!(client.model(&name).await.unwrap(), None);
        client.ensure_model(&name, Some("sees owls"), &[tag("team", "north")]).await.unwrap();
        client.ensure_model(&name, None, &[]).await.unwrap();
        let new = NewVersion {
            name: name.clone(),
            source: format!("{}/model", run.info.artifact_uri),
            run_id: Some(id.clone()),
            tags: vec![tag("f1", "0.75")],
            ..NewVersion::default()
        };
        let one = client.create_version(&new).await.unwrap();
        let two = client.create_version(&new).await.unwrap();
        assert_eq!((one.version, two.version), (VersionNumber(1), VersionNumber(2)));
        assert_eq!(client.version_by_alias(&name, "champion").await.unwrap(), None);
        client.set_alias(&name, "champion", one.version).await.unwrap();
        let champion = client.version_by_alias(&name, "champion").await.unwrap().unwrap();
        assert_eq!((champion.version, champion.tags), (one.version, vec![tag("f1", "0.75")]));
        let latest = client.find_version(&Source::Latest(name.clone())).await.unwrap();
        assert_eq!(latest.version, two.version);
        let filter = format!("name = \"{name}\"");
        assert_eq!(client.all_versions(&filter).await.unwrap().len(), 2);
        client.delete_alias(&name, "champion").await.unwrap();
        client.delete_version(&name, two.version).await.unwrap();
        assert_eq!(client.version(&name, two.version).await.unwrap(), None);
        client.delete_model(&name).await.unwrap();
        assert_eq!(client.model(&name).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_folder_is_registered_once_and_fetched_as_it_was() {
    let served = Served::new().await;
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), &vec![7; 3_000_000]);
    for (number, client) in [served.through_socket(), served.in_process()].into_iter().enumerate() {
        let registration = Registration {
            name: format!("owl{number}"),
            aliases: vec!["challenger".to_owned()],
            tags: vec![tag("team", "north")],
            stage: StageOptions {
                lineage: Lineage { dag_run: Some("019a".to_owned()), ..Lineage::default() },
                ..StageOptions::default()
            },
            ..Registration::default()
        };
        let moved = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&moved);
        let progress = Progress::new(move |step| {
            if let Step::Bytes(bytes) = step {
                counted.fetch_add(bytes, Ordering::SeqCst);
            }
        });
        let first = register_folder(&client, folder.path(), &registration, &progress).await.unwrap();
        assert!(first.is_new && first.version.version == VersionNumber(1), "{first:?}");
        assert_eq!(first.missing, ["an input example"]);
        assert!(moved.load(Ordering::SeqCst) > 3_000_000);
        let again = register_folder(&client, folder.path(), &registration, &Progress::default()).await.unwrap();
        assert!(!again.is_new && again.version.version == VersionNumber(1), "the same files are the same version");
        let champion = client.version_by_alias(&registration.name, "challenger").await.unwrap().unwrap();
        let value = |key: &str| champion.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
        assert_eq!((value("team"), value("safari.dag_run")), (Some("north"), Some("019a")));
        assert_eq!(value("safari.digest").unwrap().len(), 64);

        let target = folder.path().join(format!("../fetched-{number}-{}", std::process::id()));
        let source: Source = format!("models:/owl{number}@challenger").parse().unwrap();
        assert!(fetch(&client, &source, &target, &Progress::default()).await.unwrap(), "it has checksums");
        assert_eq!(std::fs::read(target.join("data/weights no1.bin")).unwrap(), vec![7; 3_000_000]);
        assert!(target.join(LINEAGE_FILE).is_file() && target.join(MANIFEST_FILE).is_file());
        let there = fetch(&client, &source, &target, &Progress::default()).await.unwrap_err().to_string();
        assert!(there.contains("not empty"), "{there}");
        std::fs::remove_dir_all(&target).unwrap();
    }
    assert!(!folder.path().join(MANIFEST_FILE).exists(), "the folder itself stays as it is");
}

#[tokio::test]
async fn a_file_that_was_changed_at_the_server_is_noticed() {
    let served = Served::new().await;
    let client = served.in_process();
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), b"weights");
    let registration = Registration { name: "owl".to_owned(), ..Registration::default() };
    register_folder(&client, folder.path(), &registration, &Progress::default()).await.unwrap();
    let uri = client.version_uri("owl", VersionNumber(1)).await.unwrap();
    let files = client.files(&uri).await.unwrap();
    let other = folder.path().join("other");
    std::fs::write(&other, "WEIGHTS").unwrap();
    files.upload("data/weights no1.bin", &other, &Progress::default()).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let error = fetch(&client, &"owl/1".parse().unwrap(), &target.path().join("x"), &Progress::default()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("models:/owl/1") && error.contains("`data/weights no1.bin` is not what it was"), "{error}");
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0, "nothing appears");
}

#[tokio::test]
async fn a_registration_that_broke_off_goes_on() {
    let served = Served::new().await;
    let client = served.in_process();
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), b"weights");
    let registration =
        Registration { name: "owl".to_owned(), key: Some("run 7".to_owned()), ..Registration::default() };
    // What a registration that was killed leaves: a logged model, some files, no version.
    let first = register_folder(&client, folder.path(), &registration, &Progress::default()).await.unwrap();
    let place = first.version.source.clone();
    client.delete_version("owl", VersionNumber(1)).await.unwrap();
    let uri = client.find_files(&place.parse().unwrap()).await.unwrap().0;
    let app = &served.registry.app;
    let path = model_registry::artifacts::ArtifactPath::of_uri(&uri).unwrap();
    app.artifacts.delete(&path.join("MLmodel").unwrap()).await.unwrap();
    app.artifacts.delete(&path.join("data").unwrap()).await.unwrap();
    let again = register_folder(&client, folder.path(), &registration, &Progress::default()).await.unwrap();
    assert!(again.is_new && again.version.version == VersionNumber(2));
    assert_eq!(again.version.source, place, "it goes on with the files that are there");
    let target = tempfile::tempdir().unwrap();
    let fetched = target.path().join("x");
    assert!(fetch(&client, &"owl".parse().unwrap(), &fetched, &Progress::default()).await.unwrap());
}

#[tokio::test]
async fn what_a_run_has_logged_is_registered_where_it_is() {
    let served = Served::new().await;
    let client = served.through_socket();
    let experiment = client.ensure_experiment("birds").await.unwrap();
    let run = client.create_run(&experiment, "fit", &[]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), b"weights");
    let files = client.files(&format!("{}/owl", run.info.artifact_uri)).await.unwrap();
    for name in ["MLmodel", "README.md", "data/weights no1.bin"] {
        files.upload(name, &folder.path().join(name), &Progress::default()).await.unwrap();
    }
    let source: Source = format!("runs:/{}/owl", run.info.run_id).parse().unwrap();
    let registration = Registration { name: "owl".to_owned(), ..Registration::default() };
    let made = register_logged(&client, &source, &registration).await.unwrap();
    assert_eq!(made.version.run_id.as_deref(), Some(run.info.run_id.as_str()));
    assert!(!register_logged(&client, &source, &registration).await.unwrap().is_new);
    let target = tempfile::tempdir().unwrap();
    assert!(fetch(&client, &"owl/1".parse().unwrap(), &target.path().join("x"), &Progress::default()).await.unwrap());
    let nothing: Source = format!("runs:/{}/none", run.info.run_id).parse().unwrap();
    assert!(register_logged(&client, &nothing, &registration).await.is_err());
}

#[tokio::test]
async fn a_model_is_copied_with_all_that_belongs_to_it() {
    let (one, two) = (Served::new().await, Served::new().await);
    let (from, to) = (one.through_socket(), two.in_process());
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=3u8 {
        model(folder.path(), &[number; 1000]);
        let registration = Registration {
            name: "owl".to_owned(),
            description: Some(format!("number {number}")),
            tags: vec![tag("n", &number.to_string())],
            ..Registration::default()
        };
        register_folder(&from, folder.path(), &registration, &Progress::default()).await.unwrap();
    }
    from.delete_version("owl", VersionNumber(1)).await.unwrap();
    from.set_alias("owl", "champion", VersionNumber(3)).await.unwrap();
    from.set_model_tag("owl", &tag("team", "north")).await.unwrap();

    // The first try ends after one version.
    let copied = copy_model(&from, "owl", Some(VersionNumber(2)), &to, "owl2", &Progress::default()).await.unwrap();
    assert_eq!((copied.len(), copied[0].to), (1, VersionNumber(1)));
    for is_new in [true, false] {
        let copied = copy_model(&from, "owl", None, &to, "owl2", &Progress::default()).await.unwrap();
        let numbers: Vec<_> = copied.iter().map(|copied| (copied.from.0, copied.to.0, copied.is_new)).collect();
        assert_eq!(numbers, [(2, 1, false), (3, 2, is_new)]);
    }
    let copy = to.model("owl2").await.unwrap().unwrap();
    assert_eq!((copy.tags, copy.aliases.len()), (vec![tag("team", "north")], 1));
    let champion = to.version_by_alias("owl2", "champion").await.unwrap().unwrap();
    assert_eq!((champion.version, champion.description.as_deref()), (VersionNumber(2), Some("number 3")));
    assert!(champion.tags.contains(&tag("n", "3")));
    let target = tempfile::tempdir().unwrap();
    let fetched = target.path().join("x");
    assert!(fetch(&to, &"owl2@champion".parse().unwrap(), &fetched, &Progress::default()).await.unwrap());
    assert_eq!(std::fs::read(fetched.join("data/weights no1.bin")).unwrap(), [3; 1000]);
}

#[tokio::test]
async fn transfers_go_on_when_connections_are_cut() {
    let served = Served::new().await;
    let proxy = Arc::new(e2e::proxy::Proxy::start(served.port).unwrap());
    let client = Client::connect(&format!("http://127.0.0.1:{}", proxy.port()), Credentials::None).unwrap();
    let files = client.files("mlflow-artifacts:/big").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let whole: Vec<u8> = (0..30_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let source = folder.path().join("source");
    std::fs::write(&source, &whole).unwrap();
    // Cuts the line once, when some of it has passed.
    let cutting = |after: u64| {
        let (proxy, seen) = (Arc::clone(&proxy), AtomicU64::new(0));
        Progress::new(move |step| {
            if let Step::Bytes(bytes) = step {
                let before = seen.fetch_add(bytes, Ordering::SeqCst);
                if before < after && before + bytes >= after {
                    proxy.cut();
                }
            }
        })
    };
    files.upload("weights", &source, &cutting(10_000_000)).await.unwrap();
    let target = folder.path().join("target");
    files.download("weights", &target, &cutting(10_000_000)).await.unwrap();
    assert!(std::fs::read(&target).unwrap() == whole);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
}

#[tokio::test]
async fn errors_name_the_server_and_no_secret() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://ada:s3cret@127.0.0.1:{closed}");
    let client = Client::connect(&url, Credentials::None).unwrap();
    assert!(!format!("{client:?} {}", client.server()).contains("s3cret"));
    let error = client.create_run("0", "x", &[]).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{closed}")) && !error.contains("s3cret"), "{error}");
    for bad in ["localhost:5000", "ftp://x", "", "http://"] {
        assert!(Client::connect(bad, Credentials::None).is_err(), "{bad}");
    }
}

/// Jobs and commands do all of this on threads of their own choice.
#[test]
fn what_the_client_does_may_move_between_threads() {
    fn check<T: Send>(_: &dyn Fn() -> T) {}
    let (folder, registration, progress) = (Path::new("x"), Registration::default(), Progress::default());
    let client = || -> Client { unreachable!("nothing is asked") };
    check(&|| {
        let (client, registration, progress) = (client(), registration.clone(), progress.clone());
        async move {
            register_folder(&client, folder, &registration, &progress).await?;
            register_logged(&client, &Source::Latest(String::new()), &registration).await?;
            copy_model(&client, "", None, &client, "", &progress).await?;
            fetch(&client, &Source::Latest(String::new()), folder, &progress).await
        }
    });
}
