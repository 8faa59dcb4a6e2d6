//! Where a model comes from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::registered::Tag;
use crate::{Error, Result};

/// The file in a model folder.
pub const LINEAGE_FILE: &str = "lineage.json";

/// Where a model comes from; what is not known is left out.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Lineage {
    /// The DAG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag: Option<String>,
    /// The run of the DAG that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag_run: Option<String>,
    /// Where the media or rows are that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_data: Option<String>,
    /// One sha256 over names, contents and labels of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_digest: Option<String>,
    /// The table that it was trained on, or that its labels came from, as a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_table: Option<String>,
    /// That table's version then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_table_version: Option<i64>,
    /// The commit of the code that trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_commit: Option<String>,
    /// The model that training began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
}

impl Lineage {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As tags of a version: `safari.dag`, `safari.dag_run`, `safari.training_data`, `safari.training_digest`,
    /// `safari.training_table`, `safari.training_table_version`, `safari.code_commit`, `safari.base_model`.
    pub fn tags(&self) -> Vec<Tag> {
        let version = self.training_table_version.map(|version| version.to_string());
        let known = [
            ("safari.dag", &self.dag),
            ("safari.dag_run", &self.dag_run),
            ("safari.training_data", &self.training_data),
            ("safari.training_digest", &self.training_digest),
            ("safari.training_table", &self.training_table),
            ("safari.training_table_version", &version),
            ("safari.code_commit", &self.code_commit),
            ("safari.base_model", &self.base_model),
        ];
        let tag = |(key, value): (&str, &Option<String>)| {
            value.as_ref().map(|value| Tag { key: key.to_owned(), value: value.clone() })
        };
        known.into_iter().filter_map(tag).collect()
    }

    /// Reads the lineage of a model folder; nothing is known of one without the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let path = folder.join(LINEAGE_FILE);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::Model {
                folder: folder.display().to_string(),
                reason: format!("{LINEAGE_FILE} cannot be read: {error}"),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::Io { doing: "read", path: path.display().to_string(), source }),
        }
    }

    /// The text of the file in a model folder.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads the tags of a version.
    pub fn of_tags(tags: &[Tag]) -> Self {
        let value = |key: &str| tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.clone());
        Self {
            dag: value("safari.dag"),
            dag_run: value("safari.dag_run"),
            training_data: value("safari.training_data"),
            training_digest: value("safari.training_digest"),
            training_table: value("safari.training_table"),
            training_table_version: value("safari.training_table_version").and_then(|version| version.parse().ok()),
            code_commit: value("safari.code_commit"),
            base_model: value("safari.base_model"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_hold_all_of_it() {
        let lineage = Lineage {
            dag: Some("retrain".to_owned()),
            dag_run: Some("019a".to_owned()),
            training_data: Some("s3://labelled".to_owned()),
            training_digest: Some("0a1b".to_owned()),
            training_table: Some("s3://lake/labels".to_owned()),
            training_table_version: Some(7),
            code_commit: Some("0c0ffee".to_owned()),
            base_model: Some("models:/owl/1".to_owned()),
        };
        assert_eq!(Lineage::of_tags(&lineage.tags()), lineage);
        assert!(Lineage::default().tags().is_empty());
    }
}
