//! `safari backup` and `safari restore`.

mod cluster;
mod drill;
mod restore;
mod show;

use std::process::ExitCode;
use std::sync::Arc;

use backup::retention::Policy;
use backup::{BackupId, Places, Progress, Pruned, Repository, Step, What};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use platform::config::Config;

use crate::error::Result;
use crate::model::{Format, print_json};
use crate::progress::add_bar;
use crate::runs::print;

pub(crate) use restore::{RestoreArgs, finish_interrupted, restore};

const NOTES: &str =
    "Backups are kept in `backup.url`, encrypted for `backup.recipients` if there are any. What did not change \
since the backup before is not written again. Logs of attempts are not in them.

Examples:
  safari backup all
  safari backup all --prune
  safari backup list
  safari backup prune --dry-run
  safari restore all --dry-run";

#[derive(Debug, Subcommand)]
#[command(after_help = NOTES)]
pub(crate) enum BackupCommand {
    /// Back up the databases of runs, the registry, identity and collections
    Db(CreateArgs),
    /// Back up the registry: its database and its files
    Models(CreateArgs),
    /// Back up what databases name: the registry's files and photographs of collections
    Files(CreateArgs),
    /// Back up the Delta tables
    Tables(CreateArgs),
    /// Back up everything: databases, models, tables, photographs of collections
    All(CreateArgs),
    /// List backups: size, age, whether they were verified
    List(ListArgs),
    /// Read a backup and compare it with its checksums
    Verify(VerifyArgs),
    /// Remove backups that `backup.keep_*` do not keep, and pieces that no backup needs
    Prune(PruneArgs),
    /// Restore the newest backup into a scratch place, look whether it works, and remove it again
    Drill(drill::DrillArgs),
    /// Back up a whole PostgreSQL server with its log, by pgBackRest, and restore it at any moment
    Cluster(cluster::ClusterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Remove backups that `backup.keep_*` do not keep afterwards, as `safari backup prune` does
    #[arg(long)]
    prune: bool,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The backup [default: the newest]
    backup: Option<BackupId>,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is backed up or restored together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhatArg {
    /// The databases
    Db,
    /// The registry: its database and its files
    Models,
    /// The registry's files and photographs of collections, without databases
    Files,
    /// The Delta tables
    Tables,
    /// Everything
    All,
}

impl WhatArg {
    fn what(self) -> What {
        match self {
            Self::Db => What::Db,
            Self::Models => What::Models,
            Self::Files => What::Files,
            Self::Tables => What::Tables,
            Self::All => What::All,
        }
    }
}

/// Does what the command says.
pub(crate) async fn run(command: BackupCommand, config: Config) -> Result<ExitCode> {
    match command {
        BackupCommand::Db(args) => create(What::Db, args, &config).await,
        BackupCommand::Models(args) => create(What::Models, args, &config).await,
        BackupCommand::Files(args) => create(What::Files, args, &config).await,
        BackupCommand::Tables(args) => create(What::Tables, args, &config).await,
        BackupCommand::All(args) => create(What::All, args, &config).await,
        BackupCommand::List(args) => show::list(args.format, &config).await,
        BackupCommand::Verify(args) => verify(args, &config).await,
        BackupCommand::Prune(args) => prune(args, &config).await,
        BackupCommand::Drill(args) => drill::drill(args, config).await,
        BackupCommand::Cluster(args) => cluster::run(args, &config).await,
    }
}

async fn create(what: What, args: CreateArgs, config: &Config) -> Result<ExitCode> {
    let (repository, places) = (Repository::of(config).await?, Places::of(config)?);
    let bar = Bar::new();
    let created = backup::create(&repository, &places, what, &bar.progress()).await?;
    drop(bar);
    let pruned = match args.prune {
        true => Some(backup::prune(&repository, Policy::of(&config.backup), false).await?),
        false => None,
    };
    match args.format {
        Format::Json => print_json(&show::view(&created.manifest, Some(&created.verified), None)),
        Format::Table => {
            let manifest = &created.manifest;
            print(&show::parts(manifest))?;
            print(&format!(
                "backup {} of {what}: {} in {}, {} written, verified",
                manifest.id,
                HumanBytes(manifest.bytes),
                repository.place(),
                HumanBytes(manifest.written),
            ))?;
            match pruned {
                Some(pruned) => tell_pruned(&pruned, false),
                None => Ok(ExitCode::SUCCESS),
            }
        }
    }
}

async fn verify(args: VerifyArgs, config: &Config) -> Result<ExitCode> {
    let repository = Repository::of(config).await?;
    let id = match args.backup {
        Some(id) => id,
        None => match repository.list().await?.into_iter().next() {
            Some(newest) => newest.id,
            None => return print("there are no backups"),
        },
    };
    let bar = Bar::new();
    let verified = backup::verify(&repository, &id, &bar.progress()).await?;
    drop(bar);
    match args.format {
        Format::Json => print_json(&serde_json::json!({"id": id, "verified": verified})),
        Format::Table => {
            let depth =
                if verified.opened { "each piece was unpacked and compared" } else { "as stored: no key was given" };
            print(&format!("backup {id} is whole: {} pieces were read, {depth}", verified.read))
        }
    }
}

async fn prune(args: PruneArgs, config: &Config) -> Result<ExitCode> {
    let repository = Repository::of(config).await?;
    let pruned = backup::prune(&repository, Policy::of(&config.backup), args.dry_run).await?;
    match args.format {
        Format::Json => print_json(&pruned),
        Format::Table => tell_pruned(&pruned, args.dry_run),
    }
}

fn tell_pruned(pruned: &Pruned, dry_run: bool) -> Result<ExitCode> {
    let verb = if dry_run { "would be removed" } else { "is removed" };
    for id in &pruned.removed {
        print(&format!("{id} {verb}"))?;
    }
    print(&format!(
        "{} backups and {} pieces ({}) {}, {} backups stay",
        pruned.removed.len(),
        pruned.blobs,
        HumanBytes(pruned.bytes),
        if dry_run { "would go" } else { "went" },
        pruned.kept.len(),
    ))
}

/// A line on a terminal that says what is done and how fast; nothing where nobody looks.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = add_bar(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:>12} {bytes} {bytes_per_sec} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        Self(bar)
    }

    fn progress(&self) -> Progress {
        let bar = self.0.clone();
        Progress::new(move |step| match step {
            Step::Doing(what) => bar.set_prefix(what.to_owned()),
            Step::Bytes(bytes) => bar.inc(bytes),
        })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The services of jobs, for what they share with commands.
fn services(config: &Config) -> Arc<jobs::Services> {
    Arc::new(jobs::Services::new(config.clone()))
}
