//! What people are told of runs: once each, again when it could not be told, and given up in the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{
    Alerts, Job, JobContext, JobError, JobOutput, RunState, Runner, RunnerOptions, Scheduler, Secrets, Store,
};
use serde_json::{Value, json};

use crate::common::{dag, job, registry, store};

type Told = Arc<Mutex<Vec<(String, Value)>>>;

/// Stands for the jobs that tell alerts: keeps what it is given. The first calls fail, as many as told.
fn teller(kind: &'static str, told: &Told, failures: usize) -> Arc<dyn Job> {
    let (told, calls) = (Arc::clone(told), Arc::new(AtomicUsize::new(0)));
    job(kind, move |context: JobContext, with: Value| {
        let fails = calls.fetch_add(1, Ordering::SeqCst) < failures;
        if !fails {
            told.lock().unwrap().push((context.idempotency_key, with));
        }
        async move { if fails { Err(JobError::transient("nobody answers")) } else { Ok(JobOutput::new(Value::Null)) } }
    })
}

fn options(home: &std::path::Path) -> RunnerOptions {
    let secrets = Secrets::new(|name| (name == "hook").then(|| "s3cret".to_owned()));
    RunnerOptions { secrets, ..RunnerOptions::new(home) }
}

async fn world(home: &std::path::Path, failures: usize) -> (Store, Runner, Told) {
    let (store, told) = (store(home).await, Told::default());
    let jobs = registry([teller("http", &told, failures), teller("command", &told, 0)]);
    (store.clone(), Runner::new(store, jobs, options(home)), told)
}

const YAML: &str = "
dag: told
params:
  message: {type: string, default: no}
alerts:
  - {on: [failure, retry], webhook: 'https://hooks.example.org/{{ secrets.hook }}'}
  - {on: [success], command: [notify, 'dag {{ run.dag }}']}
tasks:
  a: {job: fail2, retries: 1, retry_delay: 1ms, when: '{{ params.message != \"no\" }}', with: {message: '{{ params.message }}'}}
";

#[tokio::test(flavor = "multi_thread")]
async fn failures_retries_and_successes_are_told_with_secrets_only_in_the_call() {
    let home = tempfile::tempdir().unwrap();
    let (store, told) = (store(home.path()).await, Told::default());
    let fails = job("fail2", |_, with: Value| async move {
        Err(JobError::transient(with["message"].as_str().unwrap_or_default().to_owned()))
    });
    let jobs = registry([teller("http", &told, 0), teller("command", &told, 0), fails]);
    let runner = Runner::new(store.clone(), jobs, options(home.path()));
    let dag = dag(YAML);
    let run = store
        .create_run(
            &dag,
            &dag.params(&[("message".to_owned(), "{{ secrets.hook }} broke".to_owned())]).unwrap(),
            Timestamp::now(),
        )
        .await
        .unwrap();
    assert_eq!(runner.drive(run).await.unwrap().state, RunState::Failed);
    assert_eq!(runner.alerts().tell_due(Timestamp::now()).await.unwrap(), 2);
    assert_eq!(runner.alerts().tell_due(Timestamp::now()).await.unwrap(), 0, "each is told once");
    let mut calls = std::mem::take(&mut *told.lock().unwrap());
    calls.sort_by_key(|(_, with)| with["body"]["event"].as_str().map(str::to_owned));
    let [(_, failure), (_, retry)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(failure["url"], "https://hooks.example.org/s3cret");
    assert_eq!(failure["body"]["dag"], "told");
    assert_eq!(failure["body"]["run"], run.to_string());
    // What went wrong is told as it is: it is no template.
    assert_eq!(failure["body"]["error"], "task `a`: {{ secrets.hook }} broke");
    assert_eq!((&retry["body"]["task"], &retry["body"]["attempt"]), (&json!("a"), &json!(1)));

    let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    assert_eq!(runner.drive(run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(runner.alerts().tell_due(Timestamp::now()).await.unwrap(), 1);
    let calls = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(calls[0].1["command"], json!(["notify", "dag told"]));
    let message: Value = serde_json::from_str(calls[0].1["stdin"].as_str().unwrap()).unwrap();
    assert_eq!((&message["event"], &message["state"]), (&json!("success"), &json!("succeeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_is_told_later_and_given_up_in_the_end() {
    let failing =
        "dag: f\nalerts:\n  - {on: [failure], webhook: 'https://hooks.example.org'}\ntasks:\n  a: {job: fail}\n";
    for (failures, tries) in [(3, 4), (100, 8)] {
        let home = tempfile::tempdir().unwrap();
        let (store, runner, told) = world(home.path(), failures).await;
        let dag = dag(failing);
        let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        runner.drive(run).await.unwrap();
        let alerts: Alerts = runner.alerts();
        let (mut tried, mut now) = (0, Timestamp::now());
        for _ in 0..200 {
            tried += alerts.tell_due(now).await.unwrap();
            now = now.plus(Duration::from_secs(60));
        }
        assert_eq!(tried, tries);
        assert_eq!(told.lock().unwrap().len(), usize::from(failures == 3));
    }
}

#[tokio::test]
async fn a_missed_deadline_is_told_once_and_a_run_in_time_is_not() {
    let home = tempfile::tempdir().unwrap();
    let (store, runner, told) = world(home.path(), 0).await;
    let yaml = "dag: late\ndeadline: 2h\nalerts:\n  - {on: [deadline], webhook: 'https://hooks.example.org'}\ntasks:\n  a: {job: give}\n";
    let dag = dag(yaml);
    let begin = Timestamp::from_millis(1_772_409_600_000);
    let at = |minutes: u64| begin.plus(Duration::from_secs(60 * minutes));
    let in_time = store.create_run(&dag, &dag.params(&[]).unwrap(), begin).await.unwrap();
    runner.drive(in_time).await.unwrap();
    let late = store.create_run(&dag, &dag.params(&[]).unwrap(), begin).await.unwrap();
    let scheduler = Scheduler::new(store.clone(), Duration::ZERO);
    for minutes in [10, 119, 121, 122, 600] {
        scheduler.pass(at(minutes)).await.unwrap();
        let now = Timestamp::now();
        let due = runner.alerts().tell_due(now).await.unwrap();
        assert_eq!(due, usize::from(minutes == 121), "after {minutes} minutes");
    }
    let told = told.lock().unwrap();
    assert_eq!(told[0].1["body"]["run"], late.to_string());
    assert!(told[0].1["body"]["error"].as_str().unwrap().contains("7200s after it was due"), "{told:?}");
}
