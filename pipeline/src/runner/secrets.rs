//! Where secrets come from. They are read when an attempt begins, given to its job, and kept nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::identity::TOKEN_VARIABLE;

/// A variable of this name and the secret's holds it: `SAFARI_SECRET_SMTP_PASSWORD`.
const VARIABLE: &str = "SAFARI_SECRET_";

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Looks up secrets by name.
#[derive(Clone)]
pub struct Secrets(Arc<Lookup>);

impl Secrets {
    /// Secrets from a function.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// Secrets from variables `SAFARI_SECRET_<NAME>`, and from files of their names in a folder, as Kubernetes and
    /// systemd give them; one line break at the end of a file is no part of the secret.
    pub fn from_environment(folder: Option<PathBuf>) -> Self {
        Self::new(move |name| {
            if let Ok(value) = std::env::var(format!("{VARIABLE}{}", name.to_uppercase())) {
                return Some(value);
            }
            let text = std::fs::read_to_string(folder.as_ref()?.join(name)).ok()?;
            Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        })
    }

    /// Every secret that variables and files give now, for what must not show them.
    pub fn known(folder: Option<&Path>) -> Vec<String> {
        let variables = std::env::vars()
            .filter(|(name, _)| name.starts_with(VARIABLE) || name == TOKEN_VARIABLE)
            .map(|(_, value)| value);
        let files = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let files = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        variables.chain(files.map(|text| text.strip_suffix('\n').unwrap_or(&text).to_owned())).collect()
    }

    /// Those of these names that there are.
    pub(crate) fn of(&self, names: &BTreeSet<String>) -> BTreeMap<String, String> {
        names.iter().filter_map(|name| Some((name.clone(), self.get(name)?))).collect()
    }

    /// The secret of this name.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

impl Default for Secrets {
    /// Secrets from variables.
    fn default() -> Self {
        Self::from_environment(None)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_give_secrets_without_their_line_break_and_debug_shows_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "abc\n").unwrap();
        let secrets = Secrets::from_environment(Some(folder.path().to_owned()));
        assert_eq!(secrets.get("token").as_deref(), Some("abc"));
        assert_eq!(secrets.get("other"), None);
        assert!(Secrets::known(Some(folder.path())).contains(&"abc".to_owned()));
        assert_eq!(format!("{secrets:?}"), "Secrets");
    }
}
