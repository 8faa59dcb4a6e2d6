//! `safari run watch`: changes of runs as they happen.

use std::process::ExitCode;

use pipeline::api::{RunChangeView, RunView};
use pipeline::state::ChangeFilter;
use pipeline::{RunId, RunState};
use platform::config::Config;

use crate::backend::open;
use crate::error::{Error, Result};
use crate::runs::print;

/// Follows all runs, or those of a DAG, until the program is stopped.
pub(crate) async fn all(config: &Config, dag: Option<String>) -> Result<ExitCode> {
    let mut changes = open(config).await?.follow(ChangeFilter { run: None, dag }).await?;
    // What happens from here on is told; runs may be far between.
    eprintln!("watching runs; Ctrl-C ends it");
    loop {
        tell(&changes.next().await?)?;
    }
}

/// Follows a run to its end.
pub(crate) async fn one(config: &Config, run: RunId) -> Result<ExitCode> {
    let backend = open(config).await?;
    // Before the run is looked at, so that no change falls between.
    let mut changes = backend.follow(ChangeFilter { run: Some(run), dag: None }).await?;
    let mut now = backend.run(run).await?.run;
    let mut told = now.state;
    tell(&standing(&now))?;
    while !now.state.is_finished() {
        let change = changes.next().await?;
        if change.state != told {
            tell(&change)?;
            told = change.state;
        }
        // It may be an old change: the run has gone on since then.
        if change.state.is_finished() {
            now = backend.run(run).await?.run;
        }
    }
    match now.state {
        RunState::Failed => {
            let error = now.error.unwrap_or_else(|| "a task failed".to_owned());
            Err(Error::RunFailed(format!("run {run} failed: {error}")))
        }
        RunState::Cancelled => Ok(ExitCode::FAILURE),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Where a run stands, as the change that brought it there.
fn standing(run: &RunView) -> RunChangeView {
    RunChangeView {
        run: run.id,
        dag: run.dag.clone(),
        cause: run.cause,
        state: run.state,
        at: run.finished_at.or(run.started_at).unwrap_or(run.created_at),
    }
}

fn tell(change: &RunChangeView) -> Result<ExitCode> {
    print(&format!("{}  {}  {}  {}", change.at, change.run, change.dag, change.state))
}
