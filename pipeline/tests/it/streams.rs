//! Continuous DAGs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use pipeline::clock::Timestamp;
use pipeline::state::NewItem;
use pipeline::{
    Dag, Job, JobContext, JobError, JobOutput, RunCause, RunState, Runner, RunnerOptions, Scheduler, Store, Streams,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::{dag, database, job, registry, store};

/// How often each item was looked at, by the key that makes effects happen once, as a table would count them.
type Seen = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

const LIVE: &str = "
dag: live
continuous: {SOURCE, max_batch: 3, max_age: 200ms, max_in_flight: 2}
tasks:
  look: {job: look, map: '{{ batch.items }}', with: {item: '{{ item }}', batch: '{{ batch.number }}'}, retries: 3, retry_delay: 1ms}
";

fn live(source: &str) -> Dag {
    dag(&LIVE.replace("SOURCE", source))
}

fn items(names: std::ops::Range<u32>) -> Vec<NewItem> {
    names.map(|n| NewItem { id: format!("item-{n:03}"), item: json!(format!("item-{n:03}")) }).collect()
}

/// Notes items; the first attempt at each batch's first item fails after its effect.
fn look(seen: &Seen) -> Arc<dyn Job> {
    let seen = Arc::clone(seen);
    job("look", move |context: JobContext, with: Value| {
        let seen = Arc::clone(&seen);
        async move {
            let name = with["item"]["key"].as_str().or(with["item"].as_str()).unwrap_or("?").to_owned();
            seen.lock().unwrap().entry(name).or_default().insert(context.idempotency_key.clone());
            tokio::time::sleep(Duration::from_millis(3)).await;
            match (context.map_index, context.attempt) {
                (Some(0), 1) => Err(JobError::transient("the first of a batch fails once")),
                _ => Ok(JobOutput::new(json!(1))),
            }
        }
    })
}

/// A process: worker, scheduler and readers. Dropping it is a crash.
struct Process {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Process {
    fn start(home: &Path, store: &Store, look: Arc<dyn Job>) -> Self {
        let options = RunnerOptions {
            exclusive: false,
            parallelism: 4,
            lease: Duration::from_millis(900),
            ..RunnerOptions::new(home)
        };
        let runner = Runner::new(store.clone(), registry([look]), options);
        let scheduler = Scheduler::new(store.clone(), Duration::from_millis(20));
        let streams = Streams::new(store.clone(), Duration::from_millis(20));
        let (stop, stopped) = watch::channel(false);
        let (first, second) = (stopped.clone(), stopped);
        let tasks = vec![
            tokio::spawn(async move { drop(runner.serve(Vec::new()).await) }),
            tokio::spawn(async move { scheduler.serve(first).await }),
            tokio::spawn(async move { streams.serve(second).await }),
        ];
        Self { stop, tasks }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A file that is old enough to be whole.
fn drop_file(folder: &Path, name: &str) {
    let path = folder.join(name);
    std::fs::write(&path, name).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not after a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_looked_at_once_through_crashes_with_bounded_batches() {
    let home = tempfile::tempdir().unwrap();
    let incoming = home.path().join("incoming");
    std::fs::create_dir(&incoming).unwrap();
    let store = store(home.path()).await;
    let live = live(&format!("source: '{}'", incoming.display()));
    store.register(&live, Timestamp::now()).await.unwrap();
    let seen = Seen::default();
    let mut expected = BTreeSet::new();
    for wave in 0..4 {
        // Two at once, as on two hosts; both crash in the middle of their work.
        let first = Process::start(home.path(), &store, look(&seen));
        let second = Process::start(home.path(), &store, look(&seen));
        for n in 0..11 {
            let name = format!("wave-{wave}/{n:02}.jpg");
            std::fs::create_dir_all(incoming.join(format!("wave-{wave}"))).unwrap();
            drop_file(&incoming, &name);
            expected.insert(name);
        }
        if wave < 3 {
            let some = expected.len() - 5;
            until("some of the wave is seen", async || seen.lock().unwrap().len() >= some).await;
            drop((first, second));
            continue;
        }
        until("all is done", async || {
            let stream = store.streams().await.unwrap().remove(0);
            seen.lock().unwrap().len() == expected.len() && stream.waiting == 0 && stream.in_flight == 0
        })
        .await;
        drop((first, second));
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), expected);
    // Attempts may come again; what they do has one name.
    assert!(seen.values().all(|keys| keys.len() == 1), "{seen:?}");
    let runs = store.runs(1000).await.unwrap();
    assert!(runs.iter().all(|run| run.state == RunState::Succeeded && run.cause == RunCause::Stream), "{runs:?}");
    let mut numbers: Vec<u64> = runs.iter().filter_map(|run| run.batch).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=runs.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_is_cut_when_it_is_full_or_old_and_never_more_than_may_run() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let live = live("webhook: new");
    let now = Timestamp::now();
    store.register(&live, now).await.unwrap();
    let scheduler = Scheduler::new(store.clone(), Duration::from_secs(1));
    let made = async || store.runs(100).await.unwrap().len();

    assert_eq!(store.add_items("live", &items(0..2), now).await.unwrap(), 2);
    assert_eq!(scheduler.pass(now).await.unwrap(), Some(now.plus(Duration::from_millis(200))));
    assert_eq!(made().await, 0);
    scheduler.pass(now.plus(Duration::from_millis(200))).await.unwrap();
    assert_eq!(made().await, 1);
    // Those of before are known; of the new ones, a full batch goes at once, and then as many run as may.
    assert_eq!(store.add_items("live", &items(0..12), now.plus(Duration::from_secs(1))).await.unwrap(), 10);
    let later = now.plus(Duration::from_secs(60));
    scheduler.pass(later).await.unwrap();
    assert_eq!(made().await, 2);
    let stream = store.streams().await.unwrap().remove(0);
    assert_eq!((stream.waiting, stream.in_flight, stream.batches), (7, 2, 2));
    assert_eq!(stream.lag(later), Duration::from_secs(60));
    // A batch that is cancelled has ended: the next is cut. Its own items stay with it.
    let run = store.runs(1).await.unwrap()[0].id;
    store.cancel(run, later).await.unwrap();
    scheduler.pass(later).await.unwrap();
    let stream = store.streams().await.unwrap().remove(0);
    assert_eq!((stream.waiting, stream.in_flight, stream.batches), (4, 2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn schedulers_at_once_give_each_item_to_one_batch() {
    let home = tempfile::tempdir().unwrap();
    let stores = [store(home.path()).await, store(home.path()).await, store(home.path()).await];
    let live = dag(
        "dag: live\ncontinuous: {webhook: new, max_batch: 2, max_in_flight: 3}\ntasks: {a: {job: give, with: {value: '{{ batch.items }}'}}}",
    );
    stores[0].register(&live, Timestamp::now()).await.unwrap();
    let added = Arc::new(AtomicUsize::new(0));
    let work = stores.iter().cloned().map(|store| {
        let added = Arc::clone(&added);
        tokio::spawn(async move {
            let scheduler = Scheduler::new(store.clone(), Duration::from_secs(1));
            for part in 0..5 {
                // All of them send the same.
                let new = store.add_items("live", &items(part * 8..part * 8 + 8), Timestamp::now()).await.unwrap();
                added.fetch_add(new as usize, Ordering::SeqCst);
                scheduler.pass(Timestamp::now()).await.unwrap();
            }
        })
    });
    for one in work.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(added.load(Ordering::SeqCst), 40);
    let runner = Runner::new(
        stores[0].clone(),
        registry([]),
        RunnerOptions { exclusive: false, ..RunnerOptions::new(home.path()) },
    );
    let scheduler = Scheduler::new(stores[1].clone(), Duration::from_secs(1));
    let mut found = Vec::new();
    for batches in [3, 6, 9, 12, 15, 18, 20] {
        let stream = stores[0].streams().await.unwrap().remove(0);
        assert_eq!((stream.batches, stream.in_flight), (batches, if batches < 20 { 3 } else { 2 }));
        for run in stores[0].runs(100).await.unwrap().into_iter().filter(|run| !run.state.is_finished()) {
            runner.drive(run.id).await.unwrap();
            let output = stores[0].output(run.id, "a").await.unwrap().unwrap();
            found.extend(output.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()));
        }
        scheduler.pass(Timestamp::now()).await.unwrap();
    }
    found.sort();
    assert_eq!(found, items(0..40).into_iter().map(|item| item.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_else_starts_a_continuous_dag_and_a_missing_source_is_told() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let yaml = LIVE.replace("SOURCE", "source: '{{ params.folder }}/new'");
    let live = dag(&yaml.replace("tasks:", "params: {folder: {type: string, default: /no/such}}\ntasks:"));
    store.register(&live, Timestamp::now()).await.unwrap();
    let error = store.create_run(&live, &live.params(&[]).unwrap(), Timestamp::now()).await.unwrap_err();
    assert!(error.to_string().contains("`live` is continuous"), "{error}");
    let runner = Runner::new(store.clone(), registry([look(&Seen::default())]), RunnerOptions::new(home.path()));
    let error = runner.start_or_resume(&live, &live.params(&[]).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("`live` is continuous"), "{error}");

    let (stop, stopped) = watch::channel(false);
    let streams = Streams::new(store.clone(), Duration::from_millis(10));
    let reading = tokio::spawn(async move { streams.serve(stopped).await });
    until("the error is told", async || {
        let error = store.streams().await.unwrap().remove(0).error;
        error.is_some_and(|error| error.contains("/no/such/new"))
    })
    .await;
    stop.send_replace(true);
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_nats_are_each_in_one_batch_though_they_are_sent_and_delivered_again() {
    let home = tempfile::tempdir().unwrap();
    let nats = e2e::nats::Server::start().await.unwrap();
    let store = store(home.path()).await;
    let live = live(&format!("nats: {{url: '{}', stream: MEDIA, subject: media.new.>, consumer: safari}}", nats.url()));
    store.register(&live, Timestamp::now()).await.unwrap();
    let seen = Seen::default();
    let process = Process::start(home.path(), &store, look(&seen));
    until("the missing stream is told", async || {
        let error = store.streams().await.unwrap().remove(0).error;
        error.is_some_and(|error| error.contains("the JetStream stream `MEDIA`"))
    })
    .await;

    let client = async_nats::connect(nats.url()).await.unwrap();
    let ask = async |subject: &str, text: String| said(&client, subject, text).await;
    let config = json!({"name": "MEDIA", "subjects": ["media.>"], "storage": "file"});
    ask("$JS.API.STREAM.CREATE.MEDIA", config.to_string()).await;
    // The answer to a message is that the stream has it.
    let publish = ask;
    publish("media.old.x", "of another subject".to_owned()).await;
    for n in 0..10 {
        publish("media.new.a", json!({"id": n, "key": format!("{n}")}).to_string()).await;
        // The same sent twice, and one without a name of its own.
        publish("media.new.a", json!({"id": n, "key": format!("{n}")}).to_string()).await;
        publish("media.new.b", format!("text {n}")).await;
    }
    until("half is seen", async || seen.lock().unwrap().len() >= 10).await;
    drop(process);
    let process = Process::start(home.path(), &store, look(&seen));
    until("all is seen", async || {
        let stream = store.streams().await.unwrap().remove(0);
        seen.lock().unwrap().len() == 20 && stream.waiting == 0 && stream.in_flight == 0
    })
    .await;
    drop(process);
    let seen = seen.lock().unwrap();
    let expected: BTreeSet<String> = (0..10).flat_map(|n| [n.to_string(), format!("text {n}")]).collect();
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(seen.values().all(|keys| keys.len() == 1), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_gives_its_sources_back() {
    let home = tempfile::tempdir().unwrap();
    let nats = e2e::nats::Server::start().await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    said(&client, "$JS.API.STREAM.CREATE.MEDIA", json!({"name": "MEDIA", "subjects": ["media.>"]}).to_string()).await;
    let store = store(home.path()).await;
    let live = live(&format!("nats: {{url: '{}', stream: MEDIA, subject: media.new.>, consumer: safari}}", nats.url()));
    store.register(&live, Timestamp::now()).await.unwrap();
    let database = database(home.path()).await;
    // How long nobody else may read it.
    let taken = async || {
        let question = sqlx::query_as("SELECT next_read_at FROM stream WHERE dag = 'live'");
        let (until,): (i64,) = question.fetch_one(database.pool()).await.unwrap();
        until - Timestamp::now().millis()
    };

    let (stop, stopped) = watch::channel(false);
    let streams = Streams::new(store.clone(), Duration::from_millis(10));
    let reading = tokio::spawn(async move { streams.serve(stopped).await });
    until("it is read", async || taken().await > 5_000).await;
    stop.send_replace(true);
    reading.await.unwrap();
    assert!(taken().await <= 0);
}

/// Asks JetStream for what must be done.
async fn said(client: &async_nats::Client, subject: &str, text: String) {
    let answer = client.request(subject.to_owned(), text.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["error"], Value::Null, "{answer}");
}
