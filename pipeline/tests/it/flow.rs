//! Which tasks of a run go: conditions, trigger rules, pools, sensors, time-outs, and runs that are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::{Job, JobContext, JobError, JobOutput, RunState, Runner, RunnerOptions, TaskState};
use serde_json::json;

use crate::common::{dag, job, registry, run, runner, store};
use crate::process::{PATIENCE, until_it_is};
use crate::runs::task;

/// States of tasks in the order of the names.
async fn states(yaml: &str, names: &[&str]) -> (RunState, Vec<TaskState>) {
    let outcome = run(yaml, []).await;
    let states = names.iter().map(|name| task(&outcome.tasks, name).state).collect();
    (outcome.state, states)
}

#[tokio::test]
async fn a_condition_skips_what_comes_after_and_a_join_may_go_on_all_the_same() {
    use TaskState::{Skipped, Succeeded};
    let yaml = "
dag: branch
tasks:
  count: {job: give, with: {value: 3}}
  few: {job: give, needs: [count], when: '{{ tasks.count.output < 10 }}', with: {value: few}}
  many: {job: give, needs: [count], when: '{{ tasks.count.output >= 10 }}', with: {value: many}}
  after_many: {job: give, needs: [many]}
  strict: {job: give, needs: [few, many]}
  join: {job: give, needs: [few, after_many], trigger: none_failed, with: {value: 1}}
";
    let (state, tasks) = states(yaml, &["few", "many", "after_many", "strict", "join"]).await;
    assert_eq!(state, RunState::Succeeded);
    assert_eq!(tasks, [Succeeded, Skipped, Skipped, Skipped, Succeeded]);
}

#[tokio::test]
async fn a_condition_that_is_no_boolean_fails_its_task() {
    let outcome = run("dag: d\ntasks:\n  a: {job: give, with: {value: yes}}\n  b: {job: give, needs: [a], when: '{{ tasks.a.output }}'}\n", []).await;
    let error = outcome.first_error.unwrap();
    assert!(error.starts_with("task `b`: `when` gave \"yes\"; it must be true or false"), "{error}");
}

#[tokio::test]
async fn a_handled_failure_does_not_fail_the_run() {
    use TaskState::{Failed, Skipped, Succeeded, UpstreamFailed};
    let yaml = "
dag: handled
tasks:
  work: {job: fail, with: {message: no}}
  publish: {job: give, needs: [work]}
  alarm: {job: give, needs: [work], trigger: one_failed}
  cheer: {job: give, needs: [work], trigger: one_success}
  clean: {job: give, needs: [publish, alarm], trigger: all_done}
";
    let names = ["work", "publish", "alarm", "cheer", "clean"];
    let (state, tasks) = states(yaml, &names).await;
    assert_eq!(tasks, [Failed, UpstreamFailed, Succeeded, UpstreamFailed, Succeeded]);
    // `cheer` comes last and could not go because of the failure.
    assert_eq!(state, RunState::Failed);
    let (state, tasks) = states(&yaml.replace("one_success", "all_success, when: false"), &names).await;
    assert_eq!((state, tasks[3]), (RunState::Failed, UpstreamFailed));
    let without = yaml.replace("  cheer: {job: give, needs: [work], trigger: one_success}\n", "");
    let (state, tasks) = states(&without, &["work", "clean"]).await;
    assert_eq!((state, tasks), (RunState::SucceededWithFailures, vec![Failed, Succeeded]));
    let unneeded = without
        .replace("trigger: one_failed", "trigger: all_failed")
        .replace("{job: fail, with: {message: no}}", "{job: give}");
    let (state, tasks) = states(&unneeded, &["alarm", "clean"]).await;
    assert_eq!((state, tasks), (RunState::Succeeded, vec![Skipped, Succeeded]));
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_are_shared_by_all_runs_and_never_exceeded() {
    let home = tempfile::tempdir().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_work, highest) = (Arc::clone(&now), Arc::clone(&most));
    let heavy = job("heavy", move |_: JobContext, with| {
        let (at_work, highest) = (Arc::clone(&at_work), Arc::clone(&highest));
        async move {
            let slots = with["slots"].as_u64().unwrap() as usize;
            highest.fetch_max(at_work.fetch_add(slots, Ordering::SeqCst) + slots, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            at_work.fetch_sub(slots, Ordering::SeqCst);
            Ok(JobOutput::new(json!(null)))
        }
    });
    let store = store(home.path()).await;
    store.set_pool("gpu", 3).await.unwrap();
    let options = RunnerOptions { parallelism: 16, exclusive: false, ..RunnerOptions::new(home.path()) };
    let runner = Arc::new(Runner::new(store.clone(), registry([heavy]), options));
    let yaml = "dag: gpu\ntasks:\n  light: {job: heavy, pool: gpu, map: '{{ range(12) | list }}', with: {slots: 1}}\n  wide: {job: heavy, pool: gpu, slots: 2, map: '{{ range(6) | list }}', with: {slots: 2}}\n";
    let mut driving = Vec::new();
    for number in 0..2 {
        let dag = dag(&yaml.replace("dag: gpu", &format!("dag: gpu{number}")));
        let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        let runner = Arc::clone(&runner);
        driving.push(tokio::spawn(async move { runner.drive(run).await }));
    }
    for one in driving {
        assert_eq!(one.await.unwrap().unwrap().state, RunState::Succeeded);
    }
    assert_eq!(most.load(Ordering::SeqCst), 3, "slots at once");
    assert_eq!(store.pools().await.unwrap(), [("gpu".to_owned(), 3, 0)], "all slots are back");
}

#[tokio::test]
async fn a_pool_nobody_made_has_one_slot_and_a_task_heavier_than_its_pool_goes_alone() {
    let yaml = "dag: d\ntasks:\n  a: {job: sleep, pool: odd, slots: 5, map: [1, 2, 3], with: {ms: 1}}\n";
    assert_eq!(run(yaml, []).await.state, RunState::Succeeded);
}

#[tokio::test]
async fn a_sensor_holds_no_slot_and_counts_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let sensor = job("sensor", move |_: JobContext, _| {
        let look = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match look {
                0..4 => Err(JobError::not_yet("waiting for the object", Duration::from_millis(30))),
                _ => Ok(JobOutput::new(json!("found"))),
            }
        }
    });
    let options = RunnerOptions { parallelism: 1, ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store(home.path()).await, registry([sensor]), options);
    let yaml = "dag: d\ntasks:\n  wait: {job: sensor}\n  other: {job: give, map: '{{ range(5) | list }}'}\n  then: {job: give, needs: [wait], with: {value: '{{ tasks.wait.output }}'}}\n";
    let outcome = crate::common::run_in(&runner, yaml).await;
    assert_eq!(outcome.state, RunState::Succeeded);
    assert_eq!(looks.load(Ordering::SeqCst), 5);
    assert_eq!(runner.store().output(outcome.run_id, "then").await.unwrap(), Some(json!("found")));
    // One row for the look that found it: the others leave no trace but the fencing number.
    let attempts = runner.store().attempts(outcome.run_id).await.unwrap();
    assert_eq!(attempts.len(), 7);
    assert!(attempts.iter().any(|attempt| attempt.number == 5));
}

