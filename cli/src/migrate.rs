//! `safari migrate`: brings the tables of the state of runs, of the registry and of identity up to date.

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
    let (state, registry, identity) =
        (config.state_address(), args.registry.database(config), config.identity_address());
    let of_state = pipeline::Store::pending(&Database::open(&state).await?).await?;
    let of_registry = model_registry::store::Store::pending(&registry).await?;
    let of_identity = platform::identity::store::Store::pending(&Database::open(&identity).await?).await?;
    let all =
        [("state", &state, &of_state), ("registry", &registry, &of_registry), ("identity", &identity, &of_identity)];
    for (name, address, pending) in all {
        if pending.is_empty() {
            print(&format!("{name} in {address}: up to date"))?;
        }
        for migration in pending {
            let verb = if args.check { "is missing" } else { "is applied" };
            print(&format!("{name} in {address}: {migration} {verb}"))?;
        }
    }
    let missing = of_state.len() + of_registry.len() + of_identity.len();
    if args.check {
        return if missing == 0 { Ok(ExitCode::SUCCESS) } else { Err(Error::OldTables(missing)) };
    }
    open_store(config).await?;
    model_registry::store::Store::open(&registry, ARTIFACT_ROOT).await?;
    platform::identity::store::Store::open(&identity).await?;
    Ok(ExitCode::SUCCESS)
}
