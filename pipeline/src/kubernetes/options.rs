//! Settings of the executor.

use std::path::PathBuf;
use std::time::Duration;

use crate::mask::KnownSecrets;

/// Settings of an executor.
#[derive(Clone, Debug)]
pub struct KubernetesOptions {
    /// Namespace of the Jobs; none: that of the pod or of the kubeconfig.
    pub namespace: Option<String>,
    /// How to reach the API server; none: as a pod of the cluster, or as `kubectl` does.
    pub kubeconfig: Option<PathBuf>,
    /// Most attempts that are under way at once.
    pub parallelism: usize,
    /// What pods are made of.
    pub template: super::Template,
    /// A ConfigMap of the namespace that owns the Jobs: when it is deleted, they go too.
    pub owner: Option<String>,
    /// How long a pod may take to begin before its attempt fails.
    pub pending: Duration,
    /// How long Jobs that have ended are kept.
    pub keep: Duration,
    /// Whether tasks that do not say where they run are done here.
    pub is_default: bool,
    /// After this time without a heartbeat, others may take an attempt over.
    pub lease: Duration,
    /// How long a pod that was told to stop may take to do so.
    pub grace: Duration,
    /// So many attempts in a row whose pod died fail a task instance.
    pub max_lost: u32,
    /// Hidden in what pods are quoted with.
    pub known_secrets: KnownSecrets,
}
