//! What a person sees while a run goes on: a bar a task on a terminal, plain lines elsewhere. Logs go above the bars.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pipeline::{KnownSecrets, Masker, RunEvent, RunId, TaskProgress, TaskState};
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::error::Result;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Starts logging so that a line never breaks a progress bar and shows no secret.
pub(crate) fn start_logging(level: &str, secrets: KnownSecrets) -> Result<()> {
    Ok(platform::telemetry::init_to(level, None, move || AboveBars(secrets.masker()))?)
}

/// A bar with which lines of the log do not get mixed up. On no terminal it is not drawn.
pub(crate) fn add_bar(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}

/// Shows the events of a run until it ends.
pub(crate) async fn show(run_id: RunId, mut events: Receiver<(RunId, RunEvent)>) {
    let mut screen = Screen { bars: HashMap::new(), drawn: io::stderr().is_terminal() };
    loop {
        match events.recv().await {
            Ok((id, event)) if id == run_id => {
                let last = matches!(event, RunEvent::RunFinished { .. });
                screen.show(event);
                if last {
                    return;
                }
            }
            // Counts are totals, so a missed event is made good by the next.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

struct Screen {
    bars: HashMap<String, ProgressBar>,
    drawn: bool,
}

impl Screen {
    fn show(&mut self, event: RunEvent) {
        match event {
            RunEvent::RunStarted { done_instances, .. } if done_instances > 0 => {
                self.line(&format!("goes on: {done_instances} task instances are done already"));
            }
            RunEvent::TaskStarted(progress) => {
                if !self.drawn {
                    self.line(&format!("{}: started", progress.task));
                }
                self.advance(&progress);
            }
            RunEvent::Progress(progress) => self.advance(&progress),
            RunEvent::Retry { task, map_index, attempt, error, delay } => {
                let place = place(&task, map_index);
                let wait = delay.as_secs_f32();
                self.line(&format!("{place}: attempt {attempt} failed, next in {wait:.1} s: {error}"));
            }
            RunEvent::Lost { task, map_index, how, .. } => self.line(&format!("{}: {how}", place(&task, map_index))),
            RunEvent::TaskFinished { progress, summary, error } => self.finish(&progress, &summary, error.as_deref()),
            RunEvent::RunStarted { .. } | RunEvent::RunFinished { .. } => {}
        }
    }

    fn advance(&mut self, progress: &TaskProgress) {
        if !self.drawn {
            return;
        }
        let bar = self.bars.entry(progress.task.clone()).or_insert_with(|| new_bar(&progress.task));
        let (done, total) = estimate(progress);
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(progress.note.clone());
    }

    fn finish(&mut self, progress: &TaskProgress, summary: &str, error: Option<&str>) {
        if let Some(bar) = self.bars.remove(&progress.task) {
            bar.finish_and_clear();
        }
        let seconds = progress.seconds;
        let text = match (progress.state, error) {
            (_, Some(error)) => format!("failed: {error}"),
            (TaskState::Succeeded, None) if summary.is_empty() => {
                let rate = progress.items_done as f64 / seconds.max(0.001);
                format!("{} items in {} parts, {rate:.1} a second", progress.items_done, progress.instances)
            }
            (TaskState::Succeeded, None) => summary.to_owned(),
            (state, None) => state.to_string(),
        };
        self.line(&format!("{}: {text} ({seconds:.1} s)", progress.task));
    }

    fn line(&self, text: &str) {
        if !self.drawn || BARS.println(text).is_err() {
            eprintln!("{text}");
        }
    }
}

/// Items done and an estimate of all: instances that have not begun count as large as those that have.
fn estimate(progress: &TaskProgress) -> (u64, u64) {
    let begun = progress.finished + progress.running;
    if begun == 0 || progress.items_total == 0 {
        return (progress.finished, progress.instances.max(1));
    }
    (progress.items_done, progress.items_total * progress.instances.max(begun) / begun)
}

fn new_bar(task: &str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(0));
    let style = ProgressStyle::with_template("{prefix:>8} [{bar:32}] {pos}/{len} {per_sec:.0} eta {eta} {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(task.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn place(task: &str, map_index: Option<u32>) -> String {
    map_index.map_or_else(|| task.to_owned(), |index| format!("{task}[{index}]"))
}

struct AboveBars(Masker);

impl Write for AboveBars {
    /// Takes a whole line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        match masked(&self.0, &text) {
            Some(masked) => BARS.suspend(|| io::stderr().write_all(masked.as_bytes())).map(|()| bytes.len()),
            None => BARS.suspend(|| io::stderr().write(bytes)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line of the log without secrets; nothing when it holds none. One of JSON stays JSON, though a secret is a number.
fn masked(masker: &Masker, line: &str) -> Option<String> {
    let Cow::Owned(masked) = masker.mask(line) else { return None };
    match serde_json::from_str::<Value>(line) {
        Ok(fields) => Some(format!("{}\n", masker.mask_value(fields))),
        Err(_) => Some(masked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_show_no_secret_and_stay_json() {
        let masker = Masker::new(["hunter2".to_owned(), "4711".to_owned()]);
        assert_eq!(masked(&masker, "INFO nothing"), None);
        assert_eq!(masked(&masker, "WARN pin 4711 of hunter2\n").as_deref(), Some("WARN pin *** of ***\n"));
        let line = "{\"message\":\"of hunter2\",\"pin\":4711}\n";
        assert_eq!(masked(&masker, line).as_deref(), Some("{\"message\":\"of ***\",\"pin\":\"***\"}\n"));
    }
}
