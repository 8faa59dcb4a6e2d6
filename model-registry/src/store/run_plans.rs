//! How the databases answer searches in an experiment with many runs: by which indexes, in which order. Time is not
//! measured here, for it depends on the machine; a plan does not.
#![allow(clippy::unwrap_used)]

use platform::database::{Address, Engine, Statement};
use sqlx::AssertSqlSafe;

use super::Store;
use super::experiments::Page;
use super::run_search::RunSearch;
use crate::entities::View;
use crate::filter::{PROBE, runs, runs_order};

const RUNS: i64 = 20_000;

/// Every run has a metric `loss` between 0 and 1, a tag `site` of 1000 values and a tag `zone` of 10.
async fn fill(store: &Store) {
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RUNS})");
    let tag = |key: &str, letter: char, values: u32| {
        format!(
            "INSERT INTO run_tag (run_no, key, value, experiment_id, started_at)
             {numbers} SELECT i, '{key}', '{letter}' || CAST(i % {values} AS TEXT), 0, i FROM n"
        )
    };
    for insert in [
        format!(
            "INSERT INTO run (no, id, experiment_id, name, user_id, status, started_at, lifecycle, artifact_uri)
             {numbers} SELECT i, CAST(10000000 + i AS TEXT), 0, 'n', 'u', 'FINISHED', i, 'active', 'x' FROM n"
        ),
        format!(
            "INSERT INTO latest_metric (run_no, key, step, time, value, is_nan)
             {numbers} SELECT i, 'loss', 0, 0, (i * 7919 % {RUNS}) * 1.0 / {RUNS}, 0 FROM n"
        ),
        tag("site", 's', 1000),
        tag("zone", 'z', 10),
    ] {
        sqlx::query(AssertSqlSafe(insert)).execute(store.pool()).await.unwrap();
    }
    if store.engine() == Engine::Postgres {
        for table in ["ANALYZE run", "ANALYZE latest_metric", "ANALYZE run_tag"] {
            sqlx::query(table).execute(store.pool()).await.unwrap();
        }
    }
}

fn search(filter: &str, order_by: &[&str]) -> RunSearch {
    let order_by: Vec<String> = order_by.iter().map(|text| (*text).to_owned()).collect();
    RunSearch {
        experiments: vec![0],
        filter: runs(Some(filter)).unwrap(),
        order: runs_order(&order_by).unwrap(),
        view: View::ActiveOnly,
        page: Page::new(100, None).unwrap(),
    }
}

const EXPLAIN: &str = "EXPLAIN QUERY PLAN SELECT r.id";

async fn sqlite_plan(store: &Store, search: &RunSearch, metric: Option<&str>) -> Vec<String> {
    let mut connection = store.pool().acquire().await.unwrap();
    let statement = match metric {
        Some(key) => store.by_metric(EXPLAIN, search, key),
        None => {
            let first = store.few(&mut connection, &search.filter, PROBE).await.unwrap();
            store.by_order(EXPLAIN, search, first)
        }
    };
    drop(connection);
    explained(store, statement).await
}

/// One line for each step.
async fn explained(store: &Store, statement: Statement) -> Vec<String> {
    let rows: Vec<(i64, i64, i64, String)> = statement.query_as().fetch_all(store.pool()).await.unwrap();
    rows.into_iter().map(|row| row.3).collect()
}

/// The search finds the newest runs of the zone whose loss is great enough, and its second page those that come next.
async fn newest_of_zone(store: &Store, search: &RunSearch) {
    let wanted: Vec<i64> =
        (1..=RUNS).rev().filter(|i| i % 10 == 7 && (i * 7919 % RUNS) as f64 / RUNS as f64 > 0.1).take(200).collect();
    let (first, next) = store.search_runs(search).await.unwrap();
    let second = RunSearch { page: Page::new(100, next.as_deref()).unwrap(), ..search.clone() };
    let (second, _) = store.search_runs(&second).await.unwrap();
    let found: Vec<i64> = first.iter().chain(&second).map(|run| run.info.start_time).collect();
    assert_eq!(found, wanted);
}

