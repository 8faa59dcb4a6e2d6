//! Random DAG shapes: every task starts after all that it needs have ended, and every run ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pipeline::{JobError, JobOutput, RunState, Runner, RunnerOptions, TaskState};
use serde_json::json;

use crate::common::{dag, job, registry, run_in, store};

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A DAG whose needs go to any earlier task, listed in random order; some tasks are mapped, some fail.
fn shape(random: &mut Random) -> String {
    let count = 2 + random.below(14);
    let mut lines: Vec<String> = Vec::new();
    for task in 0..count {
        let mut needs: Vec<String> = Vec::new();
        for earlier in 0..task {
            if random.below(3) == 0 {
                needs.push(format!("t{earlier}"));
            }
        }
        let kind = if random.below(12) == 0 { "bad" } else { "good" };
        let map = match random.below(5) {
            0 => format!(", map: '{{{{ range({}) | list }}}}'", random.below(5)),
            1 if !needs.is_empty() => format!(", map: '{{{{ tasks.{}.output | list }}}}'", needs[0]),
            _ => String::new(),
        };
        lines.push(format!(
            "  t{task}: {{job: {kind}, needs: [{}]{map}, retries: {}, retry_delay: 1ms}}\n",
            needs.join(", "),
            random.below(2)
        ));
    }
    for at in (1..lines.len()).rev() {
        lines.swap(at, random.below(at as u64 + 1) as usize);
    }
    format!("dag: shape\ntasks:\n{}", lines.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_shapes_run_in_dependency_order() {
    let home = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(0));
    // task -> (first start, last end)
    let times: Arc<Mutex<HashMap<String, (u64, u64)>>> = Arc::default();
    let work = |kind: &'static str| {
        let (clock, times) = (clock.clone(), times.clone());
        job(kind, move |context, _| {
            let start = clock.fetch_add(1, Ordering::SeqCst);
            let (clock, times) = (clock.clone(), times.clone());
            async move {
                tokio::time::sleep(std::time::Duration::from_micros(300 * u64::from(context.attempt))).await;
                let end = clock.fetch_add(1, Ordering::SeqCst);
                let mut times = times.lock().unwrap();
                let time = times.entry(context.task.clone()).or_insert((start, end));
                *time = (time.0.min(start), time.1.max(end));
                if kind == "bad" { Err(JobError::transient("bad")) } else { Ok(JobOutput::new(json!([1, 2, 3]))) }
            }
        })
    };
    let options = RunnerOptions { parallelism: 4, ..RunnerOptions::new(home.path()) };
    let runner = Runner::new(store(home.path()).await, registry([work("good"), work("bad")]), options);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut failed_runs, mut mapped) = (0, 0);
    for _ in 0..40 {
        times.lock().unwrap().clear();
        let yaml = shape(&mut random);
        let parsed = dag(&yaml);
        let outcome = run_in(&runner, &yaml).await;
        let state: HashMap<&str, TaskState> =
            outcome.tasks.iter().map(|task| (task.task.as_str(), task.state)).collect();
        let times = times.lock().unwrap();
        for task in parsed.tasks() {
            let needs_ok = task.needs.iter().all(|need| state[need.as_str()] == TaskState::Succeeded);
            let own = state[task.id.as_str()];
            assert!(own.is_finished(), "{yaml}");
            assert_eq!(needs_ok, own != TaskState::UpstreamFailed, "{}\n{yaml}", task.id);
            assert!(needs_ok || !times.contains_key(&task.id), "{} ran\n{yaml}", task.id);
            mapped += usize::from(task.map.is_some());
            let Some((start, _)) = times.get(&task.id) else { continue };
            for need in &task.needs {
                if let Some((_, end)) = times.get(need) {
                    assert!(end < start, "{} began before {need} ended\n{yaml}", task.id);
                }
            }
        }
        let all_ok = state.values().all(|state| *state == TaskState::Succeeded);
        assert_eq!(outcome.state == RunState::Succeeded, all_ok);
        failed_runs += usize::from(!all_ok);
    }
    assert!(failed_runs > 5 && failed_runs < 35 && mapped > 20, "{failed_runs} {mapped}");
}

/// The shape that the queue library's own graph never finishes: arms of unequal length and a join.
#[tokio::test]
async fn unequal_arms_join() {
    let outcome = crate::common::run(
        "dag: d\ntasks:\n  root: {job: give}\n  a: {job: give, needs: [root]}\n  a2: {job: give, needs: [a]}\n  b: {job: give, needs: [root]}\n  join: {job: give, needs: [a2, b], with: {value: 1}}\n",
        [],
    )
    .await;
    assert_eq!(outcome.state, RunState::Succeeded);
}
