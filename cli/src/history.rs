//! `safari history`: removing what ended long ago.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use pipeline::api::{RemovableView, RemovedView};
use pipeline::clock::Timestamp;
use pipeline::dag::parse_duration;
use pipeline::history::Keep;
use platform::config::Config;

use crate::backend::open;
use crate::error::Result;
use crate::runs::print;

const CLEAN_NOTES: &str = "A run stays while a task still waits for it, while a run that it started stays, and while an \
alert of it was not told. Rows of the tables stay. A server does the same by itself after `history.keep_days`.";

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// Remove runs that ended long ago, with all that belongs to them: tasks, attempts, logs, work folders
    #[command(after_help = CLEAN_NOTES)]
    Clean {
        /// How long ago they ended, such as 30d
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        older_than: Duration,
        /// Only say how much would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Does what the command says.
pub(crate) async fn run(command: HistoryCommand, config: &Config) -> Result<ExitCode> {
    let HistoryCommand::Clean { older_than, dry_run } = command;
    let ended_before = Timestamp::now().minus(older_than);
    let backend = open(config).await?;
    if dry_run {
        let RemovableView { runs, task_instances, attempts } = backend.removable(ended_before).await?;
        return print(&format!(
            "would remove {runs} runs with {task_instances} task instances and {attempts} attempts"
        ));
    }
    let removed = backend.clean_history(ended_before).await?;
    let RemovedView { runs, task_instances, attempts, dag_versions, .. } = removed;
    print(&format!(
        "removed {runs} runs with {task_instances} task instances and {attempts} attempts, and {dag_versions} versions \
         of dags"
    ))
}

/// What the settings say is kept.
pub(crate) fn kept(config: &Config) -> Keep {
    let days = |days: u32| (days > 0).then(|| DAY * days);
    Keep { runs: days(config.history.keep_days), logs: days(config.logs.keep_days) }
}
