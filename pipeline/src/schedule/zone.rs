//! Time zones by their names.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Error;
use super::field::clip;
use crate::dag::hint;

/// The database inside the program, not the one of the machine: two schedulers on different machines must agree about
/// ticks.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// A change of the clocks. Instants and offsets are in seconds; a local time is the sum of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The first instant with the new offset.
    pub(super) at: i64,
    pub(super) before: i64,
    pub(super) after: i64,
}

impl Zone {
    /// Coordinated Universal Time.
    pub fn utc() -> Self {
        Self { name: "UTC".to_string(), rules: TimeZone::UTC }
    }

    /// Its name, as the database writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules, to show instants.
    pub(crate) fn rules(&self) -> &TimeZone {
        &self.rules
    }

    /// Local time less UTC at an instant.
    pub(super) fn offset(&self, instant: i64) -> Option<i64> {
        Some(i64::from(self.rules.to_offset(Timestamp::from_second(instant).ok()?).seconds()))
    }

    /// The first change after `after` and not after `until`.
    pub(super) fn change_between(&self, after: i64, until: i64) -> Option<Change> {
        let mut before = self.offset(after)?;
        for transition in self.rules.following(Timestamp::from_second(after).ok()?) {
            let at = transition.timestamp().as_second();
            if at > until {
                return None;
            }
            let after = i64::from(transition.offset().seconds());
            // Some transitions change only the name of the time.
            if after != before {
                return Some(Change { at, before, after });
            }
            before = after;
        }
        None
    }

    /// The first instant that reads `local`; when a change skips that, the instant of the change.
    pub(super) fn first_instant(&self, local: i64) -> Option<i64> {
        const TWO_DAYS: i64 = 2 * 86_400;
        // No offset is near two days, so this is before.
        let mut from = local - TWO_DAYS;
        loop {
            let offset = self.offset(from)?;
            let Some(change) = self.change_between(from, local - offset) else { return Some(local - offset) };
            if local < change.at + change.after {
                return Some(change.at);
            }
            from = change.at;
        }
    }
}

impl FromStr for Zone {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let name = name.trim();
        match ZONES.get(name) {
            Ok(rules) if !rules.is_unknown() => {
                let name = rules.iana_name().unwrap_or(name).to_string();
                Ok(Self { name, rules })
            }
            _ => {
                let known: Vec<_> = ZONES.available().map(|zone| zone.as_str().to_string()).collect();
                let near = hint(name, known.iter().map(String::as_str));
                // The full list helps nobody.
                let hint = if near.contains("did you mean") { near } else { String::new() };
                Err(Error::Zone { name: clip(name), hint })
            }
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
