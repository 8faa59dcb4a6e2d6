//! Several models by name: those that were named when the server started, and those of a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tracing::{error, info};

use super::backend::{Backend, IndexEntry, InferRequest, InferResponse, Model, ModelMetadata, ModelState, Source};
use super::tensor::shortened;
use super::torchscript::{TorchScriptOptions, TorchScriptSource};
use crate::batch::Terms;
use crate::{Error, Result};

/// Models by name. Each is loaded, loaded again and taken out of service by itself.
#[derive(Default)]
pub struct Models {
    slots: RwLock<BTreeMap<String, Arc<Slot>>>,
    folder: Option<(PathBuf, TorchScriptOptions)>,
}

/// One name.
struct Slot {
    source: Arc<dyn Source>,
    /// Held by whoever loads or unloads it.
    changing: tokio::sync::Mutex<()>,
    state: ArcSwap<State>,
}

#[derive(Clone)]
struct State {
    model: Option<Arc<dyn Model>>,
    loading: bool,
    /// Whether it should be there: it was named at the start or asked for, and not unloaded since.
    wanted: bool,
    reason: String,
}

impl Models {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes models from below `folder` as well: each folder there is a model of its name, a TorchScript one that is
    /// loaded when somebody asks for it.
    pub fn with_folder(mut self, folder: &Path, options: TorchScriptOptions) -> Self {
        self.folder = Some((folder.to_owned(), options));
        self
    }

    /// Adds a model that is loaded by [`Models::load_all`].
    ///
    /// # Errors
    /// [`Error::Setup`]: the name is taken, or cannot be part of a URL.
    pub fn add(&self, name: &str, source: Arc<dyn Source>) -> Result<()> {
        if !is_name(name) {
            return Err(Error::Setup(format!(
                "`{}` cannot be the name of a model: letters, digits, . _ -",
                shortened(name)
            )));
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.contains_key(name) {
            return Err(Error::Setup(format!("there are two models named `{name}`")));
        }
        slots.insert(name.to_owned(), Arc::new(Slot::new(source, true)));
        Ok(())
    }

    /// Loads all models that were added.
    ///
    /// # Errors
    /// The first one that cannot be loaded; the others stay loaded.
    pub async fn load_all(&self) -> Result<()> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, slot) in slots {
            slot.load(name).await?;
        }
        Ok(())
    }

    fn slot(&self, name: &str) -> Result<Arc<Slot>> {
        let known = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.ok_or_else(|| Error::NotFound(format!("there is no model `{}`", shortened(name))))
    }

    /// The loaded model of this name and version.
    fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<dyn Model>> {
        let slot = self.slot(name);
        let state = match &slot {
            Ok(slot) => slot.state.load_full(),
            Err(_) if self.in_folder(name).is_some() => return Err(not_loaded(name)),
            Err(missing) => return Err(missing.clone()),
        };
        let Some(model) = &state.model else {
            return Err(if state.loading { Error::Loading } else { not_loaded(name) });
        };
        if let Some(version) = version {
            let versions = model.metadata().versions;
            if !versions.iter().any(|known| known == version) {
                let version = shortened(version);
                let versions = versions.join(", ");
                return Err(Error::NotFound(format!("model `{name}` has no version `{version}`; it has {versions}")));
            }
        }
        Ok(Arc::clone(model))
    }

    /// The model of this name below the folder.
    fn in_folder(&self, name: &str) -> Option<Arc<dyn Source>> {
        let (folder, options) = self.folder.as_ref()?;
        let path = folder.join(name);
        (is_name(name) && path.is_dir())
            .then(|| Arc::new(TorchScriptSource { path, options: options.clone() }) as Arc<dyn Source>)
    }

    fn names_in_folder(&self) -> Vec<String> {
        let entries = self.folder.as_ref().and_then(|(folder, _)| std::fs::read_dir(folder).ok());
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok().filter(|name| is_name(name));
        entries.into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()).filter_map(name).collect()
    }
}

