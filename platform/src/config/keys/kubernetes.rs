//! Settings of the Kubernetes executor.

use super::super::sections::DefaultExecutor;
use super::Key;
use super::read::{path, whole};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "run.executor",
        default: "worker",
        allowed: "worker or kubernetes",
        help: "Where tasks run that do not say it: in workers, or each attempt in a pod of its own.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.run.executor = match text {
                "worker" => DefaultExecutor::Worker,
                "kubernetes" => DefaultExecutor::Kubernetes,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "kubernetes.executor",
        default: "off",
        allowed: "on or off",
        help: "Whether `safari server` and `safari scheduler` run tasks in pods. The state must be in PostgreSQL.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.executor = match text {
                "on" => true,
                "off" => false,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "kubernetes.namespace",
        default: "",
        allowed: "the name of a namespace, or nothing",
        help: "Namespace of the Jobs; empty means that of the pod, or of the kubeconfig.",
        secret: false,
        alias: None,
        set: |config, text| {
            is_dns_label(text).then_some(())?;
            config.kubernetes.namespace = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "kubernetes.kubeconfig",
        default: "",
        allowed: "the path of a file, or nothing",
        help: "How the API server is reached; empty means as a pod of the cluster, or as kubectl does.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.kubeconfig = if text.is_empty() { None } else { Some(path(text)?) };
            Some(())
        },
    },
    Key {
        name: "kubernetes.parallelism",
        default: "50",
        allowed: "a whole number from 1 to 5000",
        help: "Most attempts that are in pods, or wait for one, at once.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.parallelism = whole(text, 1..=5000)?;
            Some(())
        },
    },
    Key {
        name: "kubernetes.pod_template",
        default: "",
        allowed: "the path of a YAML file, or nothing",
        help: "What pods are made of: a pod template as in a Deployment, whose container `safari` runs the attempt.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.pod_template = if text.is_empty() { None } else { Some(path(text)?) };
            Some(())
        },
    },
    Key {
        name: "kubernetes.image",
        default: "",
        allowed: "an image, or nothing",
        help: "Image of the container; empty means that of the pod template.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.image = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "kubernetes.service_account",
        default: "",
        allowed: "the name of a service account, or nothing",
        help: "Service account of the pods; empty means that of the pod template.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.service_account = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "kubernetes.secret",
        default: "",
        allowed: "the name of a secret, or nothing",
        help: "A secret of the namespace whose keys are variables of the pods, such as SAFARI_STATE_URL.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.secret = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "kubernetes.owner",
        default: "",
        allowed: "the name of a ConfigMap, or nothing",
        help: "A ConfigMap of the namespace that owns the Jobs: when it is deleted, they go too.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.owner = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "kubernetes.pending_seconds",
        default: "600",
        allowed: "a whole number from 1 to 604_800",
        help: "An attempt whose pod has not begun after so many seconds fails: no node takes it, or its image is not there.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.pending_seconds = whole(text, 1..=604_800)?;
            Some(())
        },
    },
    Key {
        name: "kubernetes.keep_seconds",
        default: "600",
        allowed: "a whole number from 0 to 604_800",
        help: "Jobs that have ended are kept so many seconds, for people to look at.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.kubernetes.keep_seconds = whole(text, 0..=604_800)?;
            Some(())
        },
    },
];

/// Names of namespaces (RFC 1123).
fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
