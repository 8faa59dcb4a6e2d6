//! Several runners on one database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::{JobContext, JobOutput, RunState, Runner, RunnerOptions, Store};
use serde_json::json;

use crate::common::{dag, job, registry, store};

type Seen = Arc<Mutex<HashMap<String, Vec<usize>>>>;

/// A runner that shares its runs; what it runs is noted under its number.
async fn sharing(home: &std::path::Path, number: usize, seen: &Seen, own_store: bool, shared: &Store) -> Runner {
    let seen = seen.clone();
    let note = job("note", move |context: JobContext, _| {
        let seen = seen.clone();
        async move {
            seen.lock()
                .unwrap()
                .entry(format!("{}#{}", context.idempotency_key, context.attempt))
                .or_default()
                .push(number);
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(JobOutput::new(json!(1)))
        }
    });
    let options = RunnerOptions {
        exclusive: false,
        lease: Duration::from_millis(900),
        parallelism: 3,
        ..RunnerOptions::new(home)
    };
    let store = if own_store { store(home).await } else { shared.clone() };
    Runner::new(store, registry([note]), options)
}

/// Two runners with databases of their own connections, or with one writer between them: every attempt is run by one.
async fn race(own_store: bool) {
    let home = tempfile::tempdir().unwrap();
    let seen: Seen = Arc::default();
    let shared = store(home.path()).await;
    let dag = dag(
        "dag: race\ntasks:\n  a: {job: note, map: '{{ range(150) | list }}', parallelism: 5}\n  b: {job: note, needs: [a], map: '{{ tasks.a.output }}'}\n  c: {job: give, needs: [b], with: {value: '{{ tasks.b.output | sum }}'}}\n",
    );
    let params = dag.params(&[]).unwrap();
    let mut driving = Vec::new();
    let mut run_id = None;
    for number in 0..3 {
        let runner = sharing(home.path(), number, &seen, own_store, &shared).await;
        let start = runner.start_or_resume(&dag, &params).await.unwrap();
        assert_eq!(*run_id.get_or_insert(start.run_id()), start.run_id(), "the second runner made a run of its own");
        driving.push(tokio::spawn(async move { runner.drive(start.run_id()).await }));
    }
    for one in driving {
        assert_eq!(one.await.unwrap().unwrap().state, RunState::Succeeded);
    }
    let run_id = run_id.unwrap();
    assert_eq!(shared.output(run_id, "c").await.unwrap(), Some(json!(150)));
    let attempts = shared.attempts(run_id).await.unwrap();
    assert_eq!(attempts.len(), 301);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 300);
    let mut by_runner = [0; 3];
    for (attempt, runners) in seen.iter() {
        assert_eq!(runners.len(), 1, "attempt {attempt} was run by {runners:?}");
        assert!(attempt.ends_with("#1"), "{attempt} was needed though nobody died");
        by_runner[runners[0]] += 1;
    }
    assert!(by_runner.iter().filter(|count| **count > 0).count() > 1, "there was no race: {by_runner:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_of_several_processes_never_run_the_same_attempt() {
    race(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_that_share_a_writer_never_run_the_same_attempt() {
    race(false).await;
}

/// Many processes start the same DAG at the same moment: one makes the run, the others are told who has it.
#[tokio::test(flavor = "multi_thread")]
async fn one_start_wins() {
    let home = tempfile::tempdir().unwrap();
    let dag = Arc::new(dag("dag: d\ntasks: {a: {job: give}}"));
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let (path, dag) = (home.path().to_path_buf(), dag.clone());
            tokio::spawn(async move {
                let runner = crate::common::runner(&path, []).await;
                let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await;
                // Keeps the lock until all have tried.
                (runner, start)
            })
        })
        .collect();
    let mut kept = Vec::new();
    for one in tries {
        kept.push(one.await.unwrap());
    }
    let won = kept.iter().filter(|(_, start)| start.is_ok()).count();
    assert_eq!(won, 1);
    for (_, start) in &kept {
        if let Err(error) = start {
            assert!(matches!(error, pipeline::Error::RunOwned { .. }), "{error}");
        }
    }
    assert_eq!(kept[0].0.store().runs(10).await.unwrap().len(), 1);
}
