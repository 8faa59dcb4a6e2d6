//! Child processes: their time and their peak memory.

use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::machine::{leading_number, value};

/// Time between two looks at a process's memory.
const POLL: Duration = Duration::from_millis(20);

/// Lines at the end of a failed program's messages that say why.
const LAST_LINES: usize = 8;

/// A child process that ended well.
#[derive(Debug)]
pub(crate) struct Ended {
    /// From before its start to after its end.
    pub(crate) seconds: f64,
    /// What it printed.
    pub(crate) stdout: String,
    /// Its messages.
    pub(crate) stderr: String,
}

/// Runs `command` to its end, and times it with the start of the process.
pub(crate) fn time(mut command: Command) -> Result<Ended> {
    let name = name(&command);
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(&name))?;
    let seconds = start.elapsed().as_secs_f64();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    check(&name, output.status, &stderr)?;
    Ok(Ended { seconds, stdout: String::from_utf8_lossy(&output.stdout).into_owned(), stderr })
}

/// Runs `command` to its end; the most memory that was resident, in bytes.
///
/// The kernel keeps the peak (`VmHWM`), so that only growth after the last look, 20 ms before the end, is missed.
pub(crate) fn peak_memory(mut command: Command) -> Result<u64> {
    let name = name(&command);
    let messages = tempfile::NamedTempFile::new().map_err(Error::io(std::env::temp_dir()))?;
    let stderr = messages.reopen().map_err(Error::io(messages.path()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().map_err(Error::io(&name))?;
    let file = format!("/proc/{}/status", child.id());
    let mut kilobytes = 0;
    let status = loop {
        let now = value(&file, "VmHWM").and_then(|text| leading_number(&text));
        kilobytes = kilobytes.max(now.unwrap_or(0));
        if let Some(status) = child.try_wait().map_err(Error::io(&name))? {
            break status;
        }
        thread::sleep(POLL);
    };
    check(&name, status, &fs::read_to_string(messages.path()).map_err(Error::io(messages.path()))?)?;
    Ok(kilobytes * 1024)
}

/// What the command starts.
pub(crate) fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// An error with the end of its messages, unless it ended well.
pub(crate) fn check(name: &str, status: ExitStatus, stderr: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = stderr.trim_end().lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    Err(Error::failed(name, format!("{status}\n{last}")))
}
