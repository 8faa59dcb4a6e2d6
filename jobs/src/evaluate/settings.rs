//! The keys of `with` for `evaluate`.

use serde_json::Value;

use crate::labelled::{SET_KEYS, SetSettings, Split};
use crate::with::{Keys, Templates};

const OWN_KEYS: [&str; 4] = ["model", "against", "name", "split"];

/// What to judge, and by what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) set: SetSettings,
    pub(super) model: String,
    /// The model in whose place it may come.
    pub(super) against: Option<String>,
    /// The name in the table; else the registered one, else that in the model's settings.
    pub(super) name: Option<String>,
    pub(super) part: Part,
}

/// The part of the set to judge by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// One split.
    Only(Split),
    /// All of it.
    All,
}

impl Part {
    /// As it is written in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Only(Split::Train) => "train",
            Self::Only(Split::Test) => "test",
            Self::All => "all",
        }
    }

    /// Whether sequences of this split count.
    pub(super) fn has(self, split: Split) -> bool {
        match self {
            Self::Only(only) => only == split,
            Self::All => true,
        }
    }
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let known: Vec<&str> = SET_KEYS.iter().chain(&OWN_KEYS).copied().collect();
        let keys = Keys::new(with, &known, templates)?;
        keys.require("model")?;
        let part = match keys.choice("split", &["test", "train", "all"])? {
            Some("train") => Part::Only(Split::Train),
            Some("all") => Part::All,
            _ => Part::Only(Split::Test),
        };
        Ok(Self {
            set: SetSettings::read(&keys)?,
            model: keys.filled_text("model")?.unwrap_or_default().to_owned(),
            against: keys.some_text("against")?,
            name: keys.some_text("name")?,
            part,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_read_and_mistakes_told() {
        let read = |with: Value| Settings::read(&with, Templates::Rendered);
        let settings = read(json!({"model": "m", "source": "s", "against": ""})).unwrap();
        assert_eq!((settings.part, settings.against), (Part::Only(Split::Test), None));
        assert_eq!(read(json!({"model": "m", "source": "s", "split": "all"})).unwrap().part, Part::All);
        assert!(read(json!({"source": "s"})).unwrap_err().contains("lacks the key `model`"));
        assert!(
            read(json!({"model": "m", "source": "s", "split": "tst"})).unwrap_err().contains("did you mean `test`?")
        );
    }
}
