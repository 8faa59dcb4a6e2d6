//! A namespace of a control plane that all tests share, nodes for it, and a server on a database of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use e2e::kubelet::{Node, NodeOptions};
use e2e::kubernetes::ControlPlane;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use platform::database::{Address, Database};
use serde_json::json;
use sqlx::AnyPool;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::common::{Server, root, wait_until};

/// One test at a time: they share two cores and one API server.
static TURN: Mutex<()> = Mutex::const_new(());
static CONTROL_PLANE: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
static POSTGRES: OnceCell<e2e::postgres::Server> = OnceCell::const_new();

/// What a test has of the cluster.
pub struct Cluster {
    pub control: &'static ControlPlane,
    pub client: Client,
    pub namespace: String,
    pub nodes: Vec<Node>,
    pub home: TempDir,
    pub database: Database,
    url: String,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A namespace with so many nodes; none where there is no control plane.
    pub async fn start(name: &str, nodes: usize) -> Option<Self> {
        let turn = TURN.lock().await;
        let control = CONTROL_PLANE.get_or_init(async || ControlPlane::start().await.unwrap()).await.as_ref()?;
        let postgres = POSTGRES.get_or_init(async || e2e::postgres::Server::start().await.unwrap()).await;
        let url = postgres.database().await.unwrap();
        let database = Database::open(&Address::Postgres(url.clone())).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        for folder in ["dags", "home"] {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        let client = control.client().await.unwrap();
        let namespace = format!("safari-{name}");
        let made = json!({"metadata": {"name": namespace}});
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let secret = json!({
            "metadata": {"name": "safari"},
            "stringData": {"SAFARI_STATE_URL": url, "SAFARI_SECRET_EFFECTS": url},
        });
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
        let mut cluster = Self { control, client, namespace, nodes: Vec::new(), home, database, url, _turn: turn };
        for number in 0..nodes {
            let node = cluster.node(&format!("{name}-{number}")).await;
            cluster.nodes.push(node);
        }
        let template = cluster.home.path().join("pod.yaml");
        let text = format!(
            "spec:\n  nodeSelector: {{test: {name}}}\n  terminationGracePeriodSeconds: 20\n  \
             containers: [{{name: safari, env: [{{name: SAFARI_RUN_LEASE_SECONDS, value: '4'}}]}}]\n"
        );
        std::fs::write(template, text).unwrap();
        Some(cluster)
    }

    /// A node on which the image `safari:test` is this program.
    async fn node(&self, name: &str) -> Node {
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            environment.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        environment.insert("SAFARI_HOME".to_owned(), self.home.path().join("home").display().to_string());
        let test = self.namespace.trim_start_matches("safari-").to_owned();
        let options = NodeOptions {
            labels: [("test".to_owned(), test)].into(),
            gpus: 2,
            pods: 110,
            images: [("safari:test".to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_safari")))].into(),
            environment,
            folder: root(),
        };
        Node::start(self.client.clone(), name, options).await.unwrap()
    }

    /// The program with the settings of this cluster.
    pub fn safari(&self) -> Command {
        let mut command = crate::common::safari(self.home.path());
        command.env("SAFARI_STATE_URL", &self.url).env("SAFARI_SECRET_EFFECTS", &self.url);
        command
    }

    /// A server with an executor, and more settings.
    pub fn server(&self, settings: &[&str]) -> Server {
        let mut command = self.safari();
        let kubeconfig = format!("kubernetes.kubeconfig={}", self.control.kubeconfig().display());
        let namespace = format!("kubernetes.namespace={}", self.namespace);
        let template = format!("kubernetes.pod_template={}", self.home.path().join("pod.yaml").display());
        let usual = [
            "kubernetes.executor=on",
            &kubeconfig,
            &namespace,
            &template,
            "kubernetes.image=safari:test",
            "kubernetes.secret=safari",
            "kubernetes.parallelism=6",
            "run.executor=kubernetes",
            "run.lease_seconds=4",
        ];
        for setting in usual.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        command.args(["server", "--listen", "127.0.0.1:0", "--slots", "2", "--dags"]);
        command.arg(self.home.path().join("dags"));
        let log = std::fs::File::options().create(true).append(true).open(self.home.path().join("server.log")).unwrap();
        command.stdout(std::process::Stdio::null()).stderr(log);
        Server(command.spawn().unwrap())
    }

    /// Writes a DAG, waits until the server has read it, and makes a run of it.
    pub fn run(&self, name: &str, dag: &str, params: &[&str]) -> String {
        std::fs::write(self.home.path().join("dags").join(format!("{name}.yaml")), dag).unwrap();
        wait_until("the dag is read", || {
            let ended = self.safari().args(["dag", "list"]).output().unwrap();
            String::from_utf8_lossy(&ended.stdout).contains(name)
        });
        let mut args = vec!["trigger", name];
        params.iter().for_each(|param| args.extend(["--param", param]));
        self.said(&args).trim().to_owned()
    }

    /// What a command that must succeed prints.
    pub fn said(&self, args: &[&str]) -> String {
        let ended = self.safari().args(args).output().unwrap();
        assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Waits until a run stands so.
    pub async fn until(&self, run: &str, state: &str) {
        for _ in 0..2400 {
            let now: (String,) =
                sqlx::query_as("SELECT state FROM run WHERE id = $1").bind(run).fetch_one(self.pool()).await.unwrap();
            if now.0 == state {
                return;
            }
            let over = ["succeeded", "failed", "cancelled", "succeeded_with_failures"].contains(&now.0.as_str());
            assert!(!over, "{}, not {state}: {}\n{}", now.0, self.said(&["run", "show", run]), self.log());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!(
            "{run} is not {state} after four minutes: {}\n{}\n{}",
            self.said(&["run", "show", run]),
            self.standing().await,
            self.log()
        );
    }

    /// Number, state and error of each attempt at a task.
    pub async fn attempts(&self, run: &str, task: &str) -> Vec<(i64, String, String)> {
        let rows: Vec<(i64, String, Option<String>)> = sqlx::query_as(
            "SELECT a.number, a.state, a.error FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id
             WHERE t.run_id = $1 AND t.task = $2 ORDER BY t.map_index, a.number",
        )
        .bind(run)
        .bind(task)
        .fetch_all(self.pool())
        .await
        .unwrap();
        rows.into_iter().map(|(number, state, error)| (number, state, error.unwrap_or_default())).collect()
    }

    /// The single number that a question gives.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.unwrap()
    }

    pub fn pool(&self) -> &AnyPool {
        self.database.pool()
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn jobs(&self) -> Vec<Job> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
        jobs.list(&ListParams::default()).await.unwrap().items
    }

    /// A table that counts how often each effect was made.
    pub async fn count_effects(&self) {
        let made = sqlx::query("CREATE TABLE effect (key TEXT PRIMARY KEY, done BIGINT NOT NULL)");
        made.execute(self.pool()).await.unwrap();
    }

    /// How the pods stand.
    pub async fn standing(&self) -> String {
        let pods = self.pods().list(&ListParams::default()).await.unwrap().items;
        let line = |pod: &Pod| {
            let status = pod.status.clone().unwrap_or_default();
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let state = status.container_statuses.and_then(|all| Some(all.first()?.state.clone()));
            let (name, going) = (pod.metadata.name.as_ref(), pod.metadata.deletion_timestamp.as_ref());
            format!("{name:?} on {node:?}: {:?} {state:?} {going:?} {:?}", status.phase, status.conditions)
        };
        pods.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What the server has written.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.home.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
