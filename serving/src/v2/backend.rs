//! What is served: requests and answers of the protocol without their wire formats, and who answers them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::tensor::{Datatype, NamedTensor};
use crate::Result;
use crate::batch::Terms;

/// The extensions of the protocol that this server has.
pub const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "schedule_policy"];

/// Name of the server in its metadata.
pub const SERVER_NAME: &str = "safari";

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// True or false.
    Bool(bool),
    /// A number with a sign.
    Int64(i64),
    /// A number too large for a sign.
    Uint64(u64),
    /// A fraction.
    Double(f64),
    /// A text.
    String(String),
}

/// Parameters by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// What goes into a model.
#[derive(Debug, Clone, PartialEq)]
pub struct InferRequest {
    /// The model's name.
    pub model: String,
    /// Its version, if a certain one is asked for.
    pub version: Option<String>,
    /// The caller's name for the request, given back with the response.
    pub id: Option<String>,
    /// For the model. Those of the protocol itself have been acted on.
    pub parameters: Parameters,
    /// In the request's order.
    pub inputs: Vec<NamedTensor>,
    /// Names of the outputs to give back, in this order; empty for all.
    pub outputs: Vec<String>,
}

/// What comes out of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct InferResponse {
    /// The model's name.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The model's own remarks.
    pub parameters: Parameters,
    /// Those that were asked for.
    pub outputs: Vec<NamedTensor>,
}

/// What a tensor of a model looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Its elements.
    pub datatype: Datatype,
    /// Its extent; -1 is any.
    pub shape: Vec<i64>,
}

/// What a model says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelMetadata {
    /// Its name.
    pub name: String,
    /// Those that can be asked.
    pub versions: Vec<String>,
    /// What runs it, such as `pytorch_torchscript`.
    pub platform: String,
    /// What goes in.
    pub inputs: Vec<TensorMetadata>,
    /// What comes out.
    pub outputs: Vec<TensorMetadata>,
}

/// Whether a model can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModelState {
    /// Its files are being read.
    Loading,
    /// It can be asked.
    Ready,
    /// It cannot.
    Unavailable,
}

/// A model in the index of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexEntry {
    /// Its name.
    pub name: String,
    /// The version that is loaded; empty if none is.
    pub version: String,
    /// Whether it can be asked.
    pub state: ModelState,
    /// Why not; or why the last attempt to load it again failed.
    pub reason: String,
}

/// Answers the protocol's questions.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// All models, loaded or not.
    fn index(&self) -> Vec<IndexEntry>;

    /// Whether all models that should be there can be asked.
    fn ready(&self) -> bool;

    /// Whether a model can be asked.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] when there is no such model or version.
    fn model_ready(&self, name: &str, version: Option<&str>) -> Result<bool>;

    /// What a model says of itself.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], and [`crate::Error::Loading`] while it cannot be asked.
    fn metadata(&self, name: &str, version: Option<&str>) -> Result<ModelMetadata>;

    /// Asks a model. Dropping the future gives the request up.
    ///
    /// # Errors
    /// As [`Backend::metadata`]; [`crate::Error::Invalid`] when the tensors are not the model's; what the queue says.
    async fn infer(&self, request: InferRequest, terms: Terms) -> Result<InferResponse>;

    /// Loads a model, or loads it again from its files. Requests meanwhile are answered by what was loaded before.
    ///
    /// # Errors
    /// There is no such model, or its files cannot be used.
    async fn load(&self, name: &str) -> Result<()>;

    /// Takes a model out of service. What it was asked before is answered.
    ///
    /// # Errors
    /// There is no such model.
    async fn unload(&self, name: &str) -> Result<()>;
}

/// A model that was loaded.
#[async_trait]
pub trait Model: Send + Sync + 'static {
    /// What it says of itself; the name is given by whoever serves it.
    fn metadata(&self) -> ModelMetadata;

    /// Whether it can be asked.
    fn ready(&self) -> bool {
        true
    }

    /// Asks it.
    ///
    /// # Errors
    /// As [`Backend::infer`].
    async fn infer(&self, request: InferRequest, terms: Terms) -> Result<InferResponse>;
}

/// Where a model comes from.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Reads it, and tries it once.
    ///
    /// # Errors
    /// Why it cannot be used.
    async fn load(&self) -> Result<Arc<dyn Model>>;
}
