//! The lake on a real S3 server (SeaweedFS): the same promises as on a folder.
#![allow(clippy::unwrap_used)]

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use e2e::seaweedfs::Server;
use e2e::shaky_http::{Fault, ShakyHttp};
use futures::TryStreamExt as _;
use lake::export::{Exported, MegadetectorOptions, megadetector};
use lake::{Appended, Error, Lake, MediaRow, MediaType, Transaction};
use platform::object_store::{AwsAccess, DEFAULT_REGION};
use tokio::sync::OnceCell;

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// Access to the server, and a bucket of that name on it.
async fn bucket(name: &str) -> AwsAccess {
    let server = SERVER.get_or_init(async || Server::start().await.unwrap()).await;
    server.bucket(name).await.unwrap();
    server.access().unwrap()
}

fn media(from: usize, count: usize) -> Vec<MediaRow> {
    let row = |number: usize| MediaRow {
        media_id: number.to_string(),
        uri: format!("s3://photos/{number:05}.jpg"),
        sha256: None,
        size_bytes: 1,
        version: "e".to_owned(),
        media_type: MediaType::Jpeg,
        captured_at: None,
        captured_offset_minutes: None,
        clock_wrong: false,
        deployment: "ridge".to_owned(),
        camera: None,
        width: None,
        height: None,
        frames: None,
        duration_s: None,
        frame_rate: None,
        burst_id: None,
        category: None,
        failure: Some("not looked at".to_owned()),
        model_version: "1".to_owned(),
        run_id: "run".to_owned(),
        task: "infer/0".to_owned(),
        processed_at: "2024-06-01T08:00:00Z".parse().unwrap(),
    };
    (from..from + count).map(row).collect()
}

async fn number(lake: &Lake, query: &str) -> i64 {
    let batches: Vec<RecordBatch> = lake.sql(query).await.unwrap().try_collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// Every task opens the lake itself, as a process of its own would.
async fn race(url: &str, access: &AwsAccess, names: Vec<String>) -> Vec<Appended> {
    let mut tasks = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let (url, access) = (url.to_owned(), access.clone());
        tasks.push(tokio::spawn(async move {
            let lake = Lake::open_with(&url, &access).await.unwrap();
            lake.append_media(&media(index * 10, 10), &Transaction::new(name, 1)).await.unwrap()
        }));
    }
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

fn committed(outcomes: &[Appended]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Appended::Committed { .. })).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_16_racing_attempts_under_one_name_one_commits() {
    let access = bucket("race").await;
    let url = "s3://race/one-name";
    let outcomes = race(url, &access, vec!["run/infer/3".to_owned(); 16]).await;
    assert_eq!(committed(&outcomes), 1, "{outcomes:?}");
    let lake = Lake::open_with(url, &access).await.unwrap();
    assert_eq!(number(&lake, "select count(*) from media").await, 10);

    let url = "s3://race/many-names";
    let outcomes = race(url, &access, (0..16).map(|number| format!("run/infer/{number}")).collect()).await;
    assert_eq!(committed(&outcomes), 16, "{outcomes:?}");
    let lake = Lake::open_with(url, &access).await.unwrap();
    assert_eq!(number(&lake, "select count(*) from media").await, 160);
    assert_eq!(number(&lake, "select count(distinct uri) from media").await, 160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_below_any_prefix_and_at_the_buckets_root() {
    let access = bucket("anywhere").await;
    for url in ["s3://anywhere/grün & 50% #1/lake", "s3://anywhere/plain/", "s3://anywhere"] {
        let lake = Lake::open_with(url, &access).await.unwrap();
        assert_eq!(number(&lake, "select count(*) from media").await, 0, "{url}");
        for shard in 0..52 {
            lake.append_media(&media(shard * 2, 2), &Transaction::new(format!("shard {shard}"), 1)).await.unwrap();
        }
        lake.optimize().await.unwrap();
        let again = Lake::open_with(url, &access).await.unwrap();
        let repeated = again.append_media(&media(0, 2), &Transaction::new("shard 0", 1)).await.unwrap();
        assert_eq!(repeated, Appended::AlreadyThere, "{url}");
        assert_eq!(number(&again, "select count(distinct uri) from media").await, 104, "{url}");
        assert_eq!(again.known_media("1").await.unwrap().len(), 104, "{url}");
        let mut out = Vec::new();
        let exported = megadetector(&again, &MegadetectorOptions::default(), &mut out).await.unwrap();
        assert_eq!(exported, Exported { images: 104, detections: 0, failures: 104 }, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_bucket_and_wrong_keys_are_said_at_once() {
    let access = bucket("guarded").await;
    let endpoint = access.endpoint().unwrap().to_owned();
    let error = Lake::open_with("s3://no-such-bucket/lake", &access).await.unwrap_err();
    assert!(matches!(error, Error::Place(platform::Error::BucketMissing { .. })), "{error:?}");
    let wrong = AwsAccess::with_keys(&endpoint, "us-east-1", "nobody", "nothing").unwrap();
    let error = Lake::open_with("s3://guarded/lake", &wrong).await.unwrap_err();
    assert!(matches!(error, Error::Place(platform::Error::Denied { .. })), "{error:?}");
}

/// As a task does it that may be tried again, under one name.
async fn append(lake: &Lake, shard: usize) {
    let txn = Transaction::new(format!("run/infer/{shard}"), 1);
    for attempt in 1..=3 {
        match lake.append_media(&media(shard * 10, 10), &txn).await {
            Ok(_) => return,
            Err(error) => println!("attempt {attempt} at shard {shard}: {error}"),
        }
    }
    panic!("shard {shard} cannot be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_busy_breaks_off_and_loses_answers_has_every_row_once() {
    let access = bucket("shaky").await;
    let server = SERVER.get().unwrap();
    // Whatever is asked for the first time meets a fault.
    let proxy = ShakyHttp::start(server.endpoint(), |request| {
        let is_list = request.target.contains("list-type");
        match (request.method, request.before) {
            ("GET", 0) if !is_list => Some(Fault::BrokenOff),
            ("PUT", 0) if request.target.contains("_delta_log") => Some(Fault::AnswerLost),
            (_, 0) => Some(Fault::Busy),
            _ => None,
        }
    })
    .unwrap();
    let shaky =
        AwsAccess::with_keys(&proxy.endpoint(), DEFAULT_REGION, server.access_key(), server.secret_key()).unwrap();
    let url = "s3://shaky/lake";
    for shard in 0..4 {
        // Each by a process of its own, which knows nothing of the others.
        append(&Lake::open_with(url, &shaky).await.unwrap(), shard).await;
    }
    let lake = Lake::open_with(url, &shaky).await.unwrap();
    let direct = Lake::open_with(url, &access).await.unwrap();
    for lake in [&direct, &lake] {
        assert_eq!(number(lake, "select count(*) from media").await, 40);
        assert_eq!(number(lake, "select count(distinct uri) from media").await, 40);
    }
    for fault in [Fault::Busy, Fault::BrokenOff, Fault::AnswerLost] {
        assert!(proxy.count(fault) >= 4, "{fault:?}: {}", proxy.count(fault));
    }
}
