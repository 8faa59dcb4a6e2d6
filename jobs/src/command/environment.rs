//! What a program finds in its environment.

use std::ffi::OsString;
use std::path::Path;

use pipeline::JobContext;

use crate::trace::{TRACEPARENT, traceparent};

use super::settings::Settings;

/// Variables of the attempt, which a task cannot set.
pub(super) const OURS: [&str; 7] = [
    "SAFARI_RUN_ID",
    "SAFARI_TASK",
    "SAFARI_MAP_INDEX",
    "SAFARI_ATTEMPT",
    "SAFARI_IDEMPOTENCY_KEY",
    "SAFARI_WORK_DIR",
    "SAFARI_OUTPUT",
];

/// Variables of the server that say nothing secret and that most programs need.
const PASSED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// The whole environment, later entries before earlier ones: what every program needs, what the task asks for by name,
/// what it sets, what the attempt is. The server's other variables, which may hold secrets, are left out.
pub(super) fn environment(context: &JobContext, settings: &Settings, output: &Path) -> Vec<(OsString, OsString)> {
    let passed = PASSED.into_iter().chain(settings.env_pass.iter().map(String::as_str));
    let mut environment: Vec<(OsString, OsString)> =
        passed.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
    environment.push((TRACEPARENT.into(), traceparent(context).into()));
    environment.extend(settings.env.iter().map(|(name, value)| (name.into(), value.into())));
    let index = context.map_index.map(|index| index.to_string().into());
    let ours: [Option<OsString>; 7] = [
        Some(context.run_id.to_string().into()),
        Some((&context.task).into()),
        index,
        Some(context.attempt.to_string().into()),
        Some((&context.idempotency_key).into()),
        Some(context.work_dir.as_os_str().to_owned()),
        Some(output.as_os_str().to_owned()),
    ];
    environment.extend(OURS.into_iter().zip(ours).filter_map(|(name, value)| Some((name.into(), value?))));
    environment
}