#[async_trait]
impl Backend for Models {
    fn index(&self) -> Vec<IndexEntry> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut entries: BTreeMap<String, IndexEntry> =
            self.names_in_folder().into_iter().map(|name| (name.clone(), never_loaded(name))).collect();
        for (name, slot) in slots {
            entries.insert(name.clone(), slot.entry(name));
        }
        entries.into_values().collect()
    }

    fn ready(&self) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.values().all(|slot| {
            let state = slot.state.load();
            !state.wanted || state.model.as_ref().is_some_and(|model| model.ready())
        })
    }

    fn model_ready(&self, name: &str, version: Option<&str>) -> Result<bool> {
        match self.model(name, version) {
            Ok(model) => Ok(model.ready()),
            Err(Error::Loading) => Ok(false),
            Err(_) if self.slot(name).is_ok_and(|slot| slot.state.load().model.is_none()) => Ok(false),
            Err(_) if self.slot(name).is_err() && self.in_folder(name).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn metadata(&self, name: &str, version: Option<&str>) -> Result<ModelMetadata> {
        let metadata = self.model(name, version)?.metadata();
        Ok(ModelMetadata { name: name.to_owned(), ..metadata })
    }

    async fn infer(&self, request: InferRequest, terms: Terms) -> Result<InferResponse> {
        // Whoever loads it again meanwhile does not take this one away: it lives as long as somebody asks it.
        self.model(&request.model, request.version.as_deref())?.infer(request, terms).await
    }

    async fn load(&self, name: &str) -> Result<()> {
        let slot = match self.slot(name) {
            Ok(slot) => slot,
            Err(missing) => {
                let source = self.in_folder(name).ok_or(missing)?;
                let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(slots.entry(name.to_owned()).or_insert_with(|| Arc::new(Slot::new(source, false))))
            }
        };
        // It goes on if the caller leaves.
        let name = name.to_owned();
        let loading = tokio::spawn(async move { slot.load(name).await });
        loading.await.map_err(|error| Error::Model(format!("loading broke off: {error}")))?
    }

    async fn unload(&self, name: &str) -> Result<()> {
        match self.slot(name) {
            Ok(slot) => slot.unload(name).await,
            Err(_) if self.in_folder(name).is_some() => {}
            Err(missing) => return Err(missing),
        }
        Ok(())
    }
}

impl Slot {
    fn new(source: Arc<dyn Source>, wanted: bool) -> Self {
        let state = State { model: None, loading: false, wanted, reason: "it was not loaded yet".to_owned() };
        Self { source, changing: tokio::sync::Mutex::new(()), state: ArcSwap::from_pointee(state) }
    }

    /// Loads it beside what is there, and puts it in its place. If that fails, what was there stays.
    async fn load(&self, name: String) -> Result<()> {
        let _changing = self.changing.lock().await;
        let before = State::clone(&self.state.load());
        self.state.store(Arc::new(State { loading: true, ..before.clone() }));
        match self.source.load().await {
            Ok(model) => {
                info!(model = name, versions = ?model.metadata().versions, "a model is loaded");
                let state = State { model: Some(model), loading: false, wanted: true, reason: String::new() };
                self.state.store(Arc::new(state));
                Ok(())
            }
            Err(failure) => {
                error!(model = name, error = %failure, "a model cannot be loaded");
                let reason = match before.model {
                    Some(_) => "it could not be loaded again; the server's log says why".to_owned(),
                    None => "it could not be loaded; the server's log says why".to_owned(),
                };
                self.state.store(Arc::new(State { loading: false, reason, ..before }));
                Err(failure)
            }
        }
    }

    async fn unload(&self, name: &str) {
        let _changing = self.changing.lock().await;
        let reason = "it was unloaded".to_owned();
        self.state.store(Arc::new(State { model: None, loading: false, wanted: false, reason }));
        info!(model = name, "a model is unloaded");
    }

    fn entry(&self, name: String) -> IndexEntry {
        let state = self.state.load();
        let version = state.model.as_ref().and_then(|model| model.metadata().versions.pop());
        let model_state = match &state.model {
            Some(model) if model.ready() => ModelState::Ready,
            _ if state.loading => ModelState::Loading,
            _ => ModelState::Unavailable,
        };
        IndexEntry { name, version: version.unwrap_or_default(), state: model_state, reason: state.reason.clone() }
    }
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.index()).finish()
    }
}

