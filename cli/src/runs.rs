//! `safari run list`, `show`, `watch`, `resume` and `cancel`, and `safari trigger`.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use pipeline::api::RunView;
use pipeline::state::{Again, RunFilter};
use pipeline::{RunCause, RunId, RunState, Timestamp};
use platform::config::Config;

use crate::args::name_and_value;
use crate::backend::{open, open_store};
use crate::error::{Error, Result};
use crate::run::drive_again;
use crate::watch;

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// List the newest runs
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Only runs of this DAG
        #[arg(long, value_name = "NAME")]
        dag: Option<String>,
        /// Only runs in this state
        #[arg(long, value_parser = names(&RunState::ALL))]
        state: Option<String>,
        /// Only runs that this has started
        #[arg(long, value_parser = names(&RunCause::ALL))]
        cause: Option<String>,
    },
    /// Show the tasks of a run
    Show {
        /// The run
        run: RunId,
    },
    /// Follow runs: a line for each change. Of one run until it ends; then exit code 1 unless it succeeded
    Watch {
        /// The run [default: all runs]
        run: Option<RunId>,
        /// Only runs of this DAG
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        dag: Option<String>,
    },
    /// Let a run that failed or was cancelled go on: what did not succeed is done again, and all that comes after it
    Resume {
        /// The run
        run: RunId,
        /// Drive it in this process, not by a server
        #[arg(long)]
        here: bool,
    },
    /// Stop a run for good: what has not begun is cancelled, what is under way is told to stop
    Cancel {
        /// The run
        run: RunId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// Name of a DAG that a server has read
    dag: String,
    /// A parameter of the DAG; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE")]
    param: Vec<String>,
}

/// Does what the command says.
pub(crate) async fn run(command: RunCommand, config: &Config) -> Result<ExitCode> {
    match command {
        RunCommand::Resume { run, here } => resume(config, run, here).await,
        RunCommand::List { limit, dag, state, cause } => {
            let state = state.and_then(|name| named(&RunState::ALL, &name));
            let cause = cause.and_then(|name| named(&RunCause::ALL, &name));
            list(open(config).await?.runs(&RunFilter { dag, state, cause }, limit).await?)
        }
        RunCommand::Show { run } => show(config, run).await,
        RunCommand::Watch { run: Some(run), .. } => watch::one(config, run).await,
        RunCommand::Watch { run: None, dag } => watch::all(config, dag).await,
        RunCommand::Cancel { run } => {
            let state = open(config).await?.cancel(run).await?.state;
            let how = if state.is_finished() { state.to_string() } else { "stopping".to_owned() };
            print(&format!("run {run} {how}"))
        }
    }
}

/// Makes a run that a server begins when it is its turn.
pub(crate) async fn trigger(args: TriggerArgs, config: &Config) -> Result<ExitCode> {
    let given = args.param.iter().map(|text| name_and_value(text)).collect::<Result<Vec<_>>>()?;
    print(&open(config).await?.trigger(&args.dag, &given).await?.to_string())
}

async fn resume(config: &Config, run: RunId, here: bool) -> Result<ExitCode> {
    if !here {
        open(config).await?.reopen(run, Again::Failed).await?;
        return print(&format!("run {run} is queued again"));
    }
    if !config.server.url.is_empty() {
        return Err(Error::HereAndServer);
    }
    open_store(config).await?.reopen(run, Again::Failed, Timestamp::now()).await?;
    drive_again(run, config.clone()).await
}

fn list(runs: Vec<RunView>) -> Result<ExitCode> {
    let width = runs.iter().map(|run| run.dag.len()).max().unwrap_or(0).max("DAG".len());
    print(&format!("{:36}  {:width$}  {:8}  {:23}  {:24}  TOOK", "RUN", "DAG", "CAUSE", "STATE", "MADE"))?;
    for run in runs {
        let took = run.started_at.zip(run.finished_at).map(|(start, end)| took(end.since(start)));
        print(&format!(
            "{}  {:width$}  {:8}  {:23}  {}  {}",
            run.id,
            run.dag,
            run.cause.as_str(),
            run.state.to_string(),
            run.created_at,
            took.unwrap_or_default()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(config: &Config, run: RunId) -> Result<ExitCode> {
    let shown = open(config).await?.run(run).await?;
    let (record, tasks) = (shown.run, shown.tasks);
    print(&format!("run {run} of {}: {}, {}", record.dag, record.state, record.cause.as_str()))?;
    if let Some(interval) = record.interval() {
        print(&format!("data interval {interval}"))?;
    }
    if let Some(error) = &record.error {
        print(&format!("error: {error}"))?;
    }
    let width = tasks.iter().map(|task| task.task.len()).max().unwrap_or(0).max("TASK".len());
    print(&format!("\n{:width$}  {:15}  {:11}  {:8}  {:>9}  ", "TASK", "STATE", "DONE", "ATTEMPTS", "TOOK"))?;
    for task in tasks {
        let time = task.started_at.zip(task.finished_at).map(|(start, end)| took(end.since(start)));
        let done = format!("{} of {}", task.succeeded, task.instances);
        let words = task.error.unwrap_or(task.summary);
        print(&format!(
            "{:width$}  {:15}  {done:11}  {:8}  {:>9}  {words}",
            task.task,
            task.state.to_string(),
            task.attempts,
            time.unwrap_or_default()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn took(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn names<T>(all: &[(T, &'static str)]) -> PossibleValuesParser {
    PossibleValuesParser::new(all.iter().map(|(_, name)| *name))
}

fn named<T: Copy>(all: &[(T, &'static str)], name: &str) -> Option<T> {
    all.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}

pub(crate) fn print(text: &str) -> Result<ExitCode> {
    writeln!(stdout(), "{}", text.trim_end()).map_err(Error::write("stdout"))?;
    Ok(ExitCode::SUCCESS)
}
