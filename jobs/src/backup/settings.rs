//! The keys of `with` for `backup` and `drill`.

use ::backup::What;
use serde_json::Value;

use crate::with::{Keys, Templates};

/// What to back up or to try out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) what: What,
    /// Whether backups that the settings do not keep are removed afterwards.
    pub(super) prune: bool,
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, known: &[&str], templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, known, templates)?;
        let what = keys.choice("what", &What::EACH.map(What::name))?.and_then(What::named);
        Ok(Self { what: what.unwrap_or(What::All), prune: keys.flag("prune", true)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_read_and_mistakes_told() {
        let read = |with: Value| Settings::read(&with, &["what", "prune"], Templates::Rendered);
        assert_eq!(read(Value::Null).unwrap(), Settings { what: What::All, prune: true });
        assert_eq!(
            read(json!({"what": "tables", "prune": false})).unwrap(),
            Settings { what: What::Tables, prune: false }
        );
        for what in What::EACH {
            assert_eq!(read(json!({"what": what.name()})).unwrap(), Settings { what, prune: true });
        }
        assert!(read(json!({"what": "table"})).unwrap_err().contains("did you mean `tables`?"));
        assert!(read(json!({"wht": "db"})).unwrap_err().contains("did you mean `what`?"));
    }
}
