//! `safari backfill`: runs of a DAG over a range of the past.

use std::process::ExitCode;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand, ValueEnum};
use pipeline::api::BackfillView;
use pipeline::ids::BackfillId;
use pipeline::state::{BackfillFilter, Rerun};
use platform::config::Config;

use crate::args::name_and_value;
use crate::backend::{Range, open};
use crate::error::{Error, Result};
use crate::runs::print;

const NOTES: &str =
    "A server makes the runs, the oldest first, and no more at once than --max-active; they do not count \
against the dag's max_active_runs. All of them have the version of the dag that is current now.

Examples:
  safari backfill nightly --from 2026-01-01 --to 2026-02-01
  safari backfill nightly --from 2026-01-01 --to 2026-02-01 --rerun failed --max-active 4
  safari backfill list";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = NOTES)]
pub(crate) struct BackfillArgs {
    #[command(subcommand)]
    command: Option<BackfillCommand>,
    /// Name of a DAG that a server has read
    #[arg(required = true)]
    dag: Option<String>,
    /// Data intervals that begin at or after this day or moment (UTC where it has no zone)
    #[arg(long, required = true, value_name = "TIME", value_parser = moment)]
    from: Option<DateTime<Utc>>,
    /// Data intervals that end at or before this day or moment [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<DateTime<Utc>>,
    /// Runs of the backfill that are queued or running at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    max_active: u32,
    /// Which intervals get a run
    #[arg(long, value_name = "WHICH", default_value = "missing")]
    rerun: Which,
    /// A parameter of the DAG; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE")]
    param: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// Those without a run
    Missing,
    /// Those without a run, and those whose runs all failed or were cancelled
    Failed,
    /// All
    All,
}

#[derive(Debug, Subcommand)]
enum BackfillCommand {
    /// List the newest backfills
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Only backfills of this DAG
        #[arg(long, value_name = "NAME")]
        dag: Option<String>,
    },
    /// Stop a backfill for good, and cancel its runs that have not ended
    Cancel {
        /// The backfill
        backfill: BackfillId,
    },
}

/// Makes, lists or cancels backfills.
pub(crate) async fn run(args: BackfillArgs, config: &Config) -> Result<ExitCode> {
    match args.command {
        Some(BackfillCommand::List { limit, dag }) => {
            list(&open(config).await?.backfills(&BackfillFilter { dag, state: None }, limit).await?)
        }
        Some(BackfillCommand::Cancel { backfill }) => list(&[open(config).await?.cancel_backfill(backfill).await?]),
        None => make(args, config).await,
    }
}

async fn make(args: BackfillArgs, config: &Config) -> Result<ExitCode> {
    // clap asks for both.
    let (Some(name), Some(start)) = (args.dag, args.from) else { return Ok(ExitCode::FAILURE) };
    let end = args.to.unwrap_or_else(Utc::now);
    if end <= start {
        return Err(Error::EmptyRange { start, end });
    }
    let given = args.param.iter().map(|text| name_and_value(text)).collect::<Result<Vec<_>>>()?;
    let rerun = match args.rerun {
        Which::Missing => Rerun::Missing,
        Which::Failed => Rerun::Failed,
        Which::All => Rerun::All,
    };
    let range = Range { start, end, rerun, max_active: args.max_active };
    print(&open(config).await?.backfill(&name, &range, &given).await?.to_string())
}

fn list(records: &[BackfillView]) -> Result<ExitCode> {
    let width = records.iter().map(|record| record.dag.len()).max().unwrap_or(0).max("DAG".len());
    print(&format!(
        "{:36}  {:width$}  {:9}  {:>6}  {:>6}  {:>6}  {:>7}  RANGE",
        "BACKFILL", "DAG", "STATE", "RUNS", "ACTIVE", "FAILED", "SKIPPED"
    ))?;
    for record in records {
        print(&format!(
            "{}  {:width$}  {:9}  {:6}  {:6}  {:6}  {:7}  {}",
            record.id,
            record.dag,
            record.state.as_str(),
            record.runs,
            record.active,
            record.failed,
            record.skipped,
            record.range()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `2026-01-31`, or a moment as RFC 3339 writes it.
pub(crate) fn moment(text: &str) -> std::result::Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|moment| moment.to_utc())
        .map_err(|_| "write a day as 2026-01-31 or a moment as 2026-01-31T18:00:00+02:00".to_owned())
}
