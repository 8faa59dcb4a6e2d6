//! Rollouts on Kubernetes: real replicas in pods, a real gateway, and applications that ask all the while.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::load::{Answers, Load};
use e2e::routes::Front;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::common::{Served, model, root, wait_until};

/// Of some of them a model that is less sure has other scores.
const PHOTOS: [&str; 5] = [
    "farmyard/cow.jpg",
    "farmyard/cat.jpg",
    "garden/hedgehog.jpg",
    "prairie/horse.jpg",
    "savanna-waterhole/giraffe.jpg",
];

/// A registry with three versions, and a Deployment of two replicas that follow its alias.
struct World {
    cluster: Cluster,
    registry: Served,
    /// The API server with HTTPRoutes.
    front: Front,
}

impl World {
    async fn start(cluster: Cluster) -> Self {
        cluster.said(&["migrate"]);
        let front = Front::start(cluster.client.clone()).await.unwrap();
        let mut command = cluster.safari();
        command.args(["registry", "--listen", "127.0.0.1:0"]);
        let world = Self { registry: Served::start(command), cluster, front };
        // The second has other bytes and the same answers; the third is far less sure of every name.
        let unsure: fn(String) -> String =
            |settings| settings.replace("\"unknown_probability\": 0.05", "\"unknown_probability\": 0.9");
        let same: fn(String) -> String = |settings| settings;
        let other: fn(String) -> String = |settings| format!("{settings}\n");
        for (name, change) in [("first", same), ("second", other), ("third", unsure)] {
            let folder = model(&world.cluster.home.path().join(name), change).display().to_string();
            let mut args = vec!["model", "register", &folder, "--name", "wildlife"];
            if name == "first" {
                args.extend(["--alias", "champion"]);
            }
            world.said(&args);
        }
        world.deploy().await;
        world
    }

    async fn deploy(&self) {
        let labels = json!({"app": "detection", "safari/track": "stable"});
        let pods = self.cluster.home.path().join("pods/$(POD_NAME)").display().to_string();
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let test = self.cluster.namespace.trim_start_matches("safari-");
        let container = json!({
            "name": "safari",
            "image": "safari:test",
            "args": ["--home", pods, "serve", "--listen", "$(POD_IP):8080"],
            "env": [
                {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                {"name": "POD_IP", "valueFrom": field("status.podIP")},
                {"name": "MODEL_PATH", "value": "models:/wildlife@champion"},
                {"name": "SAFARI_REGISTRY_URL", "value": self.registry.url},
                {"name": "SAFARI_SERVE_POLL_SECONDS", "value": "1"},
                {"name": "SAFARI_DETECTOR_DEVICE", "value": "cpu"},
                {"name": "SAFARI_DETECTOR_THREADS", "value": "1"},
            ],
            // Gateways hear of the end first: the same as `preStop.sleep`, which this API server does not know.
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
            "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 8080}, "periodSeconds": 1},
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "detection"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "nodeSelector": {"test": test}, "terminationGracePeriodSeconds": 40, "containers": [container],
                }},
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "detection"},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]},
        });
        let route = json!({
            "parentRefs": [{"name": "gateway"}],
            "rules": [{"backendRefs": [{"name": "detection", "port": 8080}]}],
        });
        let params = PatchParams::apply("owner").force();
        self.deployments().patch("detection", &params, &Patch::Apply(&deployment)).await.unwrap();
        let services: Api<Service> = Api::namespaced(self.cluster.client.clone(), &self.cluster.namespace);
        services.patch("detection", &params, &Patch::Apply(&service)).await.unwrap();
        self.front.routes().set(&self.cluster.namespace, "detection", &route);
        for _ in 0..1200 {
            let status = self.deployments().get("detection").await.unwrap().status.unwrap_or_default();
            if status.available_replicas == Some(2) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the stable pods are not ready after two minutes");
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.cluster.client.clone(), &self.cluster.namespace)
    }

    /// The program with the settings of whoever drives.
    fn safari(&self, args: &[&str]) -> Command {
        let mut command = self.cluster.safari();
        for setting in [
            format!("registry.url={}", self.registry.url),
            format!("kubernetes.kubeconfig={}", self.front.kubeconfig().display()),
            format!("kubernetes.namespace={}", self.cluster.namespace),
        ] {
            command.args(["--set", &setting]);
        }
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn said(&self, args: &[&str]) -> String {
        let ended = self.safari(args).output().unwrap();
        assert!(ended.status.success(), "{args:?}: {}", text(&ended));
        text(&ended)
    }

    /// Begins a rollout to a version of the model; it is not awaited.
    fn roll_out(&self, version: &str, more: &[&str]) -> Command {
        let mut args = vec!["rollout", "start", version, "--deployment", "detection", "--as", "ada"];
        args.extend(["--min-answers", "20", "--max-error-rate", "0", "--max-drift", "1"]);
        args.extend(more);
        self.safari(&args)
    }

    fn rollout(&self) -> Value {
        let ended = self.safari(&["rollout", "status", "--format", "json"]).stderr(Stdio::null()).output().unwrap();
        let listed: Value = serde_json::from_slice(&ended.stdout).unwrap();
        listed[0].clone()
    }

    fn champion(&self) -> String {
        let ended =
            self.safari(&["model", "show", "wildlife@champion", "--format", "json"]).stderr(Stdio::null()).output();
        let shown: Value = serde_json::from_slice(&ended.unwrap().stdout).unwrap();
        shown["version"]["version"].as_str().unwrap().to_owned()
    }

    /// Nothing of a candidate is left, and all requests go to the stable Service.
    async fn assert_clean(&self) {
        assert!(self.deployments().get_opt("detection-canary").await.unwrap().is_none());
        let route = self.front.routes().get(&self.cluster.namespace, "detection").unwrap();
        let backends = &route["spec"]["rules"][0]["backendRefs"];
        assert_eq!((backends.as_array().unwrap().len(), &backends[0]["name"]), (1, &json!("detection")), "{backends}");
    }
}

