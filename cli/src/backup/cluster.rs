//! `safari backup cluster`.

use std::process::ExitCode;

use backup::cluster::{Cluster, Extent};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::HumanBytes;
use platform::config::Config;

use crate::backfill::moment;
use crate::error::Result;
use crate::model::table::Table;
use crate::model::{Format, print_json};
use crate::runs::print;

const NOTES: &str = "pgBackRest copies the files of the server in `backup.postgres_data` and is given its log, so that any moment comes \
back. Run it on the server's machine, as root or as the owner of its files.

Examples:
  safari backup cluster setup
  safari backup cluster run --type full
  safari backup cluster restore --at 2026-03-01T12:00:00Z --force";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Write pgBackRest's configuration, make its place, and print what the server's configuration needs
    Setup,
    /// Copy the server's files while it runs
    Run {
        /// How much of them
        #[arg(long = "type", value_enum, default_value_t = ExtentArg::Incr)]
        extent: ExtentArg,
    },
    /// List copies
    List {
        /// How it is told
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Restore the files of a server that is stopped
    Restore {
        /// As they were at this day or moment [default: the end of the archived log]
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<DateTime<Utc>>,
        /// Replace the files that are there
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExtentArg {
    /// All
    Full,
    /// What has changed since the last full copy
    Diff,
    /// What has changed since the last copy
    Incr,
}

pub(super) async fn run(args: ClusterArgs, config: &Config) -> Result<ExitCode> {
    let cluster = Cluster::of(config)?;
    match args.command {
        ClusterCommand::Setup => {
            for line in cluster.set_up().await? {
                print(&line)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        ClusterCommand::Run { extent } => {
            let extent = match extent {
                ExtentArg::Full => Extent::Full,
                ExtentArg::Diff => Extent::Diff,
                ExtentArg::Incr => Extent::Incr,
            };
            let copy = cluster.back_up(extent).await?;
            print(&format!("copy {} of {}", copy.label, HumanBytes(copy.bytes)))
        }
        ClusterCommand::List { format: Format::Json } => print_json(&cluster.list().await?),
        ClusterCommand::List { format: Format::Table } => {
            let mut table = Table::new(&["COPY", "TYPE", "ENDED", "SIZE", "STATE"]);
            for copy in cluster.list().await? {
                let state = if copy.damaged { "damaged" } else { "whole" };
                let (ended, size) = (copy.ended_at.to_string(), HumanBytes(copy.bytes).to_string());
                table.row(vec![copy.label, copy.extent, ended, size, state.to_owned()]);
            }
            print(&table.text())
        }
        ClusterCommand::Restore { at, force } => {
            cluster.restore(at, force).await?;
            print("the files are restored: start the server, which replays its log")
        }
    }
}
