//! Where a model comes from.

use serde::{Deserialize, Serialize};

use crate::registered::Tag;

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
    /// The table that it was trained on, as a URL.
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

    /// As tags of a version: `safari.dag`, `safari.dag_run`, `safari.training_table`, `safari.training_table_version`,
    /// `safari.code_commit`, `safari.base_model`.
    pub fn tags(&self) -> Vec<Tag> {
        let version = self.training_table_version.map(|version| version.to_string());
        let known = [
            ("safari.dag", &self.dag),
            ("safari.dag_run", &self.dag_run),
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

    /// Reads the tags of a version.
    pub fn of_tags(tags: &[Tag]) -> Self {
        let value = |key: &str| tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.clone());
        Self {
            dag: value("safari.dag"),
            dag_run: value("safari.dag_run"),
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
            training_table: Some("s3://lake/labels".to_owned()),
            training_table_version: Some(7),
            code_commit: Some("0c0ffee".to_owned()),
            base_model: Some("models:/owl/1".to_owned()),
        };
        assert_eq!(Lineage::of_tags(&lineage.tags()), lineage);
        assert!(Lineage::default().tags().is_empty());
    }
}
