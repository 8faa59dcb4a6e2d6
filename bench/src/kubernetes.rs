//! The Kubernetes executor beside bare Jobs on the same control plane and node. Both pods run this machine's `safari`: the bare
//! one asks it for its version, so that the start of the program is in both.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use e2e::kubelet::{Node, NodeOptions};
use e2e::kubernetes::ControlPlane;
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::{await_condition, conditions};
use platform::database::{Address, Database};
use serde_json::json;
use sqlx::AnyPool;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use crate::results::{Row, median};
use crate::workplace::Workplace;

/// Jobs under way at once, bare and ours.
const AT_ONCE: usize = 20;
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(600);

const WHAT: &str = "a Job of an attempt";

/// A server with an executor; it ends with the value.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let runtime = Runtime::new().map_err(Error::io("the runtime"))?;
    runtime.block_on(measure(place))
}

async fn measure(place: &Workplace) -> Result<Vec<Row>> {
    let Some(control) = ControlPlane::start().await.map_err(of_e2e)? else {
        return Ok(vec![Row::skipped(WHAT, "a bare Job", "s", "../shared/k8s/control-plane is not there")]);
    };
    let client = control.client().await.map_err(of_e2e)?;
    let postgres = e2e::postgres::Server::start().await.map_err(of_e2e)?;
    let url = postgres.database().await.map_err(of_e2e)?;
    let database = Database::open(&Address::Postgres(url.clone())).await?;
    let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let mut environment = BTreeMap::from([
        ("SAFARI_STATE_URL".to_owned(), url.clone()),
        ("SAFARI_HOME".to_owned(), home.path().display().to_string()),
    ]);
    for name in ["PATH", "LD_LIBRARY_PATH"] {
        environment.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    let images = BTreeMap::from([("safari".to_owned(), place.program().to_owned())]);
    let options =
        NodeOptions { gpus: 0, pods: 500, images, environment, folder: place.root.clone(), ..NodeOptions::default() };
    let node = Node::start(client.clone(), "bench", options).await.map_err(of_e2e)?;
    let (count, rounds) = (place.pick(200, 20), place.pick(20, 5));

    eprintln!("  bare Jobs, {rounds} one by one and {count} at once");
    let jobs: Api<Job> = Api::namespaced(client, "default");
    let mut bare_times = Vec::new();
    for round in 0..rounds {
        bare_times.push(bare(&jobs, &format!("one-{round}")).await?);
    }
    let began = Instant::now();
    let jobs = &jobs;
    let many = (0..count).map(|number| async move { bare(jobs, &format!("many-{number}")).await });
    let ended: Vec<Result<f64>> = futures::stream::iter(many).buffer_unordered(AT_ONCE).collect().await;
    ended.into_iter().collect::<Result<Vec<f64>>>()?;
    let bare_rate = count as f64 / began.elapsed().as_secs_f64();

    eprintln!("  attempts in pods, {rounds} one by one and {count} at once");
    let _server = start(place, &control, &url, home.path())?;
    let pool = database.pool();
    wait_for(pool, "SELECT COUNT(*) FROM dag WHERE file IS NOT NULL", 2).await?;
    // The first pod finds nothing in the caches of the machine.
    one_run(place, pool, home.path(), &url, "one", &[]).await?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        times.push(one_run(place, pool, home.path(), &url, "one", &[]).await?);
    }
    let before = node.started();
    let took = one_run(place, pool, home.path(), &url, "many", &[format!("count={count}")]).await?;
    let started = (node.started() - before) as f64;

    let (ours, theirs) = (median(&times), median(&bare_times));
    let added = (ours - theirs) * 1e3;
    let note = format!("{rounds} each; bare {:.0} to {:.0} ms", least(&bare_times) * 1e3, most(&bare_times) * 1e3);
    Ok(vec![
        Row::compare(
            "a task, from its run's making to the run's end",
            "a bare Job, made to complete",
            "s",
            (ours, theirs),
            false,
        )
        .note(note),
        Row::alone("added latency a task", "a bare Job", "ms", added),
        Row::compare(
            "pods started and done",
            "bare Jobs, as many at once",
            "pods/s",
            (started / took, bare_rate),
            true,
        )
        .note(format!("{count} of them, {AT_ONCE} at once")),
    ])
}

