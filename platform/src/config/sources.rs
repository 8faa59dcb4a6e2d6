//! Collects values from the file, the variables and the command line, and refuses names that do not exist.

use std::ffi::OsString;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Source;
use super::keys::{Key, all};
use crate::error::io_reason;
use crate::names::did_you_mean;
use crate::{Error, Result};

/// `SAFARI_` variables that are no settings: where the settings file is, who one is, keys that seal, and servers of the
/// tests.
const OTHER_VARIABLES: &[&str] = &[
    "SAFARI_CONFIG",
    "SAFARI_TOKEN",
    "SAFARI_IDENTITY_SECRET_KEY",
    "SAFARI_REGISTRY_SECRET_KEY",
    "SAFARI_WEED",
    "SAFARI_POSTGRES_BIN",
];
/// Variables that hold secrets of tasks.
const SECRETS: &str = "SAFARI_SECRET_";

/// A value that somebody set.
pub(super) struct Given {
    pub key: &'static Key,
    pub text: String,
    pub source: Source,
}

pub(super) fn from_file(path: &Path) -> Result<Vec<Given>> {
    let failed = |reason: String| Error::ConfigFile { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(io_reason(&error)))?;
    let table = DeTable::parse(&text).map_err(|error| {
        let place = error.span().map(|span| format!("line {}: ", line_of(&text, span.start))).unwrap_or_default();
        failed(format!("{place}{}", error.message()))
    })?;
    let mut given = Vec::new();
    flatten(path, &text, "", table.get_ref(), &mut given)?;
    Ok(given)
}

pub(super) fn from_environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<Given>> {
    let mut aliases = Vec::new();
    let mut given = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let key = all().find(|key| key.variable() == name);
        let alias_of = all().find(|key| key.alias == Some(name));
        let Some(key) = key.or(alias_of) else {
            check_unknown_variable(name)?;
            continue;
        };
        let source = Source::Environment(name.to_owned());
        let Some(text) = value.to_str() else {
            return Err(Error::InvalidSetting {
                key: key.name.to_owned(),
                value: value.to_string_lossy().into_owned(),
                origin: source.to_string(),
                allowed: "text in UTF-8".to_owned(),
            });
        };
        if text.is_empty() {
            continue;
        }
        let value = Given { key, text: text.to_owned(), source };
        if alias_of.is_some() { aliases.push(value) } else { given.push(value) }
    }
    // The later wins, so that a variable of our own name is stronger than its alias.
    aliases.append(&mut given);
    Ok(aliases)
}

pub(super) fn from_flags(flags: &[(String, String)]) -> Result<Vec<Given>> {
    flags
        .iter()
        .map(|(name, text)| Ok(Given { key: find(name, &Source::Flag)?, text: text.clone(), source: Source::Flag }))
        .collect()
}

fn flatten(path: &Path, input: &str, prefix: &str, table: &DeTable<'_>, given: &mut Vec<Given>) -> Result<()> {
    for (name, value) in table {
        let line = line_of(input, name.span().start);
        let full = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        let source = Source::File { path: path.to_owned(), line };
        let text = match value.get_ref() {
            DeValue::Table(inner) => {
                let is_section = all().any(|key| key.name.starts_with(&format!("{full}.")));
                if !is_section {
                    return Err(unknown(&full, &source));
                }
                flatten(path, input, &full, inner, given)?;
                continue;
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(truth) => truth.to_string(),
            other => {
                let key = find(&full, &source)?;
                return Err(Error::InvalidSetting {
                    key: full,
                    value: input.get(value.span()).unwrap_or(other.type_str()).to_owned(),
                    origin: source.to_string(),
                    allowed: key.allowed.to_owned(),
                });
            }
        };
        given.push(Given { key: find(&full, &source)?, text, source });
    }
    Ok(())
}

fn find(name: &str, source: &Source) -> Result<&'static Key> {
    all().find(|key| key.name == name).ok_or_else(|| unknown(name, source))
}

fn unknown(name: &str, source: &Source) -> Error {
    Error::UnknownSetting {
        key: name.to_owned(),
        origin: source.to_string(),
        hint: did_you_mean(name, all().map(|key| key.name)),
    }
}

fn check_unknown_variable(name: &str) -> Result<()> {
    if !name.starts_with("SAFARI_")
        || OTHER_VARIABLES.contains(&name)
        || name.starts_with(SECRETS)
        || is_service_link(name)
    {
        return Ok(());
    }
    let variables: Vec<String> = all().map(Key::variable).collect();
    Err(Error::UnknownSetting {
        key: name.to_owned(),
        origin: "the environment".to_owned(),
        hint: did_you_mean(name, variables.iter().map(String::as_str)),
    })
}

/// Kubernetes sets variables such as `SAFARI_SERVICE_HOST` and `SAFARI_PORT_80_TCP` in pods beside a service of that name.
fn is_service_link(name: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || name.ends_with("_PORT")
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
