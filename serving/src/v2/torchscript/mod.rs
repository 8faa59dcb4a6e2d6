//! TorchScript files under the protocol: any with a signature. Rows of requests that wait together go through one forward.

mod worker;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tch::{CModule, Device};
use tokio::task::spawn_blocking;

use super::backend::{InferRequest, InferResponse, Model, ModelMetadata, Parameters, Source};
use super::check;
use super::signature::Signature;
use super::tensor::{NamedTensor, Tensor};
use crate::batch::{BatchOptions, Batcher, MakeWork, Terms, Work};
use crate::{Error, Result};

/// The protocol's name of what runs these models.
pub const PLATFORM: &str = "pytorch_torchscript";

/// How a model is run.
#[derive(Debug, Clone)]
pub struct TorchScriptOptions {
    /// What the version is called.
    pub version: String,
    /// Where it runs.
    pub device: Device,
    /// Threads that run it, each one forward at a time.
    pub workers: usize,
    /// Threads of one forward on a processor.
    pub threads: i32,
    /// Rows in one forward at most, unless one request has more.
    pub max_rows: i64,
    /// Requests that are taken together, and that may wait.
    pub batch: BatchOptions,
}

impl Default for TorchScriptOptions {
    fn default() -> Self {
        let batch = BatchOptions { max_batch: 16, queue: 256, ..BatchOptions::default() };
        Self { version: "1".to_owned(), device: Device::Cpu, workers: 1, threads: 1, max_rows: 64, batch }
    }
}

/// A loaded TorchScript model.
#[derive(Debug)]
pub struct TorchScript {
    signature: Signature,
    version: String,
    batcher: Batcher<Vec<Tensor>, Vec<Tensor>>,
}

/// The file or folder of a TorchScript model.
#[derive(Debug, Clone)]
pub struct TorchScriptSource {
    /// As [`Signature::read`] takes it.
    pub path: PathBuf,
    /// How it is run.
    pub options: TorchScriptOptions,
}

impl TorchScript {
    /// Reads the model at `path`, which [`Signature::read`] describes, and tries it once where its signature leaves open
    /// the number of rows only. It blocks meanwhile.
    ///
    /// # Errors
    /// [`Error::Setup`] with what is wrong with the files.
    pub fn load(path: &Path, options: &TorchScriptOptions) -> Result<Self> {
        let signature = Signature::read(path)?;
        let module: Arc<Mutex<Option<Arc<CModule>>>> = Arc::default();
        let make = |_| -> MakeWork<Vec<Tensor>, Vec<Tensor>> {
            let (module, signature, options) = (Arc::clone(&module), signature.clone(), options.clone());
            Box::new(move || {
                // Also of the first thread, which reads the file.
                tch::set_num_threads(options.threads.max(1));
                let module = shared(&module, || worker::read(&signature, options.device))?;
                Ok(Box::new(worker::Runner::new(module, signature, &options)) as Box<dyn Work<_, _>>)
            })
        };
        let workers = (0..options.workers.max(1)).map(make).collect();
        let batcher = Batcher::start("torchscript", options.batch.clone(), workers)?;
        Ok(Self { signature, version: options.version.clone(), batcher })
    }
}

#[async_trait]
impl Model for TorchScript {
    fn metadata(&self) -> ModelMetadata {
        ModelMetadata {
            name: String::new(),
            versions: vec![self.version.clone()],
            platform: PLATFORM.to_owned(),
            inputs: self.signature.inputs.clone(),
            outputs: self.signature.outputs.clone(),
        }
    }

    async fn infer(&self, request: InferRequest, terms: Terms) -> Result<InferResponse> {
        let inputs = check::inputs(&request, &self.signature.inputs)?;
        check::output_names(&request, &self.signature.outputs)?;
        let tensors = self.batcher.submit(inputs, terms).await?;
        let names = self.signature.outputs.iter().map(|output| output.name.clone());
        let outputs = names.zip(tensors).map(|(name, tensor)| NamedTensor { name, tensor }).collect();
        let outputs = check::chosen(&request, outputs)?;
        Ok(InferResponse {
            model: request.model,
            version: self.version.clone(),
            parameters: Parameters::new(),
            outputs,
        })
    }
}

#[async_trait]
impl Source for TorchScriptSource {
    async fn load(&self) -> Result<Arc<dyn Model>> {
        let Self { path, options } = self.clone();
        let loaded = spawn_blocking(move || TorchScript::load(&path, &options)).await;
        let model = loaded.map_err(|error| Error::Setup(format!("the model could not be read: {error}")))??;
        Ok(Arc::new(model))
    }
}

/// The module that all workers share, read by the first of them.
fn shared(module: &Mutex<Option<Arc<CModule>>>, read: impl FnOnce() -> Result<CModule>) -> Result<Arc<CModule>> {
    let mut module = module.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = &*module {
        return Ok(Arc::clone(module));
    }
    let first = Arc::new(read()?);
    *module = Some(Arc::clone(&first));
    Ok(first)
}
