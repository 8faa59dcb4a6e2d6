//! `safari logs`: what attempts have written, to the end or as it comes.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;
use pipeline::RunId;
use pipeline::logs::{RunLine, Wanted};
use platform::config::Config;

use crate::backend::open;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run
    run: RunId,
    /// One of its tasks [default: all, in the order of time]
    task: Option<String>,
    /// An item of a mapped task [default: all]
    #[arg(long, value_name = "N", requires = "task")]
    map_index: Option<u32>,
    /// An attempt [default: the last]
    #[arg(long, value_name = "N", requires = "task")]
    attempt: Option<u32>,
    /// Go on with lines that come, until what is shown has ended
    #[arg(long, short)]
    follow: bool,
    /// JSON lines
    #[arg(long)]
    json: bool,
}

/// Prints the lines.
pub(crate) async fn run(args: LogsArgs, config: &Config) -> Result<ExitCode> {
    let LogsArgs { run, task, map_index, attempt, follow, json } = args;
    let wanted = Wanted { run, task, map_index, attempt, follow };
    let mut lines = open(config).await?.logs(wanted).await?;
    let written = Error::write("stdout");
    while let Some(line) = lines.next().await? {
        let text = if json { serde_json::to_string(&line).unwrap_or_default() } else { shown(&line) };
        if let Err(error) = writeln!(stdout(), "{text}") {
            return Err(written(error));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `TIME task[index] stream: message`.
fn shown(line: &RunLine) -> String {
    let RunLine { task, map_index, line, .. } = line;
    let index = map_index.map(|index| format!("[{index}]")).unwrap_or_default();
    let stream = match &line.level {
        Some(level) => level.clone(),
        None => line.stream.to_string(),
    };
    format!("{} {task}{index} {stream:6} {}", line.time, line.message)
}
