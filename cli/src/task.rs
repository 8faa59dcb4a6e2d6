//! `safari task …`: single tasks of runs.

use std::process::ExitCode;

use clap::Subcommand;
use pipeline::RunId;
use pipeline::state::Again;
use platform::config::Config;

use crate::backend::open;
use crate::error::Result;
use crate::runs::print;

const CLEAR_NOTES: &str = "Attempts count on and idempotency keys stay, so that what a task has written once it does not \
write twice: rows of the tables that it has added already stay as they are.";

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Do a task of a run that has ended again, and all that comes after it; a server begins it
    #[command(after_help = CLEAR_NOTES)]
    Clear {
        /// The run
        run: RunId,
        /// The task
        task: String,
        /// Only this task, nothing that comes after it
        #[arg(long)]
        only: bool,
    },
}

/// Does what the command says.
pub(crate) async fn run(command: TaskCommand, config: &Config) -> Result<ExitCode> {
    let TaskCommand::Clear { run, task, only } = command;
    let again = Again::Task { task: task.clone(), downstream: !only };
    open(config).await?.reopen(run, again).await?;
    let what = if only { "" } else { " and what comes after it" };
    print(&format!("run {run} is queued again: {task}{what}"))
}
