//! The table of settings, a file for each group of them.

mod backup;
mod collections;
mod detection;
mod identity;
mod kubernetes;
mod read;
mod rollout;
mod serve;
mod stores;
mod telemetry;

use url::Url;

use super::Config;

pub(super) use read::state_address;

/// All settings, in the order in which they are shown.
const GROUPS: [&[Key]; 9] = [
    detection::KEYS,
    kubernetes::KEYS,
    stores::KEYS,
    identity::KEYS,
    serve::KEYS,
    collections::KEYS,
    rollout::KEYS,
    telemetry::KEYS,
    backup::KEYS,
];

/// One setting: its name, default and meaning, and how its text is checked and stored.
pub struct Key {
    /// Such as `detector.threshold`.
    pub name: &'static str,
    /// The text that is used when nobody sets it.
    pub default: &'static str,
    /// What may be given, as the end of "give …".
    pub allowed: &'static str,
    /// What it does, one sentence.
    pub help: &'static str,
    /// Whether its value may hold a secret, which is never shown.
    pub secret: bool,
    /// A second variable that sets it, weaker than `SAFARI_…`.
    pub alias: Option<&'static str>,
    pub(super) set: fn(&mut Config, &str) -> Option<()>,
}

impl Key {
    /// The variable that sets it: `detector.threshold` is `SAFARI_DETECTOR_THRESHOLD`.
    pub fn variable(&self) -> String {
        format!("SAFARI_{}", self.name.to_uppercase().replace('.', "_"))
    }
}

/// Each setting.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    GROUPS.into_iter().flatten()
}

/// What is shown of a value that may hold a secret: a URL without its password, `***` for what is no URL.
pub(super) fn masked(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let Ok(mut url) = Url::parse(text) else {
        return "***".to_owned();
    };
    if url.password().is_none() && url.query().is_none() {
        return text.to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    url.into()
}

pub(super) fn sample() -> String {
    let mut text = String::from(
        "# Settings of Safari. Every key is shown with its default; remove the # in front of a key to set it.\n\
         # A SAFARI_ variable is stronger than this file, and the command line stronger than both.\n\
         # How to reach S3 is set by the usual AWS variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,\n\
         # AWS_ENDPOINT_URL, AWS_PROFILE; AWS_SKIP_SIGNATURE=true reads public buckets without credentials.\n",
    );
    let mut section = "";
    for key in all() {
        let (new_section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        text.push('\n');
        if new_section != section {
            text.push_str(&format!("[{new_section}]\n"));
            section = new_section;
        }
        let plain = key.default.replace('_', "").parse::<f64>().is_ok();
        let value = if plain { key.default.to_owned() } else { format!("\"{}\"", key.default) };
        let alias = key.alias.map(|alias| format!(" or {alias}")).unwrap_or_default();
        text.push_str(&format!(
            "# {help}\n# Give {allowed}. Variable: {variable}{alias}\n# {name} = {value}\n",
            help = key.help,
            allowed = key.allowed,
            variable = key.variable(),
        ));
    }
    text
}
