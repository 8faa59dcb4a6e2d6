//! What a rollout asks of the API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde_json::Value;

use crate::fleet::{Behind, Cause};
use crate::{Error, Result};

/// Answers that take longer are not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whose fields are ours.
const MANAGER: &str = "safari-rollout";

/// How whoever drives reaches the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterAccess {
    /// A kubeconfig; none: as a pod of the cluster, or as `kubectl` does.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of Deployments that name none; none: that of the pod or of the kubeconfig.
    pub namespace: Option<String>,
}

/// The API server, as far as a rollout needs it.
pub(super) struct Cluster {
    pub(super) namespace: String,
    deployments: Api<DynamicObject>,
    services: Api<Service>,
    pods: Api<Pod>,
    routes: Api<DynamicObject>,
}

/// A Deployment as it is, and as far as this program knows its fields.
pub(super) struct Found {
    /// `apiVersion`, `kind`, `metadata`, `spec`, `status`.
    pub(super) whole: Value,
    pub(super) known: Deployment,
}

impl Cluster {
    /// Reads how the API server is reached; it is not asked yet.
    pub(super) async fn open(access: &ClusterAccess, namespace: Option<&str>) -> Result<Self> {
        let config = match &access.kubeconfig {
            Some(path) => from_file(path).await?,
            None => Config::infer().await.map_err(|error| no_cluster(error.to_string()))?,
        };
        let namespace = namespace.or(access.namespace.as_deref()).unwrap_or(&config.default_namespace).to_owned();
        // Programs with two providers of TLS have none by themselves; another part may have chosen one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config).map_err(|error| no_cluster(error.to_string()))?;
        let deployment = ApiResource::erase::<Deployment>(&());
        Ok(Self {
            deployments: Api::namespaced_with(client.clone(), &namespace, &deployment),
            services: Api::namespaced(client.clone(), &namespace),
            pods: Api::namespaced(client.clone(), &namespace),
            routes: Api::namespaced_with(client, &namespace, &route_resource()),
            namespace,
        })
    }

    /// A Deployment, if it is there.
    pub(super) async fn deployment(&self, name: &str) -> Result<Option<Found>, Behind> {
        let found = asked("deployment", name, self.deployments.get_opt(name)).await?;
        found.map(|found| Found::new(name, found)).transpose()
    }

    /// A Deployment that must be there.
    pub(super) async fn deployment_there(&self, name: &str) -> Result<Found, Behind> {
        self.deployment(name).await?.ok_or_else(|| self.missing("deployment", name))
    }

    /// A Service, if it is there.
    pub(super) async fn service(&self, name: &str) -> Result<Option<Service>, Behind> {
        asked("service", name, self.services.get_opt(name)).await
    }

    /// A Service that must be there.
    pub(super) async fn service_there(&self, name: &str) -> Result<Service, Behind> {
        self.service(name).await?.ok_or_else(|| self.missing("service", name))
    }

