//! `safari stream`: how continuous DAGs stand.

use std::process::ExitCode;

use clap::Subcommand;
use platform::config::Config;

use crate::backend::open;
use crate::error::Result;
use crate::runs::print;

#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// List continuous DAGs: what waits, what is in flight, and how old the oldest of it is
    List,
}

/// Does what the command says.
pub(crate) async fn run(command: StreamCommand, config: &Config) -> Result<ExitCode> {
    let StreamCommand::List = command;
    let streams = open(config).await?.streams().await?;
    let width = streams.iter().map(|stream| stream.dag.len()).max().unwrap_or(0).max("DAG".len());
    print(&format!("{:width$}  {:>8}  {:>9}  {:>8}  {:>9}  ERROR", "DAG", "WAITING", "IN FLIGHT", "BATCHES", "LAG"))?;
    for stream in streams {
        let lag = format!("{:.1} s", stream.lag_seconds);
        let error = stream.error.as_deref().unwrap_or_default();
        print(&format!(
            "{:width$}  {:8}  {:9}  {:8}  {lag:>9}  {error}",
            stream.dag, stream.waiting, stream.in_flight, stream.batches
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
