//! What the numbers were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The machine of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Name of the processor.
    pub(crate) processor: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Main memory in GiB.
    pub(crate) memory_gib: f64,
}

impl Machine {
    /// This machine.
    pub(crate) fn here() -> Self {
        let processor = value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
        let kilobytes = value("/proc/meminfo", "MemTotal").and_then(|text| leading_number(&text)).unwrap_or(0);
        Self { processor, cores: cores(), memory_gib: (kilobytes as f64 / 1_048_576.0 * 10.0).round() / 10.0 }
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// The checked-out commit, with `-dirty` where files differ from it; `unknown` without git.
pub(crate) fn commit(root: &Path) -> String {
    let Some(commit) = git(root, &["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    match git(root, &["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}-dirty"),
    }
}

/// The number that `text`, such as `123 kB`, begins with.
pub(crate) fn leading_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// What stands behind `key:` in a file of `/proc`.
pub(crate) fn value(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Seconds of the processor that a process has taken; 0 if it has ended.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
    // The kernel counts in hundredths of a second.
    ticks as f64 / 100.0
}

/// Seconds in which other machines had this one's processor, since it started; 0 where the kernel does not say.
pub(crate) fn stolen_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = text.lines().next().unwrap_or_default();
    // Behind the word: user, nice, system, idle, iowait, irq, softirq, steal.
    let ticks: u64 = all.split_whitespace().nth(8).and_then(|ticks| ticks.parse().ok()).unwrap_or(0);
    ticks as f64 / 100.0
}

/// MiB of memory of a process; a page that several share counts in parts (`Pss`).
pub(crate) fn mebibytes(pid: u32) -> f64 {
    let pss = value(&format!("/proc/{pid}/smaps_rollup"), "Pss:").and_then(|text| leading_number(&text));
    pss.unwrap_or(0) as f64 / 1024.0
}

/// All processes of a session: the sixth field of `/proc/PID/stat`.
pub(crate) fn of_session(session: u32) -> Result<Vec<u32>> {
    let proc = Path::new("/proc");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proc).map_err(Error::io(proc))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        if rest.split_whitespace().nth(3) == Some(session.to_string().as_str()) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(root).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
