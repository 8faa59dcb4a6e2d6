//! A server in this process, with the models of the tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serving::Result;
use serving::batch::{BatchMetrics, BatchOptions, Terms};
use serving::metrics::Metrics;
use serving::v2::{
    Datatype, InferRequest, InferResponse, Limits, Model, ModelMetadata, Models, NamedTensor, Source, TensorMetadata,
    TorchScriptOptions, TorchScriptSource, grpc_router, rest_router,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The largest body that a server of the tests takes.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// It ends when this value is dropped.
pub struct Server {
    pub address: SocketAddr,
    /// What happens to requests of the model `slow`.
    pub metrics: Metrics,
    _serving: Serving,
    _folder: TempDir,
}

impl Server {
    /// All models of the tests are loaded but `spare`, which waits in the repository's folder.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("spare")).unwrap();
        for file in ["model.pt", "signature.yaml"] {
            std::fs::copy(model_folder("lookup").join(file), folder.path().join("spare").join(file)).unwrap();
        }
        let models = Models::new().with_folder(folder.path(), TorchScriptOptions::default());
        for name in ["sums", "halves", "kinds", "lookup"] {
            models.add(name, torchscript(&model_folder(name))).unwrap();
        }
        let metrics = Metrics::new().unwrap();
        models.add("slow", counted(&model_folder("slow"), Some(metrics.batch("slow")))).unwrap();
        models.add("texts", Arc::new(Texts)).unwrap();
        models.load_all().await.unwrap();
        Self { metrics, ..Self::of(models, folder).await }
    }

    /// A server of these models.
    pub async fn of(models: Models, folder: TempDir) -> Self {
        let models = Arc::new(models);
        let limits = Limits { max_body: MAX_BODY, ..Limits::default() };
        let router = rest_router(Arc::clone(&models) as _, limits).merge(grpc_router(Arc::clone(&models) as _, limits));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, metrics: Metrics::new().unwrap(), _serving: Serving(serving), _folder: folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Ends with this value.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The source of a TorchScript model, one row of whose queue is small enough to be filled.
pub fn torchscript(path: &Path) -> Arc<dyn Source> {
    counted(path, None)
}

fn counted(path: &Path, metrics: Option<BatchMetrics>) -> Arc<dyn Source> {
    let batch = BatchOptions { max_batch: 4, queue: 8, metrics };
    let options = TorchScriptOptions { batch, ..TorchScriptOptions::default() };
    Arc::new(TorchScriptSource { path: path.to_owned(), options })
}

pub fn model_folder(name: &str) -> PathBuf {
    workspace().join("serving/tests/models").join(name)
}

pub fn workspace() -> &'static Path {
    Path::new(env!("WORKSPACE_ROOT"))
}

/// Gives its texts back.
struct Texts;

#[async_trait]
impl Source for Texts {
    async fn load(&self) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(Self))
    }
}

#[async_trait]
impl Model for Texts {
    fn metadata(&self) -> ModelMetadata {
        let text = TensorMetadata { name: "text".to_owned(), datatype: Datatype::Bytes, shape: vec![-1] };
        ModelMetadata {
            name: String::new(),
            versions: vec!["1".to_owned()],
            platform: "test".to_owned(),
            inputs: vec![text.clone()],
            outputs: vec![text],
        }
    }

    async fn infer(&self, request: InferRequest, _: Terms) -> Result<InferResponse> {
        let outputs: Vec<NamedTensor> = request.inputs;
        Ok(InferResponse { model: request.model, version: "1".to_owned(), parameters: Default::default(), outputs })
    }
}
