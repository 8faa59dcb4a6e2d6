//! The job `command`: runs a program, in a process group of its own.
//!
//! What the program writes goes to the log line by line as it comes, in bounded memory. Its environment holds what it is
//! meant to have and nothing else of the server's. Whatever ends the attempt, the exit of the program, a request to
//! stop or the loss of the attempt, nothing of the process group stays behind.

mod capture;
mod codes;
mod environment;
mod group;
mod output;
mod settings;

use std::io;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use pipeline::{Job, JobContext, JobError, JobOutput, Masker};
use platform::error::root_cause;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};

use crate::log::{MaskedLog, Stream};
use crate::text;
use crate::with::Templates;

use capture::Capture;
use codes::Verdict;
use group::{Ending, Group};
use output::OutputFile;
use settings::Settings;

/// The job kind `command`. Output: the JSON value of the program's last line or of the file `$SAFARI_OUTPUT`.
#[derive(Clone)]
pub struct CommandJob {
    masker: Masker,
}

impl CommandJob {
    /// A job whose programs write to the log of their attempt; lines, errors and outputs pass `masker` first.
    pub fn new(masker: Masker) -> Self {
        Self { masker }
    }

    async fn attempt(&self, context: &JobContext, with: &Value, masker: &Masker) -> Result<JobOutput, JobError> {
        let settings = Settings::read(with, Templates::Rendered).map_err(JobError::permanent)?;
        if context.cancel.is_cancelled() {
            return Err(JobError::interrupted());
        }
        let file = OutputFile::create(&context.work_dir)?;
        let mut group = self.start(context, &settings, &file)?;
        let log = MaskedLog { log: Arc::clone(&context.log), masker: masker.clone() };
        let mut stdout = Capture::new(Stream::Stdout, &log);
        let mut stderr = Capture::new(Stream::Stderr, &log);
        let pipes = group.take_pipes();
        let traffic = async {
            tokio::join!(
                feed(pipes.stdin, settings.stdin.as_deref()),
                stdout.read(pipes.stdout),
                stderr.read(pipes.stderr)
            );
        };
        let ended = group::attend(group, traffic, &context.cancel, settings.grace, &log).await;
        stdout.finish();
        stderr.finish();
        match ended.map_err(|error| JobError::transient(format!("lost sight of the program: {error}")))? {
            Ending::Cancelled => Err(JobError::interrupted()),
            Ending::Exited(status) => match codes::judge(status, &settings.codes) {
                Verdict::Success => {
                    let value = output::value(settings.output, file, &stdout)?;
                    Ok(JobOutput::new(value))
                }
                Verdict::Skipped(code) => {
                    let summary = format!("skipped (exit code {code})");
                    Ok(JobOutput { summary, ..JobOutput::default() })
                }
                Verdict::Failed(mut error) => {
                    error.message = format!("{} {}{}", settings.name(), error.message, last_words(&stderr, &stdout));
                    Err(error)
                }
            },
        }
    }

    fn start(&self, context: &JobContext, settings: &Settings, file: &OutputFile) -> Result<Group, JobError> {
        if let Some(cwd) = settings.cwd.as_deref().filter(|cwd| !cwd.is_dir()) {
            let message = format!("`cwd` {} is no folder: make it, or correct the path", cwd.display());
            return Err(JobError::permanent(message));
        }
        let [program, arguments @ ..] = settings.program.as_slice() else {
            return Err(JobError::permanent("`command` is empty: give a program and its arguments"));
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment::environment(context, settings, file.path()));
        command.stdin(if settings.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(cwd) = &settings.cwd {
            command.current_dir(cwd);
        }
        Group::start(command).map_err(|error| not_started(program, &error))
    }
}

#[async_trait]
impl Job for CommandJob {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        let masker = self.masker.join(&context.masker);
        let result = self.attempt(&context, &with, &masker).await;
        masker.mask_result(result)
    }
}

/// Writes the program's input and closes it. A program need not read it, so that a broken pipe is no failure.
async fn feed(pipe: Option<ChildStdin>, input: Option<&[u8]>) {
    let (Some(mut pipe), Some(input)) = (pipe, input) else { return };
    drop(pipe.write_all(input).await);
}

/// What the program said at its end: on standard error, or else on standard output.
fn last_words(stderr: &Capture<'_>, stdout: &Capture<'_>) -> String {
    [stderr, stdout]
        .into_iter()
        .map(|capture| (capture.stream(), text::one_line(capture.tail())))
        .find(|(_, words)| !words.is_empty())
        .map_or_else(
            || "; it wrote nothing".to_owned(),
            |(stream, words)| format!("; the end of its {stream}: {words}"),
        )
}

fn not_started(program: &str, error: &io::Error) -> JobError {
    let reason = root_cause(error);
    let message = |advice: &str| format!("cannot start `{program}` ({reason}): {advice}");
    match error.kind() {
        io::ErrorKind::NotFound => JobError::permanent(message(
            "install it or give its full path; for a script, check the interpreter in its first line",
        )),
        io::ErrorKind::PermissionDenied => {
            JobError::permanent(message("make it executable (chmod +x), and check the rights on its folder"))
        }
        io::ErrorKind::ArgumentListTooLong => {
            JobError::permanent(message("pass large values through `stdin` instead of arguments and `env`"))
        }
        io::ErrorKind::InvalidInput => {
            JobError::permanent(message("a NUL character is in its name, its arguments or its environment"))
        }
        // A program that is just being replaced, too many processes, no memory.
        io::ErrorKind::ExecutableFileBusy | io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            JobError::transient(message("it may start later"))
        }
        _ => JobError::permanent(message("check that it is a program for this machine or has a `#!` line")),
    }
}
