//! Tasks with `dag:`: each starts a run of another DAG, and ends when that run has ended.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Runner, RunnerOptions};
use crate::clock::Timestamp;
use crate::dag::{Dag, RUN_DAG_JOB};
use crate::error::{Error, Result};
use crate::ids::RunId;
use crate::job::{Job, JobContext, JobError, JobOutput, JobRegistry};
use crate::scheduler::find_dag;
use crate::state::{Origin, RunRecord, RunState, Store};
use crate::template::is_template;

/// How long it waits between two looks at a run: at first, and at most.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The job of tasks with `dag:`. It holds no slot while it waits, unless the run has to be driven here.
pub(super) struct RunDag {
    store: Store,
    registry: JobRegistry,
    options: RunnerOptions,
}

/// What the reader of DAG files makes of `dag:`, `params:` and `wait:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    dag: String,
    #[serde(default)]
    params: Map<String, Value>,
    wait: bool,
}

/// Checks what such a task is given, as far as its templates let it.
pub(crate) fn check(with: &Value) -> Result<(), String> {
    if with.get("params").and_then(Value::as_str).is_some_and(is_template) {
        return Ok(());
    }
    With::deserialize(with).map(drop).map_err(|error| format!("a task with `dag`: {error}"))
}

impl RunDag {
    pub(super) fn new(store: &Store, registry: &JobRegistry, options: &RunnerOptions) -> Self {
        Self { store: store.clone(), registry: registry.clone(), options: options.clone() }
    }

    /// The run that the task instance has started, or a new one; none when its own run stops.
    async fn child(&self, context: &JobContext, with: With) -> Result<Option<RunId>> {
        let key = &context.idempotency_key;
        if let Some(run) = self.store.child(key).await? {
            return Ok(Some(run));
        }
        let dag = self.dag(&with.dag).await?;
        let params = dag.params_from_json(with.params)?;
        let interval = self.store.run(context.run_id).await?.interval;
        let origin = Origin::Task { parent: context.run_id, key: key.clone() };
        if let Some(run) = self.store.create(&dag, &params, origin, interval, Timestamp::now()).await? {
            return Ok(Some(run));
        }
        // Another attempt, whose worker was thought dead, may have been faster.
        self.store.child(key).await
    }

    /// A DAG beside the one that is being run, or one that a server has read.
    async fn dag(&self, name: &str) -> Result<Dag> {
        if let Some(folder) = &self.options.dags
            && let Some(dag) = find_dag(folder, name)?
        {
            self.registry.check(&dag, None)?;
            return Ok(dag);
        }
        Ok(self.store.current_dag(name).await?.as_ref().clone())
    }

    /// Drives the run in this process: no server does.
    async fn drive(&self, run: RunId, context: &JobContext) -> Result<()> {
        let runner = Runner::new(self.store.clone(), self.registry.clone(), self.options.clone());
        let driving = runner.drive(run);
        tokio::pin!(driving);
        tokio::select! {
            done = &mut driving => return done.map(drop),
            () = context.cancel.cancelled() => runner.interrupt(),
        }
        driving.await.map(drop)
    }

    async fn look(&self, context: &JobContext, run: &RunRecord) -> Result<JobOutput, JobError> {
        let id = run.id;
        let said = format!("run {id} of dag `{}` {}", run.dag, run.state);
        match run.state {
            RunState::Queued | RunState::Running => {
                let wait = Timestamp::now().since(run.created_at) / 20;
                Err(JobError::not_yet(said, wait.clamp(SHORTEST_WAIT, LONGEST_WAIT)))
            }
            RunState::Succeeded | RunState::SucceededWithFailures => Ok(JobOutput { summary: said, ..output(run) }),
            RunState::Failed | RunState::Cancelled => {
                self.store.disown(id, &context.idempotency_key).await.map_err(|error| job_error(&error))?;
                let why = run.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                Err(JobError::transient(format!("{said}{why}")))
            }
        }
    }
}

#[async_trait::async_trait]
impl Job for RunDag {
    fn kind(&self) -> &'static str {
        RUN_DAG_JOB
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        check(with)
    }

    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        let with = With::deserialize(&with).map_err(|error| JobError::permanent(error.to_string()))?;
        let wait = with.wait;
        if self.store.is_deepest(context.run_id).await.map_err(|error| job_error(&error))? {
            let message =
                format!("dag `{}` would run too deep below the first: do the dags run one another?", with.dag);
            return Err(JobError::permanent(message));
        }
        let child = self.child(&context, with).await.map_err(|error| job_error(&error))?;
        let child = child.ok_or_else(JobError::interrupted)?;
        let mut run = self.store.run(child).await.map_err(|error| job_error(&error))?;
        if self.options.exclusive && !run.state.is_finished() {
            match self.drive(child, &context).await {
                Err(Error::Interrupted { .. }) => return Err(JobError::interrupted()),
                Err(error) => return Err(job_error(&error)),
                Ok(()) => run = self.store.run(child).await.map_err(|error| job_error(&error))?,
            }
        }
        if !wait && !self.options.exclusive {
            return Ok(output(&run));
        }
        self.look(&context, &run).await
    }
}

fn output(run: &RunRecord) -> JobOutput {
    let value = json!({ "run_id": run.id.to_string(), "state": run.state.as_str() });
    JobOutput { value, failures: 0, summary: format!("run {} started", run.id) }
}

/// Errors that may pass are tried again as the task says. A database that went away is no fault of the task's.
fn job_error(error: &Error) -> JobError {
    match error {
        _ if error.is_outage() => JobError::not_yet(error.to_string(), LONGEST_WAIT),
        Error::Dag(_) | Error::DagNotFound(_) | Error::Continuous(_) | Error::Params { .. } => {
            JobError::permanent(error.to_string())
        }
        _ => JobError::transient(error.to_string()),
    }
}
