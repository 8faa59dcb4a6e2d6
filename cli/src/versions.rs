//! `safari dag versions`, `diff` and `text`: what a DAG was.

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use pipeline::Dag;
use pipeline::state::Version;
use platform::config::Config;
use similar::TextDiff;

use crate::backend::open_here;
use crate::error::{Error, Result};
use crate::runs::print;

/// Lines around a difference.
const CONTEXT: usize = 3;

pub(crate) async fn list(config: &Config, name: &str) -> Result<ExitCode> {
    print(&format!("{:8}  {:24}  {:>6}  {:24}", "VERSION", "SEEN FIRST", "RUNS", "LAST RUN"))?;
    for record in open_here(config).await?.dag_versions(name).await? {
        let last = record.last_run_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let current = if record.current { "  current" } else { "" };
        print(&format!("{}  {}  {:6}  {last:24}{current}", record.short(), record.created_at, record.runs))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Exit code 0 whether or not there is a difference, as it is for people.
pub(crate) async fn diff(config: &Config, name: &str, from: Option<String>, to: Option<String>) -> Result<ExitCode> {
    let store = open_here(config).await?;
    let (from, old) = store.dag_version_text(name, &version(from, Version::Previous)).await?;
    let (to, new) = store.dag_version_text(name, &version(to, Version::Current)).await?;
    let title = |record: &pipeline::state::DagVersionRecord| format!("{name} {} {}", record.short(), record.created_at);
    print_diff(&old, &new, &title(&from), &title(&to))
}

/// The file is checked first: a broken one is told with its mistakes.
pub(crate) async fn diff_with_file(config: &Config, name: &str, from: Option<String>, file: &Path) -> Result<ExitCode> {
    let dag = Dag::load(file)?;
    let (from, old) = open_here(config).await?.dag_version_text(name, &version(from, Version::Current)).await?;
    let title = format!("{name} {} {}", from.short(), from.created_at);
    print_diff(&old, dag.yaml(), &title, &file.display().to_string())
}

pub(crate) async fn text(config: &Config, name: &str, named: Option<String>) -> Result<ExitCode> {
    let (_, yaml) = open_here(config).await?.dag_version_text(name, &version(named, Version::Current)).await?;
    stdout().lock().write_all(yaml.as_bytes()).map_err(Error::write("stdout"))?;
    Ok(ExitCode::SUCCESS)
}

fn version(named: Option<String>, otherwise: Version) -> Version {
    named.map_or(otherwise, |start| Version::Sha256(start.to_ascii_lowercase()))
}

fn print_diff(old: &str, new: &str, from: &str, to: &str) -> Result<ExitCode> {
    if old == new {
        return print("no difference");
    }
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(CONTEXT).header(from, to).to_string();
    print(text.trim_end())
}
