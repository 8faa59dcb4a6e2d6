//! `safari dag render`: the Jobs of a DAG without a cluster.

use std::process::Output;

use crate::common::{root, safari};

#[test]
fn a_job_is_printed_as_it_would_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pods.yaml");
    let dag = "dag: pods\ndefaults:\n  kubernetes: {image: 'safari:9', node_selector: {disk: ssd}}\ntasks:\n  a:\n    \
               job: command\n    with: {command: ['true']}\n    timeout: 1m\n    \
               resources: {cpu: 0.5, memory: 512MiB, gpu: 1}\n    kubernetes:\n      secrets: {TOKEN: tokens/upload}\n      \
               tolerations: [{key: nvidia.com/gpu, operator: Exists}]\n  \
               b: {job: command, with: {command: ['true']}, executor: worker}\n";
    std::fs::write(&file, dag).unwrap();
    let file = file.display().to_string();
    let said = told(&safari(folder.path()).args(["dag", "render", &file]).output().unwrap());
    for wanted in [
        "kind: Job",
        "name: safari-00000000-0000-0000-0000-000000000000",
        "backoffLimit: 0",
        "restartPolicy: Never",
        "activeDeadlineSeconds: 180",
        "disk: ssd",
        "image: safari:9",
        "key: upload",
        "memory: \"536870912\"",
        "cpu: 500m",
        "operator: Exists",
    ] {
        assert!(said.contains(wanted), "no `{wanted}` in {said}");
    }
    assert_eq!(said.matches("kind: Job").count(), 1, "{said}");
    // A worker's task is rendered when it is named.
    let one = told(&safari(folder.path()).args(["dag", "render", &file, "--task", "b"]).output().unwrap());
    assert!(one.contains("safari/task: b"), "{one}");
    let none = safari(folder.path()).args(["dag", "render", &file, "--task", "c"]).output().unwrap();
    assert!(String::from_utf8_lossy(&none.stderr).contains("has no task `c`; its tasks: a, b"));
    let detect = root().join("dags/detect.yaml").display().to_string();
    let default =
        safari(folder.path()).args(["--set", "run.executor=kubernetes", "dag", "render", &detect]).output().unwrap();
    assert_eq!(told(&default).matches("kind: Job").count(), 3);
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    let dag = "dag: bad\ntasks:\n  a:\n    job: command\n    with: {command: ['true']}\n    executor: kubernets\n    \
               kubernetes:\n      tolerations: [{kay: gpu}]\n      secrets: {TOKEN: hunter2}\n      \
               image: 'safari:{{ params.x }}'\n      color: red\n";
    std::fs::write(&file, dag).unwrap();
    let ended = safari(folder.path()).args(["dag", "check"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    for wanted in [
        ":6:15: unknown executor `kubernets`",
        ":8:20: `tolerations` has `0.kay`, which Kubernetes does not know",
        "`TOKEN` of `secrets` must name a secret and a key in it",
        "`kubernetes` takes no templates",
        ":11:7: ",
    ] {
        assert!(said.contains(wanted), "no `{wanted}` in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn an_executor_needs_a_database_that_pods_reach_and_a_readable_template() {
    let folder = tempfile::tempdir().unwrap();
    let server = |settings: &[&str]| {
        let mut command = safari(folder.path());
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.args(["server", "--listen", "127.0.0.1:0"]).output().unwrap()
    };
    let ended = server(&["kubernetes.executor=on"]);
    assert!(String::from_utf8_lossy(&ended.stderr).contains("needs the state in PostgreSQL"), "{ended:?}");
    let file = folder.path().join("pod.yaml");
    std::fs::write(&file, "spec:\n  containers: [{name: safari, imag: x}]\n").unwrap();
    let template = format!("kubernetes.pod_template={}", file.display());
    let ended = safari(folder.path())
        .args(["--set", &template, "dag", "render", "dags/detect.yaml", "--task", "infer"])
        .output();
    let said = String::from_utf8_lossy(&ended.unwrap().stderr).into_owned();
    assert!(said.contains("pod.yaml: `spec.containers.0.imag` is unknown to Kubernetes"), "{said}");
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
