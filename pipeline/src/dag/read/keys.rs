//! The keys of every mapping in a DAG file. The schema has the same.

pub(in crate::dag) const DAG: [&str; 13] = [
    "dag",
    "description",
    "params",
    "schedule",
    "continuous",
    "max_active_runs",
    "timeout",
    "deadline",
    "priority",
    "defaults",
    "alerts",
    "groups",
    "tasks",
];
pub(in crate::dag) const PARAM: [&str; 3] = ["type", "description", "default"];
pub(in crate::dag) const SCHEDULE: [&str; 8] =
    ["cron", "every", "assets", "any_asset", "zone", "start", "end", "catch_up"];
pub(in crate::dag) const CONTINUOUS: [&str; 6] = ["source", "webhook", "nats", "max_batch", "max_age", "max_in_flight"];
/// All are required.
pub(in crate::dag) const NATS: [&str; 4] = ["url", "stream", "subject", "consumer"];
pub(in crate::dag) const ALERT: [&str; 3] = ["on", "webhook", "command"];
pub(in crate::dag) const GROUP: [&str; 2] = ["description", "needs"];
/// A task has these and those of [`DEFAULTS`].
pub(in crate::dag) const TASK: [&str; 16] = [
    "job",
    "dag",
    "params",
    "wait",
    "description",
    "group",
    "with",
    "needs",
    "trigger",
    "when",
    "map",
    "parallelism",
    "retry_on",
    "task_timeout",
    "cache",
    "produces",
];
pub(in crate::dag) const DEFAULTS: [&str; 12] = [
    "retries",
    "retry_delay",
    "retry_max_delay",
    "timeout",
    "pool",
    "slots",
    "priority",
    "queue",
    "labels",
    "resources",
    "executor",
    "kubernetes",
];
pub(in crate::dag) const RESOURCES: [&str; 3] = ["cpu", "memory", "gpu"];
pub(in crate::dag) const KUBERNETES: [&str; 12] = [
    "image",
    "service_account",
    "node_selector",
    "tolerations",
    "affinity",
    "volumes",
    "volume_mounts",
    "env",
    "secrets",
    "labels",
    "annotations",
    "priority_class",
];
pub(in crate::dag) const RETRY: [&str; 3] = ["error", "retries", "delay"];
pub(in crate::dag) const CACHE: [&str; 2] = ["key", "ttl"];