fn not_loaded(name: &str) -> Error {
    Error::NotFound(format!("model `{name}` is not loaded; POST /v2/repository/models/{name}/load loads it"))
}

fn never_loaded(name: String) -> IndexEntry {
    let reason = "it was not loaded yet".to_owned();
    IndexEntry { name, version: String::new(), state: ModelState::Unavailable, reason }
}

/// Whether this can be a name: one part of a path that leads nowhere else.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Fixed(String);

    #[async_trait]
    impl Model for Fixed {
        fn metadata(&self) -> ModelMetadata {
            let versions = vec![self.0.clone()];
            ModelMetadata {
                name: String::new(),
                versions,
                platform: "test".to_owned(),
                inputs: vec![],
                outputs: vec![],
            }
        }

        async fn infer(&self, request: InferRequest, _: Terms) -> Result<InferResponse> {
            Ok(InferResponse {
                model: request.model,
                version: self.0.clone(),
                parameters: Default::default(),
                outputs: vec![],
            })
        }
    }

    /// Gives version 1, 2, … and fails at version 3.
    #[derive(Default)]
    struct Versions(AtomicUsize);

    #[async_trait]
    impl Source for Versions {
        async fn load(&self) -> Result<Arc<dyn Model>> {
            match self.0.fetch_add(1, Ordering::SeqCst) + 1 {
                3 => Err(Error::Setup("the files are gone".to_owned())),
                version => Ok(Arc::new(Fixed(version.to_string()))),
            }
        }
    }

    fn request(name: &str, version: Option<&str>) -> InferRequest {
        InferRequest {
            model: name.to_owned(),
            version: version.map(str::to_owned),
            id: None,
            parameters: Default::default(),
            inputs: vec![],
            outputs: vec![],
        }
    }

    #[tokio::test]
    async fn a_model_is_loaded_again_and_taken_out() {
        let models = Models::new();
        models.add("m", Arc::new(Versions::default())).unwrap();
        assert!(models.add("m", Arc::new(Versions::default())).is_err());
        assert!(!models.ready());
        assert!(!models.model_ready("m", None).unwrap());
        let error = models.infer(request("m", None), Terms::default()).await.unwrap_err();
        assert_eq!(error.status(), 404, "{error}");

        models.load_all().await.unwrap();
        assert!(models.ready() && models.model_ready("m", Some("1")).unwrap());
        assert!(matches!(models.model_ready("m", Some("2")), Err(Error::NotFound(_))));
        models.load("m").await.unwrap();
        assert_eq!(models.infer(request("m", None), Terms::default()).await.unwrap().version, "2");
        assert!(models.infer(request("m", Some("1")), Terms::default()).await.is_err());

        models.load("m").await.unwrap_err();
        assert_eq!(models.infer(request("m", None), Terms::default()).await.unwrap().version, "2");
        let entry = models.index().remove(0);
        assert_eq!((entry.state, entry.version.as_str()), (ModelState::Ready, "2"));
        assert!(entry.reason.contains("could not be loaded again"), "{}", entry.reason);

        models.unload("m").await.unwrap();
        assert!(models.ready() && !models.model_ready("m", None).unwrap());
        assert_eq!(models.index()[0].state, ModelState::Unavailable);
        assert!(matches!(models.load("other").await, Err(Error::NotFound(_))));
        models.load("m").await.unwrap();
        assert_eq!(models.metadata("m", None).unwrap().versions, ["4"]);
    }

    #[tokio::test]
    async fn names_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inside")).unwrap();
        let models = Models::new().with_folder(&folder.path().join("inside"), TorchScriptOptions::default());
        for name in ["..", "../inside", "", "/etc", "a/b", ".hidden"] {
            assert!(matches!(models.load(name).await, Err(Error::NotFound(_))), "{name}");
        }
        assert!(models.index().is_empty());
    }
}