#[tokio::test]
async fn all_attempts_together_have_a_time_limit() {
    let never = || job("never", |_, _| async { Err(JobError::not_yet("no object", Duration::from_millis(20))) });
    let outcome = run("dag: d\ntasks:\n  a: {job: never, task_timeout: 150ms}\n", [never()]).await;
    let error = outcome.first_error.unwrap();
    assert_eq!(error, "task `a`: not done after 150ms (no object); raise `task_timeout` of task `a`");
    let yaml = "dag: d\ntasks:\n  a: {job: sleep, task_timeout: 100ms, retries: 5, with: {ms: 60000}}\n";
    let outcome = run(yaml, []).await;
    assert!(outcome.first_error.unwrap().contains("raise `task_timeout`"));
    assert_eq!(task(&outcome.tasks, "a").attempts, 1);
}

#[tokio::test]
async fn errors_are_tried_again_as_their_rules_say() {
    let flaky = || job("flaky", |_, with| async move { Err(JobError::transient(with["error"].as_str().unwrap())) });
    let yaml = |error: &str| {
        format!(
            "dag: d\ntasks:\n  a: {{job: flaky, retries: 2, retry_delay: 1ms, retry_on: [{{error: 'no such key', retries: 0}}, {{error: '50[0-9]', retries: 4, delay: 1ms}}], with: {{error: '{error}'}}}}\n"
        )
    };
    for (error, attempts) in [("no such key: a", 1), ("503 slow down", 5), ("something else", 3)] {
        let outcome = run(&yaml(error), [flaky()]).await;
        assert_eq!(task(&outcome.tasks, "a").attempts, attempts, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_stops_its_jobs_and_never_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let runner = runner(home.path(), []).await;
    let dag = dag(
        "dag: d\ntasks:\n  a: {job: sleep, pool: p, map: [1, 2, 3, 4], with: {ms: 60000}}\n  b: {job: give, needs: [a], trigger: all_done}\n  c: {job: give}\n",
    );
    let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
    let (store, run) = (runner.store().clone(), start.run_id());
    let cancelling = tokio::spawn(async move {
        // Once it is surely at work.
        while !store
            .instances(run)
            .await
            .unwrap()
            .iter()
            .any(|one| one.map_index.is_some() && one.state == TaskState::Running)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.cancel(run, Timestamp::now()).await.unwrap()
    });
    let outcome = runner.drive(run).await.unwrap();
    assert_eq!(outcome.state, RunState::Cancelled);
    assert_eq!(cancelling.await.unwrap(), RunState::Running, "it stops soon, not at once");
    let instances = runner.store().instances(run).await.unwrap();
    let state = |name: &str| instances.iter().find(|one| one.task == name && one.map_index.is_none()).unwrap().state;
    assert_eq!((state("a"), state("b")), (TaskState::Cancelled, TaskState::Cancelled));
    assert!(instances.iter().all(|one| one.state.is_finished()));
    assert_eq!(runner.store().pools().await.unwrap(), [("p".to_owned(), 1, 0)]);
    // Cancelling again changes nothing, and a new start makes a new run.
    assert_eq!(runner.store().cancel(run, Timestamp::now()).await.unwrap(), RunState::Cancelled);
    assert_ne!(runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap().run_id(), run);
}

/// The second attempt at `a` waits to be told to stop, and then fails as if by itself.
fn shaky(tried: &Arc<AtomicUsize>) -> Arc<dyn Job> {
    let tried = Arc::clone(tried);
    job("shaky", move |context: JobContext, _| {
        tried.fetch_add(1, Ordering::SeqCst);
        async move {
            if context.attempt > 1 {
                context.cancel.cancelled().await;
            }
            Err(JobError::transient("no luck"))
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_another_process_cancels_between_or_in_retries_tries_no_more() {
    // Before the second attempt, and in its middle.
    for (delay, tries) in [("1h", 1), ("1ms", 2)] {
        let home = tempfile::tempdir().unwrap();
        let tried = Arc::default();
        // No look for lost attempts comes while the test lasts.
        let options = RunnerOptions { lease: Duration::from_secs(3600), ..RunnerOptions::new(home.path()) };
        let runner = Runner::new(store(home.path()).await, registry([shaky(&tried)]), options);
        let dag = dag(&format!(
            "dag: d\ntasks:\n  a: {{job: shaky, pool: p, retries: 5, retry_delay: {delay}}}\n  b: {{job: give, needs: [a], trigger: all_done}}\n"
        ));
        let run = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap().run_id();
        let driving = tokio::spawn(async move { runner.drive(run).await });
        let other = store(home.path()).await;
        let state = if tries == 1 { TaskState::Ready } else { TaskState::Running };
        until_it_is("that moment", async || {
            let instances = other.instances(run).await.unwrap();
            instances.iter().any(|one| one.task == "a" && one.attempts == tries && one.state == state)
        })
        .await;
        other.cancel(run, Timestamp::now()).await.unwrap();
        let outcome = tokio::time::timeout(PATIENCE, driving).await.expect("it does not stop").unwrap().unwrap();
        assert_eq!(outcome.state, RunState::Cancelled);
        assert_eq!(tried.load(Ordering::SeqCst), tries as usize);
        let instances = other.instances(run).await.unwrap();
        assert!(instances.iter().all(|one| one.state == TaskState::Cancelled), "{instances:?}");
        assert_eq!(other.pools().await.unwrap(), [("p".to_owned(), 1, 0)]);
    }
}

#[tokio::test]
async fn a_queued_run_is_cancelled_at_once() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let dag = dag("dag: d\ntasks:\n  a: {job: give}\n  b: {job: give, map: [1], needs: [a]}\n");
    let run = store.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    assert_eq!(store.cancel(run, Timestamp::now()).await.unwrap(), RunState::Cancelled);
    assert!(store.instances(run).await.unwrap().iter().all(|one| one.state == TaskState::Cancelled));
}

#[tokio::test]
async fn secrets_reach_the_job_and_stay_out_of_the_state() {
    let home = tempfile::tempdir().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let noted = Arc::clone(&seen);
    let login = job("login", move |_: JobContext, with| {
        *noted.lock().unwrap() = with["password"].as_str().unwrap().to_owned();
        async { Ok(JobOutput::new(json!("in"))) }
    });
    let secrets = pipeline::Secrets::new(|name| (name == "db").then(|| "s3cr3t-value".to_owned()));
    let options = RunnerOptions { secrets, ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store(home.path()).await, registry([login]), options);
    let outcome =
        crate::common::run_in(&runner, "dag: d\ntasks:\n  a: {job: login, with: {password: '{{ secrets.db }}'}}\n")
            .await;
    assert_eq!(outcome.state, RunState::Succeeded);
    assert_eq!(*seen.lock().unwrap(), "s3cr3t-value");
    for file in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(home.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"s3cr3t"), "{file}");
    }
    let outcome =
        crate::common::run_in(&runner, "dag: e\ntasks:\n  a: {job: login, with: {password: '{{ secrets.other }}'}}\n")
            .await;
    assert_eq!(outcome.first_error.unwrap(), "task `a`: secrets that are not set: `other`; set each of them");
}
