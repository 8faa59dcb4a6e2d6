//! A namespace of a real control plane with a Deployment, its Service and its route; a node that runs its pods, and a real
//! Envoy that shares requests out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::kubelet::{Node, NodeOptions};
use e2e::kubernetes::ControlPlane;
use e2e::load::Load;
use e2e::routes::Front;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use model_registry::VersionNumber;
use rollout::fleet::{ClusterAccess, Place, Target};
use rollout::{Access, NewRollout, Pace, Plan, Rollouts, Tokens};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::task::JoinHandle;

use crate::world::World;

/// One test at a time: they share two cores and one API server.
static TURN: Mutex<()> = Mutex::const_new(());
static CONTROL_PLANE: OnceCell<Option<ControlPlane>> = OnceCell::const_new();

pub struct Cluster {
    pub world: World,
    pub client: Client,
    pub namespace: String,
    _node: Node,
    /// The API server with HTTPRoutes, and without them.
    front: Front,
    control: &'static ControlPlane,
    folder: TempDir,
    /// Tells pods what the alias names.
    following: JoinHandle<()>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A namespace with a Deployment of two pods that serve `model`; none where there is no control plane.
    pub async fn start(name: &str, model: &str) -> Option<Self> {
        let turn = TURN.lock().await;
        let control = CONTROL_PLANE.get_or_init(async || ControlPlane::start().await.unwrap()).await.as_ref()?;
        let client = control.client().await.unwrap();
        let front = Front::start(client.clone()).await.unwrap();
        let namespace = format!("rollout-{name}");
        let made = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &made).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = NodeOptions {
            labels: [("test".to_owned(), name.to_owned())].into(),
            pods: 110,
            images: [("serve:test".to_owned(), python())].into(),
            environment: ["PATH", "HOME"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
                .chain([("ALIAS".to_owned(), folder.path().join("alias").display().to_string())])
                .collect(),
            folder: folder.path().to_owned(),
            ..NodeOptions::default()
        };
        let node = Node::start(client.clone(), &format!("node-{name}"), options).await.unwrap();
        let world = World::sqlite().await;
        std::fs::write(folder.path().join("alias"), "1").unwrap();
        let following = tokio::spawn(follow_alias(world.client.clone(), folder.path().join("alias")));
        let cluster = Self { world, client, namespace, _node: node, front, control, folder, following, _turn: turn };
        cluster.deploy(name, model).await;
        Some(cluster)
    }

