//! `safari cache`: outputs that tasks with `cache` take instead of being done.

use std::process::ExitCode;

use clap::Subcommand;
use platform::config::Config;

use crate::backend::open;
use crate::error::Result;
use crate::runs::print;

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Forget outputs, so that their tasks are done again the next time
    Clear {
        /// Only those that runs of this DAG have made
        #[arg(long, value_name = "NAME")]
        dag: Option<String>,
    },
}

/// Does what the command says.
pub(crate) async fn run(command: CacheCommand, config: &Config) -> Result<ExitCode> {
    let CacheCommand::Clear { dag } = command;
    let forgotten = open(config).await?.clear_cache(dag.as_deref()).await?;
    print(&format!("{forgotten} outputs forgotten"))
}
