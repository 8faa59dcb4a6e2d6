//! The pod that an attempt has when it runs in Kubernetes, as far as a DAG file describes it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, Volume, VolumeMount};

/// Settings of a pod. What is left out has the value of the DAG's `defaults`, of the installation's pod template, or
/// Kubernetes' own, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSettings {
    /// Image of the container.
    pub image: Option<String>,
    /// Service account of the pod.
    pub service_account: Option<String>,
    /// Labels that a node must have.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that do not keep it away.
    pub tolerations: Option<Vec<Toleration>>,
    /// Which nodes, and which pods, it wants beside it.
    pub affinity: Option<Affinity>,
    /// Volumes of the pod.
    pub volumes: Option<Vec<Volume>>,
    /// Where the container has them.
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// Variables of the container, by name.
    pub env: Option<BTreeMap<String, String>>,
    /// Variables of the container, by name, whose values Kubernetes reads from secrets.
    pub secrets: Option<BTreeMap<String, SecretKey>>,
    /// More labels of the pod.
    pub labels: Option<BTreeMap<String, String>>,
    /// More annotations of the pod.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Priority class of the pod.
    pub priority_class: Option<String>,
}

/// A value in a secret of the namespace, by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    /// Name of the secret.
    pub secret: String,
    /// Key in it.
    pub key: String,
}

impl PodSettings {
    /// Puts what `other` gives in the place of what is here.
    pub(crate) fn put(&mut self, other: &Self) {
        put(&mut self.image, &other.image);
        put(&mut self.service_account, &other.service_account);
        put(&mut self.node_selector, &other.node_selector);
        put(&mut self.tolerations, &other.tolerations);
        put(&mut self.affinity, &other.affinity);
        put(&mut self.volumes, &other.volumes);
        put(&mut self.volume_mounts, &other.volume_mounts);
        put(&mut self.env, &other.env);
        put(&mut self.secrets, &other.secrets);
        put(&mut self.labels, &other.labels);
        put(&mut self.annotations, &other.annotations);
        put(&mut self.priority_class, &other.priority_class);
    }
}

fn put<T: Clone>(field: &mut Option<T>, other: &Option<T>) {
    if other.is_some() {
        field.clone_from(other);
    }
}
