//! The Open Inference Protocol on a real port: asked by Triton's and KServe's own clients, and by callers that lie.
#![allow(clippy::unwrap_used)]

mod clients;
mod findings;
mod grpc;
mod hostile;
mod pretrained;
mod server;
mod wildlife;
