//! Reads the keys of a task's `with`, telling wrong ones in words.
//!
//! The same code reads a `with` when a DAG is checked and before an attempt. At the first, a text that is a template has
//! no value yet: it reads as if the key were not given, and [`Keys::has`] tells that it is.

use std::time::Duration;

use pipeline::dag::parse_duration;
use pipeline::template::is_template;
use serde_json::{Map, Value};

/// The keys of `with` or of a mapping in it.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    given: Option<&'a Map<String, Value>>,
    templates: Templates,
}

/// Whether texts may be templates still.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Templates {
    /// When a DAG is checked.
    Unrendered,
    /// Before an attempt: what looks like a template is the text itself.
    Rendered,
}

impl<'a> Keys<'a> {
    /// The keys of a task's `with`, all of which must be known.
    pub(crate) fn new(with: &'a Value, known: &[&str], templates: Templates) -> Result<Self, String> {
        Self::of(with, "with", known, templates)
    }

    /// Whether the key is there with a value, perhaps one that is not known yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    /// An error that says which key is lacking, unless it is there.
    pub(crate) fn require(&self, key: &str) -> Result<(), String> {
        if self.has(key) { Ok(()) } else { Err(format!("`with` lacks the key `{key}`")) }
    }

    /// The value if it is known.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.raw(key).filter(|value| self.is_known(value))
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, "a text", other)),
        }
    }

    /// A text that is not empty.
    pub(crate) fn filled_text(&self, key: &str) -> Result<Option<&'a str>, String> {
        match self.text(key)? {
            Some("") => Err(format!("`{key}` must not be empty")),
            text => Ok(text),
        }
    }

    /// A text; an empty one is none, as templates of things that are not given become.
    pub(crate) fn some_text(&self, key: &str) -> Result<Option<String>, String> {
        Ok(self.text(key)?.filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong(key, "`true` or `false`", other)),
        }
    }

    /// A whole number from 0.
    pub(crate) fn number(&self, key: &str, default: u64) -> Result<u64, String> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value.as_u64().ok_or_else(|| wrong(key, "a whole number from 0", value))
    }

    /// A share, 0 to 1.
    pub(crate) fn share(&self, key: &str, default: f64) -> Result<f64, String> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let share = value.as_f64().ok_or_else(|| wrong(key, "a number from 0 to 1", value))?;
        if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("`{key}` must be a number from 0 to 1")) }
    }

    /// A length of time.
    pub(crate) fn duration(&self, key: &str, default: Duration) -> Result<Duration, String> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::String(text)) => parse_duration(text).map_err(|reason| format!("`{key}`: {reason}")),
            Some(other) => Err(wrong(key, "a length of time such as `30s`", other)),
        }
    }

    /// A length of time above zero.
    pub(crate) fn positive_duration(&self, key: &str, default: Duration) -> Result<Duration, String> {
        match self.duration(key, default)? {
            Duration::ZERO => Err(format!("`{key}` must be more than no time")),
            duration => Ok(duration),
        }
    }

    /// One of these texts.
    pub(crate) fn choice(&self, key: &str, names: &[&'static str]) -> Result<Option<&'static str>, String> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match names.iter().find(|name| **name == text) {
            Some(name) => Ok(Some(name)),
            None => Err(format!("`{key}` must be one of {}{}", names.join(", "), near(text, names))),
        }
    }

    /// A list whose items are texts or numbers, as texts. Items that are not known yet are left out.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(wrong(key, "a list of texts", value)) };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            texts.extend(self.entry(&format!("{key}[{index}]"), item)?);
        }
        Ok(Some(texts))
    }

    /// A mapping of names to texts or numbers, as texts; one that is not known yet is `None`.
    pub(crate) fn mapping(&self, key: &str) -> Result<Vec<(&'a str, Option<String>)>, String> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Value::Object(entries) = value else { return Err(wrong(key, "a mapping of names to texts", value)) };
        let entry =
            |(name, value): (&'a String, &Value)| Ok((name.as_str(), self.entry(&format!("{key}.{name}"), value)?));
        entries.iter().map(entry).collect()
    }

    /// The keys of a mapping inside, all of which must be known.
    pub(crate) fn inside(&self, key: &str, known: &[&str]) -> Result<Self, String> {
        match self.value(key) {
            None => Ok(Self { given: None, templates: self.templates }),
            Some(value) => Self::of(value, key, known, self.templates),
        }
    }

    /// Whether a value is no template.
    pub(crate) fn is_known(&self, value: &Value) -> bool {
        self.templates == Templates::Rendered || !value.as_str().is_some_and(is_template)
    }

    fn of(value: &'a Value, name: &str, known: &[&str], templates: Templates) -> Result<Self, String> {
        let given = match value {
            Value::Object(given) => given,
            Value::Null => return Ok(Self { given: None, templates }),
            other => return Err(wrong(name, "a mapping", other)),
        };
        if let Some(key) = given.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("unknown key `{key}` in `{name}`{}", near(key, known)));
        }
        Ok(Self { given: Some(given), templates })
    }

    fn raw(&self, key: &str) -> Option<&'a Value> {
        self.given.and_then(|given| given.get(key)).filter(|value| !value.is_null())
    }

    fn entry(&self, key: &str, value: &Value) -> Result<Option<String>, String> {
        if !self.is_known(value) {
            return Ok(None);
        }
        as_text(value).map(Some).ok_or_else(|| wrong(key, "a text", value))
    }
}

/// Says what is wrong with a value's type.
pub(crate) fn wrong(key: &str, wanted: &str, value: &Value) -> String {
    let kind = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "`true` or `false`",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    format!("`{key}` must be {wanted}, but is {kind}")
}

/// `, did you mean …`, or all names when none is near.
fn near(name: &str, names: &[&str]) -> String {
    let hint = platform::names::did_you_mean(name, names.iter().copied());
    if hint.is_empty() { format!("; known: {}", names.join(", ")) } else { hint }
}

/// Texts, numbers, `true` and `false` as a program is given them.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
