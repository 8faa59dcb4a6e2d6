//! Photographs to tables, in pods.

use crate::cluster::Cluster;
use crate::common::root;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn photographs_are_detected_in_pods() {
    let Some(cluster) = Cluster::start("detect", 1).await else { return };
    let _server = cluster.server(&["kubernetes.keep_seconds=3600"]);
    let photos = cluster.home.path().join("photos");
    std::fs::create_dir_all(&photos).unwrap();
    std::fs::copy(root().join("data-samples/farmyard/cow.jpg"), photos.join("cow.jpg")).unwrap();
    let dag = std::fs::read_to_string(root().join("dags/detect.yaml")).unwrap();
    let run = cluster.run("detect", &dag, &[&format!("source={}", photos.display())]);
    cluster.until(&run, "succeeded").await;

    let counted = cluster.said(&["sql", "--format", "csv", "select count(*) from media"]);
    assert!(counted.contains("\n1"), "{counted}");
    let found = cluster.said(&["sql", "--format", "csv", "select count(*) from detections"]);
    assert!(!found.contains("\n0"), "{found}");
    // Each attempt had a pod, whose name it tells, and wrote its log where people read it.
    let by_workers = cluster.number("SELECT COUNT(*) FROM attempt WHERE owner_key NOT LIKE 'kubernetes/%/%'").await;
    assert_eq!(by_workers, 0);
    let hosts: Vec<(String,)> =
        sqlx::query_as("SELECT owner_host FROM attempt").fetch_all(cluster.pool()).await.unwrap();
    assert!(hosts.len() >= 3 && hosts.iter().all(|(host,)| host.starts_with("safari-")), "{hosts:?}");
    assert_eq!(cluster.jobs().await.len(), hosts.len());
    assert_eq!(cluster.nodes[0].started(), hosts.len() as u64);
    let log = cluster.said(&["logs", &run]);
    assert!(log.contains(" ingest ") && log.contains(" attempt 1 succeeded"), "{log}");
}
