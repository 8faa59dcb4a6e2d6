//! Outputs that are taken instead of doing a task again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::state::Again;
use pipeline::{Dag, Job, JobError, JobOutput, RunId, RunState, Runner, TaskState};
use serde_json::{Value, json};

use crate::common::{dag, job, runner};

/// What the job was given, one entry for each time it did something.
type Done = Arc<Mutex<Vec<Value>>>;

fn work(done: &Done) -> Arc<dyn Job> {
    let done = Arc::clone(done);
    job("work", move |context, with: Value| {
        done.lock().unwrap().push(with["n"].clone());
        context.progress(3, 3, "");
        async move { Ok(JobOutput { summary: "worked".to_owned(), ..JobOutput::new(json!({"twice": with["n"]})) }) }
    })
}

async fn run(runner: &Runner, dag: &Dag, params: &[(&str, &str)]) -> RunId {
    let params: Vec<_> = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let start = runner.start_or_resume(dag, &dag.params(&params).unwrap()).await.unwrap();
    let outcome = runner.drive(start.run_id()).await.unwrap();
    assert_eq!((outcome.state, outcome.first_error), (RunState::Succeeded, None));
    start.run_id()
}

fn taken(done: &Done) -> Vec<Value> {
    std::mem::take(&mut *done.lock().unwrap())
}

const MAPPED: &str = "
dag: mapped
params:
  list: {type: string}
tasks:
  each: {job: work, map: \"{{ params.list | split(',') | list }}\", cache: true, with: {n: '{{ item }}'}}
  after: {job: give, needs: [each], with: {value: '{{ tasks.each.output }}'}}
";

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_is_done_and_the_output_is_the_same() {
    let home = tempfile::tempdir().unwrap();
    let done = Done::default();
    let runner = runner(home.path(), [work(&done)]).await;
    let dag = dag(MAPPED);
    let first = run(&runner, &dag, &[("list", "a,b")]).await;
    assert_eq!(taken(&done).len(), 2);
    let second = run(&runner, &dag, &[("list", "b,c,a")]).await;
    assert_eq!(taken(&done), [json!("c")]);
    let store = runner.store();
    assert_eq!(
        store.output(second, "after").await.unwrap(),
        Some(json!([{"twice": "b"}, {"twice": "c"}, {"twice": "a"}]))
    );
    let instances = store.instances(second).await.unwrap();
    let summaries: BTreeSet<String> =
        instances.iter().filter(|i| i.task == "each" && i.map_index.is_some()).map(|i| i.summary.clone()).collect();
    assert_eq!(summaries, BTreeSet::from(["worked".to_owned(), format!("worked (taken from run {first})")]));
    // Another DAG, another task: the kind of job and what it is given count.
    run(&runner, &crate::common::dag("dag: other\ntasks: {x: {job: work, cache: true, with: {n: a}}}"), &[]).await;
    assert_eq!(taken(&done), [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_too_old_is_made_anew_for_all() {
    let home = tempfile::tempdir().unwrap();
    let done = Done::default();
    let runner = runner(home.path(), [work(&done)]).await;
    let of =
        |ttl: &str| dag(&format!("dag: d\ntasks: {{a: {{job: work, cache: {{key: k, ttl: {ttl}}}, with: {{n: 1}}}}}}"));
    let first = run(&runner, &of("1h"), &[]).await;
    run(&runner, &of("1h"), &[]).await;
    assert_eq!(taken(&done).len(), 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let third = run(&runner, &of("1ms"), &[]).await;
    assert_eq!(taken(&done).len(), 1, "an output of 5 ms ago was taken for one of 1 ms");
    let last = run(&runner, &of("1h"), &[]).await;
    assert_eq!(taken(&done).len(), 0);
    let summary = runner.store().instances(last).await.unwrap()[0].summary.clone();
    assert!(summary.contains(&third.to_string()) && !summary.contains(&first.to_string()), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_not_kept_and_retries_find_what_succeeded() {
    let home = tempfile::tempdir().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let shaky = job("shaky", move |_, _| {
        let call = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 => Err(JobError::permanent("not now")),
                // Some of its items failed: it may do better the next time.
                1 => Ok(JobOutput { failures: 2, ..JobOutput::new(json!(call)) }),
                _ => Ok(JobOutput::new(json!(call))),
            }
        }
    });
    let done = Done::default();
    let runner = runner(home.path(), [shaky, work(&done)]).await;
    let dag = dag(
        "dag: d\ntasks:\n  a: {job: work, cache: true, with: {n: 1}}\n  b: {job: shaky, needs: [a], cache: true}\n",
    );
    let params = dag.params(&[]).unwrap();
    for (state, made) in [
        (RunState::Failed, 1),
        (RunState::SucceededWithFailures, 2),
        (RunState::Succeeded, 3),
        (RunState::Succeeded, 3),
    ] {
        let start = runner.start_or_resume(&dag, &params).await.unwrap();
        assert_eq!(runner.drive(start.run_id()).await.unwrap().state, state);
        assert_eq!(calls.load(Ordering::SeqCst), made);
    }
    assert_eq!(taken(&done).len(), 1, "the task before was done again");
}

#[tokio::test(flavor = "multi_thread")]
async fn clearing_a_task_forgets_and_so_does_the_command() {
    let home = tempfile::tempdir().unwrap();
    let done = Done::default();
    let runner = runner(home.path(), [work(&done)]).await;
    let dag = dag(
        "dag: d\ntasks:\n  a: {job: work, cache: true, with: {n: 1}}\n  b: {job: work, needs: [a], cache: true, with: {n: 2}}\n",
    );
    run(&runner, &dag, &[]).await;
    let second = run(&runner, &dag, &[]).await;
    assert_eq!(taken(&done), [json!(1), json!(2)]);
    let store = runner.store();
    let again = Again::Task { task: "a".to_owned(), downstream: false };
    store.reopen(second, again, Timestamp::now()).await.unwrap();
    assert_eq!(runner.drive(second).await.unwrap().state, RunState::Succeeded);
    assert_eq!(taken(&done), [json!(1)]);
    assert!(store.instances(second).await.unwrap().iter().all(|instance| instance.state == TaskState::Succeeded));

    assert_eq!(store.forget_cached_outputs(Some("nothing")).await.unwrap(), 0);
    assert_eq!(store.forget_cached_outputs(Some("d")).await.unwrap(), 2);
    run(&runner, &dag, &[]).await;
    assert_eq!(taken(&done), [json!(1), json!(2)]);
    assert_eq!(store.forget_cached_outputs(None).await.unwrap(), 2);
}
