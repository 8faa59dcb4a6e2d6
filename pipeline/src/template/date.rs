//! The filter `date`: parts of an instant as text.

use jiff::Timestamp;
use jiff::fmt::strtime;
use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind};

use crate::schedule::Zone;

/// `{{ interval.start | date('%Y-%m-%d', zone='Europe/Berlin') }}`: an RFC 3339 text in the way of strftime, in UTC when
/// no zone is given. The error says which of the three texts is wrong.
pub(super) fn format(instant: String, format: String, options: Kwargs) -> Result<String, Error> {
    let wrong = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let zone: Option<String> = options.get("zone")?;
    options.assert_all_used()?;
    let zone: Zone = zone.as_deref().unwrap_or("UTC").parse().map_err(|error| wrong(format!("date: {error}")))?;
    let instant: Timestamp = instant.parse().map_err(|_| {
        wrong(format!("date: `{instant}` is not a date with time and offset such as `2026-01-31T06:00:00Z`"))
    })?;
    strtime::format(&format, &instant.to_zoned_datetime(zone.rules().clone())).map_err(|_| {
        wrong(format!("date: `{format}` is not a format that can be written; write for example `%Y-%m-%d` or `%H:%M`"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::super::{Scope, analyse, render};

    fn show(text: &str) -> Result<Value, String> {
        let scope = Scope::new(&json!({"at": "2026-01-31T23:30:00Z", "day": "2026-01-31"}), &json!({}));
        render(&json!(text), &scope)
    }

    #[test]
    fn shows_an_instant_in_utc_or_a_zone() {
        assert_eq!(show("{{ params.at | date('%Y-%m-%d') }}").unwrap(), "2026-01-31");
        assert_eq!(show("{{ params.at | date('%Y-%m-%d %H:%M', zone='Europe/Berlin') }}").unwrap(), "2026-02-01 00:30");
        assert_eq!(show("d={{ '2026-01-31T23:30:00+02:00' | date('%H%M') }}").unwrap(), "d=2130");
        assert!(analyse("{{ interval.start | date('%Y') }}").is_ok());
    }

    #[test]
    fn tells_which_text_is_wrong() {
        let error =
            |text: &str| show(text).unwrap_err().split_once("failed: invalid operation: ").unwrap().1.to_string();
        assert_eq!(
            error("{{ params.day | date('%Y') }}"),
            "date: `2026-01-31` is not a date with time and offset such as `2026-01-31T06:00:00Z`"
        );
        assert_eq!(
            error("{{ params.at | date('%!') }}"),
            "date: `%!` is not a format that can be written; write for example `%Y-%m-%d` or `%H:%M`"
        );
        assert_eq!(
            error("{{ params.at | date('%Y', zone='Europe/Berlim') }}"),
            "date: zone `Europe/Berlim` is not known; did you mean `Europe/Berlin`?; write a name of the IANA database \
             such as `Europe/Berlin` or `UTC`"
        );
        assert!(show("{{ params.at | date }}").unwrap_err().contains("missing argument"));
        assert!(show("{{ params.at | date('%Y', place='x') }}").unwrap_err().contains("place"));
    }
}
