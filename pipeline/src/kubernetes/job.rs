//! The Job of an attempt. Everything here is pure: the same attempt and template give the same Job, so that to make it
//! again finds it made.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, PodTemplateSpec,
    ResourceRequirements, SecretEnvSource, SecretKeySelector,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::template::Template;
use crate::dag::{Dag, ExecutorKind, PodSettings, Resources, Task};
use crate::ids::{AttemptId, RunId};
use crate::state::Ticket;

/// Labels of all objects of an executor, and their values.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "safari");
/// Whose a Job and its pod are.
pub(super) const RUN: &str = "safari/run";
pub(super) const ATTEMPT: &str = "safari/attempt";

/// The container that an attempt runs in.
pub(super) const CONTAINER: &str = "safari";

/// A pod that goes on so long after its time has not stopped as it was told: Kubernetes ends it.
const AFTER_TIMEOUT: Duration = Duration::from_secs(120);

/// The executor removes Jobs that have ended; where none is left, Kubernetes does so this much later.
const AFTER_KEEPING: Duration = Duration::from_secs(3600);

/// An attempt as its Job tells of it.
#[derive(Clone, Debug)]
pub(super) struct Subject<'a> {
    pub(super) ticket: Ticket,
    pub(super) run: RunId,
    pub(super) dag: &'a str,
    pub(super) task: &'a Task,
    pub(super) map_index: Option<u32>,
}

/// The name of an attempt's Job.
pub(super) fn name(attempt: AttemptId) -> String {
    format!("safari-{attempt}")
}

/// The Jobs of a DAG's tasks that would run in Kubernetes, as YAML documents; `only` for this task alone. Identifiers of a
/// run stand as zeros. `is_default`: tasks that do not say where they run do so there.
pub fn render(
    dag: &Dag,
    only: Option<&str>,
    namespace: &str,
    template: &Template,
    keep: Duration,
    is_default: bool,
) -> std::result::Result<String, String> {
    let default = if is_default { ExecutorKind::Kubernetes } else { ExecutorKind::Worker };
    let wanted = |task: &&Task| match only {
        Some(only) => task.id == only,
        None => !task.runs_dag() && task.executor.unwrap_or(default) == ExecutorKind::Kubernetes,
    };
    let mut documents = Vec::new();
    for task in dag.tasks().iter().filter(wanted) {
        let nobody = "00000000-0000-0000-0000-000000000000";
        let attempt = nobody.parse().map_err(|error| format!("{error}"))?;
        let subject = Subject {
            ticket: Ticket { attempt, number: 1, claimed_by: claimed_by(namespace) },
            run: nobody.parse().map_err(|error| format!("{error}"))?,
            dag: &dag.name,
            task,
            map_index: task.map.as_ref().map(|_| 0),
        };
        let job = job(&subject, namespace, template, keep, None);
        let value = serde_json::to_value(&job).map_err(|error| error.to_string())?;
        documents.push(serde_saphyr::to_string(&value).map_err(|error| error.to_string())?);
    }
    Ok(documents.join("---\n"))
}

/// The key under which the executors of a namespace claim. They share it, so that each sees to the attempts of all.
pub(super) fn claimed_by(namespace: &str) -> String {
    format!("kubernetes/{namespace}")
}