/// Makes a bare Job and waits until it is complete; gives the seconds.
async fn bare(jobs: &Api<Job>, name: &str) -> Result<f64> {
    let job = json!({
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "safari", "image": "safari", "args": ["--version"]}],
        }}},
    });
    let job = serde_json::from_value(job).map_err(Error::json("a Job"))?;
    let failed = |reason: String| Error::failed("a bare Job", reason);
    let began = Instant::now();
    jobs.create(&PostParams::default(), &job).await.map_err(|error| failed(error.to_string()))?;
    let done = await_condition(jobs.clone(), name, conditions::is_job_completed());
    let done = tokio::time::timeout(PATIENCE, done).await.map_err(|_| failed("it did not end".to_owned()))?;
    done.map_err(|error| failed(error.to_string()))?;
    Ok(began.elapsed().as_secs_f64())
}

/// Starts a server that runs everything in pods.
fn start(place: &Workplace, control: &ControlPlane, url: &str, home: &std::path::Path) -> Result<Served> {
    let dags = home.join("dags");
    let task = "job: command\n    with: {command: ['true']}\n";
    let one = format!("dag: one\ntasks:\n  a:\n    {task}");
    let many = format!(
        "dag: many\nparams: {{count: {{type: integer, default: 1}}}}\ntasks:\n  a:\n    map: '{{{{ range(params.count) | list }}}}'\n    {task}"
    );
    std::fs::create_dir_all(&dags).map_err(Error::io(&dags))?;
    for (name, text) in [("one.yaml", one), ("many.yaml", many)] {
        std::fs::write(dags.join(name), text).map_err(Error::io(dags.join(name)))?;
    }
    let mut command = place.any(home);
    command.env("SAFARI_STATE_URL", url);
    for setting in [
        "kubernetes.executor=on".to_owned(),
        "kubernetes.image=safari".to_owned(),
        format!("kubernetes.parallelism={AT_ONCE}"),
        format!("kubernetes.kubeconfig={}", control.kubeconfig().display()),
        "run.executor=kubernetes".to_owned(),
        "log.level=warn".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    command.args(["server", "--listen", "127.0.0.1:0", "--dags"]).arg(&dags);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(Error::io("safari server"))?;
    Ok(Served(child))
}

/// Makes a run and waits for its end; gives the seconds from its making to its end, as the state has them.
async fn one_run(
    place: &Workplace,
    pool: &AnyPool,
    home: &std::path::Path,
    url: &str,
    dag: &str,
    params: &[String],
) -> Result<f64> {
    let mut command = place.any(home);
    command.env("SAFARI_STATE_URL", url).args(["trigger", dag]);
    for param in params {
        command.args(["--param", param]);
    }
    let output = command.output().map_err(Error::io("safari trigger"))?;
    let run = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let found: Option<(String, i64, Option<i64>)> =
            sqlx::query_as("SELECT state, created_at, finished_at FROM run WHERE id = $1")
                .bind(&run)
                .fetch_optional(pool)
                .await
                .map_err(|error| Error::failed("PostgreSQL", error.to_string()))?;
        if let Some((state, created, Some(finished))) = found {
            if state != "succeeded" {
                return Err(Error::failed("a run in pods", state));
            }
            return Ok((finished - created) as f64 / 1e3);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Error::failed("a run in pods", "it did not end"))
}

async fn wait_for(pool: &AnyPool, sql: &'static str, count: i64) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.is_ok_and(|found| found >= count) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Error::failed("safari server", "it did not read its dags"))
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(times: &[f64]) -> f64 {
    times.iter().copied().fold(0.0, f64::max)
}

fn of_e2e(error: e2e::Error) -> Error {
    Error::Missing(error.to_string())
}
