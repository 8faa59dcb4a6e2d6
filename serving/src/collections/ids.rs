//! Names of things, as clients write them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use uuid::Uuid;

use crate::{Error, Result};

/// Characters of a key.
const LONGEST_KEY: usize = 255;

/// A sighting. Random: nobody can tell from it when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct SightingId(Uuid);

/// A collector, as others know them. Random: it tells nothing about the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct Handle(Uuid);

/// The client's name of a request that makes a sighting: the same name again makes no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(String);

impl SightingId {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl Handle {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl Key {
    /// One that no client knows.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for Key {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for SightingId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        uuid(text).map(Self).ok_or_else(|| Error::Invalid(format!("`{}` is no sighting: give its id", shown(text))))
    }
}

impl FromStr for Handle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let no_collector =
            || Error::Invalid(format!("`{}` is no collector: give `me` or an id of the leaderboard", shown(text)));
        uuid(text).map(Self).ok_or_else(no_collector)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = text.bytes().all(|byte| byte.is_ascii_graphic());
        if allowed && (1..=LONGEST_KEY).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        let reason = format!("the Idempotency-Key must be 1 to {LONGEST_KEY} visible ASCII characters, such as a UUID");
        Err(Error::Invalid(reason))
    }
}

impl fmt::Display for SightingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginning of a text that somebody sent, for a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// Only the usual form with hyphens: the text is what the database compares.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_visible_characters_make_a_key() {
        assert_eq!("a-1".parse::<Key>().unwrap().as_str(), "a-1");
        for bad in ["", "a b", "a\0b", "é", "\n", &"x".repeat(256)] {
            bad.parse::<Key>().unwrap_err();
        }
    }

    #[test]
    fn ids_lead_nowhere_else() {
        for bad in ["", "../../etc/passwd", "..%2f", "{019a0000-0000-7000-8000-000000000000}", "1' OR '1'='1"] {
            bad.parse::<SightingId>().unwrap_err();
            bad.parse::<Handle>().unwrap_err();
        }
        let id = SightingId::random();
        assert_eq!(id.to_string().to_uppercase().parse::<SightingId>().unwrap(), id);
    }
}
