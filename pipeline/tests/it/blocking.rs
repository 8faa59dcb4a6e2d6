//! Jobs that hold on to their threads, as calls into a GPU's libraries do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pipeline::clock::Timestamp;
use pipeline::{AttemptState, Job, JobContext, JobError, JobOutput, RunState, Runner, RunnerOptions, Scheduler};
use serde_json::json;

use crate::common::{dag, job, registry, store};
use crate::process::{PATIENCE, until_it_is};

const LEASE: Duration = Duration::from_millis(600);
const QUICK: usize = 40;

/// More of them than the runtime has threads.
const YAML: &str = "
dag: d
defaults: {queue: gpu}
tasks:
  block: {job: block, map: '{{ range(4) | list }}'}
  quick: {job: quick, map: '{{ range(40) | list }}'}
";

/// Blocks its thread for several leases, and until all quick tasks are done.
fn block(done: &Arc<AtomicUsize>) -> Arc<dyn Job> {
    let done = Arc::clone(done);
    job("block", move |_: JobContext, _| {
        let done = Arc::clone(&done);
        async move {
            let began = Instant::now();
            while began.elapsed() < 3 * LEASE || done.load(Ordering::SeqCst) < QUICK {
                if began.elapsed() > PATIENCE / 2 {
                    return Err(JobError::permanent("the other tasks stand still"));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(JobOutput::new(json!(1)))
        }
    })
}

fn quick(done: &Arc<AtomicUsize>) -> Arc<dyn Job> {
    let done = Arc::clone(done);
    job("quick", move |_: JobContext, _| {
        done.fetch_add(1, Ordering::SeqCst);
        async { Ok(JobOutput::new(json!(1))) }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_block_their_threads_keep_their_leases_and_hold_up_no_other() {
    let home = tempfile::tempdir().unwrap();
    let done = Arc::default();
    let options = RunnerOptions { exclusive: false, lease: LEASE, parallelism: 8, ..RunnerOptions::new(home.path()) };
    let store_here = store(home.path()).await;
    let worker = Runner::new(store_here.clone(), registry([block(&done), quick(&done)]), options.clone());
    // Another one, which takes over whatever seems left behind.
    let rival = Runner::new(store(home.path()).await, registry([]), options);
    let (worker, rival) = (Arc::new(worker), Arc::new(rival));
    let serve = |runner: &Arc<Runner>, queue: &str| {
        let (runner, queue) = (Arc::clone(runner), queue.to_owned());
        tokio::spawn(async move { runner.serve(vec![queue]).await })
    };
    let serving = [serve(&worker, "gpu"), serve(&rival, "other")];

    let dag = dag(YAML);
    let run = store_here.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
    Scheduler::new(store_here.clone(), LEASE).pass(Timestamp::now()).await.unwrap();
    until_it_is("the run's end", async || store_here.run(run).await.unwrap().state.is_finished()).await;
    let record = store_here.run(run).await.unwrap();
    assert_eq!(record.state, RunState::Succeeded, "{record:?}");
    let attempts = store_here.attempts(run).await.unwrap();
    assert_eq!(attempts.len(), 4 + QUICK);
    assert!(attempts.iter().all(|attempt| attempt.number == 1 && attempt.state == AttemptState::Succeeded));
    worker.drain();
    rival.drain();
    for one in serving {
        one.await.unwrap().unwrap();
    }
}
