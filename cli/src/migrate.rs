//! `safari migrate`: brings the tables of the state of runs, of rollouts, of the registry, of identity and of collections up to date.

use std::process::ExitCode;

use clap::Args;
use model_registry::serve::ARTIFACT_ROOT;
use platform::config::Config;
use platform::database::{Database, Pending};

use crate::backend::open_store;
use crate::error::{Error, Result};
use crate::registry_server::Place;
use crate::runs::print;

const NOTES: &str = "Each change is one transaction, and of several processes that begin at once one makes it. Nothing that \
the version before uses is changed or removed, so that it goes on meanwhile: docs/operators.md.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct MigrateArgs {
    /// Only say what is to be done; exit code 1 if there is anything
    #[arg(long)]
    check: bool,
    /// Only print the statements that would be carried out
    #[arg(long, conflicts_with = "check")]
    plan: bool,
    #[command(flatten)]
    registry: Place,
}

/// Does what the command says.
pub(crate) async fn run(args: MigrateArgs, config: &Config) -> Result<ExitCode> {
    let (state, registry, identity) =
        (config.state_address(), args.registry.database(config), config.identity_address());
    let of_state = pipeline::Store::pending(&Database::open(&state).await?).await?;
    let of_rollouts = rollout::store::Store::pending(&Database::open(&state).await?).await?;
    let of_registry = model_registry::store::Store::pending(&registry).await?;
    let of_identity = platform::identity::store::Store::pending(&Database::open(&identity).await?).await?;
    let (collections, of_collections) = (config.collections_address(), pending_collections(config).await?);
    let all = [
        ("state", &state, Some(&of_state)),
        ("rollouts", &state, Some(&of_rollouts)),
        ("registry", &registry, Some(&of_registry)),
        ("identity", &identity, Some(&of_identity)),
        ("collections", &collections, of_collections.as_ref()),
    ];
    for (name, address, pending) in all.iter().filter_map(|(name, address, pending)| Some((name, address, (*pending)?)))
    {
        if pending.is_empty() {
            let comment = if args.plan { "-- " } else { "" };
            print(&format!("{comment}{name} in {address}: up to date"))?;
        }
        if args.plan {
            for migration in pending {
                print(&format!("-- {name} in {address}: {migration}\n{}", migration.sql.trim_end()))?;
            }
            continue;
        }
        for migration in pending {
            let verb = if args.check { "is missing" } else { "is applied" };
            print(&format!("{name} in {address}: {migration} {verb}"))?;
        }
    }
    let missing: usize = all.iter().filter_map(|(_, _, pending)| pending.map(Vec::len)).sum();
    if args.plan {
        return Ok(ExitCode::SUCCESS);
    }
    if args.check {
        return if missing == 0 { Ok(ExitCode::SUCCESS) } else { Err(Error::OldTables(missing)) };
    }
    open_store(config).await?;
    rollout::store::Store::migrate(&Database::open(&state).await?).await?;
    model_registry::store::Store::open(&registry, ARTIFACT_ROOT).await?;
    platform::identity::store::Store::open(&identity).await?;
    migrate_collections(config).await?;
    Ok(ExitCode::SUCCESS)
}

/// None where no collections are kept, as by a program without networks.
#[cfg(feature = "torch")]
async fn pending_collections(config: &Config) -> Result<Option<Vec<Pending>>> {
    if !config.collections.enabled {
        return Ok(None);
    }
    Ok(Some(serving::collections::pending(&Database::open(&config.collections_address()).await?).await?))
}

#[cfg(not(feature = "torch"))]
async fn pending_collections(_config: &Config) -> Result<Option<Vec<Pending>>> {
    Ok(None)
}

#[cfg(feature = "torch")]
async fn migrate_collections(config: &Config) -> Result<()> {
    if config.collections.enabled {
        serving::collections::migrate(&Database::open(&config.collections_address()).await?).await?;
    }
    Ok(())
}

#[cfg(not(feature = "torch"))]
async fn migrate_collections(_config: &Config) -> Result<()> {
    Ok(())
}
