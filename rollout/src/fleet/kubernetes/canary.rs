//! The objects of the candidate, made of those of the stable version.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Map, Value, json};

use super::serving::Serving;

/// The label that tells the candidate's pods from the stable version's, and its two values.
pub(super) const TRACK: &str = "safari/track";
pub(super) const STABLE: &str = "stable";
pub(super) const CANARY: &str = "canary";
/// How many pods the stable version had at most since the rollout began: an autoscaler takes them away when requests go to
/// the candidate.
pub(super) const PODS: &str = "safari/stable-pods";
/// Says whose the objects are.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "safari-rollout");

/// What the candidate's objects are made of.
pub(super) struct Canary<'a> {
    pub(super) namespace: &'a str,
    /// The stable Deployment as the API server gives it: `apiVersion`, `kind`, `metadata`, `spec`.
    pub(super) stable: &'a Value,
    pub(super) serving: &'a Serving,
    /// What the pods are to serve: `models:/wildlife/2`.
    pub(super) source: &'a str,
    pub(super) pods: i32,
    /// See [`PODS`].
    pub(super) stable_pods: i32,
}

impl Canary<'_> {
    /// The Deployment.
    pub(super) fn deployment(&self, name: &str) -> Value {
        let spec = &self.stable["spec"];
        let mut template = json!({
            "metadata": {"labels": with_track(&spec["template"]["metadata"]["labels"])},
            "spec": spec["template"]["spec"],
        });
        let annotations = without_ours(&spec["template"]["metadata"]["annotations"]);
        if !annotations.is_empty() {
            template["metadata"]["annotations"] = Value::Object(annotations);
        }
        self.serving.pin(&mut template, self.source);
        let mut selector = spec["selector"].clone();
        selector["matchLabels"] = with_track(&selector["matchLabels"]);
        let mut made = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(name, &self.stable["metadata"]["labels"]),
            "spec": {
                "replicas": self.pods,
                "revisionHistoryLimit": 1,
                "selector": selector,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": template,
            },
        });
        made["metadata"]["annotations"] = json!({PODS: self.stable_pods.to_string()});
        for key in ["minReadySeconds", "progressDeadlineSeconds"] {
            if !spec[key].is_null() {
                made["spec"][key] = spec[key].clone();
            }
        }
        made
    }

    /// The Service.
    pub(super) fn service(&self, name: &str, stable: &Service) -> Value {
        let spec = stable.spec.clone().unwrap_or_default();
        let ports: Vec<Value> = spec
            .ports
            .into_iter()
            .flatten()
            .map(|mut port| {
                // A node has it once.
                port.node_port = None;
                json!(port)
            })
            .collect();
        let mut made = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(name, &json!(stable.metadata.labels)),
            "spec": {"ports": ports, "selector": with_track(&json!(spec.selector)), "type": "ClusterIP"},
        });
        if spec.cluster_ip.as_deref() == Some("None") {
            made["spec"]["clusterIP"] = json!("None");
        }
        made
    }

    fn metadata(&self, name: &str, labels: &Value) -> Value {
        let mut labels = with_track(labels);
        labels[MANAGED_BY.0] = json!(MANAGED_BY.1);
        json!({
            "name": name,
            "namespace": self.namespace,
            "labels": labels,
            // Whoever removes the stable Deployment means the candidate, too.
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": self.stable["metadata"]["name"],
                "uid": self.stable["metadata"]["uid"],
            }],
        })
    }
}

/// Whether requests to a Service come to pods of the stable version alone, and its pods are chosen by it.
///
/// # Errors
/// What is to be changed; in words.
pub(super) fn check(service: &Service, template: &Value) -> Result<(), String> {
    let selector: BTreeMap<String, String> =
        service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    if selector.get(TRACK).map(String::as_str) != Some(STABLE) {
        return Err(format!(
            "it would send requests to the candidate's pods as well: add `{TRACK}: {STABLE}` to its selector, and before \
             that to the labels of the Deployment's pods"
        ));
    }
    let labels = &template["metadata"]["labels"];
    match selector.iter().find(|(key, value)| labels[key.as_str()] != value.as_str()) {
        Some((key, value)) => {
            Err(format!("it chooses pods with `{key}: {value}`, which the Deployment's pods have not"))
        }
        None => Ok(()),
    }
}

fn with_track(labels: &Value) -> Value {
    let mut labels = labels.as_object().cloned().unwrap_or_default();
    labels.insert(TRACK.to_owned(), json!(CANARY));
    Value::Object(labels)
}

fn without_ours(annotations: &Value) -> Map<String, Value> {
    let all = annotations.as_object().cloned().unwrap_or_default();
    all.into_iter().filter(|(key, _)| !key.starts_with("safari/")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stable() -> Value {
        json!({
            "metadata": {"name": "detection", "uid": "u-1", "labels": {"app": "safari"}},
            "spec": {
                "replicas": 3,
                "minReadySeconds": 2,
                "selector": {"matchLabels": {"app": "safari", "safari/track": "stable"}},
                "template": {
                    "metadata": {
                        "labels": {"app": "safari", "safari/track": "stable"},
                        "annotations": {"safari/serves": "models:/wildlife/1", "team": "owls"},
                    },
                    "spec": {"containers": [{
                        "name": "safari",
                        "env": [{"name": "MODEL_PATH", "value": "models:/wildlife@champion"}],
                        "aFieldOfTomorrow": 1,
                    }]},
                },
            },
        })
    }

    fn service(selector: Value) -> Service {
        let ports = json!([{"name": "http", "port": 8080, "targetPort": "http", "nodePort": 30000}]);
        let spec = json!({"selector": selector, "ports": ports, "clusterIP": "10.0.0.1", "type": "NodePort"});
        serde_json::from_value(json!({"metadata": {"name": "detection"}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_candidate_is_the_stable_version_with_another_model() {
        let stable = stable();
        let serving = Serving::of(&stable["spec"]["template"]).unwrap();
        let source = "models:/wildlife/2";
        let canary =
            Canary { namespace: "safari", stable: &stable, serving: &serving, source, pods: 1, stable_pods: 3 };
        let made = canary.deployment("detection-canary");
        let spec = &made["spec"];
        let labels = json!({"app": "safari", "safari/track": "canary"});
        assert_eq!((&spec["selector"]["matchLabels"], &spec["template"]["metadata"]["labels"]), (&labels, &labels));
        assert_eq!(spec["template"]["metadata"]["annotations"], json!({"team": "owls"}));
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!((&container["env"][0]["value"], &container["aFieldOfTomorrow"]), (&json!(source), &json!(1)));
        assert_eq!((&spec["replicas"], &spec["minReadySeconds"]), (&json!(1), &json!(2)));
        assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u-1");
        assert_eq!(made["metadata"]["annotations"][PODS], "3");

        let made = canary.service("detection-canary", &service(json!({"app": "safari", "safari/track": "stable"})));
        assert_eq!(made["spec"]["selector"], labels);
        assert_eq!(made["spec"]["ports"], json!([{"name": "http", "port": 8080, "targetPort": "http"}]));
        assert!(made["spec"]["clusterIP"].is_null());
    }

    #[test]
    fn a_service_that_would_reach_both_is_told() {
        let template = &stable()["spec"]["template"];
        assert_eq!(check(&service(json!({"app": "safari", "safari/track": "stable"})), template), Ok(()));
        assert!(check(&service(json!({"app": "safari"})), template).unwrap_err().contains("`safari/track: stable`"));
        let other = service(json!({"app": "other", "safari/track": "stable"}));
        assert!(check(&other, template).unwrap_err().contains("`app: other`"));
    }
}
