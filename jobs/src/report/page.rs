//! The page itself: one HTML file with everything in it.

use std::path::Path;

use chrono::Utc;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use platform::object_store::Location;
use serde::Serialize;

use super::frames::{self, Summary, Tables};
use super::pictures::Drawn;
use super::write_file;
use crate::{Error, Result};

const TEMPLATE: &str = include_str!("page.html");

/// Most rows of the list of failures; the tables hold all of them.
const MAX_FAILURES: usize = 200;

#[derive(Serialize)]
struct Failure {
    file: String,
    reason: String,
}

/// Writes the page.
pub(super) fn write(
    path: &Path,
    source: &Location,
    tables: &Tables,
    summary: &Summary,
    pictures: &[Drawn],
    model_version: &str,
) -> Result<()> {
    let mut environment = Environment::new();
    let broken = |error: minijinja::Error| Error::Report(format!("{error:#}"));
    // The name's ending turns HTML escaping on.
    environment.add_template("page.html", TEMPLATE).map_err(broken)?;
    let top = summary.species.iter().map(|species| species.count).max().unwrap_or(1);
    let top_hour = summary.hours.iter().copied().max().unwrap_or(1).max(1);
    let page = environment
        .get_template("page.html")
        .and_then(|template| {
            template.render(context! {
                source => source.to_string(),
                summary => Value::from(Serde(summary)),
                top => top,
                top_hour => top_hour,
                pictures => Value::from(Serde(pictures)),
                failures => Value::from(Serde(failures(tables, source))),
                failures_shown => MAX_FAILURES,
                model_version => model_version,
                written => Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            })
        })
        .map_err(broken)?;
    write_file(path, page.as_bytes())
}

fn failures(tables: &Tables, source: &Location) -> Vec<Failure> {
    let (Ok(uris), Ok(reasons)) = (frames::texts(&tables.media, "uri"), frames::texts(&tables.media, "failure")) else {
        return Vec::new();
    };
    let root = source.to_string();
    uris.into_iter()
        .zip(reasons)
        .filter(|(_, reason)| !reason.is_empty())
        .take(MAX_FAILURES)
        .map(|(uri, reason)| {
            let file = uri.strip_prefix(&root).unwrap_or(&uri).trim_start_matches('/').to_owned();
            Failure { file, reason }
        })
        .collect()
}
