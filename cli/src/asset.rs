//! `safari asset …`: what tasks update and DAGs wait for.

use std::process::ExitCode;

use clap::Subcommand;
use platform::config::Config;

use crate::backend::open;
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
    let backend = open(config).await?;
    match command {
        AssetCommand::Update { asset } => {
            backend.update_asset(&asset).await?;
            print(&format!("{asset} updated"))
        }
        AssetCommand::List { asset, limit } => {
            let updates = backend.asset_updates(asset.as_deref(), limit).await?;
            let width = updates.iter().map(|update| update.asset.len()).max().unwrap_or(0).max("ASSET".len());
            print(&format!("{:24}  {:width$}  {:36}  TASK", "UPDATED", "ASSET", "RUN"))?;
            for update in updates {
                let run = update.run.map(|run| run.to_string()).unwrap_or_default();
                let task = update.task.unwrap_or_default();
                print(&format!("{}  {:width$}  {run:36}  {task}", update.updated_at, update.asset))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
