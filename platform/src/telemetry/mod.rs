//! Logs: human lines on a terminal, JSON lines elsewhere, always to standard error. What happens inside a span can go to
//! a place of its own as well.

mod route;

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use route::{Sink, routed};

use route::Route;

use crate::{Error, Result};

/// Our own crates: a plain level applies to these, and libraries stay at `warn` unless less is asked for.
const OUR_CRATES: &[&str] = &[
    "platform",
    "detector",
    "lake",
    "pipeline",
    "jobs",
    "model_registry",
    "serving",
    "console",
    "cli",
    "safari",
    "e2e",
];

/// Starts logging to standard error.
///
/// `level` is `off`, `error`, `warn`, `info`, `debug` or `trace` for Safari's own crates, or a list of directives such
/// as `warn,pipeline=debug,aws_config=trace` that is taken as it is. `json` chooses the format; without it standard error is
/// asked whether it is a terminal. A second call changes nothing and is no error.
///
/// # Errors
/// [`Error::LogLevel`] when `level` is none of these.
pub fn init(level: &str, json: Option<bool>) -> Result<()> {
    init_to(level, json, stderr)
}

/// As [`init`], with the lines written to `writer`: for programs that draw a progress bar on the same terminal.
///
/// # Errors
/// [`Error::LogLevel`] when `level` is no level.
pub fn init_to<W>(level: &str, json: Option<bool>, writer: W) -> Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let terminal = stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)?).with_writer(writer);
    // A failure means that logging was started before: the first settings stay.
    let _already_started = if json.unwrap_or(!terminal) {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish().with(Route).try_init()
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colours).with_target(false).compact().finish().with(Route).try_init()
    };
    Ok(())
}

/// Checks a level as [`init`] takes it, without starting anything.
///
/// # Errors
/// [`Error::LogLevel`].
pub fn check_level(level: &str) -> Result<()> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter> {
    let refused = || Error::LogLevel { level: level.to_owned() };
    let directives = directives(level).ok_or_else(refused)?;
    EnvFilter::builder().parse(directives).map_err(|_| refused())
}

fn directives(level: &str) -> Option<String> {
    let level = level.trim().to_ascii_lowercase();
    if level.contains([',', '=']) {
        let known = level.split(',').all(is_directive);
        return known.then_some(level);
    }
    if level == "off" {
        return Some(level);
    }
    let ours = level.parse::<Level>().ok().filter(|_| !level.starts_with(|c: char| c.is_ascii_digit()))?;
    let others = ours.min(Level::WARN);
    let mut directives = others.to_string().to_lowercase();
    for name in OUR_CRATES {
        directives.push_str(&format!(",{name}={level}"));
    }
    if others == Level::WARN {
        // It warns of every place without credentials before the one that fails, and the failure is reported anyway.
        directives.push_str(",aws_config=error");
    }
    Some(directives)
}

/// A bare word would silently be taken as a target by the filter, so it must be a level.
fn is_directive(part: &str) -> bool {
    let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
    ["off", "error", "warn", "info", "debug", "trace"].contains(&level)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn writes_json_once_and_init_can_be_repeated() {
        let captured = Captured::default();
        let writer = captured.clone();
        init_to("info", Some(true), move || writer.clone()).unwrap();
        init("debug", None).unwrap();
        let span = tracing::info_span!("shard", index = 3);
        span.in_scope(|| tracing::info!(media = 42, "shard done"));
        tracing::debug!("not shown");
        tracing::info!(target: "hyper", "chatter of a library");
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ours: Vec<_> = lines.iter().filter(|line| line["target"] == "platform::telemetry::tests").collect();
        assert_eq!(ours.len(), 1, "{text}");
        assert_eq!(ours[0]["message"], "shard done");
        assert_eq!(ours[0]["media"], 42);
        assert_eq!(ours[0]["span"]["index"], 3);
        assert!(!text.contains("chatter"), "{text}");
        events_inside_a_span_go_to_its_sink();
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Sink for Kept {
        fn event(&self, level: Level, text: &str) {
            self.0.lock().unwrap().push(format!("{level} {text}"));
        }
    }

    /// Part of the test above, which starts logging.
    fn events_inside_a_span_go_to_its_sink() {
        let kept = Arc::new(Kept::default());
        let span = routed(kept.clone(), || tracing::error_span!("attempt"));
        let other = tracing::info_span!("other");
        span.in_scope(|| {
            tracing::warn!(media = 42, name = "x", "slow");
            tracing::info_span!("inner").in_scope(|| tracing::info!("inside"));
            tracing::debug!("below the level");
        });
        other.in_scope(|| tracing::info!("elsewhere"));
        assert_eq!(*kept.0.lock().unwrap(), ["WARN slow media=42 name=x", "INFO inside"]);
        // A span that is switched off takes no sink, and leaves none to the next.
        routed(kept.clone(), || tracing::trace_span!("off")).in_scope(|| tracing::info!("lost"));
        tracing::info_span!("next").in_scope(|| tracing::info!("lost"));
        assert_eq!(kept.0.lock().unwrap().len(), 2);
    }

    #[test]
    fn levels_are_checked() {
        for good in ["off", "INFO", " debug ", "warn,pipeline=debug", "lake=trace"] {
            check_level(good).unwrap();
        }
        for bad in ["", "loud", "infoo", "3", "warn,loud", "pipeline=", "lake=much"] {
            let error = check_level(bad).unwrap_err();
            assert!(error.to_string().contains("is no log level"), "{bad}: {error}");
        }
    }

    #[test]
    fn libraries_stay_quiet_unless_less_is_asked_for() {
        assert!(directives("trace").unwrap().starts_with("warn,platform=trace,"));
        assert!(directives("error").unwrap().starts_with("error,platform=error,"));
        assert_eq!(directives("off").unwrap(), "off");
    }
}
