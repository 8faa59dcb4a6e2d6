//! `make bench`: the speed and memory of Safari on this machine, side by side with simpler programs.
//!
//! Each section measures, prints a table and writes `target/bench/<section>.json`; `bench table` puts the tables into
//! `docs/benchmarks.md`, which says what is compared with what, and how.

mod backup;
mod bare;
mod error;
mod first;
mod forward;
mod http;
mod job;
mod kubernetes;
mod machine;
mod memory;
mod orchestrator;
mod peer;
mod photographs;
mod process;
mod registry;
mod results;
mod serving;
mod table;
mod turns;
mod workplace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Result;
use results::{Report, Row};
use workplace::Workplace;

/// Measures Safari side by side with simpler programs; run it from the repository's root, on a machine at rest.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Args {
    #[command(subcommand)]
    section: Option<Section>,
    #[command(flatten)]
    options: Options,
}

/// What all sections take.
#[derive(Debug, clap::Args)]
struct Options {
    /// Photographs of the section `job` [default: 2000, with --quick 60]
    #[arg(long, global = true, value_name = "N")]
    images: Option<usize>,
    /// Fewer photographs and rounds, to see that all works; the numbers say little
    #[arg(long, global = true)]
    quick: bool,
    /// Folder with the two original TorchScript files
    #[arg(long, global = true, value_name = "DIR", default_value = "../shared/models")]
    originals: PathBuf,
}

#[derive(Debug, Clone, Subcommand)]
enum Section {
    /// Every section (the default)
    All,
    /// Images a second of the whole job, a bare Rust loop and the Python peer
    Job,
    /// Peak memory of the job with few and with many photographs
    Memory,
    /// From the start of the process to the first detection
    First,
    /// The networks themselves against the original files
    Forward,
    /// DAGs of tasks that do nothing
    Orchestrator,
    /// The same DAGs on a PostgreSQL server
    Postgres,
    /// Tasks in pods beside bare Jobs, on a real control plane
    Kubernetes,
    /// The model registry beside MLflow's own server
    Registry,
    /// Live detections beside the bare loop
    Serving,
    /// Backups and their restoration beside bare programs
    Backup,
    /// The same DAGs beside Python orchestrators
    Peers,
    /// Write the measured tables into docs/benchmarks.md
    Table,
    /// The bare loop, as a process of its own
    #[command(hide = true)]
    Bare {
        /// Folder of JPEGs
        folder: PathBuf,
    },
    /// The bare server, as a process of its own
    #[command(hide = true)]
    BareServer {
        /// Port of the loopback address
        port: u16,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match execute(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(args: Args) -> Result<()> {
    let section = args.section.unwrap_or(Section::All);
    match &section {
        Section::Bare { folder } => return bare::run(folder),
        Section::BareServer { port } => return serving::bare::run(*port),
        _ => {}
    }
    let place = Workplace::find(args.options)?;
    match section {
        Section::Table => table::write(&place),
        Section::All => {
            measure(&place, "forward", forward::run)?;
            measure(&place, "first", first::run)?;
            measure(&place, "job", job::run)?;
            measure(&place, "memory", memory::run)?;
            measure(&place, "orchestrator", orchestrator::run)?;
            measure(&place, "postgres", orchestrator::run_on_postgres)?;
            measure(&place, "kubernetes", kubernetes::run)?;
            measure(&place, "registry", registry::run)?;
            measure(&place, "serving", serving::run)?;
            measure(&place, "backup", backup::run)?;
            measure(&place, "peers", orchestrator::run_peers)
        }
        Section::Orchestrator => measure(&place, "orchestrator", orchestrator::run),
        Section::Postgres => measure(&place, "postgres", orchestrator::run_on_postgres),
        Section::Kubernetes => measure(&place, "kubernetes", kubernetes::run),
        Section::Registry => measure(&place, "registry", registry::run),
        Section::Backup => measure(&place, "backup", backup::run),
        Section::Serving => measure(&place, "serving", serving::run),
        Section::Peers => measure(&place, "peers", orchestrator::run_peers),
        Section::Job => measure(&place, "job", job::run),
        Section::Memory => measure(&place, "memory", memory::run),
        Section::First => measure(&place, "first", first::run),
        Section::Forward | Section::Bare { .. } | Section::BareServer { .. } => {
            measure(&place, "forward", forward::run)
        }
    }
}

/// Runs one section, prints its table and saves it.
fn measure(place: &Workplace, section: &str, run: fn(&Workplace) -> Result<Vec<Row>>) -> Result<()> {
    eprintln!("{section}:");
    let report = Report::new(section, place, run(place)?);
    report.save(&place.root)?;
    println!("{}", table::render(&report));
    Ok(())
}
