//! DAGs whose tasks do nothing or very little, run to their end in this process.

use std::sync::Arc;
use std::time::Instant;

use pipeline::{Dag, Job, JobContext, JobError, JobOutput, JobRegistry, RunState, Runner, RunnerOptions};
use serde_json::{Value, json};

use super::states::{State, States};
use crate::error::{Error, Result};

/// Name of the chain, for which there is a goal.
pub(super) const CHAIN: &str = "chain of 40 tasks";

/// A DAG that is measured.
#[derive(Debug)]
pub(super) struct Flow {
    /// For people.
    pub(super) name: &'static str,
    /// In the peers' results.
    pub(super) key: &'static str,
    pub(super) yaml: String,
    /// Transactions that must follow one another: the run's making, and each layer's end.
    pub(super) commits: usize,
}

impl Flow {
    /// What the peers run as well.
    pub(super) fn compared() -> [Self; 4] {
        let chain = |job: &str| {
            let mut yaml = format!("dag: chain\ntasks:\n  t0: {{job: {job}}}\n");
            for task in 1..40 {
                yaml.push_str(&format!("  t{task}: {{job: {job}, needs: [t{}]}}\n", task - 1));
            }
            yaml
        };
        [
            Self { name: CHAIN, key: "chain_40", yaml: chain("nothing"), commits: 41 },
            Self { name: "fan-out of 200 tasks and a join", key: "fan_out_200", yaml: fan_out(200), commits: 4 },
            Self {
                name: "10 layers of 10 tasks, each needing all before",
                key: "diamond_10x10",
                yaml: diamond(),
                commits: 11,
            },
            Self { name: "40 tasks of fib(10), one after the other", key: "fib_40", yaml: chain("fib"), commits: 41 },
        ]
    }

    /// For tasks a second.
    pub(super) fn fan_out_2000() -> Self {
        Self { name: "fan-out of 2000 tasks and a join", key: "", yaml: fan_out(2000), commits: 4 }
    }
}

/// Seconds from making the run to its end, in some rounds after one that is not counted; an empty state.
pub(super) async fn times(states: &States, flow: &Flow, rounds: usize) -> Result<Vec<f64>> {
    times_in(&states.fresh().await?, flow, rounds).await
}

/// The same in a state that is there.
pub(super) async fn times_in(state: &State, flow: &Flow, rounds: usize) -> Result<Vec<f64>> {
    let dag = Dag::parse(flow.key, &flow.yaml)?;
    let mut times = Vec::new();
    for round in 0..=rounds {
        // A runner does little else than wait for its tasks: many fit beside one another.
        let options = RunnerOptions { parallelism: 32, ..RunnerOptions::new(state.home.path()) };
        let runner = Runner::new(state.store.clone(), registry()?, options);
        let began = Instant::now();
        let start = runner.start_or_resume(&dag, &dag.params(&[])?).await?;
        let outcome = runner.drive(start.run_id()).await?;
        let took = began.elapsed().as_secs_f64();
        if outcome.state != RunState::Succeeded {
            return Err(Error::failed(flow.name, outcome.first_error.unwrap_or_default()));
        }
        if round > 0 {
            times.push(took);
        }
    }
    Ok(times)
}

/// The jobs `nothing` and `fib`.
pub(super) fn registry() -> Result<JobRegistry> {
    let mut registry = JobRegistry::new();
    registry.register(Arc::new(Nothing))?;
    registry.register(Arc::new(Fib))?;
    Ok(registry)
}

fn fan_out(tasks: usize) -> String {
    format!(
        "dag: fan_out\ntasks:\n  root: {{job: nothing}}\n  \
         fan: {{job: nothing, needs: [root], map: '{{{{ range({tasks}) | list }}}}'}}\n  \
         join: {{job: nothing, needs: [fan]}}\n"
    )
}

fn diamond() -> String {
    let mut yaml = "dag: diamond\ntasks:\n".to_owned();
    for layer in 0..10 {
        let needs: Vec<String> =
            if layer == 0 { Vec::new() } else { (0..10).map(|task| format!("t{}_{task}", layer - 1)).collect() };
        for task in 0..10 {
            yaml.push_str(&format!("  t{layer}_{task}: {{job: nothing, needs: [{}]}}\n", needs.join(", ")));
        }
    }
    yaml
}

struct Nothing;

#[async_trait::async_trait]
impl Job for Nothing {
    fn kind(&self) -> &'static str {
        "nothing"
    }

    fn check(&self, _: &Value) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn run(&self, _: JobContext, _: Value) -> std::result::Result<JobOutput, JobError> {
        Ok(JobOutput::new(Value::Null))
    }
}

/// The tenth Fibonacci number, worked out as slowly as in the comparison that the workload comes from.
struct Fib;

#[async_trait::async_trait]
impl Job for Fib {
    fn kind(&self) -> &'static str {
        "fib"
    }

    fn check(&self, _: &Value) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn run(&self, _: JobContext, _: Value) -> std::result::Result<JobOutput, JobError> {
        Ok(JobOutput::new(json!(fib(std::hint::black_box(10)))))
    }
}

fn fib(n: u32) -> u64 {
    if n < 2 { u64::from(n) } else { fib(n - 1) + fib(n - 2) }
}
