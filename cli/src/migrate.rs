//! `safari migrate`: brings the tables of the state of runs and of the registry up to date.

use std::process::ExitCode;

use clap::Args;
use model_registry::serve::ARTIFACT_ROOT;
use platform::config::Config;
use platform::database::Database;

use crate::backend::open_store;
use crate::error::{Error, Result};
use crate::registry_server::Place;
use crate::runs::print;

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Only say what is to be done; exit code 1 if there is anything
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    registry: Place,
}

/// Does what the command says.
pub(crate) async fn run(args: MigrateArgs, config: &Config) -> Result<ExitCode> {
    let (state, registry) = (config.state_address(), args.registry.database(config));
    let of_state = pipeline::Store::pending(&Database::open(&state).await?).await?;
    let of_registry = model_registry::store::Store::pending(&registry).await?;
    for (name, address, pending) in [("state", &state, &of_state), ("registry", &registry, &of_registry)] {
        if pending.is_empty() {
            print(&format!("{name} in {address}: up to date"))?;
        }
        for migration in pending {
            let verb = if args.check { "is missing" } else { "is applied" };
            print(&format!("{name} in {address}: {migration} {verb}"))?;
        }
    }
    let missing = of_state.len() + of_registry.len();
    if args.check {
        return if missing == 0 { Ok(ExitCode::SUCCESS) } else { Err(Error::OldTables(missing)) };
    }
    open_store(config).await?;
    model_registry::store::Store::open(&registry, ARTIFACT_ROOT).await?;
    Ok(ExitCode::SUCCESS)
}
