//! The table of verdicts.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::job::Retry;

const PATIENCE: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

fn seconds_ago(age: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_millisecond(now().millis() - age * 1000).unwrap().to_string()
}

/// A pod that was made so many seconds ago.
fn pod(age: i64, status: Value) -> Pod {
    let made = json!({
        "metadata": {"name": "safari-x-1", "creationTimestamp": seconds_ago(age)},
        "spec": {"nodeName": "n1", "containers": [{"name": "safari", "image": "safari:1"}]},
        "status": status,
    });
    serde_json::from_value(made).unwrap()
}

fn waiting(reason: &str) -> Value {
    container("Pending", json!({"waiting": {"reason": reason, "message": "because"}}))
}

fn ended_with(code: i32, reason: &str) -> Value {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    container(phase, json!({"terminated": {"exitCode": code, "reason": reason}}))
}

fn container(phase: &str, state: Value) -> Value {
    let one = json!({
        "name": "safari", "image": "safari:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    json!({"phase": phase, "containerStatuses": [one]})
}

fn of(pod: &Pod) -> Verdict {
    pending(None, &[pod], now(), PATIENCE)
}

#[track_caller]
fn fails(verdict: Verdict, retry: Retry, words: &str) {
    match verdict {
        Verdict::Failed { error, .. } => {
            assert!(error.message.contains(words), "no `{words}` in {}", error.message);
            assert_eq!(error.retry, retry, "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn lost(verdict: Verdict, words: &str) {
    match verdict {
        Verdict::Lost(how) => assert!(how.contains(words), "no `{words}` in {how}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_begins_may_take_its_time() {
    for reason in ["ContainerCreating", "ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"] {
        assert_eq!(of(&pod(59, waiting(reason))), Verdict::GoesOn, "{reason}");
    }
    assert_eq!(of(&pod(59, json!({"phase": "Pending"}))), Verdict::GoesOn);
    assert_eq!(of(&pod(9999, json!({"phase": "Running"}))), Verdict::GoesOn);
    assert_eq!(pending(None, &[], now(), PATIENCE), Verdict::GoesOn);
}

#[test]
fn what_does_not_begin_fails_in_the_words_of_kubernetes() {
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"] {
        fails(of(&pod(61, waiting(reason))), Retry::Yes, &format!("{reason}: the image `safari:1` of pod safari-x-1"));
    }
    fails(of(&pod(1, waiting("InvalidImageName"))), Retry::No, "InvalidImageName: `safari:1`");
    fails(of(&pod(61, waiting("CreateContainerConfigError"))), Retry::Yes, "CreateContainerConfigError: the container");
    let condition = json!([{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]);
    let nowhere = pod(61, json!({"phase": "Pending", "conditions": condition}));
    fails(of(&nowhere), Retry::Yes, "Unschedulable: no node took pod safari-x-1 within 60s: 0/3 nodes are available");
    lost(of(&pod(61, json!({"phase": "Pending"}))), "the node n1 did not begin pod safari-x-1 within 60s");
}

#[test]
fn how_a_pod_ended_decides_who_is_at_fault() {
    fails(
        of(&pod(5, ended_with(137, "OOMKilled"))),
        Retry::Yes,
        "OOMKilled: pod safari-x-1 on node n1 took more memory",
    );
    fails(of(&pod(5, ended_with(139, "Error"))), Retry::Yes, "died with exit code 139 without a word");
    fails(of(&pod(5, ended_with(0, "Completed"))), Retry::No, "does its image `safari:1` hold this program?");
    let mut evicted = ended_with(137, "Error");
    evicted["reason"] = json!("Evicted");
    evicted["message"] = json!("low on resource: memory");
    lost(of(&pod(5, evicted)), "Evicted: pod safari-x-1 on node n1 was ended by the cluster: low on resource");
    let mut preempted = ended_with(143, "Error");
    preempted["conditions"] = json!([{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another",
    }]);
    lost(of(&pod(5, preempted)), "ended by the cluster: PreemptionByScheduler: for another");
    let mut late = ended_with(137, "Error");
    late["reason"] = json!("DeadlineExceeded");
    fails(of(&pod(5, late)), Retry::Yes, "DeadlineExceeded: ");
    let mut deleted = pod(5, ended_with(137, "Error"));
    deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
    lost(of(&deleted), "was deleted");
    // The same for a pod that has taken its attempt over, and nothing while it goes on.
    fails(taken(&pod(5, ended_with(137, "OOMKilled"))), Retry::Yes, "OOMKilled: ");
    assert_eq!(taken(&pod(9999, json!({"phase": "Running"}))), Verdict::GoesOn);
    assert_eq!(taken(&pod(9999, json!({"phase": "Unknown"}))), Verdict::GoesOn);
}

#[test]
fn a_pod_that_was_made_again_is_waited_for_and_a_failed_job_without_one_is_lost() {
    let (old, new) = (pod(50, ended_with(143, "Error")), pod(5, json!({"phase": "Pending"})));
    assert_eq!(pending(None, &[&new, &old], now(), PATIENCE), Verdict::GoesOn);
    let failed = json!({"status": {"conditions": [
        {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"},
    ]}});
    let job: Job = serde_json::from_value(failed).unwrap();
    assert!(is_over(&job));
    lost(pending(Some(&job), &[], now(), PATIENCE), "before a pod of it began: BackoffLimitExceeded: too often");
    assert!(!is_over(&Job::default()));
}

#[test]
fn a_pod_that_runs_and_does_not_take_its_attempt_over_is_given_up() {
    let running = |since: i64| container("Running", json!({"running": {"startedAt": seconds_ago(since)}}));
    // It waited for its node, or its image, for longer.
    assert_eq!(of(&pod(9999, running(59))), Verdict::GoesOn);
    lost(of(&pod(60, running(60))), "pod safari-x-1 on node n1 did not take its attempt over within 60s");
    // One that has may take as long as it likes.
    assert_eq!(taken(&pod(9999, running(9999))), Verdict::GoesOn);
}

#[test]
fn a_job_that_gets_no_pod_is_given_up_after_a_while() {
    let job = |age: i64| -> Job {
        let made = json!({"metadata": {"name": "safari-x", "creationTimestamp": seconds_ago(age)}});
        serde_json::from_value(made).unwrap()
    };
    assert_eq!(pending(Some(&job(59)), &[], now(), PATIENCE), Verdict::GoesOn);
    lost(pending(Some(&job(60)), &[], now(), PATIENCE), "Job safari-x has no pod after 60s; its events tell");
    // Whatever the Job's age, a pod of it is judged by its own.
    let young = pod(1, json!({"phase": "Pending"}));
    assert_eq!(pending(Some(&job(9999)), &[&young], now(), PATIENCE), Verdict::GoesOn);
}
