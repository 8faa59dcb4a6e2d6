//! `safari dag …`: DAG files and what the server knows of them.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use jobs::Services;
use pipeline::Dag;
use platform::config::Config;

use crate::backend::open;
use crate::error::{Error, Result};
use crate::kubernetes;
use crate::registry::registry;
use crate::versions;

const DIFF_EXAMPLES: &str = "Examples:
  safari dag diff nightly
  safari dag diff nightly 3f2a91c0 9bc1e2d4
  safari dag diff nightly --file dags/nightly.yaml";

#[derive(Debug, Subcommand)]
pub(crate) enum DagCommand {
    /// Check DAG files: every mistake with its file, line and column
    Check {
        /// DAG files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of DAG files, for editors
    Schema,
    /// Print a DAG's tasks and what they need as a Mermaid flowchart
    Show {
        /// A DAG file
        file: PathBuf,
    },
    /// Print the Kubernetes Jobs of tasks that run in pods, as YAML; identifiers of a run stand as zeros
    Render {
        /// A DAG file
        file: PathBuf,
        /// Only of this task, wherever it runs
        #[arg(long)]
        task: Option<String>,
    },
    /// List the versions of a DAG: texts that its runs have had or that a server has read
    Versions {
        /// Name of the DAG
        name: String,
    },
    /// Show what differs between two versions of a DAG, or between the current one and a file
    #[command(after_help = DIFF_EXAMPLES)]
    Diff {
        /// Name of the DAG
        name: String,
        /// The older version: `current`, `previous` or the beginning of its name [default: previous]
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        from: Option<String>,
        /// The newer version [default: current]
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        to: Option<String>,
        /// Compare the current version, or FROM, with this file
        #[arg(long, conflicts_with = "to")]
        file: Option<PathBuf>,
    },
    /// Print the text of a version of a DAG
    Text {
        /// Name of the DAG
        name: String,
        /// The version: `current`, `previous` or the beginning of its name [default: current]
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        version: Option<String>,
    },
    /// List the DAGs that runs were made of or that a server reads
    List,
    /// Let the schedule of a DAG rest
    Pause {
        /// Name of the DAG
        name: String,
    },
    /// Let the schedule of a DAG go on
    Resume {
        /// Name of the DAG
        name: String,
    },
}

/// Does what the command says.
pub(crate) async fn run(command: DagCommand, config: Config) -> Result<ExitCode> {
    match command {
        DagCommand::Check { files } => check(&files, config),
        DagCommand::Schema => print(&serde_json::to_string_pretty(&pipeline::dag::schema()).unwrap_or_default()),
        DagCommand::Show { file } => print(Dag::load(&file)?.graph_text().trim_end()),
        DagCommand::Versions { name } => versions::list(&config, &name).await,
        DagCommand::Diff { name, from, to: _, file: Some(file) } => {
            versions::diff_with_file(&config, &name, from, &file).await
        }
        DagCommand::Diff { name, from, to, file: None } => versions::diff(&config, &name, from, to).await,
        DagCommand::Text { name, version } => versions::text(&config, &name, version).await,
        DagCommand::Render { file, task } => render(&file, task.as_deref(), config),
        DagCommand::List => list(&config).await,
        DagCommand::Pause { name } => pause(&config, &name, true).await,
        DagCommand::Resume { name } => pause(&config, &name, false).await,
    }
}

/// All files are checked before the command fails, so that one run of it shows all there is to mend.
fn check(files: &[PathBuf], config: Config) -> Result<ExitCode> {
    let registry = registry(&Arc::new(Services::new(config)))?;
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let checked = Dag::load(file).and_then(|dag| registry.check(&dag, None).map(|()| dag));
        match checked {
            Ok(dag) => {
                let tasks = dag.tasks().len();
                print(&format!("{}: dag {}, {tasks} tasks, no mistakes", file.display(), dag.name))?;
            }
            Err(error) => {
                eprintln!("{error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn render(file: &Path, task: Option<&str>, config: Config) -> Result<ExitCode> {
    let registry = registry(&Arc::new(Services::new(config.clone())))?;
    let dag = Dag::load(file)?;
    registry.check(&dag, None)?;
    if let Some(task) = task.filter(|task| dag.task(task).is_none()) {
        let names = dag.tasks().iter().map(|task| task.id.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::NoTask { dag: dag.name.clone(), task: task.to_owned(), names });
    }
    let text = kubernetes::render(&dag, task, &config)?;
    if text.is_empty() {
        eprintln!("no task of dag {} runs in a pod; name one with --task, or give it `executor: kubernetes`", dag.name);
        return Ok(ExitCode::SUCCESS);
    }
    stdout().lock().write_all(text.as_bytes()).map_err(Error::write("stdout"))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(config: &Config) -> Result<ExitCode> {
    let dags = open(config).await?.dags().await?;
    let width = dags.iter().map(|dag| dag.name.len()).max().unwrap_or(0).max("DAG".len());
    print(&format!("{:width$}  {:6}  {:8}  {:24}  FILE", "DAG", "ACTIVE", "SCHEDULE", "MADE RUNS UNTIL"))?;
    for dag in dags {
        let schedule = match (&dag.file, dag.paused) {
            (None, _) => "no file",
            (_, true) => "paused",
            (_, false) => "on",
        };
        let until = dag.done_until.map_or_else(|| "-".to_owned(), |until| until.to_string());
        let file = dag.file.unwrap_or_default();
        print(&format!("{:width$}  {:6}  {schedule:8}  {until:24}  {file}", dag.name, dag.active_runs))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn pause(config: &Config, name: &str, paused: bool) -> Result<ExitCode> {
    open(config).await?.pause(name, paused).await?;
    let how = if paused { "rests" } else { "goes on" };
    print(&format!("the schedule of {name} {how}"))
}

fn print(text: &str) -> Result<ExitCode> {
    writeln!(stdout(), "{text}").map_err(Error::write("stdout"))?;
    Ok(ExitCode::SUCCESS)
}
