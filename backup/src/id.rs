//! Names of backups.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::Error;

const TIME: &str = "%Y%m%dT%H%M%S";

/// The name of a backup: when it began in UTC and six random hexadecimal digits, `20260102T030405-0a1b2c`. Names sort as
/// their times do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

impl BackupId {
    /// A new name for a backup that begins at `at`.
    pub fn new(at: DateTime<Utc>) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("{}-{}", at.format(TIME), &random[..6]))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Id(text.to_owned());
        let (time, random) = text.split_once('-').ok_or_else(refused)?;
        NaiveDateTime::parse_from_str(time, TIME).map_err(|_| refused())?;
        let is_random = random.len() == 6 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_random && time.len() == 15 { Ok(Self(text.to_owned())) } else { Err(refused()) }
    }
}

impl TryFrom<String> for BackupId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is() {
        let id = BackupId::new(Utc::now());
        assert_eq!(id.as_str().parse::<BackupId>().unwrap(), id);
        for bad in [
            "",
            "x",
            "20260102T030405",
            "20260102T030405-",
            "20261302T030405-0a1b2c",
            "20260102T030405-0A1B2C",
            "../x-0a1b2c",
        ] {
            bad.parse::<BackupId>().unwrap_err();
        }
    }
}