/// Applications that ask the gateway until they are told to stop.
/// Two applications that ask through the gateway.
fn start_load(gateway: &Gateway) -> Load {
    let urls = [(); 2].map(|()| format!("{}/v1/detections", gateway.url()));
    let pictures: Vec<Vec<u8>> =
        PHOTOS.iter().map(|photo| std::fs::read(root().join("data-samples").join(photo)).unwrap()).collect();
    // Half of two cores are for those who work.
    Load::start(urls, &pictures, Duration::from_millis(20))
}

/// None of their requests failed.
fn none_failed(load: Load) -> Answers {
    let asked = load.end().unwrap();
    assert!(asked.bad.is_empty(), "{} failed of {}: {:?}", asked.bad.len(), asked.good, asked.bad.first());
    eprintln!("{} requests, none failed", asked.good);
    asked
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_goes_through_pods_under_load_and_another_is_aborted() {
    if std::env::var_os("LONG_TESTS").is_none() {
        eprintln!("SKIPPED: three minutes; LONG_TESTS=1 runs it");
        return;
    }
    let Some(cluster) = Cluster::start("rollout", 1).await else { return };
    let world = World::start(cluster).await;
    let services = ["detection", "detection-canary"];
    let (client, namespace) = (&world.cluster.client, &world.cluster.namespace);
    let gateway = Gateway::start(client, world.front.routes(), namespace, "detection", &services).await.unwrap();

    let load = start_load(&gateway);
    let mut driver = world.roll_out("wildlife/2", &["--steps", "30,100", "--pause", "3s"]).spawn().unwrap();
    wait_until("the second step", || world.rollout()["step"].as_u64() >= Some(1));
    // kill -9: it says nothing to anybody.
    driver.kill().unwrap();
    driver.wait().unwrap();
    let id = world.rollout()["id"].as_str().unwrap().to_owned();
    let went_on = world.said(&["rollout", "resume", &id]);
    assert!(went_on.contains("version 2 answers at all 2 replicas"), "{went_on}");
    let asked = none_failed(load);
    let both = BTreeSet::from(["models:/wildlife/1".to_owned(), "models:/wildlife/2".to_owned()]);
    assert!(asked.good > 50 && asked.sources == both, "{} of {:?}", asked.good, asked.sources);
    assert_eq!(world.champion(), "2");
    world.assert_clean().await;

    let load = start_load(&gateway);
    let ended = world.roll_out("wildlife/3", &["--steps", "50,100", "--pause", "20s"]).output().unwrap();
    assert!(!ended.status.success() && text(&ended).contains("population stability index"), "{}", text(&ended));
    let asked = none_failed(load);
    assert!(asked.sources.contains("models:/wildlife/2"), "{:?}", asked.sources);
    assert_eq!((world.champion().as_str(), world.rollout()["phase"].as_str().unwrap()), ("2", "aborted"));
    world.assert_clean().await;

    let load = start_load(&gateway);
    let undone = world.said(&["rollout", "undo", &id, "--reason", "it missed the owls"]);
    assert!(undone.contains("version 1 answers at all 2 replicas"), "{undone}");
    none_failed(load);
    assert_eq!(world.champion(), "1");
}
