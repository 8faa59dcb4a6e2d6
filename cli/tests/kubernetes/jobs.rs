//! How many pods there are, how they are cancelled, and who removes what is left of them.

use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

use crate::cluster::Cluster;

const MANY: &str = "dag: many\ntasks:\n  a:\n    job: command\n    map: '{{ range(10) | list }}'\n    parallelism: 4\n    \
                    with: {command: [sleep, '1']}\n";

const LONG: &str = "dag: long\ntasks:\n  a: {job: command, with: {command: [sleep, '300']}}\n  \
                    b: {job: command, with: {command: ['true']}, kubernetes: {node_selector: {disk: none}}}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mapped_tasks_are_many_jobs_under_a_limit_and_are_collected() {
    let Some(cluster) = Cluster::start("limit", 1).await else { return };
    let _server = cluster.server(&["kubernetes.parallelism=3", "kubernetes.keep_seconds=0"]);
    let run = cluster.run("many", MANY, &[]);
    let mut most = 0;
    loop {
        // The pod of an attempt that has ended may still be ending.
        most = most.max(cluster.number("SELECT COUNT(*) FROM attempt WHERE state = 'running'").await);
        let open = cluster.number("SELECT COUNT(*) FROM run WHERE finished_at IS NULL").await;
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.until(&run, "succeeded").await;
    assert!((2..=3).contains(&most), "{most} at once");
    assert_eq!(cluster.nodes[0].started(), 10);
    // What has ended is removed, with its pods.
    for _ in 0..300 {
        if cluster.jobs().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(cluster.jobs().await.is_empty(), "{}", cluster.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_ends_its_pods_and_those_that_wait() {
    let Some(cluster) = Cluster::start("cancel", 1).await else { return };
    let _server = cluster.server(&["kubernetes.keep_seconds=0"]);
    let run = cluster.run("long", LONG, &[]);
    until(&cluster, "SELECT COUNT(*) FROM attempt WHERE owner_key LIKE 'kubernetes/%/%'", 1).await;
    until(&cluster, "SELECT COUNT(*) FROM attempt", 2).await;
    cluster.said(&["run", "cancel", &run]);
    cluster.until(&run, "cancelled").await;
    for task in ["a", "b"] {
        let attempts = cluster.attempts(&run, task).await;
        assert!(attempts.len() == 1 && attempts[0].1 == "cancelled", "{task}: {attempts:?}");
    }
    for _ in 0..300 {
        let pods = cluster.pods().list(&ListParams::default()).await.unwrap().items;
        if pods.is_empty() && cluster.jobs().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("pods are left half a minute after their run was cancelled: {}", cluster.log());
}

/// A Job that somebody deletes while it waits is made again; leftovers of attempts that nobody knows go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_deleted_while_it_waits_is_made_again() {
    let Some(cluster) = Cluster::start("again", 1).await else { return };
    let _server = cluster.server(&[]);
    let run = cluster.run("long", LONG, &[]);
    until(&cluster, "SELECT COUNT(*) FROM attempt", 2).await;
    let jobs: Api<k8s_openapi::api::batch::v1::Job> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let waiting: (String,) = sqlx::query_as(
        "SELECT id FROM attempt WHERE owner_key NOT LIKE 'kubernetes/%/%' AND id IN
            (SELECT a.id FROM attempt a JOIN task_instance t ON t.id = a.task_instance_id WHERE t.task = 'b')",
    )
    .fetch_one(cluster.pool())
    .await
    .unwrap();
    let name = format!("safari-{}", waiting.0);
    let mut first = None;
    for _ in 0..100 {
        first = jobs.get_opt(&name).await.unwrap();
        if first.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let first = first.expect("a Job").uid();
    jobs.delete(&name, &DeleteParams::background()).await.unwrap();
    let mut again = None;
    for _ in 0..300 {
        again = jobs.get_opt(&name).await.unwrap().filter(|job| job.uid() != first);
        if again.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(again.is_some(), "{}", cluster.log());
    cluster.said(&["run", "cancel", &run]);
    cluster.until(&run, "cancelled").await;
}

async fn until(cluster: &Cluster, sql: &'static str, count: i64) {
    for _ in 0..600 {
        if cluster.number(sql).await >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("`{sql}` is not {count} after a minute: {}", cluster.log());
}
