//! Python orchestrators: `scripts/bench/orchestrators.py`, each in its own virtual environment.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;

use crate::process;
use crate::workplace::Workplace;

const SCRIPT: &str = "scripts/bench/orchestrators.py";
/// Their names, and those of their environments.
const PEERS: [(&str, &str); 4] =
    [("dagster", "dagster"), ("prefect", "prefect"), ("airflow", "airflow"), ("airflow-standalone", "airflow")];

/// What the script prints.
#[derive(Debug, Deserialize)]
pub(super) struct Peer {
    /// Name and version.
    pub(super) peer: String,
    /// Seconds of each round, by workload; none of one that was given up.
    pub(super) workloads: BTreeMap<String, Vec<f64>>,
    /// Seconds of whole processes that run one task.
    #[serde(default)]
    pub(super) cold_start: Vec<f64>,
    /// How it was run.
    #[serde(default)]
    pub(super) notes: Vec<String>,
}

/// A peer's numbers, or why there are none and what to do.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) result: std::result::Result<Peer, String>,
}

/// Runs every peer that is installed.
pub(super) fn measure(place: &Workplace, rounds: usize) -> Vec<Measured> {
    let one = |(name, environment): &(&str, &str)| {
        eprintln!("  {name}");
        Measured { name: (*name).to_owned(), result: run(place, name, environment, rounds) }
    };
    PEERS.iter().map(one).collect()
}

fn run(place: &Workplace, name: &str, environment: &str, rounds: usize) -> std::result::Result<Peer, String> {
    let python = place.root.join(format!(".venv-bench-{environment}/bin/python"));
    if !python.exists() {
        return Err("not installed; run scripts/setup-orchestrators".to_owned());
    }
    let mut command = Command::new(python);
    command.current_dir(&place.root).args([SCRIPT, name, "--repeats", &rounds.to_string()]);
    let ended = process::time(command).map_err(|error| error.to_string())?;
    serde_json::from_str(&ended.stdout).map_err(|error| format!("its answer is not as expected: {error}"))
}
