//! MLflow's limits (mlflow 3.17.2).

/// Entities in one `runs/log-batch`.
pub(crate) const BATCH_ENTITIES: usize = 1000;
/// Metrics in one `runs/log-batch`.
pub(crate) const BATCH_METRICS: usize = 1000;
/// Params in one `runs/log-batch`.
pub(crate) const BATCH_PARAMS: usize = 100;
/// Tags in one `runs/log-batch`.
pub(crate) const BATCH_TAGS: usize = 100;
/// Characters of a param's value.
pub(crate) const PARAM_VALUE: usize = 6000;
/// Characters of a tag's value.
pub(crate) const TAG_VALUE: usize = 8000;
/// Characters of the key of a metric, param or tag.
pub(crate) const KEY: usize = 250;
/// Runs on a page when nobody says how many, and at most.
pub(crate) const RUNS_PAGE: (i64, i64) = (1000, 50_000);
/// Registered models on a page.
pub(crate) const MODELS_PAGE: (i64, i64) = (100, 1000);
/// Model versions on a page.
pub(crate) const VERSIONS_PAGE: (i64, i64) = (10_000, 200_000);
/// Bytes of a JSON body. A batch at all its limits stays below it.
pub(crate) const BODY_BYTES: usize = 16 * 1024 * 1024;
