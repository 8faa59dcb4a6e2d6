//! `safari run`: a DAG in this process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jobs::Services;
use pipeline::clock::Timestamp;
use pipeline::{Dag, JobRegistry, RunId, RunOutcome, RunState, Runner, RunnerOptions, Start, Store};
use platform::config::Config;
use platform::database::{Database, Engine};
use tracing::{debug, warn};

use crate::args::name_and_value;
use crate::error::{Error, Result};
use crate::registry::{known_secrets, logs, registry, secrets};
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

    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let runner = runner(&config, registry, Some(folder.to_owned())).await?;
    let start = runner.start_or_resume(&dag, &params).await?;
    match start {
        Start::Started { run_id } => eprintln!("run {run_id}"),
        Start::Resumed { run_id, .. } => eprintln!("run {run_id} was cut off; it goes on"),
    }
    to_its_end(runner, start.run_id(), &services).await
}

/// Drives a run that was let go on.
pub(crate) async fn drive_again(run: RunId, config: Config) -> Result<ExitCode> {
    let services = Arc::new(Services::new(config.clone()));
    let runner = runner(&config, registry(&services)?, None).await?;
    to_its_end(runner, run, &services).await
}

async fn runner(config: &Config, registry: JobRegistry, dags: Option<PathBuf>) -> Result<Arc<Runner>> {
    let state = Database::open(&config.state_address()).await?;
    // The lock that proves a process dead lies in the home folder: with a server, others may have another one.
    let exclusive = state.engine() == Engine::Sqlite;
    let store = Store::open(state).await?;
    let options = RunnerOptions {
        parallelism: config.run.parallelism,
        lease: Duration::from_secs(config.run.lease_seconds),
        exclusive,
        secrets: secrets(config),
        known_secrets: known_secrets(config),
        dags,
        logs: Some(logs(config)?),
        ..RunnerOptions::new(&config.home)
    };
    Ok(Arc::new(Runner::new(store, registry, options)))
}

async fn to_its_end(runner: Arc<Runner>, run: RunId, services: &Services) -> Result<ExitCode> {
    let screen = tokio::spawn(progress::show(run, runner.events()));
    let interrupter = tokio::spawn(stop_on_signal(Arc::clone(&runner)));
    let alerts = runner.alerts();
    let outcome = runner.drive(run).await;
    if let Err(error) = alerts.tell_due(Timestamp::now()).await {
        warn!(%error, "alerts were not told; a server on this state database tells them");
    }
    interrupter.abort();
    if outcome.is_ok() {
        // The screen ends with the run; waiting lets its last lines out before the summary.
        let _ = screen.await;
    }
    let outcome = outcome?;
    report(&outcome, services).await
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
