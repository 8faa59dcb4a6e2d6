//! `safari asset …`: what tasks update and DAGs wait for.

use std::process::ExitCode;

use clap::Subcommand;
use pipeline::clock::Timestamp;
use platform::config::Config;

use crate::dag::open;
use crate::error::Result;
use crate::runs::print;

#[derive(Debug, Subcommand)]
pub(crate) enum AssetCommand {
    /// List the newest updates
    List {
        /// Only of this asset
        asset: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Say that an asset was updated; DAGs that wait for it run
    Update {
        /// The asset
        asset: String,
    },
}

/// Does what the command says.
pub(crate) async fn run(command: AssetCommand, config: &Config) -> Result<ExitCode> {
    let store = open(config).await?;
    match command {
        AssetCommand::Update { asset } => {
            store.update_asset(&asset, Timestamp::now()).await?;
            print(&format!("{asset} updated"))
        }
        AssetCommand::List { asset, limit } => {
            let events = store.asset_events(asset.as_deref(), limit).await?;
            let width = events.iter().map(|event| event.asset.len()).max().unwrap_or(0).max("ASSET".len());
            print(&format!("{:24}  {:width$}  {:36}  TASK", "UPDATED", "ASSET", "RUN"))?;
            for event in events {
                let run = event.run.map(|run| run.to_string()).unwrap_or_default();
                let task = event.task.unwrap_or_default();
                print(&format!("{}  {:width$}  {run:36}  {task}", event.created_at, event.asset))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
