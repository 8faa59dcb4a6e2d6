//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use platform::config::Config;

use crate::asset::AssetCommand;
use crate::attempt::AttemptCommand;
use crate::backfill::BackfillArgs;
use crate::backup::{BackupCommand, RestoreArgs};
use crate::cache::CacheCommand;
use crate::config::ConfigCommand;
use crate::dag::DagCommand;
use crate::error::Result;
use crate::history::HistoryCommand;
use crate::image::ImageArgs;
use crate::login::LoginArgs;
use crate::logs::LogsArgs;
use crate::migrate::MigrateArgs;
use crate::model::ModelArgs;
use crate::registry_server::RegistryArgs;
use crate::rollout::RolloutArgs;
use crate::runs::TriggerArgs;
use crate::serve::ServeArgs;
use crate::server::{ApiArgs, SchedulerArgs, ServerArgs, WorkerArgs};
use crate::stream::StreamCommand;
use crate::task::TaskCommand;
use crate::token::TokenCommand;
use crate::user::{RolesArgs, UserCommand};
use crate::{detect::DetectArgs, export::ExportArgs, run::RunArgs, sql::SqlArgs, train::TrainArgs};

const EXAMPLES: &str = "Examples:
  safari detect data-samples/savanna-waterhole --annotate boxes
  safari run dags/detect.yaml --param source=data-samples
  safari run dags/detect.yaml --param source=s3://camera-traps/2026
  safari sql \"select species, count(*) as n from observations group by species order by n desc\"
  safari export --format megadetector --output detections.json
  safari serve --model models:/wildlife@champion";

/// Finds wild animals in camera-trap photographs and videos, and answers questions about them.
#[derive(Debug, Parser)]
#[command(name = "safari", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Configuration file [default: safari.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "SAFARI_CONFIG")]
    config: Option<PathBuf>,
    /// Folder for state, tables and reports [default: safari-home]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Model folder; `serve` takes models:/NAME@ALIAS too [default: the one shipped with safari]
    #[arg(long, global = true, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Ask this server about runs, their logs, DAGs, backfills, assets and history, not the state database, such as
    /// http://127.0.0.1:8750
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Any setting of `safari config show`, such as --set detector.threshold=0.4
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a DAG to its end, or list, show, watch, cancel and resume runs; started again after a crash, a run goes on where it was
    Run(RunArgs),
    /// Make a run of a DAG that a server has read; the server begins it
    Trigger(TriggerArgs),
    /// Run a DAG over a range of the past; list and cancel such backfills
    Backfill(BackfillArgs),
    /// List and report updates of what DAGs wait for
    Asset {
        #[command(subcommand)]
        command: AssetCommand,
    },
    /// Do single tasks of a run again
    Task {
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// Do one attempt that an executor has claimed: what pods of the Kubernetes executor run
    #[command(hide = true)]
    Attempt {
        #[command(subcommand)]
        command: AttemptCommand,
    },
    /// Forget outputs that tasks with `cache` would take
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Show how continuous DAGs stand
    Stream {
        #[command(subcommand)]
        command: StreamCommand,
    },
    /// Show what the attempts of a run have written
    Logs(LogsArgs),
    /// Remove what ended long ago
    History {
        #[command(subcommand)]
        command: HistoryCommand,
    },
    /// Check, show and list DAGs and their versions; let their schedules rest and go on
    Dag {
        #[command(subcommand)]
        command: DagCommand,
    },
    /// Run DAGs by their schedules: scheduler and worker in one process
    Server(ServerArgs),
    /// Only answer the REST API
    Api(ApiArgs),
    /// Track experiments and keep models: a server for clients of MLflow
    Registry(RegistryArgs),
    /// Registered models: register, show, compare, promote, copy, package them
    Model(ModelArgs),
    /// Bring a version of a model to serving replicas step by step, watched; pause, abort and undo that
    Rollout(RolloutArgs),
    /// People who may ask servers: add, list, disable them, change passwords and roles
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Tokens of people and services: make, list, revoke them
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Show what each role may do
    Roles(RolesArgs),
    /// Log in to a server: keeps a token for it in the home
    Login(LoginArgs),
    /// Bring the tables of the databases up to date
    Migrate(MigrateArgs),
    /// Back up databases, models and tables; list, verify, remove and try out backups
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Put a backup in the place of what is there, or beside it
    Restore(RestoreArgs),
    /// Make a container image of this program, without Docker
    Image(ImageArgs),
    /// Only decide when runs are made and begin; workers do the tasks
    Scheduler(SchedulerArgs),
    /// Only do tasks, of any run in the shared state database
    Worker(WorkerArgs),
    /// Answer requests for detections as they come: HTTP, WebSocket, and the Open Inference Protocol
    Serve(ServeArgs),
    /// Look at files right away: print boxes and species, draw them with --annotate
    Detect(DetectArgs),
    /// Ask the tables media, detections and observations
    Sql(SqlArgs),
    /// Write the tables in an exchange format
    Export(ExportArgs),
    /// Fit the liquid network, which judges bursts, to photographs
    Train(TrainArgs),
    /// Show settings and where each comes from
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Args {
    /// The configuration of file, environment and flags.
    pub(crate) fn configuration(&self) -> Result<Config> {
        let mut flags: Vec<(String, String)> = Vec::new();
        for setting in &self.set {
            flags.push(name_and_value(setting)?);
        }
        if let Some(server) = &self.server {
            flags.push(("server.url".to_owned(), server.clone()));
        }
        let mut path = |key: &str, value: &Option<PathBuf>| {
            if let Some(value) = value {
                flags.push((key.to_owned(), value.to_string_lossy().into_owned()));
            }
        };
        path("home", &self.home);
        path("model", &self.model);
        Ok(Config::load(self.config.as_deref(), &flags)?)
    }
}

/// Splits `name=value`.
pub(crate) fn name_and_value(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(crate::error::Error::Param(text.to_owned())),
    }
}
