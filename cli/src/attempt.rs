//! `safari attempt run`: one attempt that an executor has claimed, in this process. It is what a pod of the Kubernetes
//! executor runs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use jobs::Services;
use pipeline::{AttemptId, Runner, RunnerOptions, Store, Ticket};
use platform::config::Config;
use tracing::{info, warn};

use crate::backend::open_store;
use crate::error::Result;
use crate::registry::{known_secrets, logs, registry, secrets};
use crate::signals::Signals;

/// How long a database that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum AttemptCommand {
    /// Do an attempt to its end; one that has ended, or that another process does, is left alone
    Run(AttemptArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AttemptArgs {
    /// The attempt
    attempt: AttemptId,
    /// Its number, the fencing token
    #[arg(long)]
    number: u32,
    /// Key of the owner that has claimed it
    #[arg(long, value_name = "KEY")]
    claimed_by: String,
    /// Name of the pod that this process runs in
    #[arg(long)]
    pod: String,
}

/// Runs the command.
pub(crate) async fn run(command: AttemptCommand, config: Config) -> Result<ExitCode> {
    let AttemptCommand::Run(args) = command;
    let mut signals = Signals::new()?;
    let store = tokio::select! {
        store = open(&config) => store?,
        // Nothing was taken over: another pod can.
        () = signals.next() => return Ok(ExitCode::FAILURE),
    };
    let runner = Arc::new(runner(store, &config)?);
    let told = Arc::clone(&runner);
    let listening = tokio::spawn(async move {
        signals.next().await;
        info!("told to stop; the attempt is given back");
        told.interrupt();
    });
    let ticket = Ticket { attempt: args.attempt, number: args.number, claimed_by: args.claimed_by };
    let ran = runner.run_attempt(&ticket, &args.pod).await;
    listening.abort();
    if !ran? {
        info!(attempt = %ticket.attempt, "the attempt has ended or another process does it; nothing to do here");
    }
    Ok(ExitCode::SUCCESS)
}

fn runner(store: Store, config: &Config) -> Result<Runner> {
    let registry = registry(&Arc::new(Services::new(config.clone())))?;
    let options = RunnerOptions {
        logs: Some(logs(config)?),
        parallelism: 1,
        lease: Duration::from_secs(config.run.lease_seconds),
        exclusive: false,
        secrets: secrets(config),
        known_secrets: known_secrets(config),
        ..RunnerOptions::new(&config.home)
    };
    Ok(Runner::new(store, registry, options))
}

/// Opens the state; a database that is away for a moment costs no attempt.
async fn open(config: &Config) -> Result<Store> {
    let began = Instant::now();
    loop {
        match open_store(config).await {
            Err(error) if began.elapsed() < PATIENCE => warn!(%error, "waiting for the state database"),
            opened => return opened,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
