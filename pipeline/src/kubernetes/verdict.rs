//! What becomes of an attempt whose pod says nothing itself, by what Kubernetes tells of it. Pure: from the status of pods
//! and Jobs to words and whether it is tried again.
//!
//! What the cluster did to a pod (evicted, preempted, deleted, its node gone) is no fault of the task's: the attempt is
//! lost, which does not count against the retries. What the pod brought on itself (too much memory, a process that died,
//! an image that is not there, a node that nobody has) is a failure, tried again as the task says; the first word of the
//! message is Kubernetes' own, so that `retry_on` finds it.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::job::CONTAINER;
use crate::clock::Timestamp;
use crate::job::JobError;

/// Pods with these reasons were ended by their node or the cluster.
const BY_THE_CLUSTER: [&str; 10] = [
    "Evicted",
    "NodeLost",
    "NodeShutdown",
    "Shutdown",
    "Terminated",
    "Preempting",
    "Preempted",
    "NodeAffinity",
    "UnexpectedAdmissionError",
    "TopologyAffinityError",
];

/// Reasons for which a container waits for its image.
const NO_IMAGE: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError"];

/// What becomes of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It goes on, or will.
    GoesOn,
    /// It has failed.
    Failed {
        error: JobError,
        /// The pod whose last lines may tell more.
        quote: Option<String>,
    },
    /// What ran it is gone, in these words.
    Lost(String),
}

/// About an attempt that no pod has taken over yet, given its Job and pods, those made last first. `patience`: how long a
/// pod may take to begin.
pub(super) fn pending(job: Option<&Job>, pods: &[&Pod], now: Timestamp, patience: Duration) -> Verdict {
    if let Some(open) = pods.iter().find(|pod| !has_ended(pod)) {
        return beginning(open, now, patience);
    }
    if let Some(pod) = pods.first() {
        return ended(pod);
    }
    let Some(job) = job else { return Verdict::GoesOn };
    if let Some(why) = failure_of(job) {
        return Verdict::Lost(format!("its Job failed before a pod of it began: {why}"));
    }
    // After an API server was away, controllers wait for minutes for what they have missed: another Job has a pod at once.
    if age(&job.metadata, now) >= patience {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        return Verdict::Lost(format!(
            "Job {name} has no pod after {patience:?}; its events tell of quotas and rules that forbid one"
        ));
    }
    Verdict::GoesOn
}

/// About an attempt that this pod has taken over.
pub(super) fn taken(pod: &Pod) -> Verdict {
    if has_ended(pod) { ended(pod) } else { Verdict::GoesOn }
}

/// Whether a Job has ended, well or not.
pub(super) fn is_over(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")
}

fn failure_of(job: &Job) -> Option<String> {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let failed = conditions.find(|one| one.type_ == "Failed" && one.status == "True")?;
    Some(words([failed.reason.as_deref(), failed.message.as_deref()]))
}

fn has_ended(pod: &Pod) -> bool {
    phase(pod) == "Failed" || phase(pod) == "Succeeded"
}

/// About a pod that has not ended.
fn beginning(pod: &Pod, now: Timestamp, patience: Duration) -> Verdict {
    let name = name(pod);
    let container = container(pod);
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    if reason == "InvalidImageName" {
        let image = image(pod);
        let error = format!("InvalidImageName: `{image}` names no image (pod {name}); correct `image`");
        return Verdict::Failed { error: JobError::permanent(error), quote: None };
    }
    if let Some(since) = container.and_then(running_since) {
        // A process takes its attempt over as soon as it begins. Where a node dies before that, nobody ends the pod.
        if now.since(since) < patience {
            return Verdict::GoesOn;
        }
        let on = node(pod).unwrap_or_default();
        return Verdict::Lost(format!(
            "pod {name} on node {on} did not take its attempt over within {patience:?}; is the node ready?"
        ));
    }
    if phase(pod) == "Running" || age(&pod.metadata, now) < patience {
        return Verdict::GoesOn;
    }
    let failed = |error: String| Verdict::Failed { error: JobError::transient(error), quote: None };
    if NO_IMAGE.contains(&reason) {
        let image = image(pod);
        return failed(format!(
            "{reason}: the image `{image}` of pod {name} was not there within {patience:?}: {message}; \
             check its name and the right to pull it"
        ));
    }
    if let Some(why) = unschedulable(pod) {
        return failed(format!(
            "Unschedulable: no node took pod {name} within {patience:?}: {why}; \
             ask for less, or give the cluster nodes that have it"
        ));
    }
    if !reason.is_empty() && reason != "ContainerCreating" && reason != "PodInitializing" {
        return failed(format!("{reason}: the container of pod {name} cannot be made: {message}"));
    }
    match node(pod) {
        Some(node) => {
            Verdict::Lost(format!("the node {node} did not begin pod {name} within {patience:?}; is it ready?"))
        }
        None => failed(format!("Pending: pod {name} was given no node within {patience:?}; does a scheduler run?")),
    }
}

