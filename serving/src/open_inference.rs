//! The models of this server under the Open Inference Protocol: its detection model, and TorchScript models beside it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use detector::device::Device;

use crate::app::App;
use crate::batch::{BatchOptions, Terms};
use crate::models::{ModelSource, refresh};
use crate::v2::wildlife::{Found, Look};
use crate::v2::{
    Backend, IndexEntry, InferRequest, InferResponse, ModelMetadata, Models, TorchScriptOptions, TorchScriptSource,
    Wildlife,
};
use crate::{Error, Result};

/// The name of the detection model, whichever it is.
pub(crate) const WILDLIFE: &str = "wildlife";

/// The models that the options name. None is loaded yet.
///
/// # Errors
/// Two have the same name, or one cannot be the part of a path.
pub(crate) fn models(app: &App) -> Result<Models> {
    let options = &app.inner.options;
    let mut models = Models::new();
    if let Some(folder) = &options.repository {
        if !folder.is_dir() {
            return Err(Error::Setup(format!("serve.repository: {} is no folder", folder.display())));
        }
        models = models.with_folder(folder, torchscript(app, "repository"));
    }
    match &options.model {
        ModelSource::TorchScript(path) => add(app, &models, &name_of(path), path)?,
        _ => models.add(WILDLIFE, Arc::new(Wildlife::new(Arc::new(Eyes { app: app.clone() }))))?,
    }
    for (name, path) in &options.models {
        add(app, &models, name, path)?;
    }
    Ok(models)
}

fn add(app: &App, models: &Models, name: &str, path: &Path) -> Result<()> {
    let source = TorchScriptSource { path: path.to_owned(), options: torchscript(app, name) };
    models.add(name, Arc::new(source))
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// As the detection model is run: one picture a thread on a processor, one thread before a GPU.
fn torchscript(app: &App, name: &str) -> TorchScriptOptions {
    let engine = &app.inner.options.engine;
    let usual = TorchScriptOptions::default();
    let metrics = Some(app.inner.metrics.batch(name));
    let batch = BatchOptions { queue: engine.queue, metrics, ..usual.batch.clone() };
    let device = app.inner.loader.device;
    let workers = if device == Device::Cpu { engine.cpu_threads() } else { 1 };
    TorchScriptOptions { device, workers, batch, ..usual }
}

/// The detection model that serves now.
struct Eyes {
    app: App,
}

#[async_trait]
impl Look for Eyes {
    async fn look(&self, image: Bytes, terms: Terms) -> Result<Found> {
        let (seen, _) = self.app.single(image, terms, None).await?;
        let corners = |[left, top, width, height]: [f32; 4]| [left, top, left + width, top + height];
        Ok(Found {
            boxes: seen.detections.iter().map(|found| corners(found.bbox)).collect(),
            scores: seen.detections.iter().map(|found| found.confidence).collect(),
            labels: seen.detections.into_iter().map(|found| found.species.unwrap_or(found.category)).collect(),
            version: seen.model.version,
        })
    }

    fn version(&self) -> String {
        self.app.inner.slot.current().map(|served| served.name.version.clone()).unwrap_or_default()
    }

    fn ready(&self) -> bool {
        self.app.inner.slot.current().is_some()
    }
}

/// The models, with the server's own state before them.
pub(crate) struct Served {
    app: App,
    models: Arc<Models>,
}

impl Served {
    pub(crate) fn new(app: App, models: Arc<Models>) -> Self {
        Self { app, models }
    }
}

#[async_trait]
impl Backend for Served {
    fn index(&self) -> Vec<IndexEntry> {
        self.models.index()
    }

    fn ready(&self) -> bool {
        self.app.is_ready() && self.models.ready()
    }

    fn model_ready(&self, name: &str, version: Option<&str>) -> Result<bool> {
        Ok(self.models.model_ready(name, version)? && !self.app.is_ending())
    }

    fn metadata(&self, name: &str, version: Option<&str>) -> Result<ModelMetadata> {
        self.models.metadata(name, version)
    }

    async fn infer(&self, request: InferRequest, terms: Terms) -> Result<InferResponse> {
        let _under_way = self.app.admit()?;
        self.models.infer(request, terms).await
    }

    /// The detection model is looked for again where it comes from.
    async fn load(&self, name: &str) -> Result<()> {
        let _under_way = self.app.admit()?;
        let detects = !matches!(self.app.inner.options.model, ModelSource::TorchScript(_));
        if detects && name == WILDLIFE {
            let app = self.app.clone();
            // It goes on if the caller leaves.
            let looked = tokio::spawn(async move { refresh(&app, true).await });
            looked.await.map_err(|error| Error::Model(error.to_string()))??;
        }
        self.models.load(name).await
    }

    async fn unload(&self, name: &str) -> Result<()> {
        let _under_way = self.app.admit()?;
        self.models.unload(name).await
    }
}