    async fn deploy(&self, name: &str, model: &str) {
        let labels = json!({"app": "detection", "safari/track": "stable"});
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stand_in.py");
        self.apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "detection"},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]},
        }))
        .await;
        let rules = json!([{"backendRefs": [{"name": "detection", "port": 8080}]}]);
        self.set_rules(&rules);
        self.apply(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "detection", "labels": {"app": "detection"}},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "detection", "safari/track": "stable"}},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "nodeSelector": {"test": name},
                    "terminationGracePeriodSeconds": 10,
                    "containers": [{
                        "name": "safari", "image": "serve:test", "args": [stand_in.display().to_string()],
                        "env": [
                            {"name": "MODEL_PATH", "value": model},
                            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        ],
                        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 8080}, "periodSeconds": 1},
                    }],
                }},
            },
        }))
        .await;
        until("the stable pods are ready", async || {
            let status = self.deployment("detection").await.and_then(|found| found.status);
            status.and_then(|status| status.available_replicas) == Some(2)
        })
        .await;
    }

    /// Makes an object what it should be, as its owner.
    pub async fn apply(&self, object: Value) {
        let params = PatchParams::apply("owner").force();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let patch = Patch::Apply(&object);
        let patched = match object["kind"].as_str().unwrap() {
            "Service" => self.api::<Service>().patch(&name, &params, &patch).await.map(drop),
            "Deployment" => self.api::<Deployment>().patch(&name, &params, &patch).await.map(drop),
            other => panic!("{other}"),
        };
        patched.unwrap();
    }

    pub async fn gateway(&self) -> Gateway {
        let services = ["detection", "detection-canary"];
        let routes = self.front.routes();
        Gateway::start(&self.client, routes, &self.namespace, "detection", &services).await.unwrap()
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Gives the route its rules, as its owner.
    pub fn set_rules(&self, rules: &Value) {
        let spec = json!({"parentRefs": [{"name": "gateway"}], "rules": rules});
        self.front.routes().set(&self.namespace, "detection", &spec);
    }

    pub async fn deployment(&self, name: &str) -> Option<Deployment> {
        self.api::<Deployment>().get_opt(name).await.unwrap()
    }

    /// Services of the route's rule, and their weights.
    pub fn weights(&self) -> Vec<(String, i64)> {
        let route = self.front.routes().get(&self.namespace, "detection").unwrap();
        let backends = route["spec"]["rules"][0]["backendRefs"].as_array().unwrap().clone();
        let weight =
            |backend: Value| (backend["name"].as_str().unwrap().to_owned(), backend["weight"].as_i64().unwrap_or(1));
        backends.into_iter().map(weight).collect()
    }

    /// Names of the pods that are not about to end.
    pub async fn pods(&self) -> BTreeSet<String> {
        let all = self.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| pod.name_any()).collect()
    }

    /// Nothing is left of the candidate.
    pub async fn is_clean(&self) -> bool {
        self.weights() == [("detection".to_owned(), 1)]
            && self.deployment("detection-canary").await.is_none()
            && self.api::<Service>().get_opt("detection-canary").await.unwrap().is_none()
    }

    /// A driver of its own, as another process would be.
    pub fn rollouts(&self) -> Rollouts {
        self.rollouts_by(self.front.kubeconfig())
    }

    /// A driver in a cluster that has no HTTPRoutes.
    pub fn rollouts_without_routes(&self) -> Rollouts {
        self.rollouts_by(self.control.kubeconfig())
    }

    /// A driver that may do nothing.
    pub fn rollouts_without_rights(&self) -> Rollouts {
        let mut config = kube::config::Kubeconfig::read_from(self.front.kubeconfig()).unwrap();
        let user = config.auth_infos[0].auth_info.as_mut().unwrap();
        user.impersonate = Some("nobody".to_owned());
        let file = self.folder.path().join("nobody");
        std::fs::write(&file, serde_json::to_string(&config).unwrap()).unwrap();
        self.rollouts_by(file)
    }

    fn rollouts_by(&self, kubeconfig: PathBuf) -> Rollouts {
        let pace = Pace { look: Duration::from_millis(100), lease: Duration::from_secs(2) };
        let access = Access {
            cluster: ClusterAccess { kubeconfig: Some(kubeconfig), namespace: Some(self.namespace.clone()) },
            ..Access::with_tokens(Tokens::new(|_| None))
        };
        Rollouts::new(self.world.store.clone(), self.world.client.clone(), access, pace)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Version `candidate` to the Deployment, in steps that are watched for a second.
pub fn to(candidate: i64) -> NewRollout {
    let target = Target { namespace: None, deployment: "detection".to_owned(), service: None, route: None };
    NewRollout {
        model: "wildlife".to_owned(),
        alias: "champion".to_owned(),
        candidate: VersionNumber(candidate),
        plan: Plan { patience: Duration::from_secs(60), ..crate::world::plan() },
        fleet: Place::Kubernetes(target),
        actor: "ada".to_owned(),
        key: None,
    }
}

/// Applications that ask the gateway until they are told to stop.
/// Three applications that ask through the gateway.
pub fn start_load(gateway: &Gateway) -> Load {
    let urls = [(); 3].map(|()| format!("{}/v1/detections", gateway.url()));
    Load::start(urls, &[], Duration::from_millis(5))
}

pub async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let began = std::time::Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(90), "{what}: not after 90 seconds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn follow_alias(client: model_registry::client::Client, file: PathBuf) {
    loop {
        if let Ok(Some(named)) = client.version_by_alias("wildlife", "champion").await {
            let next = file.with_extension("next");
            std::fs::write(&next, named.version.to_string()).unwrap();
            std::fs::rename(&next, &file).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn python() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|program| program.is_file());
    found.expect("python3 stands in for the replicas of this test")
}
