//! The keys of `with` for `sql` and `wait_for_sql`.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::with::{Keys, Templates, wrong};

const SQL_KEYS: [&str; 5] = ["query", "database", "parameters", "timeout", "max_rows"];
const WAIT_KEYS: [&str; 5] = ["query", "database", "parameters", "timeout", "interval"];

const TIMEOUT: Duration = Duration::from_secs(300);
const MAX_ROWS: u64 = 1000;
/// How often a sensor asks again when its task does not say.
const INTERVAL: Duration = Duration::from_secs(30);

/// The job kind that asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// `sql` wants all rows.
    Sql,
    /// `wait_for_sql` looks at the first row.
    Sensor,
}

/// What to ask of whom.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) query: String,
    pub(super) target: Target,
    /// Values of `$1`, `$2`, …: texts, numbers, booleans and null.
    pub(super) parameters: Vec<Value>,
    pub(super) timeout: Duration,
    /// Most rows to fetch.
    pub(super) limit: usize,
    pub(super) interval: Duration,
}

/// Whom to ask.
#[derive(Debug)]
pub(super) enum Target {
    /// The tables of the lake.
    Lake,
    /// A database at this URL.
    Server(Url),
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, asker: Asker, templates: Templates) -> Result<Self, String> {
        let known = match asker {
            Asker::Sql => &SQL_KEYS,
            Asker::Sensor => &WAIT_KEYS,
        };
        let keys = Keys::new(with, known, templates)?;
        keys.require("query")?;
        let query = keys.filled_text("query")?.unwrap_or_default().trim().trim_end_matches(';').trim_end().to_owned();
        let target = match keys.filled_text("database")? {
            Some(text) => Target::Server(read_url(text)?),
            None => Target::Lake,
        };
        let parameters = parameters(&keys)?;
        let limit = match asker {
            // One row more than are wanted tells that there are too many.
            Asker::Sql => keys.number("max_rows", MAX_ROWS)?.saturating_add(1),
            Asker::Sensor => 1,
        };
        let interval = match asker {
            Asker::Sql => INTERVAL,
            Asker::Sensor => keys.positive_duration("interval", INTERVAL)?,
        };
        if !keys.has("database") && !parameters.is_empty() {
            return Err(
                "`parameters` belong to a `database`; for the tables of the lake put values into `query`".to_owned()
            );
        }
        Ok(Self {
            query,
            target,
            parameters,
            timeout: keys.positive_duration("timeout", TIMEOUT)?,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            interval,
        })
    }

    /// Whether the statement gives rows, as far as its first word tells.
    pub(super) fn gives_rows(&self) -> bool {
        let word =
            self.query.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default();
        ["select", "with", "values", "table"].iter().any(|known| word.eq_ignore_ascii_case(known))
    }
}

fn read_url(text: &str) -> Result<Url, String> {
    let wanted = "`database` must be postgres://USER:PASSWORD@HOST/DATABASE or sqlite:///PATH; \
                  without it the tables of the lake are asked";
    // The text may hold a password, so that it is not repeated.
    let url = Url::parse(text).map_err(|_| wanted.to_owned())?;
    match url.scheme() {
        "postgres" | "postgresql" | "sqlite" => Ok(url),
        _ => Err(wanted.to_owned()),
    }
}

fn parameters(keys: &Keys<'_>) -> Result<Vec<Value>, String> {
    let Some(value) = keys.value("parameters") else { return Ok(Vec::new()) };
    let Value::Array(items) = value else { return Err(wrong("parameters", "a list of values", value)) };
    for (index, item) in items.iter().enumerate() {
        if item.is_array() || item.is_object() {
            return Err(wrong(&format!("parameters[{index}]"), "a text, a number, `true`, `false` or null", item));
        }
    }
    Ok(items.clone())
}
