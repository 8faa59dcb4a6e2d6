//! `safari restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use backup::restore::{self, Choice, Plan};
use backup::{BackupId, Places, Repository};
use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::HumanBytes;
use platform::config::Config;
use serde_json::json;

use super::{Bar, WhatArg};
use crate::backfill::moment;
use crate::error::{Error, Result};
use crate::model::table::Table;
use crate::model::{Format, print_json};
use crate::runs::print;

const NOTES: &str =
    "Stop servers, schedulers and workers first: a database that somebody uses is not replaced. Everything is \
fetched and checked before anything is replaced, and then exchanged at once.

Examples:
  safari restore all --dry-run
  safari restore all --force
  safari restore db --at 2026-03-01T12:00:00Z --force
  safari restore files --after 2026-03-01T12:00:00Z
  safari restore tables --to /tmp/yesterday";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct RestoreArgs {
    /// What to restore
    #[arg(value_enum)]
    what: WhatArg,
    /// The backup [default: the newest that was verified]
    #[arg(long, value_name = "ID", conflicts_with = "at")]
    backup: Option<BackupId>,
    /// The newest verified backup that was begun by this day or moment (UTC where it has no zone)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<DateTime<Utc>>,
    /// The oldest verified backup that was begun at this moment or later: it has all files that databases of that moment name,
    /// as `safari backup cluster restore --at` brings them back
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["backup", "at"])]
    after: Option<DateTime<Utc>>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Make a home in this folder, which must not exist or be empty, and replace nothing
    #[arg(long, value_name = "DIR", conflicts_with = "force")]
    to: Option<PathBuf>,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does what the command says.
pub(crate) async fn restore(args: RestoreArgs, config: &Config) -> Result<ExitCode> {
    let repository = Repository::of(config).await?;
    let places = match &args.to {
        Some(folder) => empty_home(folder)?,
        None => Places::of(config)?,
    };
    let choice = match (args.backup, args.at, args.after) {
        (Some(id), ..) => Choice::Id(id),
        (None, Some(at), _) => Choice::At(at),
        (None, None, Some(after)) => Choice::After(after),
        (None, None, None) => Choice::Newest,
    };
    let plan = restore::plan(&repository, &places, args.what.what(), &choice).await?;
    if args.dry_run {
        return tell(&plan, args.format, "would be restored");
    }
    let bar = Bar::new();
    restore::restore(&repository, &places, &plan, args.force, &bar.progress()).await?;
    drop(bar);
    tell(&plan, args.format, "is restored")
}

/// Goes on with a restoration in which a process died while things were exchanged.
pub(crate) async fn finish_interrupted(config: &Config) -> Result<()> {
    if restore::finish_interrupted(&Places::of(config)?).await? {
        eprintln!("a restoration that was interrupted has been finished");
    }
    Ok(())
}

fn empty_home(folder: &std::path::Path) -> Result<Places> {
    let is_empty = std::fs::read_dir(folder).map_or(!folder.exists(), |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(Error::Backup(backup::Error::NotEmpty { path: folder.to_owned() }));
    }
    let absolute = std::path::absolute(folder).map_err(Error::write(folder))?;
    Ok(Places::in_folder(&absolute))
}

fn tell(plan: &Plan, format: Format, what_happens: &str) -> Result<ExitCode> {
    if format == Format::Json {
        let items = plan.items.iter().map(|item| {
            json!({"part": item.part.name, "to": item.target.name(), "replaces": item.replaces,
                "files": item.part.files, "bytes": item.part.bytes})
        });
        let backup = &plan.manifest;
        return print_json(
            &json!({"backup": backup.id, "began_at": backup.began_at, "parts": items.collect::<Vec<_>>()}),
        );
    }
    let mut table = Table::new(&["PART", "FILES", "SIZE", "REPLACES", "TO"]);
    for item in &plan.items {
        let replaces = if item.replaces { "yes" } else { "no" };
        table.row(vec![
            item.part.name.to_string(),
            item.part.files.to_string(),
            HumanBytes(item.part.bytes).to_string(),
            replaces.to_owned(),
            item.target.name(),
        ]);
    }
    print(&table.text())?;
    let began = plan.manifest.began_at.format("%Y-%m-%d %H:%M:%S UTC");
    print(&format!("backup {} of {began} {what_happens}", plan.manifest.id))
}
