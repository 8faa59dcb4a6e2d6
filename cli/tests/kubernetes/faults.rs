//! Each fault of a pod in words, and tried again by rule.

use crate::cluster::Cluster;

const FAULTS: &str = r#"dag: faults
defaults: {retry_delay: 100ms}
tasks:
  # Tried again as often as it says, and no oftener.
  oom:
    job: command
    with: {command: [sleep, "60"]}
    retries: 1
    kubernetes: {annotations: {e2e.safari/play: "oom:1500"}}
  oom_once:
    job: command
    with: {command: [sleep, "2"]}
    retries: 1
    kubernetes: {annotations: {e2e.safari/play: "first-oom:1500"}}
  # A rule about the word decides.
  oom_ruled:
    job: command
    with: {command: [sleep, "60"]}
    retries: 5
    retry_on: [{error: OOMKilled, retries: 0}]
    kubernetes: {annotations: {e2e.safari/play: "oom:1500"}}
  # No fault of the task's: done again though it has no retries.
  evicted:
    job: command
    with: {command: [sleep, "2"]}
    kubernetes: {annotations: {e2e.safari/play: "first-evict:1500"}}
  crash:
    job: command
    with: {command: [sleep, "60"]}
    kubernetes: {annotations: {e2e.safari/play: "crash:1500"}}
  image:
    job: command
    with: {command: ["true"]}
    kubernetes: {image: "nowhere:1"}
  unschedulable:
    job: command
    with: {command: ["true"]}
    kubernetes: {node_selector: {disk: none}}
  no_secret:
    job: command
    with: {command: ["true"]}
    kubernetes: {secrets: {TOKEN: missing/key}}
  refused:
    job: command
    with: {command: ["true"]}
    retries: 3
    kubernetes: {volume_mounts: [{name: no-such-volume, mountPath: /data}]}
  gpus:
    job: command
    with: {command: ["true"]}
    resources: {gpu: 2}
  too_many_gpus:
    job: command
    with: {command: ["true"]}
    resources: {gpu: 3}
  broken:
    job: command
    with: {command: [sh, -c, "echo it broke >&2; exit 3"]}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_told_apart_in_words_and_tried_again_by_rule() {
    let Some(cluster) = Cluster::start("faults", 1).await else { return };
    let _server = cluster.server(&["kubernetes.parallelism=14", "kubernetes.pending_seconds=20"]);
    let run = cluster.run("faults", FAULTS, &[]);
    cluster.until(&run, "failed").await;

    let told = async |task: &str, states: &[&str], words: &[&str]| {
        let attempts = cluster.attempts(&run, task).await;
        let found: Vec<&str> = attempts.iter().map(|(_, state, _)| state.as_str()).collect();
        assert_eq!(found, states, "{task}: {attempts:?}");
        for ((_, _, error), word) in attempts.iter().zip(words) {
            assert!(error.contains(word), "{task}: no `{word}` in {error}");
        }
    };
    let memory = "took more memory than it may; raise `memory`";
    told("oom", &["failed", "failed"], &[memory, "OOMKilled: pod safari-"]).await;
    told("oom_once", &["failed", "succeeded"], &[memory]).await;
    told("oom_ruled", &["failed"], &["OOMKilled: "]).await;
    told("evicted", &["lost", "succeeded"], &["was ended by the cluster: The node was low on resource: memory"]).await;
    told("crash", &["failed"], &["died with exit code 137 without a word"]).await;
    told("image", &["failed"], &["ErrImagePull: the image `nowhere:1`"]).await;
    told("unschedulable", &["failed"], &[" nodes are available"]).await;
    told("no_secret", &["failed"], &["CreateContainerConfigError"]).await;
    told("refused", &["failed"], &["Kubernetes takes no such Job"]).await;
    told("gpus", &["succeeded"], &[]).await;
    told("too_many_gpus", &["failed"], &["Insufficient nvidia.com/gpu"]).await;
    // What a job says itself is as in a worker.
    told("broken", &["failed"], &["it broke"]).await;
    let evicted = cluster.attempts(&run, "evicted").await;
    assert!(evicted[0].2.starts_with("Evicted: "), "{evicted:?}");
}

/// The image holds another program: the last words of the pod are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_dies_before_it_begins_is_quoted() {
    let Some(cluster) = Cluster::start("quoted", 1).await else { return };
    let _server = cluster.server(&["kubernetes.secret="]);
    let dag = "dag: quoted\ntasks:\n  a:\n    job: command\n    with: {command: ['true']}\n    kubernetes:\n      \
               env: {SAFARI_RUN_PARALLELISM: many}\n";
    let run = cluster.run("quoted", dag, &[]);
    cluster.until(&run, "failed").await;
    let attempts = cluster.attempts(&run, "a").await;
    let error = &attempts[0].2;
    assert!(error.contains("died with exit code 1 without a word; it wrote last:\n"), "{error}");
    assert!(error.contains("SAFARI_RUN_PARALLELISM"), "{error}");
}
