//! What the executor asks of the API server.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};

use super::job::CONTAINER;
use super::options::KubernetesOptions;
use crate::error::{Error, Result};

/// Answers that take longer are not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// An API server that says nothing for so long is asked anew: longer than a watch lasts in which nothing happens.
const SILENCE: Duration = Duration::from_secs(75);

/// Of the log of a pod that died without a word so much is told.
const LAST_LINES: i64 = 10;
const LAST_BYTES: usize = 2_000;

/// The API server, as far as the executor needs it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) namespace: String,
    pub(super) jobs: Api<Job>,
    pub(super) pods: Api<Pod>,
    config_maps: Api<ConfigMap>,
}

/// What came of asking for a Job.
pub(super) enum Made {
    /// It is there, whoever made it.
    There,
    /// The API server did not answer.
    NoAnswer(String),
    /// The API server refused for now: a quota is used up, or a right is missing.
    Refused(String),
    /// It will never take this Job.
    Never(String),
}

impl Cluster {
    /// Reads how the API server is reached; it is not asked yet.
    pub(super) async fn open(options: &KubernetesOptions) -> Result<Self> {
        let mut config = match &options.kubeconfig {
            Some(path) => from_file(path).await?,
            None => Config::infer().await.map_err(|error| no_cluster(error.to_string()))?,
        };
        config.read_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| no_cluster(error.to_string()))?;
        Ok(Self {
            jobs: Api::namespaced(client.clone(), &namespace),
            pods: Api::namespaced(client.clone(), &namespace),
            config_maps: Api::namespaced(client, &namespace),
            namespace,
        })
    }

    /// Makes a Job, or finds it made.
    pub(super) async fn make(&self, job: &Job) -> Made {
        let params = PostParams { field_manager: Some("safari".to_owned()), ..PostParams::default() };
        let made = match tokio::time::timeout(PATIENCE, self.jobs.create(&params, job)).await {
            Ok(made) => made,
            Err(_) => return Made::NoAnswer(format!("no answer within {PATIENCE:?}")),
        };
        match made {
            Ok(_) => Made::There,
            Err(kube::Error::Api(status)) => match status.code {
                409 if status.reason == "AlreadyExists" => Made::There,
                400 | 422 => Made::Never(status.message),
                // The quota's controller is not ready yet, or two of its updates met.
                409 | 429 | 500.. => Made::NoAnswer(status.message),
                _ => Made::Refused(status.message),
            },
            Err(error) => Made::NoAnswer(error.to_string()),
        }
    }

    /// Removes a Job and its pods, which get their time to stop. One that is not there is no error.
    pub(super) async fn remove(&self, name: &str) -> std::result::Result<(), String> {
        match tokio::time::timeout(PATIENCE, self.jobs.delete(name, &DeleteParams::background())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }

    /// What a pod has written last, if its node still tells.
    pub(super) async fn last_lines(&self, pod: &str) -> Option<String> {
        let params =
            LogParams { container: Some(CONTAINER.to_owned()), tail_lines: Some(LAST_LINES), ..LogParams::default() };
        let text = tokio::time::timeout(PATIENCE, self.pods.logs(pod, &params)).await.ok()?.ok()?;
        let text = text.trim_end();
        let from = text.len().saturating_sub(LAST_BYTES);
        let from = (from..text.len()).find(|place| text.is_char_boundary(*place)).unwrap_or(text.len());
        Some(text[from..].to_owned()).filter(|text| !text.is_empty())
    }

    /// A reference to the ConfigMap that owns the Jobs.
    pub(super) async fn owner(&self, name: &str) -> std::result::Result<OwnerReference, String> {
        let found = tokio::time::timeout(PATIENCE, self.config_maps.get(name)).await;
        let found = found.map_err(|_| format!("no answer within {PATIENCE:?}"))?.map_err(|error| error.to_string())?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: name.to_owned(),
            uid: found.uid().unwrap_or_default(),
            ..OwnerReference::default()
        })
    }
}

async fn from_file(path: &Path) -> Result<Config> {
    let wrong = |reason: String| no_cluster(format!("{}: {reason}", path.display()));
    let file = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.map_err(|error| wrong(error.to_string()))
}

fn no_cluster(reason: String) -> Error {
    Error::NoCluster { reason }
}
