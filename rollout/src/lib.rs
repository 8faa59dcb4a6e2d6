//! Rollouts: a version of a model comes to serving replicas step by step, is watched at each, and stays or goes away again.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | steps, limits and replicas, from a YAML file or flags |
//! | [`machine`] | what comes next, without a clock, a database or a network |
//! | [`analysis`] | what two versions did in the same time, and whether the new one is good enough |
//! | [`fleet`] | replicas, by their addresses or on Kubernetes: gives a version its share, reads their counters, brings them in agreement with the alias |
//! | [`prometheus`] | their counters as a Prometheus server has them |
//! | [`store`] | rollouts and their events in SQLite or PostgreSQL; a lease says who drives one |
//! | [`Rollouts`] | begins, pauses, aborts, undoes and drives them |
//!
//! The alias is what counts: replicas follow it by themselves. A rollout moves it last, by compare-and-set, and what is done
//! to replicas before can be lost at any moment: a candidate that nobody asks for again goes away.

mod alias;
pub mod analysis;
mod driver;
mod error;
pub mod fleet;
mod ids;
pub mod machine;
pub mod plan;
pub mod prometheus;
mod rollouts;
pub mod store;

pub use driver::Pace;
pub use error::{Error, Result};
pub use ids::RolloutId;
pub use machine::Phase;
pub use plan::Plan;
pub use rollouts::{Access, Authorization, NewRollout, Rollouts, Tokens, drive_all};
pub use store::{Event, Rollout};