    /// An HTTPRoute, if it is there.
    pub(super) async fn route(&self, name: &str) -> Result<Option<DynamicObject>, Behind> {
        // A cluster that does not know the kind answers 404 as well, but with words of its own.
        let found = async {
            match self.routes.get(name).await {
                Ok(route) => Ok(Some(route)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        };
        asked("route", name, found).await
    }

    /// An HTTPRoute that must be there.
    pub(super) async fn route_there(&self, name: &str) -> Result<DynamicObject, Behind> {
        if let Some(route) = self.route(name).await? {
            return Ok(route);
        }
        // Of a kind that the cluster does not have it says the same as of an object that is not there.
        let any = self.routes.list(&ListParams::default().limit(1)).await;
        if matches!(any, Err(kube::Error::Api(status)) if status.code == 404) {
            let reason = "the cluster has no HTTPRoutes: install the Gateway API (gateway.networking.k8s.io/v1) and a \
                          gateway that knows it"
                .to_owned();
            return Err(Behind { replica: format!("route {name}"), reason, cause: Cause::NotYet });
        }
        Err(self.missing("route", name))
    }

    /// The pods that a selector chooses, such as `app=safari,safari/track!=canary`.
    pub(super) async fn pods(&self, selector: &str) -> Result<Vec<Pod>, Behind> {
        let listed = asked("pods", selector, self.pods.list(&ListParams::default().labels(selector))).await?;
        Ok(listed.items)
    }

    /// Makes a Deployment what it should be, as far as `fields` say.
    pub(super) async fn apply_deployment(&self, name: &str, fields: &Value) -> Result<Found, Behind> {
        let patch = Patch::Apply(fields);
        let applied = asked("deployment", name, self.deployments.patch(name, &ours(), &patch)).await?;
        Found::new(name, applied)
    }

    /// Changes fields of a Deployment that others may change again.
    pub(super) async fn change_deployment(&self, name: &str, fields: &Value) -> Result<(), Behind> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        asked("deployment", name, self.deployments.patch(name, &params, &Patch::Merge(fields))).await.map(drop)
    }

    /// Makes a Service what it should be.
    pub(super) async fn apply_service(&self, name: &str, fields: &Value) -> Result<(), Behind> {
        asked("service", name, self.services.patch(name, &ours(), &Patch::Apply(fields))).await.map(drop)
    }

    /// Gives a route its rules, unless somebody has changed it since it was read.
    pub(super) async fn apply_route(&self, route: &DynamicObject, rules: Value) -> Result<DynamicObject, Behind> {
        let name = route.name_any();
        let resource = route_resource();
        let fields = serde_json::json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name, "namespace": self.namespace, "resourceVersion": route.metadata.resource_version,
            },
            "spec": {"rules": rules},
        });
        asked("route", &name, self.routes.patch(&name, &ours(), &Patch::Apply(&fields))).await
    }

    /// Removes a Deployment and its pods, which get their time to stop. One that is not there is no error.
    pub(super) async fn remove_deployment(&self, name: &str) -> Result<(), Behind> {
        asked("deployment", name, removed(&self.deployments, name)).await
    }

    /// Removes a Service. One that is not there is no error.
    pub(super) async fn remove_service(&self, name: &str) -> Result<(), Behind> {
        asked("service", name, removed(&self.services, name)).await
    }

    fn missing(&self, kind: &str, name: &str) -> Behind {
        let reason = format!("there is none of this name in namespace {}", self.namespace);
        Behind { replica: format!("{kind} {name}"), reason, cause: Cause::NotYet }
    }
}

impl Found {
    fn new(name: &str, found: DynamicObject) -> Result<Self, Behind> {
        let read = |error: serde_json::Error| Behind {
            replica: format!("deployment {name}"),
            reason: format!("what the API server says of it cannot be read: {error}"),
            cause: Cause::NotYet,
        };
        let whole = serde_json::to_value(found).map_err(read)?;
        let known = serde_json::from_value(whole.clone()).map_err(read)?;
        Ok(Self { whole, known })
    }

    /// Its pods' template.
    pub(super) fn template(&self) -> &Value {
        &self.whole["spec"]["template"]
    }
}

fn route_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"),
        "httproutes",
    )
}

fn ours() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

async fn removed<K>(api: &Api<K>, name: &str) -> kube::Result<()>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits for an answer, and tells in words why there is none.
async fn asked<T>(kind: &str, name: &str, asking: impl Future<Output = kube::Result<T>>) -> Result<T, Behind> {
    let behind = |cause: Cause, reason: String| Behind { replica: format!("{kind} {name}"), reason, cause };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    let answer =
        answer.map_err(|_| behind(Cause::Away, format!("the API server did not answer within {PATIENCE:?}")))?;
    answer.map_err(|error| match error {
        kube::Error::Api(status) => match status.code {
            403 => behind(
                Cause::NotYet,
                format!("{}; who drives rollouts wants the rights of k8s/rollouts", status.message),
            ),
            409 => behind(Cause::NotYet, format!("somebody else changes it at the same moment: {}", status.message)),
            429 | 500.. => behind(Cause::Away, format!("the API server cannot do it now: {}", status.message)),
            _ => behind(Cause::NotYet, status.message.clone()),
        },
        other => {
            let reason = platform::error::root_cause(&other);
            behind(Cause::Away, format!("the API server does not answer: {reason}"))
        }
    })
}

async fn from_file(path: &Path) -> Result<Config> {
    let wrong = |reason: String| no_cluster(format!("{}: {reason}", path.display()));
    let file = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.map_err(|error| wrong(error.to_string()))
}

fn no_cluster(reason: String) -> Error {
    Error::Fleet(format!(
        "no Kubernetes is known: {reason}; set kubernetes.kubeconfig, or start this in a pod with a service account"
    ))
}
