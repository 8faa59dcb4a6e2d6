//! What the end of a program means for its task.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use pipeline::JobError;
use serde_json::Value;

use crate::with::{Keys, wrong};

/// The shell's code for a program that cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

/// The shell's code for a program that is not there.
const NOT_FOUND: i32 = 127;

/// A shell ends with this plus the signal's number when a signal ended its last program.
const SIGNAL_BASE: i32 = 128;

/// Which exit codes mean what.
#[derive(Debug)]
pub(super) struct Codes {
    success: Vec<i32>,
    skip: Vec<i32>,
    retry: Vec<i32>,
}

/// What the end means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    /// The program says that there was nothing to do.
    Skipped(i32),
    /// The message starts with a verb: the program's name goes before it.
    Failed(JobError),
}

impl Codes {
    /// Reads the three lists. A code that is in two of those given is a mistake; one that is given goes before a default.
    pub(super) fn read(keys: &Keys) -> Result<Self, String> {
        let names = ["success_codes", "skip_codes", "retry_codes"];
        let given = [read(keys, names[0])?, read(keys, names[1])?, read(keys, names[2])?];
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            let (Some(one), Some(other)) = (&given[first], &given[second]) else { continue };
            if let Some(code) = one.iter().find(|code| other.contains(code)) {
                let (one, other) = (names[first], names[second]);
                return Err(format!("{code} is in `{one}` and in `{other}`: leave it in one of them"));
            }
        }
        let is_given = |code: i32| given.iter().flatten().any(|codes| codes.contains(&code));
        let default = |code: i32| if is_given(code) { Vec::new() } else { vec![code] };
        let [success, skip, retry] = [default(0), default(99), default(75)];
        let [given_success, given_skip, given_retry] = given;
        Ok(Self {
            success: given_success.unwrap_or(success),
            skip: given_skip.unwrap_or(skip),
            retry: given_retry.unwrap_or(retry),
        })
    }
}

/// Judges how a program ended.
pub(super) fn judge(status: ExitStatus, codes: &Codes) -> Verdict {
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        return Verdict::Failed(JobError::transient(format!("was killed by {}", signal_name(signal))));
    };
    if codes.success.contains(&code) {
        return Verdict::Success;
    }
    if codes.skip.contains(&code) {
        return Verdict::Skipped(code);
    }
    let message = format!("ended with exit code {code}{}", explanation(code));
    if codes.retry.contains(&code) {
        return Verdict::Failed(JobError::transient(message));
    }
    match code {
        NOT_EXECUTABLE | NOT_FOUND => Verdict::Failed(JobError::permanent(message)),
        _ => Verdict::Failed(JobError::transient(message)),
    }
}

fn read(keys: &Keys, key: &str) -> Result<Option<Vec<i32>>, String> {
    let Some(value) = keys.value(key) else { return Ok(None) };
    let Value::Array(items) = value else { return Err(wrong(key, "a list of exit codes such as [0]", value)) };
    if items.is_empty() && key == "success_codes" {
        return Err("`success_codes` is empty: with no code for success the task can only fail".to_owned());
    }
    let code = |item: &Value| item.as_u64().and_then(|code| u8::try_from(code).ok()).map(i32::from);
    let codes: Option<Vec<i32>> = items.iter().filter(|item| keys.is_known(item)).map(code).collect();
    codes.map(Some).ok_or_else(|| format!("`{key}` must be a list of exit codes from 0 to 255"))
}

fn explanation(code: i32) -> String {
    match code {
        NOT_EXECUTABLE => " (a program cannot be executed: make it executable with chmod +x)".to_owned(),
        NOT_FOUND => " (a program was not found: install it, or give its full path)".to_owned(),
        129..=159 => format!(" (as a shell says when a program was killed by {})", signal_name(code - SIGNAL_BASE)),
        _ => String::new(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL, perhaps out of memory",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU, over its limit of processor time",
        25 => "SIGXFSZ, over its limit of file size",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::with::Templates;
    use pipeline::Retry;
    use serde_json::json;

    fn judged(with: Value, wait_status: i32) -> Verdict {
        let known = ["success_codes", "skip_codes", "retry_codes"];
        let codes = Codes::read(&Keys::new(&with, &known, Templates::Rendered).unwrap()).unwrap();
        judge(ExitStatus::from_raw(wait_status), &codes)
    }

    fn exited(with: Value, code: i32) -> Verdict {
        judged(with, code << 8)
    }

    fn retry(verdict: Verdict) -> Retry {
        match verdict {
            Verdict::Failed(error) => error.retry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn codes_mean_what_is_said_or_the_usual() {
        assert_eq!(exited(json!({}), 0), Verdict::Success);
        assert_eq!(exited(json!({}), 99), Verdict::Skipped(99));
        assert_eq!(exited(json!({"success_codes": [0, 99]}), 99), Verdict::Success);
        assert_eq!(exited(json!({"skip_codes": [0]}), 0), Verdict::Skipped(0));
        assert_eq!(retry(exited(json!({"success_codes": [1]}), 0)), Retry::Yes);
        assert_eq!(retry(exited(json!({"retry_codes": [99]}), 99)), Retry::Yes);
    }

    #[test]
    fn programs_that_are_not_there_stay_away() {
        assert_eq!(retry(exited(json!({}), 1)), Retry::Yes);
        assert_eq!(retry(exited(json!({}), 75)), Retry::Yes);
        assert_eq!(retry(exited(json!({}), 126)), Retry::No);
        assert_eq!(retry(exited(json!({}), 127)), Retry::No);
        assert_eq!(retry(exited(json!({"retry_codes": [127]}), 127)), Retry::Yes);
    }

    #[test]
    fn signals_have_names() {
        let Verdict::Failed(error) = judged(json!({}), 9) else { panic!("a kill is a failure") };
        assert_eq!(error, JobError::transient("was killed by SIGKILL, perhaps out of memory"));
        let Verdict::Failed(error) = exited(json!({}), 139) else { panic!("139 is a failure") };
        assert!(error.message.contains("SIGSEGV"), "{error}");
    }
}
