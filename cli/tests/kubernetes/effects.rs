//! Every effect once, whatever happens to pods, nodes, the scheduler and the API server.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

use crate::cluster::Cluster;

/// A task takes a while, so that pods die in the middle of it. It counts how often it was done.
const EFFECTS: &str = r#"dag: effects
params:
  tasks: {type: integer}
  millis: {type: integer, default: 300}
tasks:
  effect:
    job: sql
    map: "{{ range(params.tasks) | list }}"
    retries: 10
    retry_delay: 200ms
    with:
      database: "{{ secrets.effects }}"
      query: >-
        INSERT INTO effect (key, done) SELECT $1, 1
        FROM pg_sleep(CAST(CAST($2 AS BIGINT) AS DOUBLE PRECISION) / 1000)
        ON CONFLICT (key) DO UPDATE SET done = effect.done + 1
      parameters: ["{{ run.id }}/effect/{{ index }}", "{{ params.millis }}"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_scheduler_adopts_what_runs() {
    let Some(cluster) = Cluster::start("adopt", 1).await else { return };
    cluster.count_effects().await;
    let mut server = cluster.server(&[]);
    let run = cluster.run("effects", EFFECTS, &["tasks=6", "millis=6000"]);
    at_work(&cluster, 3).await;
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    drop(server);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _server = cluster.server(&[]);
    cluster.until(&run, "succeeded").await;
    let attempts = cluster.attempts(&run, "effect").await;
    assert!(
        attempts.len() == 6 && attempts.iter().all(|(number, state, _)| *number == 1 && state == "succeeded"),
        "{attempts:?}"
    );
    assert_eq!(cluster.number("SELECT CAST(SUM(done) AS BIGINT) FROM effect").await, 6);
    assert_eq!(cluster.nodes[0].started(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_costs_no_attempt() {
    let Some(cluster) = Cluster::start("away", 1).await else { return };
    cluster.count_effects().await;
    let _server = cluster.server(&[]);
    let run = cluster.run("effects", EFFECTS, &["tasks=18", "millis=2000"]);
    at_work(&cluster, 3).await;
    cluster.control.kill_api_server();
    // Longer than any lease: pods go on and end meanwhile, and what is claimed waits.
    tokio::time::sleep(Duration::from_secs(10)).await;
    cluster.control.start_api_server().await.unwrap();
    cluster.until(&run, "succeeded").await;
    let attempts = cluster.attempts(&run, "effect").await;
    assert!(attempts.len() == 18 && attempts.iter().all(|(_, state, _)| state == "succeeded"), "{attempts:?}");
    assert_eq!(cluster.number("SELECT CAST(SUM(done) AS BIGINT) FROM effect").await, 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_lost_costs_no_effect() {
    let Some(mut cluster) = Cluster::start("lost", 2).await else { return };
    cluster.count_effects().await;
    // What a busy machine takes to place and begin a pod is no fault.
    let _server = cluster.server(&["kubernetes.pending_seconds=20"]);
    let run = cluster.run("effects", EFFECTS, &["tasks=24", "millis=3000"]);
    at_work(&cluster, 4).await;
    let lost = cluster.nodes.remove(0);
    assert!(lost.started() > 0, "nothing ran on the node");
    lost.unplug();
    cluster.until(&run, "succeeded").await;
    assert_eq!(cluster.number("SELECT COUNT(*) FROM effect").await, 24);
    let attempts = cluster.attempts(&run, "effect").await;
    let gone: Vec<_> = attempts.iter().filter(|(_, state, _)| state == "lost").collect();
    assert!(
        !gone.is_empty() && attempts.iter().all(|(_, state, _)| state == "lost" || state == "succeeded"),
        "{attempts:?}"
    );
    // Nothing else was needed than the leases: the control plane notices later.
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let ready = async || {
        let node = nodes.get(lost.name()).await.unwrap();
        let mut conditions = node.status.into_iter().flat_map(|status| status.conditions.into_iter().flatten());
        conditions.find(|one| one.type_ == "Ready").map(|one| one.status).unwrap_or_default()
    };
    let began = Instant::now();
    while ready().await == "True" {
        assert!(began.elapsed() < Duration::from_secs(90), "the node counts as ready without a kubelet");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(twice(&cluster).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_exist_once_while_pods_are_deleted() {
    // Two hundred take three minutes of two cores.
    let tasks = if std::env::var_os("LONG_TESTS").is_some() { 200 } else { 50 };
    let Some(cluster) = Cluster::start("chaos", 2).await else { return };
    cluster.count_effects().await;
    let settings = ["kubernetes.keep_seconds=5", "kubernetes.pending_seconds=20"];
    let mut server = cluster.server(&settings);
    let run = cluster.run("effects", EFFECTS, &[&format!("tasks={tasks}")]);
    let (mut deleted, mut kills, mut restarts) = (0, 0, 0);
    let began = Instant::now();
    let mut random = 7_u64;
    loop {
        let open = cluster.number("SELECT COUNT(*) FROM run WHERE finished_at IS NULL").await;
        if open == 0 {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(400),
            "{}\n{}\n{}",
            cluster.said(&["run", "show", &run]),
            cluster.standing().await,
            cluster.log()
        );
        tokio::time::sleep(Duration::from_millis(1200)).await;
        // A linear congruence: which pods die does not matter, only that some do.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let ended = cluster.number("SELECT COUNT(*) FROM effect").await;
        if kills == 0 && ended > tasks * 3 / 10 {
            kills += 1;
            cluster.control.kill_api_server();
            tokio::time::sleep(Duration::from_secs(6)).await;
            cluster.control.start_api_server().await.unwrap();
        }
        if restarts == 0 && ended > tasks * 6 / 10 {
            restarts += 1;
            drop(server);
            server = cluster.server(&settings);
        }
        deleted += usize::from(delete_one(&cluster, random >> 33).await);
    }
    drop(server);
    cluster.until(&run, "succeeded").await;
    assert_eq!(cluster.number("SELECT COUNT(*) FROM effect").await, tasks);
    assert_eq!(cluster.number("SELECT COUNT(*) FROM attempt WHERE state = 'running'").await, 0);
    assert_eq!(cluster.number("SELECT COUNT(*) FROM task_instance WHERE state <> 'succeeded'").await, 0);
    assert_eq!(twice(&cluster).await, 0);
    assert!(deleted > 5 && kills == 1 && restarts == 1, "too little happened: {deleted} pods deleted");
    let lost = cluster.number("SELECT COUNT(*) FROM attempt WHERE state = 'lost'").await;
    let again = cluster.number("SELECT CAST(SUM(done) - COUNT(*) AS BIGINT) FROM effect").await;
    println!(
        "{tasks} tasks in {:.0} s; {deleted} pods deleted, the API server and the scheduler killed once; {lost} attempts \
         lost; {again} effects done again, none twice in the table",
        began.elapsed().as_secs_f64()
    );
}

/// Deletes one of the pods that have not ended, some without any time to stop.
async fn delete_one(cluster: &Cluster, random: u64) -> bool {
    let Ok(pods) = cluster.pods().list(&ListParams::default()).await else { return false };
    let open = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        matches!(phase, "Pending" | "Running") && pod.metadata.deletion_timestamp.is_none()
    };
    let open: Vec<&Pod> = pods.items.iter().filter(open).collect();
    if open.is_empty() {
        return false;
    }
    let pod = open[(random % open.len() as u64) as usize].name_any();
    let params =
        if random.is_multiple_of(3) { DeleteParams::default().grace_period(0) } else { DeleteParams::default() };
    cluster.pods().delete(&pod, &params).await.is_ok()
}

/// Instances that count two attempts as succeeded.
async fn twice(cluster: &Cluster) -> i64 {
    cluster
        .number(
            "SELECT COUNT(*) FROM (SELECT 1 FROM attempt WHERE state = 'succeeded'
             GROUP BY task_instance_id HAVING COUNT(*) > 1) AS twice",
        )
        .await
}

/// Waits until so many attempts are at work in pods.
async fn at_work(cluster: &Cluster, count: i64) {
    let began = Instant::now();
    while cluster
        .number("SELECT COUNT(*) FROM attempt WHERE owner_key LIKE 'kubernetes/%/%' AND state = 'running'")
        .await
        < count
    {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing begins: {}", cluster.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
