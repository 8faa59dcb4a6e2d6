//! The keys of `with` for `train`.

use detector::train::FitOptions;
use serde_json::Value;

use crate::labelled::{SET_KEYS, SetSettings};
use crate::with::{Keys, Templates};

const OWN_KEYS: [&str; 7] = ["base", "bursts", "epochs", "folds", "seed", "output", "commit"];

/// Bursts made of each lone photograph.
const BURSTS: u64 = 12;

/// Largest numbers that make sense, so that a slip is no endless task.
const MOST: u64 = 100_000;

/// What to train from, how, and where to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) set: SetSettings,
    /// The model whose networks and vocabulary are used.
    pub(super) base: Option<String>,
    pub(super) bursts: usize,
    pub(super) fit: FitOptions,
    /// Folder or bucket that gets the model; else it stays in the run's folder.
    pub(super) output: Option<String>,
    /// Commit of the code, if the DAG knows it.
    pub(super) commit: Option<String>,
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let known: Vec<&str> = SET_KEYS.iter().chain(&OWN_KEYS).copied().collect();
        let keys = Keys::new(with, &known, templates)?;
        let usual = FitOptions::default();
        let epochs = within(&keys, "epochs", usual.epochs as u64, 1)?;
        let folds = within(&keys, "folds", usual.folds as u64, 2)?;
        Ok(Self {
            set: SetSettings::read(&keys)?,
            base: keys.some_text("base")?,
            bursts: within(&keys, "bursts", BURSTS, 1)?,
            fit: FitOptions { epochs, folds, seed: keys.number("seed", usual.seed)?, ..usual },
            output: keys.some_text("output")?,
            commit: keys.some_text("commit")?,
        })
    }
}

fn within(keys: &Keys<'_>, key: &str, default: u64, least: u64) -> Result<usize, String> {
    match keys.number(key, default)? {
        number if (least..=MOST).contains(&number) => Ok(number as usize),
        _ => Err(format!("`{key}` must be a whole number from {least} to {MOST}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::labelled::Labels;

    fn read(with: Value) -> Result<Settings, String> {
        Settings::read(&with, Templates::Rendered)
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let settings = read(json!({"source": "s3://bucket/labelled", "epochs": 3, "base": ""})).unwrap();
        assert_eq!((settings.fit.epochs, settings.fit.folds, settings.fit.seed), (3, 5, 7));
        assert_eq!((settings.base, settings.bursts, settings.set.labels), (None, 12, Labels::Unsaid));
        let asked = read(json!({"source": "x", "labels": {"query": "select uri, label from t"}})).unwrap();
        assert_eq!(asked.set.labels, Labels::Query("select uri, label from t".to_owned()));
    }

    #[test]
    fn mistakes_are_told() {
        for (with, part) in [
            (json!({}), "lacks the key `source`"),
            (json!({"source": "x", "epoch": 3}), "did you mean `epochs`?"),
            (json!({"source": "x", "folds": 1}), "from 2"),
            (json!({"source": "x", "epochs": 0}), "from 1"),
            (json!({"source": "x", "test_share": 1.5}), "from 0 to 1"),
            (json!({"source": "x", "labels": {"sql": "x"}}), "unknown key `sql` in `labels`"),
            (json!({"source": "x", "labels": 3}), "`labels` must be"),
        ] {
            let message = read(with.clone()).unwrap_err();
            assert!(message.contains(part), "{with}: {message}");
        }
        assert!(
            Settings::read(&json!({"source": "{{ params.x }}", "epochs": "{{ params.n }}"}), Templates::Unrendered)
                .is_ok()
        );
    }
}
