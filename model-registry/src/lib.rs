//! The model registry: an MLflow-compatible tracking and registry server, its client, and promotion.
//!
//! | module | what it is |
//! |---|---|
//! | [`entities`] | experiments, runs and logged models as answers have them |
//! | [`store`] | experiments, runs, models, versions, promotions in SQLite or PostgreSQL |
//! | [`filter`] | MLflow's filter language and `order_by`, to SQL |
//! | [`artifacts`] | files of runs and models in a folder or a bucket |
//! | [`api`] | the REST API that the unmodified `mlflow` client speaks |
//! | [`client`] | asks such a server, ours or MLflow's own |
//! | [`folder`] | model folders with checksums, lineage and a card |
//! | [`promotion`] | moves aliases by compare-and-set, behind gates, with an audit |
//! | [`serve`] | the server around the API |
//! | [`registered`] | registered models and versions as the API writes them |
//! | [`webhooks`] | tells others of changes |
//! | [`gc`] | removes what was deleted |
//! | [`package`] | an OCI image of a model and the program that serves it |
//!
//! Endpoints, limits and messages are those of mlflow 3.17.2, as its client sends them on the wire.

pub mod api;
pub mod artifacts;
pub mod client;
mod clock;
pub mod copy;
pub mod entities;
mod error;
pub mod filter;
pub mod folder;
pub mod gc;
mod ids;
mod limits;
mod names;
mod number;
pub mod package;
mod page;
pub mod promotion;
pub mod register;
pub mod registered;
pub mod serve;
mod source;
pub mod store;
mod validate;
pub mod webhooks;

pub use error::{Error, ErrorCode, Result};
pub use ids::{ExperimentId, LoggedModelId, RunId, VersionNumber};
