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
/// Characters of an experiment's name.
pub(crate) const EXPERIMENT_NAME: usize = 500;
/// Characters of the value of an experiment's tag.
pub(crate) const EXPERIMENT_TAG_VALUE: usize = 20_000;
/// Characters of an experiment's artifact location.
pub(crate) const ARTIFACT_LOCATION: usize = 2048;
/// Characters of a dataset's name, digest, source, schema and profile.
pub(crate) const DATASET: [usize; 5] = [500, 36, 65_535, 1_048_575, 16_777_215];
/// Characters of the key and of the value of a dataset's tag.
pub(crate) const DATASET_TAG: (usize, usize) = (255, 500);
/// Runs and experiments on a page, at most.
pub(crate) const SEARCH_PAGE: i64 = 50_000;
/// Logged models on a page when nobody says how many.
pub(crate) const LOGGED_MODELS_PAGE: i64 = 50;
/// Values of a metric's history, of all runs that are asked for.
pub(crate) const HISTORY_BULK: i64 = 25_000;
/// Runs whose history is asked for at once.
pub(crate) const HISTORY_RUNS: usize = 100;
/// Values of a sampled history, of each run.
pub(crate) const HISTORY_SAMPLES: i64 = 2500;
/// Experiments whose datasets are asked for at once.
pub(crate) const DATASET_EXPERIMENTS: usize = 20;
/// Datasets that are listed.
pub(crate) const DATASETS_LISTED: i64 = 1000;
/// Runs on a page when nobody says how many, and at most.
pub(crate) const RUNS_PAGE: (i64, i64) = (1000, 50_000);
/// Registered models on a page.
pub(crate) const MODELS_PAGE: (i64, i64) = (100, 1000);
/// Model versions on a page.
pub(crate) const VERSIONS_PAGE: (i64, i64) = (10_000, 200_000);
/// Bytes of a JSON body. A batch at all its limits stays below it.
pub(crate) const BODY_BYTES: usize = 16 * 1024 * 1024;
