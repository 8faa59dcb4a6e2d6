//! Which worker does a task: labels and resources.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pipeline::clock::Timestamp;
use pipeline::dag::Resources;
use pipeline::{Job, JobContext, JobOutput, Offer, RunId, Runner, RunnerOptions, Scheduler, Store, TaskState};
use serde_json::{Value, json};

use crate::common::{dag, job, registry, store};

fn offer(labels: &[(&str, &str)], cpu_millis: u32, gpus: u32) -> Offer {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Offer {
        labels: labels.collect::<BTreeMap<_, _>>(),
        resources: Resources { cpu_millis, memory_bytes: 1 << 30, gpus },
    }
}

/// A worker that works until so many tasks of the run are done, and a little longer, to see that it does no more.
async fn work(store: &Store, home: &Path, offer: Offer, jobs: Vec<Arc<dyn Job>>, (run, done): (RunId, usize)) {
    let options = RunnerOptions { exclusive: false, parallelism: 8, offer: Some(offer), ..RunnerOptions::new(home) };
    let worker = Arc::new(Runner::new(store.clone(), registry(jobs), options));
    let serving = {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move { worker.serve(Vec::new()).await })
    };
    let began = Instant::now();
    let succeeded = async || {
        let tasks = store.tasks(run).await.unwrap();
        tasks.iter().filter(|task| task.state == TaskState::Succeeded).count()
    };
    while succeeded().await < done && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    worker.drain();
    serving.await.unwrap().unwrap();
}

async fn begun(store: &Store, yaml: &str) -> RunId {
    let dag = dag(yaml);
    let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    Scheduler::new(store.clone(), Duration::ZERO).pass(Timestamp::now()).await.unwrap();
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_go_to_workers_that_have_their_labels_and_resources() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let yaml = "
dag: d
tasks:
  plain: {job: give}
  labelled: {job: give, labels: {zone: a}}
  both: {job: give, labels: {zone: a, disk: ssd}}
  gpu: {job: give, resources: {gpu: 1}}
  huge: {job: give, resources: {cpu: 64}}
";
    let run = begun(&store, yaml).await;
    let done = async |expected: &[&str]| {
        let tasks = store.tasks(run).await.unwrap();
        let done: Vec<&str> =
            tasks.iter().filter(|t| t.state == TaskState::Succeeded).map(|t| t.task.as_str()).collect();
        assert_eq!(done, expected);
    };
    work(&store, home.path(), offer(&[("zone", "b")], 2000, 0), Vec::new(), (run, 1)).await;
    done(&["plain"]).await;
    work(&store, home.path(), offer(&[("zone", "a")], 2000, 0), Vec::new(), (run, 2)).await;
    done(&["plain", "labelled"]).await;
    work(&store, home.path(), offer(&[("disk", "ssd"), ("zone", "a")], 2000, 1), Vec::new(), (run, 4)).await;
    done(&["plain", "labelled", "both", "gpu"]).await;
    work(&store, home.path(), offer(&[], 64_000, 0), Vec::new(), (run, 5)).await;
    done(&["plain", "labelled", "both", "gpu", "huge"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_never_overcommitted_and_what_needs_much_is_not_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let (at_work, most, order) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let wide_at = Arc::new(AtomicUsize::new(usize::MAX));
    let (now, highest, turn, wide) =
        (Arc::clone(&at_work), Arc::clone(&most), Arc::clone(&order), Arc::clone(&wide_at));
    let heavy = job("heavy", move |_: JobContext, with: Value| {
        let cores = with["cores"].as_u64().unwrap() as usize;
        let (now, highest) = (Arc::clone(&now), Arc::clone(&highest));
        let mine = turn.fetch_add(1, Ordering::SeqCst);
        if cores > 1 {
            wide.store(mine, Ordering::SeqCst);
        }
        async move {
            highest.fetch_max(now.fetch_add(cores, Ordering::SeqCst) + cores, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(cores, Ordering::SeqCst);
            Ok(JobOutput::new(json!(null)))
        }
    });
    let yaml = "
dag: d
tasks:
  few: {job: heavy, map: '{{ range(6) | list }}', resources: {cpu: 1}, with: {cores: 1}}
  wide: {job: heavy, resources: {cpu: 3}, with: {cores: 3}}
  many: {job: heavy, map: '{{ range(30) | list }}', resources: {cpu: 1}, with: {cores: 1}}
";
    let run = begun(&store, yaml).await;
    work(&store, home.path(), offer(&[], 3000, 0), vec![heavy], (run, 3)).await;
    let tasks = store.tasks(run).await.unwrap();
    assert!(tasks.iter().all(|task| task.state == TaskState::Succeeded), "{tasks:?}");
    assert_eq!(most.load(Ordering::SeqCst), 3, "cores at once");
    // All are ready at one moment, in the order of the file: what comes behind the wide one waits for it.
    assert_eq!(wide_at.load(Ordering::SeqCst), 6);
}
