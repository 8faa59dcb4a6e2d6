//! The same things on both servers. What would take the real server hours over its API goes straight into its tables.

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::time::Duration;

use super::contestant::Contestant;
use crate::error::{Error, Result};
use crate::http::{Connection, Request};

/// Runs that batches are logged into.
const BATCH_RUNS: usize = 64;

/// What requests name.
#[derive(Debug)]
pub(super) struct Filled {
    /// The experiment with many runs.
    pub(super) experiment: String,
    /// Runs that batches are logged into.
    pub(super) runs: Vec<String>,
}

/// Makes a model `one` with a version, a model `many` with `versions` and the alias `champion`, runs for batches, and an
/// experiment with `runs` runs of two metrics and two tags each.
pub(super) async fn fill(server: &Contestant, is_ours: bool, versions: usize, runs: usize) -> Result<Filled> {
    let mut connection = Connection::open(server.port).await?;
    for (name, count) in [("one", 1), ("many", versions)] {
        post(&mut connection, "registered-models/create", json!({ "name": name })).await?;
        for version in 0..count {
            let body = json!({ "name": name, "source": format!("s3://bucket/{version}"), "tags": [{"key": "stage", "value": "test"}] });
            post(&mut connection, "model-versions/create", body).await?;
        }
        let body = json!({ "name": name, "alias": "champion", "version": "1" });
        post(&mut connection, "registered-models/alias", body).await?;
    }
    let mut batch_runs = Vec::new();
    let batches = post(&mut connection, "experiments/create", json!({ "name": "batches" })).await?;
    for number in 0..BATCH_RUNS {
        let body = json!({ "experiment_id": batches["experiment_id"], "run_name": format!("run {number}"), "start_time": number });
        let run = post(&mut connection, "runs/create", body).await?;
        batch_runs.push(text(&run["run"]["info"]["run_id"])?);
    }
    let made = post(&mut connection, "experiments/create", json!({ "name": "history" })).await?;
    let experiment = text(&made["experiment_id"])?;
    let statements = if is_ours { of_ours(&experiment, runs) } else { of_real(&experiment, runs) };
    insert(server, &statements).await?;
    // What was put in is there, and found.
    let body =
        json!({ "experiment_ids": [experiment], "filter": "metrics.f1 > 0.5 AND tags.site = 's7'", "max_results": 1 });
    let found = post(&mut connection, "runs/search", body).await?;
    let run = &found["runs"][0];
    if run["data"]["metrics"].as_array().map(Vec::len) != Some(2) {
        return Err(Error::failed("filling the tables", format!("a run is not found as it was put in: {run}")));
    }
    Ok(Filled { experiment, runs: batch_runs })
}

/// Every run has the metrics `f1` and `loss` between 0 and 1, tags `site` (50 values) and `mlflow.runName`.
fn of_real(experiment: &str, runs: usize) -> Vec<String> {
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs})");
    let metric = "SELECT key, value, 1, 0, 0, id FROM (SELECT printf('%032x', i) AS id, 'f1' AS key, (i * 7919 % 10007) / 10007.0 AS value FROM n \
                  UNION ALL SELECT printf('%032x', i), 'loss', (i * 104729 % 10009) / 10009.0 FROM n)";
    vec![
        format!(
            "{numbers} INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, \
             end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) SELECT printf('%032x', i), 'run ' || i, 'UNKNOWN', \
             '', '', 'user', 'FINISHED', i, i + 1, '', 'active', 'mlflow-artifacts:/{experiment}/' || printf('%032x', i) || '/artifacts', \
             {experiment} FROM n"
        ),
        format!("{numbers} INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) {metric}"),
        format!("{numbers} INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) {metric}"),
        format!(
            "{numbers} INSERT INTO tags (key, value, run_uuid) SELECT 'site', 's' || (i % 50), printf('%032x', i) FROM n"
        ),
        format!(
            "{numbers} INSERT INTO tags (key, value, run_uuid) SELECT 'mlflow.runName', 'run ' || i, printf('%032x', i) FROM n"
        ),
    ]
}

/// The same in our tables.
fn of_ours(experiment: &str, runs: usize) -> Vec<String> {
    // Numbers of runs are the database's: those of `batches` come first.
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs})");
    let metric = "SELECT r.no, m.key, 0, 1, m.value, 0 FROM (SELECT i, 'f1' AS key, (i * 7919 % 10007) / 10007.0 AS value FROM n \
                  UNION ALL SELECT i, 'loss', (i * 104729 % 10009) / 10009.0 FROM n) AS m \
                  JOIN run r ON r.id = printf('%032x', m.i)";
    let tag = |key: &str, value: &str| {
        format!(
            "{numbers} INSERT INTO run_tag (run_no, key, value, experiment_id, started_at) SELECT r.no, '{key}', {value}, r.experiment_id, r.started_at FROM n JOIN run r ON r.id = printf('%032x', i)"
        )
    };
    vec![
        format!(
            "{numbers} INSERT INTO run (id, experiment_id, name, user_id, status, started_at, ended_at, lifecycle, artifact_uri) \
             SELECT printf('%032x', i), {experiment}, 'run ' || i, 'user', 'FINISHED', i, i + 1, 'active', \
             'mlflow-artifacts:/{experiment}/' || printf('%032x', i) || '/artifacts' FROM n"
        ),
        format!("{numbers} INSERT INTO latest_metric (run_no, key, step, time, value, is_nan) {metric}"),
        format!("{numbers} INSERT INTO metric (run_no, key, step, time, value, is_nan) {metric}"),
        tag("site", "'s' || (i % 50)"),
        tag("mlflow.runName", "'run ' || i"),
        "ANALYZE".to_owned(),
    ]
}

async fn insert(server: &Contestant, statements: &[String]) -> Result<()> {
    let failed = |error: sqlx::Error| Error::failed("filling the tables", error.to_string());
    let options = SqliteConnectOptions::new().filename(&server.database).busy_timeout(Duration::from_secs(60));
    let mut database: SqliteConnection = options.connect().await.map_err(failed)?;
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut database).await.map_err(failed)?;
    }
    sqlx::Connection::close(database).await.map_err(failed)
}

async fn post(connection: &mut Connection, path: &str, body: Value) -> Result<Value> {
    let answer = connection.ask(&Request::post(format!("/api/2.0/mlflow/{path}"), &body)).await?;
    serde_json::from_slice(&answer).map_err(Error::json(path))
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| Error::failed("filling the tables", format!("no id but {value}")))
}