async fn postgres_plan(store: &Store, search: &RunSearch) -> String {
    let statement = store.by_order("EXPLAIN SELECT r.id", search, None);
    let rows: Vec<(String,)> = statement.query_as().fetch_all(store.pool()).await.unwrap();
    rows.into_iter().map(|row| row.0).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn sqlite_begins_where_few_rows_are() {
    let home = tempfile::tempdir().unwrap();
    let address = Address::Sqlite(home.path().join("registry.db"));
    let store = Store::open(&address, "mlflow-artifacts:").await.unwrap();
    fill(&store).await;
    let begins_with = |plan: &[String], what: &str| assert!(plan[0].contains(what), "{plan:#?}");

    let plan = sqlite_plan(&store, &search("tags.site = 's7' AND metrics.loss > 0.1", &[]), None).await;
    begins_with(&plan, "SEARCH r USING INTEGER PRIMARY KEY");
    assert!(plan.iter().any(|step| step.contains("INDEX run_tag_value (key=? AND <expr>=?)")), "{plan:#?}");
    let plan = sqlite_plan(&store, &search("metrics.loss > 0.99 AND tags.site != 's7'", &[]), None).await;
    begins_with(&plan, "SEARCH r USING INTEGER PRIMARY KEY");
    assert!(plan.iter().any(|step| step.contains("INDEX latest_metric_value (key=? AND value>?)")), "{plan:#?}");

    // All conditions on parts are tested before a run is read.
    let plan = sqlite_plan(&store, &search("tags.site = 's7' AND metrics.loss > 0.1", &[]), None).await.join("\n");
    let within = plan.split_once("LIST SUBQUERY").unwrap().1;
    assert!(within.contains("INDEX run_tag_value (key=? AND <expr>=?)"), "{plan}");
    assert!(within.contains("PRIMARY KEY (run_no=? AND key=?)"), "{plan}");

    // A tag of many runs has them newest first.
    let in_zone = search("metrics.loss > 0.1 AND tags.zone = 'z7'", &[]);
    let plan = explained(&store, store.newest_first(EXPLAIN, &in_zone).unwrap()).await;
    begins_with(&plan, "SEARCH t USING COVERING INDEX run_tag_value (key=? AND <expr>=? AND experiment_id=?)");
    assert!(!plan.iter().any(|step| step.as_str() == "USE TEMP B-TREE FOR ORDER BY"), "{plan:#?}");
    newest_of_zone(&store, &in_zone).await;

    // Many rows: runs come in their order, and the page is soon full.
    let plan = sqlite_plan(&store, &search("metrics.loss > 0.1", &[]), None).await;
    begins_with(&plan, "INDEX run_of_experiment (experiment_id=? AND lifecycle=?)");
    assert!(plan.iter().any(|step| step.contains("USING PRIMARY KEY (run_no=? AND key=?)")), "{plan:#?}");
    assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:#?}");
    let plan = sqlite_plan(&store, &search("", &[]), None).await;
    assert_eq!(plan.len(), 1, "{plan:#?}");

    // In the order of a metric, along its index.
    let by_metric = search("tags.site != 's7'", &["metrics.loss DESC"]);
    let plan = sqlite_plan(&store, &by_metric, Some("loss")).await;
    begins_with(&plan, "SEARCH o USING COVERING INDEX latest_metric_value (key=?)");
    assert!(plan.iter().any(|step| step.contains("SEARCH r USING INTEGER PRIMARY KEY (rowid=?)")), "{plan:#?}");
    assert!(!plan.iter().any(|step| step.as_str() == "USE TEMP B-TREE FOR ORDER BY"), "{plan:#?}");
    let (rows, next) = store.search_runs(&by_metric).await.unwrap();
    assert_eq!((rows.len(), next.is_some()), (100, true));
    assert!(rows.is_sorted_by(|a, b| a.data.metrics[0].value >= b.data.metrics[0].value));
}

#[tokio::test]
async fn postgres_begins_where_few_rows_are() {
    let server = e2e::postgres::Server::start().await.unwrap();
    let address = Address::Postgres(server.database().await.unwrap());
    let store = Store::open(&address, "mlflow-artifacts:").await.unwrap();
    fill(&store).await;
    for (filter, index) in
        [("tags.site = 's7' AND metrics.loss > 0.1", "run_tag_value"), ("metrics.loss > 0.999", "latest_metric_value")]
    {
        let plan = postgres_plan(&store, &search(filter, &[])).await;
        assert!(plan.contains(index), "{filter}\n{plan}");
        assert!(!plan.contains("Seq Scan"), "{filter}\n{plan}");
    }
    for filter in ["", "metrics.loss > 0.1"] {
        let plan = postgres_plan(&store, &search(filter, &[])).await;
        assert!(plan.contains("run_of_experiment"), "{filter}\n{plan}");
    }
    newest_of_zone(&store, &search("metrics.loss > 0.1 AND tags.zone = 'z7'", &[])).await;
    let by_metric = search("tags.site != 's7'", &["metrics.loss DESC"]);
    let (rows, _) = store.search_runs(&by_metric).await.unwrap();
    assert_eq!(rows.len(), 100);
    assert!(rows.is_sorted_by(|a, b| a.data.metrics[0].value >= b.data.metrics[0].value));
}
