//! Reads `kubernetes:`, the pod that a task wants. Where Kubernetes has a shape of its own (tolerations, affinity,
//! volumes), the file has the same, and its types read it; what they would pass over in silence is a mistake.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::mistake::Collector;
use super::super::pod::{PodSettings, SecretKey};
use super::super::yaml::{Node, NodeValue};
use super::common::clip;
use super::keys;
use crate::kubernetes::unknown_field;
use crate::template::is_template;

/// Reads the settings of a pod.
pub(super) fn read(node: &Node, out: &mut Collector) -> PodSettings {
    let mut pod = PodSettings::default();
    node.each_string(&mut |node, text| {
        if is_template(text) {
            out.add(node.place, "`kubernetes` takes no templates: a pod is made before anything is rendered");
        }
    });
    for (key, _, node) in node.fields("`kubernetes`", &keys::KUBERNETES, out) {
        match key {
            "image" => pod.image = text(node, "`image`", out),
            "service_account" => pod.service_account = text(node, "`service_account`", out),
            "node_selector" => pod.node_selector = Some(texts(node, "`node_selector`", out)),
            "tolerations" => pod.tolerations = typed(node, "`tolerations`", out),
            "affinity" => pod.affinity = typed(node, "`affinity`", out),
            "volumes" => pod.volumes = typed(node, "`volumes`", out),
            "volume_mounts" => pod.volume_mounts = typed(node, "`volume_mounts`", out),
            "env" => pod.env = Some(variables(node, "`env`", out)),
            "secrets" => pod.secrets = Some(secrets(node, out)),
            "labels" => pod.labels = Some(texts(node, "`labels`", out)),
            "annotations" => pod.annotations = Some(texts(node, "`annotations`", out)),
            _ => pod.priority_class = text(node, "`priority_class`", out),
        }
    }
    pod
}

fn text(node: &Node, what: &str, out: &mut Collector) -> Option<String> {
    let text = node.string(what, out)?;
    if text.trim().is_empty() {
        out.add(node.place, format!("{what} is empty; leave it out or give it a value"));
        return None;
    }
    Some(text)
}

fn texts(node: &Node, what: &str, out: &mut Collector) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (name, _, node) in node.entries(what, out) {
        if let Some(value) = node.string(&format!("`{}` of {what}", clip(name)), out) {
            texts.insert(name.to_owned(), value);
        }
    }
    texts
}

fn variables(node: &Node, what: &str, out: &mut Collector) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (name, place, node) in node.entries(what, out) {
        if !is_variable(name) {
            out.add(place, format!("`{}` of {what} cannot be a variable; use letters, digits and `_`", clip(name)));
        } else if let Some(value) = node.string(&format!("`{}` of {what}", clip(name)), out) {
            kept.insert(name.to_owned(), value);
        }
    }
    kept
}

fn secrets(node: &Node, out: &mut Collector) -> BTreeMap<String, SecretKey> {
    let mut kept = BTreeMap::new();
    for (name, text) in variables(node, "`secrets`", out) {
        match text.split_once('/') {
            Some((secret, key)) if !secret.is_empty() && !key.is_empty() && !key.contains('/') => {
                kept.insert(name, SecretKey { secret: secret.to_owned(), key: key.to_owned() });
            }
            // Not the text: somebody may have written the secret itself.
            _ => out.add(
                node.place,
                format!("`{}` of `secrets` must name a secret and a key in it, such as `tokens/upload`", clip(&name)),
            ),
        }
    }
    kept
}

fn is_variable(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads what has Kubernetes' own shape.
fn typed<T: DeserializeOwned + Serialize>(node: &Node, what: &str, out: &mut Collector) -> Option<T> {
    if !matches!(node.value, NodeValue::Map(_) | NodeValue::List(_)) {
        out.add(node.place, format!("{what} must have the shape that it has in Kubernetes, but is {}", node.kind()));
        return None;
    }
    node.check_keys(what, out);
    let given = node.to_json();
    let read = match serde_json::from_value::<T>(given.clone()) {
        Ok(read) => read,
        Err(error) => {
            out.add(node.place, format!("{what} is not what Kubernetes takes: {error}"));
            return None;
        }
    };
    if let Some(path) = serde_json::to_value(&read).ok().and_then(|kept| unknown_field(&given, &kept)) {
        out.add(node.place, format!("{what} has `{path}`, which Kubernetes does not know; check its spelling"));
    }
    Some(read)
}
