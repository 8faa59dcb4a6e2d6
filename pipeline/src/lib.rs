//! The orchestrator: DAG files, the state of their runs, and the runner that drives a run to its end.
//!
//! It knows no kind of job: the caller registers implementations of [`Job`] under their kinds. The promise is
//! at-least-once attempts and exactly-once state transitions. Every attempt has a fencing token, and every task
//! instance an idempotency key that is the same for all its attempts, so that a job can make its effects exactly-once.
//!
//! ```no_run
//! # async fn example(state: platform::database::Database, registry: pipeline::JobRegistry) -> pipeline::Result<()> {
//! use pipeline::{Dag, Runner, RunnerOptions, Store};
//!
//! let dag = Dag::load(std::path::Path::new("dags/detect.yaml"))?;
//! let params = dag.params(&[("source".to_string(), "data-samples".to_string())])?;
//! let runner = Runner::new(Store::open(state).await?, registry, RunnerOptions::new("safari-home"));
//! let start = runner.start_or_resume(&dag, &params).await?;
//! let outcome = runner.drive(start.run_id()).await?;
//! println!("{} after {:.1} s", outcome.state, outcome.seconds);
//! # Ok(())
//! # }
//! ```

pub mod alerts;
pub mod api;
pub mod changes;
pub mod clock;
pub mod dag;
mod error;
pub mod history;
pub mod ids;
pub mod job;
pub mod kubernetes;
pub mod logs;
pub mod mask;
pub mod metrics;
pub mod runner;
pub mod schedule;
pub mod scheduler;
pub mod state;
pub mod stream;
pub mod telemetry;
pub mod template;

pub use alerts::Alerts;
pub use changes::{ChangeFeed, Follower};
pub use clock::Timestamp;
pub use dag::{Dag, Mistake, Mistakes, Params};
pub use error::{Error, Result};
pub use history::History;
pub use ids::{AttemptId, DagVersionId, RunId, TaskInstanceId};
pub use job::{Cancel, Job, JobContext, JobError, JobOutput, JobRegistry, ProgressSink, Retry};
pub use kubernetes::{Executor, KubernetesOptions};
pub use logs::{Logs, LogsOptions};
pub use mask::{KnownSecrets, Masker};
pub use runner::{Offer, RunEvent, RunOutcome, Runner, RunnerOptions, Secrets, Start, TaskProgress};
pub use scheduler::{DagFolder, Scheduler};
pub use state::{AttemptState, DagRecord, RunCause, RunState, Store, TaskState, TaskSummary, Ticket};
pub use stream::Streams;
pub use telemetry::{Receiver, Telemetry};