/// The Job of an attempt.
///
/// `keep`: how long it stays after its end, if the executor does not remove it before.
pub(super) fn job(
    subject: &Subject<'_>,
    namespace: &str,
    template: &Template,
    keep: Duration,
    owner: Option<OwnerReference>,
) -> Job {
    let pod = &subject.task.pod;
    let mut own = template.base.clone();
    let mut spec = own.spec.take().unwrap_or_default();
    fill_pod(&mut spec, pod, template);
    // What nobody began before is not begun again by Kubernetes: the state says what is tried again.
    spec.restart_policy = Some("Never".to_owned());
    spec.active_deadline_seconds = subject.task.timeout.map(|timeout| seconds(timeout + AFTER_TIMEOUT));
    let mut container = match spec.containers.iter().position(|container| container.name == CONTAINER) {
        Some(place) => spec.containers.remove(place),
        None => Container { name: CONTAINER.to_owned(), ..Container::default() },
    };
    fill_container(&mut container, subject, template);
    spec.containers.insert(0, container);

    let mut metadata = own.metadata.take().unwrap_or_default();
    extend(&mut metadata.labels, pod.labels.iter().flatten());
    extend(&mut metadata.labels, labels(subject).iter());
    extend(&mut metadata.annotations, pod.annotations.iter().flatten());
    extend(&mut metadata.annotations, annotations(subject).iter());
    Job {
        metadata: ObjectMeta {
            name: Some(name(subject.ticket.attempt)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels(subject)),
            annotations: Some(annotations(subject)),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            ttl_seconds_after_finished: i32::try_from((keep + AFTER_KEEPING).as_secs()).ok(),
            template: PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn fill_pod(spec: &mut PodSpec, pod: &PodSettings, template: &Template) {
    let account = pod.service_account.as_ref().or(template.service_account.as_ref());
    if account.is_some() {
        spec.service_account_name = account.cloned();
    }
    put(&mut spec.node_selector, &pod.node_selector);
    put(&mut spec.tolerations, &pod.tolerations);
    put(&mut spec.affinity, &pod.affinity);
    put(&mut spec.priority_class_name, &pod.priority_class);
    let more = pod.volumes.iter().flatten();
    let volumes = spec.volumes.get_or_insert_default();
    for volume in more {
        volumes.retain(|other| other.name != volume.name);
        volumes.push(volume.clone());
    }
}

fn fill_container(container: &mut Container, subject: &Subject<'_>, template: &Template) {
    let pod = &subject.task.pod;
    let image = pod.image.as_ref().or(template.image.as_ref());
    if image.is_some() {
        container.image = image.cloned();
    }
    let Ticket { attempt, number, claimed_by } = &subject.ticket;
    container.args = Some(vec![
        "attempt".to_owned(),
        "run".to_owned(),
        attempt.to_string(),
        format!("--number={number}"),
        format!("--claimed-by={claimed_by}"),
        "--pod=$(POD_NAME)".to_owned(),
    ]);
    let env = container.env.get_or_insert_default();
    for variable in variables(pod) {
        env.retain(|other| other.name != variable.name);
        env.push(variable);
    }
    if let Some(secret) = &template.secret {
        let source = SecretEnvSource { name: secret.clone(), optional: None };
        let source = EnvFromSource { secret_ref: Some(source), ..EnvFromSource::default() };
        container.env_from.get_or_insert_default().push(source);
    }
    let mounts = container.volume_mounts.get_or_insert_default();
    for mount in pod.volume_mounts.iter().flatten() {
        mounts.retain(|other| other.mount_path != mount.mount_path);
        mounts.push(mount.clone());
    }
    fill_resources(container.resources.get_or_insert_default(), subject.task.resources);
}

/// Variables of the container: its pod's name, and what the task gives.
fn variables(pod: &PodSettings) -> Vec<EnvVar> {
    let field = ObjectFieldSelector { api_version: None, field_path: "metadata.name".to_owned() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    let mut all = vec![EnvVar { name: "POD_NAME".to_owned(), value: None, value_from: Some(source) }];
    for (name, value) in pod.env.iter().flatten() {
        all.push(EnvVar { name: name.clone(), value: Some(value.clone()), value_from: None });
    }
    for (name, key) in pod.secrets.iter().flatten() {
        let key = SecretKeySelector { name: key.secret.clone(), key: key.key.clone(), optional: None };
        let source = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
        all.push(EnvVar { name: name.clone(), value: None, value_from: Some(source) });
    }
    all
}

/// A task's own needs. Memory and GPUs are limits too: a task that takes more than it said is ended, and not its
/// neighbours.
fn fill_resources(resources: &mut ResourceRequirements, needs: Resources) {
    let mut put = |name: &str, amount: String, is_limit: bool| {
        let quantity = Quantity(amount);
        if is_limit {
            resources.limits.get_or_insert_default().insert(name.to_owned(), quantity.clone());
        }
        resources.requests.get_or_insert_default().insert(name.to_owned(), quantity);
    };
    if needs.cpu_millis > 0 {
        put("cpu", format!("{}m", needs.cpu_millis), false);
    }
    if needs.memory_bytes > 0 {
        put("memory", needs.memory_bytes.to_string(), true);
    }
    if needs.gpus > 0 {
        put("nvidia.com/gpu", needs.gpus.to_string(), true);
    }
}

fn labels(subject: &Subject<'_>) -> BTreeMap<String, String> {
    let pairs = [
        (MANAGED_BY.0, MANAGED_BY.1.to_owned()),
        (RUN, subject.run.to_string()),
        (ATTEMPT, subject.ticket.attempt.to_string()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Names, which a label may not hold: they may be longer, and begin with `_`.
fn annotations(subject: &Subject<'_>) -> BTreeMap<String, String> {
    let mut pairs = vec![
        ("safari/dag", subject.dag.to_owned()),
        ("safari/task", subject.task.id.clone()),
        ("safari/attempt-number", subject.ticket.number.to_string()),
    ];
    if let Some(index) = subject.map_index {
        pairs.push(("safari/map-index", index.to_string()));
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn extend<'a>(map: &mut Option<BTreeMap<String, String>>, pairs: impl Iterator<Item = (&'a String, &'a String)>) {
    let map = map.get_or_insert_default();
    map.extend(pairs.map(|(name, value)| (name.clone(), value.clone())));
}

fn put<T: Clone>(field: &mut Option<T>, given: &Option<T>) {
    if given.is_some() {
        field.clone_from(given);
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    const DAG: &str = "dag: pods\ndefaults:\n  kubernetes: {node_selector: {disk: ssd}, env: {A: one}}\ntasks:\n  a:\n    \
                       job: x\n    map: [1]\n    timeout: 1m\n    resources: {cpu: 0.5, memory: 1KiB, gpu: 2}\n    \
                       kubernetes:\n      image: safari:9\n      env: {B: two}\n      secrets: {TOKEN: tokens/upload}\n      \
                       volumes: [{name: data, emptyDir: {}}]\n      volume_mounts: [{name: data, mountPath: /data}]\n";

    fn template() -> Template {
        let base = json!({"spec": {
            "serviceAccountName": "worker",
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "old"}}],
            "containers": [
                {"name": "side", "image": "side:1"},
                {"name": "safari", "image": "safari:1", "env": [{"name": "B", "value": "template"}]},
            ],
        }});
        let base = serde_json::from_value(base).unwrap();
        Template { base, secret: Some("settings".to_owned()), ..Template::default() }
    }

    #[test]
    fn a_job_is_the_template_with_what_the_task_says_on_top() {
        let dag = Dag::parse("pods.yaml", DAG).unwrap();
        let attempt: AttemptId = "019a0000-0000-7000-8000-000000000001".parse().unwrap();
        let subject = Subject {
            ticket: Ticket { attempt, number: 2, claimed_by: claimed_by("wild") },
            run: "019a0000-0000-7000-8000-000000000002".parse().unwrap(),
            dag: &dag.name,
            task: &dag.tasks()[0],
            map_index: Some(0),
        };
        let job = job(&subject, "wild", &template(), Duration::from_secs(60), None);
        let labels = json!({
            "app.kubernetes.io/managed-by": "safari",
            "safari/attempt": "019a0000-0000-7000-8000-000000000001",
            "safari/run": "019a0000-0000-7000-8000-000000000002",
        });
        let annotations =
            json!({"safari/attempt-number": "2", "safari/dag": "pods", "safari/map-index": "0", "safari/task": "a"});
        let wanted = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": "safari-019a0000-0000-7000-8000-000000000001", "namespace": "wild", "labels": labels,
                "annotations": annotations,
            },
            "spec": {
                "backoffLimit": 0, "completions": 1, "parallelism": 1, "ttlSecondsAfterFinished": 3660,
                "template": {
                    "metadata": {"labels": labels, "annotations": annotations},
                    "spec": {
                        "activeDeadlineSeconds": 180,
                        "restartPolicy": "Never",
                        "serviceAccountName": "worker",
                        "nodeSelector": {"disk": "ssd"},
                        "tolerations": [{"key": "gpu", "operator": "Exists"}],
                        "volumes": [{"name": "data", "emptyDir": {}}],
                        "containers": [
                            {
                                "name": "safari",
                                "image": "safari:9",
                                "args": [
                                    "attempt", "run", "019a0000-0000-7000-8000-000000000001", "--number=2",
                                    "--claimed-by=kubernetes/wild", "--pod=$(POD_NAME)",
                                ],
                                "env": [
                                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                                    {"name": "B", "value": "two"},
                                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "upload"}}},
                                ],
                                "envFrom": [{"secretRef": {"name": "settings"}}],
                                "resources": {
                                    "limits": {"memory": "1024", "nvidia.com/gpu": "2"},
                                    "requests": {"cpu": "500m", "memory": "1024", "nvidia.com/gpu": "2"},
                                },
                                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                            },
                            {"name": "side", "image": "side:1"},
                        ],
                    },
                },
            },
        });
        assert_eq!(serde_json::to_value(&job).unwrap(), wanted);
    }

    #[test]
    fn names_are_labels_of_dns_however_long_those_of_tasks_are() {
        let attempt = AttemptId::new();
        let name = name(attempt);
        // The Job's controller adds a dash and five signs.
        assert!(name.len() <= 63 - 6 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    }
}