/// About a pod that has ended, and whose attempt has not.
fn ended(pod: &Pod) -> Verdict {
    let name = name(pod);
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let message = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    let on = node(pod).map(|node| format!(" on node {node}")).unwrap_or_default();
    if BY_THE_CLUSTER.contains(&reason) || reason.starts_with("OutOf") {
        return Verdict::Lost(format!("{reason}: pod {name}{on} was ended by the cluster: {message}"));
    }
    if let Some(why) = status.and_then(disruption) {
        return Verdict::Lost(format!("pod {name}{on} was ended by the cluster: {why}"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Verdict::Lost(format!("pod {name}{on} was deleted"));
    }
    if reason == "DeadlineExceeded" {
        let error = format!("DeadlineExceeded: pod {name} did not stop when its time was up, and was ended: {message}");
        return Verdict::Failed { error: JobError::transient(error), quote: None };
    }
    let Some(end) = container(pod).and_then(terminated) else {
        return Verdict::Lost(format!(
            "pod {name}{on} has ended and nothing tells how: {}",
            words([Some(reason), Some(message)])
        ));
    };
    let transient = |error: String| Verdict::Failed { error: JobError::transient(error), quote: Some(name.clone()) };
    if end.reason.as_deref() == Some("OOMKilled") {
        return transient(format!(
            "OOMKilled: pod {name}{on} took more memory than it may; raise `memory` in the `resources` of the task"
        ));
    }
    match end.exit_code {
        0 => {
            let error = format!(
                "pod {name} ended well and did not say how its attempt went; does its image `{}` hold this program?",
                image(pod)
            );
            Verdict::Failed { error: JobError::permanent(error), quote: Some(name.clone()) }
        }
        code => transient(format!("the process of pod {name}{on} died with exit code {code} without a word")),
    }
}

/// Why nobody has a place for a pod.
fn unschedulable(pod: &Pod) -> Option<String> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let scheduled = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    Some(scheduled.message.clone().unwrap_or_default())
}

/// Why the cluster ended a pod, where it says so in a condition.
fn disruption(status: &PodStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let target = conditions.find(|one| one.type_ == "DisruptionTarget" && one.status == "True")?;
    Some(words([target.reason.as_deref(), target.message.as_deref()]))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let mut all = pod.status.as_ref()?.container_statuses.iter().flatten();
    all.find(|container| container.name == CONTAINER)
}

fn running_since(container: &ContainerStatus) -> Option<Timestamp> {
    let started = container.state.as_ref()?.running.as_ref()?.started_at.as_ref()?;
    Some(Timestamp::from_millis(started.0.as_millisecond()))
}

fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

fn image(pod: &Pod) -> &str {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.find(|one| one.name == CONTAINER).and_then(|one| one.image.as_deref()).unwrap_or_default()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn age(made: &ObjectMeta, now: Timestamp) -> Duration {
    let made = made.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
    made.map_or(Duration::ZERO, |made| now.since(Timestamp::from_millis(made)))
}

fn words<'a>(parts: impl IntoIterator<Item = Option<&'a str>>) -> String {
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
