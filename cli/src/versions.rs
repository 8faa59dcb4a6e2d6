//! `safari dag versions`, `diff` and `text`: what a DAG was.

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use pipeline::Dag;
use pipeline::api::{DagVersionView, DagVersionWithText};
use pipeline::state::Version;
use platform::config::Config;
use similar::TextDiff;

use crate::backend::open;
use crate::error::{Error, Result};
use crate::runs::print;

/// Lines around a difference.
const CONTEXT: usize = 3;

pub(crate) async fn list(config: &Config, name: &str) -> Result<ExitCode> {
    let versions = open(config).await?.dag_versions(name).await?;
    print(&format!("{:8}  {:24}  {:>6}  {:24}", "VERSION", "SEEN FIRST", "RUNS", "LAST RUN"))?;
    for record in versions {
        let last = record.last_run_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let current = if record.current { "  current" } else { "" };
        print(&format!("{}  {}  {:6}  {last:24}{current}", record.short(), record.created_at, record.runs))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Exit code 0 whether or not there is a difference, as it is for people.
pub(crate) async fn diff(config: &Config, name: &str, from: Option<String>, to: Option<String>) -> Result<ExitCode> {
    let backend = open(config).await?;
    let old = backend.dag_version(name, &version(from, Version::Previous)).await?;
    let new = backend.dag_version(name, &version(to, Version::Current)).await?;
    print_diff(&old.text, &new.text, &title(name, &old.version), &title(name, &new.version))
}

/// The file is checked first: a broken one is told with its mistakes.
pub(crate) async fn diff_with_file(config: &Config, name: &str, from: Option<String>, file: &Path) -> Result<ExitCode> {
    let dag = Dag::load(file)?;
    let old = open(config).await?.dag_version(name, &version(from, Version::Current)).await?;
    print_diff(&old.text, dag.yaml(), &title(name, &old.version), &file.display().to_string())
}

pub(crate) async fn text(config: &Config, name: &str, named: Option<String>) -> Result<ExitCode> {
    let DagVersionWithText { text, .. } =
        open(config).await?.dag_version(name, &version(named, Version::Current)).await?;
    stdout().lock().write_all(text.as_bytes()).map_err(Error::write("stdout"))?;
    Ok(ExitCode::SUCCESS)
}

fn title(name: &str, version: &DagVersionView) -> String {
    format!("{name} {} {}", version.short(), version.created_at)
}

fn version(named: Option<String>, otherwise: Version) -> Version {
    named.map_or(otherwise, |named| Version::named(&named))
}

fn print_diff(old: &str, new: &str, from: &str, to: &str) -> Result<ExitCode> {
    if old == new {
        return print("no difference");
    }
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(CONTEXT).header(from, to).to_string();
    print(text.trim_end())
}
