//! Pods: whether they are ready, and why not, in words.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::fleet::{Behind, Cause};

/// A container that has died so often is not waited for.
const DEATHS: i32 = 3;

/// Whether a pod takes requests.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = |one: &k8s_openapi::api::core::v1::PodCondition| one.type_ == "Ready" && one.status == "True";
    pod.metadata.deletion_timestamp.is_none() && conditions.into_iter().flatten().any(ready)
}

/// Why a Deployment has not the pods that it should have.
pub(super) fn why(deployment: &Deployment, pods: &[Pod]) -> Behind {
    let name = format!("deployment {}", deployment.name_any());
    let waiting = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_ready(pod));
    let told: Vec<Behind> = waiting.map(of_pod).collect();
    let first = told.iter().find(|behind| behind.cause == Cause::Refused).or(told.first());
    if let Some(behind) = first {
        return behind.clone();
    }
    // No pod is made: a quota, or a right that is missing.
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    let failure = conditions.into_iter().flatten().find(|one| one.type_ == "ReplicaFailure" && one.status == "True");
    let reason = match failure.and_then(|one| one.message.clone()) {
        Some(message) => format!("its pods are not made: {message}"),
        None => "its pods are not there yet".to_owned(),
    };
    Behind { replica: name, reason, cause: Cause::NotYet }
}

/// Whether all pods of a Deployment are as its template says, and available.
pub(super) fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = replicas(deployment);
    let Some(status) = &deployment.status else { return false };
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) >= wanted
        && status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
        && status.available_replicas.unwrap_or(0) >= wanted
}

/// How many pods a Deployment is to have.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Whether a Deployment keeps a pod at work while it is updated.
pub(super) fn is_gentle(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let Some(strategy) = strategy else { return true };
    if strategy.type_.as_deref() == Some("Recreate") {
        return false;
    }
    let pods = replicas(deployment);
    let most = strategy.rolling_update.as_ref().and_then(|rolling| rolling.max_unavailable.as_ref());
    let most = match most {
        Some(IntOrString::Int(most)) => *most,
        Some(IntOrString::String(share)) => {
            let percent: i32 = share.trim_end_matches('%').parse().unwrap_or(100);
            pods.saturating_mul(percent) / 100
        }
        None => pods / 4,
    };
    most < pods.max(1)
}

/// The port of a pod that requests to a Service come to.
pub(super) fn port(service: &Service, pod: &Pod) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|port| port.name.as_deref() == Some("http")).or(ports.first())?;
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let mut all = pod.spec.as_ref()?.containers.iter().flat_map(|container| container.ports.iter().flatten());
            all.find(|port| port.name.as_deref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

fn of_pod(pod: &Pod) -> Behind {
    let behind = |cause: Cause, reason: String| Behind { replica: format!("pod {}", pod.name_any()), reason, cause };
    let Some(status) = &pod.status else { return behind(Cause::NotYet, "it is not looked at yet".to_owned()) };
    let scheduled = status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = scheduled {
        let reason = condition.reason.as_deref().unwrap_or("Unschedulable");
        return behind(Cause::NotYet, with(reason, condition.message.as_deref()));
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        if let Some((cause, reason)) = of_container(container) {
            return behind(cause, reason);
        }
    }
    if status.phase.as_deref() == Some("Failed") {
        let reason = with(status.reason.as_deref().unwrap_or("it has failed"), status.message.as_deref());
        return behind(Cause::NotYet, reason);
    }
    behind(Cause::NotYet, "it is not ready yet".to_owned())
}

fn of_container(status: &ContainerStatus) -> Option<(Cause, String)> {
    let ended = |state: &k8s_openapi::api::core::v1::ContainerState| {
        let ended = state.terminated.as_ref()?;
        let reason = ended.reason.as_deref().unwrap_or("Error");
        Some(with(&format!("{reason}, exit status {}", ended.exit_code), ended.message.as_deref()))
    };
    let state = status.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        if matches!(reason, "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let mut told = with(reason, waiting.message.as_deref());
        if let Some(last) = status.last_state.as_ref().and_then(ended) {
            told.push_str(&format!("; it ended with {last}"));
        }
        let is_hopeless = reason == "CrashLoopBackOff" && status.restart_count >= DEATHS;
        return Some((if is_hopeless { Cause::Refused } else { Cause::NotYet }, told));
    }
    // An init container that has done its work is no reason.
    let failed = state.terminated.as_ref().is_some_and(|ended| ended.exit_code != 0);
    if failed { ended(state).map(|told| (Cause::NotYet, format!("it ended with {told}"))) } else { None }
}

fn with(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn told(status: Value) -> (Cause, String) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
        let behind = why(&Deployment::default(), &[pod]);
        (behind.cause, behind.reason)
    }

    fn container(state: Value, last: Value, restarts: i32) -> Value {
        json!({"containerStatuses": [{
            "name": "safari", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
            "lastState": last,
        }]})
    }

    #[test]
    fn each_trouble_has_its_words() {
        let scheduled = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU",
        }]});
        assert_eq!(told(scheduled), (Cause::NotYet, "Unschedulable: 0/3 nodes: no GPU".to_owned()));
        let image = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        assert_eq!(told(container(image, json!({}), 0)), (Cause::NotYet, "ImagePullBackOff: no such image".to_owned()));
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let last = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "the model is refused\n"}});
        let (cause, reason) = told(container(crash.clone(), last.clone(), 1));
        assert_eq!(cause, Cause::NotYet);
        assert_eq!(reason, "CrashLoopBackOff; it ended with Error, exit status 1: the model is refused");
        assert_eq!(told(container(crash, last, 3)).0, Cause::Refused);
        assert_eq!(told(container(json!({"running": {}}), json!({}), 0)).1, "it is not ready yet");
        let quota = json!({"metadata": {"name": "d"}, "spec": {"selector": {}, "template": {}}, "status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
        ]}});
        let behind = why(&serde_json::from_value(quota).unwrap(), &[]);
        assert_eq!(behind.reason, "its pods are not made: exceeded quota");
    }

    #[test]
    fn a_deployment_that_would_go_all_at_once_is_known() {
        let gentle = |replicas: i32, strategy: Value| {
            let spec = json!({"replicas": replicas, "strategy": strategy, "selector": {}, "template": {}});
            is_gentle(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
        };
        let rolling = |most: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most}});
        assert!(gentle(3, rolling(json!(1))) && gentle(1, rolling(json!("25%"))) && gentle(1, json!({})));
        assert!(!gentle(1, rolling(json!(1))) && !gentle(2, rolling(json!("100%"))));
        assert!(!gentle(3, json!({"type": "Recreate"})));
    }
}
