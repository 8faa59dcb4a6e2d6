//! The Kubernetes executor: one Job an attempt.
//!
//! An executor claims attempts of tasks that want a pod, and makes a Job for each. The pod's process takes its attempt
//! over by compare-and-set ([`Ticket`](crate::state::Ticket)), renews its lease, writes its log and records its end, as a
//! worker does; so an executor that dies or restarts is missed by no attempt under way. The executor keeps nothing that
//! matters in memory: it compares the attempts in the state with the Jobs and pods that it watches, makes Jobs that are
//! missing, ends attempts whose pod died without a word, and removes Jobs that nobody needs any more.
//!
//! The state alone says who may run: a pod that comes too late, or a second one of the same Job, finds its attempt taken
//! and ends. Nothing is given up because Kubernetes cannot be asked.

mod claims;
mod cluster;
mod executor;
mod job;
mod options;
mod reconcile;
mod template;
mod verdict;
mod watch;

pub use executor::Executor;
pub use job::render;
pub use options::KubernetesOptions;
pub use template::{Template, unknown_field};
