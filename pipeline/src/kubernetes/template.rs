//! What pods are made of: the installation's pod template and its settings. A task's own settings come on top.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::error::{Error, Result};

/// What the pods of an installation have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// A pod template as in a Deployment; its container `safari` is the one that attempts run in.
    pub base: PodTemplateSpec,
    /// Image of that container.
    pub image: Option<String>,
    /// Service account of the pods.
    pub service_account: Option<String>,
    /// A secret whose keys are variables of the container, such as `SAFARI_STATE_URL`.
    pub secret: Option<String>,
}

impl Template {
    /// The template with the pod template of a YAML file: a PodTemplateSpec, `metadata` and `spec`.
    ///
    /// # Errors
    /// [`Error::PodTemplate`] when the file cannot be read, or is no pod template.
    pub fn with_file(mut self, path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::PodTemplate { path: PathBuf::from(path), reason };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        self.base = read(&text).map_err(wrong)?;
        Ok(self)
    }
}

/// The path of the first field that was given and is not among what was kept of it.
pub fn unknown_field(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(name, value)| {
            if value.is_null() {
                return None;
            }
            match kept.get(name) {
                None if is_empty(value) => None,
                None => Some(name.clone()),
                Some(kept) => unknown_field(value, kept).map(|inner| format!("{name}.{inner}")),
            }
        }),
        (Value::Array(given), Value::Array(kept)) => {
            let pairs = given.iter().zip(kept).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (given, kept))| unknown_field(given, kept).map(|inner| format!("{index}.{inner}")))
        }
        _ => None,
    }
}

/// What is empty may be left out when it is written again.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn read(text: &str) -> std::result::Result<PodTemplateSpec, String> {
    let given: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let template: PodTemplateSpec = serde_json::from_value(given.clone()).map_err(|error| error.to_string())?;
    let kept = serde_json::to_value(&template).map_err(|error| error.to_string())?;
    match unknown_field(&given, &kept) {
        Some(path) => Err(format!("`{path}` is unknown to Kubernetes; it has `metadata` and `spec` at its top")),
        None => Ok(template),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_template_is_read_and_a_slip_is_told_with_its_path() {
        let text = "spec:\n  containers:\n    - {name: safari, image: 'safari:1', resources: {limits: {cpu: 2}}}\n  \
                    volumes: [{name: tmp, emptyDir: {}}]\n";
        let template = read(text).unwrap();
        assert_eq!(template.spec.unwrap().containers[0].image.as_deref(), Some("safari:1"));
        let told = read("spec:\n  containers: [{name: safari, imagePullPolice: Always}]\n").unwrap_err();
        assert!(told.starts_with("`spec.containers.0.imagePullPolice` is unknown"), "{told}");
        let told = read("spec: {containers: 7}\n").unwrap_err();
        assert!(told.contains("containers") || told.contains("invalid type"), "{told}");
        assert!(read("kind: Pod\nspec: {containers: []}\n").unwrap_err().starts_with("`kind` is unknown"));
    }
}
