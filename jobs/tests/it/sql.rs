//! `sql` and `wait_for_sql` on a SQLite file and on the tables of the lake.

use std::path::Path;
use std::sync::Arc;

use jobs::{Masker, Services, SqlJob, WaitForSqlJob};
use pipeline::{Job, JobError, JobOutput, Retry};
use platform::config::Config;
use serde_json::{Value, json};

use crate::common::context;

fn services(home: &Path) -> Arc<Services> {
    let flags = [("home".to_owned(), home.join("home").display().to_string())];
    Arc::new(Services::new(Config::load(None, &flags).unwrap()))
}

async fn run(job: &dyn Job, home: &Path, with: Value) -> Result<JobOutput, JobError> {
    job.check(&with).unwrap();
    let (_stop, context) = context(home);
    job.run(context, with).await
}

#[tokio::test]
async fn statements_change_and_ask_a_database_with_parameters() {
    let home = tempfile::tempdir().unwrap();
    let job = SqlJob::new(services(home.path()), Masker::new([]));
    let url = format!("sqlite://{}/nights.db?mode=rwc", home.path().display());
    let ask = async |query: &str, parameters: Value| {
        run(&job, home.path(), json!({"database": url, "query": query, "parameters": parameters})).await
    };
    ask("CREATE TABLE night (run TEXT PRIMARY KEY, animals BIGINT, share DOUBLE)", json!([])).await.unwrap();
    let insert = "INSERT INTO night VALUES ($1, $2, $3), ('other', NULL, NULL);";
    let made = ask(insert, json!(["it's; --", 7, 0.5])).await.unwrap();
    assert_eq!(made.value, json!({"rows_affected": 2}));
    let found = ask("SELECT run, animals, share FROM night ORDER BY run", json!([])).await.unwrap();
    assert_eq!(found.value["count"], 2);
    assert_eq!(found.value["rows"][0], json!({"run": "it's; --", "animals": 7, "share": 0.5}));
    assert_eq!(found.value["rows"][1], json!({"run": "other", "animals": null, "share": null}));

    let many = json!({"database": url, "query": "SELECT * FROM night", "max_rows": 1});
    let error = run(&job, home.path(), many).await.unwrap_err();
    assert_eq!((error.retry, error.message.contains("more than 1 rows")), (Retry::No, true), "{error}");
    let wrong = ask("SELECT * FROM nights", json!([])).await.unwrap_err();
    assert_eq!((wrong.retry, wrong.message.contains("no such table: nights")), (Retry::No, true), "{wrong}");
}

#[tokio::test]
async fn postgresql_is_asked_and_changed_in_its_own_types() {
    let home = tempfile::tempdir().unwrap();
    let server = e2e::postgres::Server::start().await.unwrap();
    let url = server.database().await.unwrap();
    let (services, masker) = (services(home.path()), Masker::new([]));
    let job = SqlJob::new(services.clone(), masker.clone());
    let ask = async |query: &str, parameters: Value| {
        run(&job, home.path(), json!({"database": url, "query": query, "parameters": parameters})).await
    };
    ask("CREATE TABLE night (run TEXT PRIMARY KEY, animals BIGINT, at TIMESTAMPTZ, tags TEXT[])", json!([]))
        .await
        .unwrap();
    let insert = "INSERT INTO night VALUES ($1, $2, '2026-03-01T22:00:00Z', '{a,b}'), ('other', NULL, NULL, NULL)";
    let made = ask(insert, json!(["it's; --", 7])).await.unwrap();
    assert_eq!(made.value, json!({"rows_affected": 2}));
    let query = "SELECT run, animals, at AT TIME ZONE 'UTC' AS at, tags FROM night ORDER BY animals";
    let found = ask(query, json!([])).await.unwrap();
    let first = json!({"run": "it's; --", "animals": 7, "at": "2026-03-01T22:00:00", "tags": ["a", "b"]});
    let other = json!({"run": "other", "animals": null, "at": null, "tags": null});
    assert_eq!(found.value, json!({"count": 2, "rows": [first, other]}));
    let wrong = ask("SELECT * FROM nights", json!([])).await.unwrap_err();
    assert_eq!((wrong.retry, wrong.message.contains("\"nights\" does not exist")), (Retry::No, true), "{wrong}");

    let sensor = WaitForSqlJob::new(services, masker);
    let with =
        json!({"database": url, "query": "SELECT animals > $1, run FROM night WHERE animals > 0", "parameters": [8]});
    let waiting = run(&sensor, home.path(), with.clone()).await.unwrap_err();
    assert!(matches!(waiting.retry, Retry::Later(_)), "{waiting}");
    ask("UPDATE night SET animals = 9", json!([])).await.unwrap();
    let output = run(&sensor, home.path(), with).await.unwrap();
    assert_eq!(output.value["?column?"], true);
}

#[tokio::test]
async fn a_server_that_is_away_may_come_back_and_no_password_is_told() {
    let home = tempfile::tempdir().unwrap();
    let services = services(home.path());
    let with = json!({"database": "postgres://ranger:s3cret@127.0.0.1:1/parks", "query": "SELECT 1", "timeout": "5s"});
    let error = run(&SqlJob::new(services.clone(), Masker::new([])), home.path(), with.clone()).await.unwrap_err();
    assert_eq!(error.retry, Retry::Yes, "{error}");
    assert!(!error.message.contains("s3cret"), "{error}");
    let waiting = run(&WaitForSqlJob::new(services, Masker::new([])), home.path(), with).await.unwrap_err();
    assert!(matches!(waiting.retry, Retry::Later(_)), "{waiting}");
}

#[tokio::test]
async fn a_sensor_waits_until_the_first_column_is_true() {
    let home = tempfile::tempdir().unwrap();
    let job = WaitForSqlJob::new(services(home.path()), Masker::new([]));
    let url = format!("sqlite://{}/cameras.db?mode=rwc", home.path().display());
    for (query, ready) in [
        ("SELECT 0 AS ready", false),
        ("SELECT NULL AS ready", false),
        ("SELECT 1 AS ready WHERE 1 = 2", false),
        ("SELECT 3 AS ready, 'x' AS note", true),
        ("SELECT 3 AS ready, 'x' AS note UNION ALL SELECT 4, 'y'", true),
    ] {
        let with = json!({"database": url, "query": query, "interval": "1m"});
        match run(&job, home.path(), with).await {
            Ok(output) => assert!(ready && output.value == json!({"ready": 3, "note": "x"}), "{query}: {output:?}"),
            Err(error) => assert!(!ready && matches!(error.retry, Retry::Later(_)), "{query}: {error}"),
        }
    }
}

#[tokio::test]
async fn the_tables_of_the_lake_are_asked_and_not_changed() {
    let home = tempfile::tempdir().unwrap();
    let job = SqlJob::new(services(home.path()), Masker::new([]));
    let found = run(&job, home.path(), json!({"query": "select count(*) as n from media;"})).await.unwrap();
    assert_eq!(found.value, json!({"count": 1, "rows": [{"n": 0}]}));
    let error = run(&job, home.path(), json!({"query": "drop table media"})).await.unwrap_err();
    assert!(error.message.contains("only read"), "{error}");
    for (with, words) in [
        (json!({}), "`with` lacks the key `query`"),
        (json!({"query": "select 1", "database": "mysql://x"}), "`database` must be postgres://"),
        (json!({"query": "select 1", "parameters": [1]}), "`parameters` belong to a `database`"),
        (json!({"query": "select 1", "databse": "x"}), "did you mean `database`"),
    ] {
        let told = job.check(&with).unwrap_err();
        assert!(told.contains(words), "{told}");
    }
}
