//! Where labelled media are, as the tasks `train` and `evaluate` say it.

use serde_json::Value;

use crate::with::{Keys, wrong};

/// The keys of `with` that say it.
pub(crate) const SET_KEYS: [&str; 3] = ["source", "labels", "test_share"];

/// Share of sequences that nothing is fitted to, unless a list or the task says otherwise.
const TEST_SHARE: f64 = 0.2;

/// Where labelled media are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SetSettings {
    /// Folder or `s3://bucket/prefix`.
    pub(crate) source: String,
    pub(crate) labels: Labels,
    /// Share of sequences without a split that go to the test split, 0 to 1.
    pub(crate) test_share: f64,
}

/// Where labels are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Labels {
    /// In `labels.csv` of the source if there is one, else in the names of folders.
    Unsaid,
    /// In the names of folders.
    Folders,
    /// In this CSV file.
    List(String),
    /// In the rows of this query to the tables.
    Query(String),
}

impl SetSettings {
    /// Reads the keys; values that are templates still are left out.
    pub(crate) fn read(keys: &Keys<'_>) -> Result<Self, String> {
        keys.require("source")?;
        Ok(Self {
            source: keys.filled_text("source")?.unwrap_or_default().to_owned(),
            labels: labels(keys)?,
            test_share: keys.share("test_share", TEST_SHARE)?,
        })
    }
}

fn labels(keys: &Keys<'_>) -> Result<Labels, String> {
    match keys.value("labels") {
        None => Ok(Labels::Unsaid),
        Some(Value::String(text)) => match text.as_str() {
            // A parameter that nobody set.
            "" => Ok(Labels::Unsaid),
            "folders" => Ok(Labels::Folders),
            place => Ok(Labels::List(place.to_owned())),
        },
        Some(Value::Object(_)) => {
            let inside = keys.inside("labels", &["query"])?;
            inside.require("query")?;
            Ok(Labels::Query(inside.filled_text("query")?.unwrap_or_default().to_owned()))
        }
        Some(other) => Err(wrong("labels", "`folders`, a CSV file, or a mapping with `query`", other)),
    }
}
