//! The Open Inference Protocol, version 2, over REST and gRPC, with the extensions for binary tensors and for model
//! repositories. Sources: github.com/kserve/open-inference-protocol, and Triton's `protocol/extension_*.md`.
//!
//! [`rest_router`] and [`grpc_router`] put a [`Backend`] on the network; [`Models`] is one: several models by name,
//! [`TorchScript`] files and our own [`Wildlife`] model.

pub mod backend;
mod check;
pub mod grpc;
pub mod limits;
pub mod models;
pub mod proto;
pub mod repository;
pub mod rest;
pub mod signature;
pub mod tensor;
mod terms;
pub mod torchscript;
pub mod wildlife;

pub use backend::{
    Backend, IndexEntry, InferRequest, InferResponse, Model, ModelMetadata, ModelState, Parameter, Parameters, Source,
    TensorMetadata,
};
pub use grpc::grpc_router;
pub use limits::Limits;
pub use models::Models;
pub use rest::rest_router;
pub use tensor::{Datatype, NamedTensor, Shape, Tensor};
pub use torchscript::{TorchScript, TorchScriptOptions, TorchScriptSource};
pub use wildlife::Wildlife;

/// Of what has reasons, problems or statuses instead of the crate's errors, too.
type Result<T, E = crate::Error> = std::result::Result<T, E>;
