//! `safari run`: a DAG in this process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jobs::Services;
use pipeline::{Dag, RunOutcome, RunState, Runner, RunnerOptions, Start, Store};
use platform::config::Config;
use platform::database::{Database, Engine};
use tracing::debug;

use crate::args::name_and_value;
use crate::error::{Error, Result};
use crate::registry::{registry, secrets};
use crate::runs::{self, RunCommand};
use crate::signals::Signals;
use crate::{progress, summary};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    command: Option<RunCommand>,
    /// The DAG file
    #[arg(required = true)]
    dag: Option<PathBuf>,
    /// A parameter of the DAG, such as source=data-samples; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE")]
    param: Vec<String>,
}

/// Starts the run, or goes on with one that was cut off, and drives it to its end.
pub(crate) async fn run(args: RunArgs, config: Config) -> Result<ExitCode> {
    let state = config.state_address();
    let done = match (args.command, args.dag) {
        (Some(command), _) => runs::run(command, &config).await,
        (None, Some(dag)) => drive(&dag, &args.param, config).await,
        // clap asks for one of them.
        (None, None) => return Ok(ExitCode::FAILURE),
    };
    done.map_err(|error| error.about_state(&state))
}

async fn drive(file: &Path, params: &[String], config: Config) -> Result<ExitCode> {
    let given = params.iter().map(|text| name_and_value(text)).collect::<Result<Vec<_>>>()?;
    let services = Arc::new(Services::new(config.clone()));
    let registry = registry(&services)?;
    let dag = Dag::load(file)?;
    let params = dag.params(&given)?;
    registry.check(&dag, Some(&params))?;

    let state = Database::open(&config.state_address()).await?;
    // The lock that proves a process dead lies in the home folder: with a server, others may have another one.
    let exclusive = state.engine() == Engine::Sqlite;
    let store = Store::open(state).await?;
    let options = RunnerOptions {
        parallelism: config.run.parallelism,
        exclusive,
        secrets: secrets(&config),
        ..RunnerOptions::new(&config.home)
    };
    let runner = Arc::new(Runner::new(store, registry, options));
    let start = runner.start_or_resume(&dag, &params).await?;
    match start {
        Start::Started { run_id } => eprintln!("run {run_id}"),
        Start::Resumed { run_id, .. } => eprintln!("run {run_id} was cut off; it goes on"),
    }
    let screen = tokio::spawn(progress::show(start.run_id(), runner.events()));
    let interrupter = tokio::spawn(stop_on_signal(Arc::clone(&runner)));
    let outcome = runner.drive(start.run_id()).await;
    interrupter.abort();
    if outcome.is_ok() {
        // The screen ends with the run; waiting lets its last lines out before the summary.
        let _ = screen.await;
    }
    let outcome = outcome?;
    report(&outcome, &services).await
}

async fn report(outcome: &RunOutcome, services: &Services) -> Result<ExitCode> {
    if outcome.state == RunState::Failed {
        let error = outcome.first_error.clone().unwrap_or_else(|| "a task failed".to_owned());
        return Err(Error::RunFailed(format!("run {} failed: {error}", outcome.run_id)));
    }
    summary::print(outcome, services).await?;
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C and SIGTERM stop the run so that it can go on later.
async fn stop_on_signal(runner: Arc<Runner>) {
    let Ok(mut signals) = Signals::new() else { return };
    signals.next().await;
    debug!("stopping on request");
    runner.interrupt();
}
