//! The protocol over gRPC.

pub mod convert;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tracing::error;

use super::backend::{Backend, EXTENSIONS, ModelMetadata, ModelState, SERVER_NAME, TensorMetadata};
use super::limits::Limits;
use super::proto;
use super::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use super::repository;
use super::terms::{grpc_timeout, terms};
use crate::v2::Result;
use crate::{Error, retry_seconds};

/// The service's method paths begin with this.
pub const SERVICE: &str = "inference.GRPCInferenceService";

/// The service as routes that can stand beside others on one port: HTTP/2 with the content type `application/grpc`.
pub fn grpc_router(backend: Arc<dyn Backend>, limits: Limits) -> Router {
    let service = GrpcInferenceServiceServer::new(Face { backend, limits })
        .max_decoding_message_size(limits.max_body)
        .max_encoding_message_size(usize::MAX);
    // Without the fallback for other services, of which a router can have one only.
    Routes::new(service).into_axum_router().reset_fallback()
}

struct Face {
    backend: Arc<dyn Backend>,
    limits: Limits,
}

impl From<Error> for Status {
    fn from(problem: Error) -> Self {
        let code = match &problem {
            Error::Full { .. } | Error::TooLarge { .. } => Code::ResourceExhausted,
            Error::Draining | Error::Loading | Error::Upstream(_) => Code::Unavailable,
            Error::Late | Error::Slow => Code::DeadlineExceeded,
            Error::Invalid(_) | Error::Media(_) | Error::Unmet(_) => Code::InvalidArgument,
            Error::NotFound(_) | Error::Gone(_) => Code::NotFound,
            Error::Forbidden(_) => Code::PermissionDenied,
            Error::Conflict(_) => Code::FailedPrecondition,
            Error::Unsupported(_) | Error::NotAcceptable(_) | Error::NotConfigured(_) => Code::Unimplemented,
            Error::Database { .. } | Error::Platform(_) | Error::Tables(_) | Error::OldTables { .. } => Code::Internal,
            Error::Unreadable { .. } | Error::Model(_) | Error::Setup(_) => Code::Internal,
        };
        if code == Code::Internal {
            error!(error = %problem, "a request failed");
        }
        let mut status = Status::new(code, problem.public());
        if let Some(after) = problem.retry_after() {
            status.metadata_mut().insert("retry-after", retry_seconds(after).into());
        }
        status
    }
}

#[async_trait]
impl GrpcInferenceService for Face {
    async fn server_live(
        &self,
        _: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        Ok(Response::new(proto::ServerReadyResponse { ready: self.backend.ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        let proto::ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.backend.model_ready(&name, said(&version))?;
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Ok(Response::new(proto::ServerMetadataResponse {
            name: SERVER_NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<proto::ModelMetadataResponse>, Status> {
        let proto::ModelMetadataRequest { name, version } = request.into_inner();
        let ModelMetadata { name, versions, platform, inputs, outputs } =
            self.backend.metadata(&name, said(&version))?;
        let tensors = |tensors: Vec<TensorMetadata>| tensors.into_iter().map(tensor_metadata).collect();
        let (inputs, outputs) = (tensors(inputs), tensors(outputs));
        Ok(Response::new(proto::ModelMetadataResponse { name, versions, platform, inputs, outputs }))
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Result<Response<proto::ModelInferResponse>, Status> {
        let timeout = match request.metadata().get("grpc-timeout").map(|value| value.to_str()) {
            None => None,
            Some(Ok(text)) => Some(grpc_timeout(text)?),
            Some(Err(_)) => return Err(Error::Invalid("grpc-timeout is no text".to_owned()).into()),
        };
        let (mut request, raw) = convert::read(request.into_inner(), &self.limits)?;
        let terms = terms(&mut request.parameters, timeout, self.limits.max_time)?;
        let id = request.id.clone().unwrap_or_default();
        // A client that cancels or leaves drops this future, and with it the request in the queue.
        let response = self.backend.infer(request, terms).await?;
        Ok(Response::new(convert::write(response, id, raw)))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Result<Response<proto::RepositoryIndexResponse>, Status> {
        let entries = repository::listed(self.backend.as_ref(), request.into_inner().ready);
        let model = |entry: super::IndexEntry| proto::repository_index_response::ModelIndex {
            name: entry.name,
            version: entry.version,
            state: state_name(entry.state).to_owned(),
            reason: entry.reason,
        };
        let models = entries.into_iter().map(model).collect();
        Ok(Response::new(proto::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Result<Response<proto::RepositoryModelLoadResponse>, Status> {
        let request = request.into_inner();
        repository::check_parameters(request.parameters.keys())?;
        let model_name = named(request.repository_name, request.model_name);
        self.backend.load(&model_name).await?;
        Ok(Response::new(proto::RepositoryModelLoadResponse { model_name, is_loaded: true }))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Result<Response<proto::RepositoryModelUnloadResponse>, Status> {
        let request = request.into_inner();
        repository::check_parameters(request.parameters.keys())?;
        let model_name = named(request.repository_name, request.model_name);
        self.backend.unload(&model_name).await?;
        Ok(Response::new(proto::RepositoryModelUnloadResponse { model_name, is_unloaded: true }))
    }
}

/// KServe's clients, which know no repositories, put the model into the field of the repository.
fn named(repository: String, model: String) -> String {
    if model.is_empty() { repository } else { model }
}

/// A version that is asked for; empty is any.
fn said(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

fn state_name(state: ModelState) -> &'static str {
    match state {
        ModelState::Loading => "LOADING",
        ModelState::Ready => "READY",
        ModelState::Unavailable => "UNAVAILABLE",
    }
}

fn tensor_metadata(tensor: TensorMetadata) -> proto::model_metadata_response::TensorMetadata {
    let TensorMetadata { name, datatype, shape } = tensor;
    proto::model_metadata_response::TensorMetadata { name, datatype: datatype.name().to_owned(), shape }
}

/// Reads a message of a request from its bytes and all that it says, as [`GrpcInferenceService::model_infer`] does.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong.
pub fn read_message(bytes: Bytes, limits: &Limits) -> Result<super::InferRequest> {
    let message = <proto::ModelInferRequest as prost::Message>::decode(bytes)
        .map_err(|error| Error::Invalid(format!("the message cannot be read: {error}")))?;
    convert::read(message, limits).map(|(request, _)| request)
}
