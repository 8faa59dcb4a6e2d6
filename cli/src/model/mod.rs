//! `safari model`: registered models.

mod compare;
mod copy;
mod moves;
mod package;
mod register;
mod show;
pub(crate) mod table;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use model_registry::client::{Client, Progress, Source, Step};
use platform::config::Config;
use serde::Serialize;

use crate::error::Result;
use crate::progress::add_bar;
use crate::runs::print;

const NAMES: &str = "A version is written NAME@ALIAS, NAME/VERSION, or NAME for the newest; MLflow's models:/… and runs:/… \
are understood, too. Without `registry.url`, --registry or MLFLOW_TRACKING_URI the registry of this machine is asked, \
without a server.";

#[derive(Debug, Args)]
#[command(after_help = NAMES)]
pub(crate) struct ModelArgs {
    /// The server to ask [default: registry.url, MLFLOW_TRACKING_URI, or this machine's registry without a server]
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Make a version of a model folder, or of files that a run has logged
    Register(register::RegisterArgs),
    /// List registered models
    List(show::ListArgs),
    /// Show a model with its versions, or one version
    Show(show::ShowArgs),
    /// Fetch the files of a version and check them
    Download(register::DownloadArgs),
    /// Show two versions side by side: metrics, tags, signature, files
    Compare(compare::CompareArgs),
    /// Let an alias name a version, if its gates allow it
    Promote(moves::PromoteArgs),
    /// Let an alias name the version that it named before
    Rollback(moves::RollbackArgs),
    /// Show who moved aliases, when, why and past which gates
    History(moves::HistoryArgs),
    /// Say yes to a version, for gates that want approvals
    Approve(moves::ApproveArgs),
    /// Copy a model with its versions from one server to another
    Copy(copy::CopyArgs),
    /// Make a container image of a version and this program
    Package(package::PackageArgs),
    /// Remove a version, or a model with all its versions
    Delete(register::DeleteArgs),
}

/// How something is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Does what the command says.
pub(crate) async fn run(args: ModelArgs, config: Config) -> Result<ExitCode> {
    let config = asked(config, args.registry)?;
    match args.command {
        ModelCommand::Register(args) => register::register(args, &config).await,
        ModelCommand::List(args) => show::list(args, &config).await,
        ModelCommand::Show(args) => show::show(args, &config).await,
        ModelCommand::Download(args) => register::download(args, &config).await,
        ModelCommand::Compare(args) => compare::compare(args, &config).await,
        ModelCommand::Promote(args) => moves::promote(args, config).await,
        ModelCommand::Rollback(args) => moves::roll_back(args, &config).await,
        ModelCommand::History(args) => moves::history(args, &config).await,
        ModelCommand::Approve(args) => moves::approve(args, &config).await,
        ModelCommand::Copy(args) => copy::copy(args, &config).await,
        ModelCommand::Package(args) => package::package(args, &config).await,
        ModelCommand::Delete(args) => register::delete(args, &config).await,
    }
}

/// The settings with the server of the command line.
pub(crate) fn asked(mut config: Config, registry: Option<String>) -> Result<Config> {
    if let Some(url) = registry {
        let is_server = url.starts_with("http://") || url.starts_with("https://");
        if !is_server {
            return Err(crate::error::Error::NoRegistry(url));
        }
        config.registry.url = url;
    }
    Ok(config)
}

/// The registry, asked in the name of the person at this machine.
async fn open(config: &Config, name: Option<&str>, roles: &[String]) -> Result<Client> {
    let person = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let name = name.map_or_else(person, str::to_owned);
    Ok(Client::open(config).await?.acting_as(&name, roles))
}

/// What a person writes for a version.
pub(crate) fn source(text: &str) -> std::result::Result<Source, String> {
    text.parse().map_err(|error: model_registry::Error| error.to_string())
}

/// Prints a value for programs.
pub(crate) fn print_json(value: &impl Serialize) -> Result<ExitCode> {
    // What is printed is made of text and numbers, which always become JSON.
    print(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A bar of bytes above which lines of the log go; nothing where nobody looks.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(what: &str) -> Self {
        let bar = add_bar(ProgressBar::new(0));
        let style =
            ProgressStyle::with_template("{prefix:>8} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        Self(bar)
    }

    pub(crate) fn progress(&self) -> Progress {
        let bar = self.0.clone();
        Progress::new(move |step| match step {
            Step::Total(bytes) => bar.inc_length(bytes),
            Step::Bytes(bytes) => bar.inc(bytes),
            Step::Again(bytes) => bar.set_position(bar.position().saturating_sub(bytes)),
        })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
