//! `safari run`: a DAG in this process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jobs::Services;
use pipeline::{Dag, RunOutcome, RunState, Runner, RunnerOptions, Start, Store};
use platform::config::Config;
use platform::database;
use tokio::signal;
use tracing::debug;

use crate::args::name_and_value;
use crate::error::{Error, Result};
use crate::{progress, summary};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The DAG file
    dag: PathBuf,
    /// A parameter of the DAG, such as source=data-samples; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE")]
    param: Vec<String>,
}

/// Starts the run, or goes on with one that was cut off, and drives it to its end.
pub(crate) async fn run(args: RunArgs, config: Config) -> Result<ExitCode> {
    let state = config.state_path();
    drive(args, config).await.map_err(|error| error.about_state(&state))
}

async fn drive(args: RunArgs, config: Config) -> Result<ExitCode> {
    let given = args.param.iter().map(|text| name_and_value(text)).collect::<Result<Vec<_>>>()?;
    let services = Arc::new(Services::new(config.clone()));
    let registry = jobs::registry(&services)?;
    let dag = Dag::load(&args.dag)?;
    let params = dag.params(&given)?;
    registry.check(&dag, Some(&params))?;

    let store = Store::open(database::open_sqlite(&config.state_path()).await?).await?;
    let options = RunnerOptions { parallelism: config.run.parallelism, ..RunnerOptions::new(&config.home) };
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
    let Ok(mut terminate) = signal::unix::signal(signal::unix::SignalKind::terminate()) else { return };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    debug!("stopping on request");
    runner.interrupt();
}
