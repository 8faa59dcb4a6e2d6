//! Queries: what can be asked, and what is said when it cannot.

use lake::{Error, Lake, Transaction};

use crate::sample::{jaguar, many, number, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_without_tables_answers_with_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    for table in ["media", "detections", "evaluation", "observations"] {
        assert_eq!(number(&lake, &format!("select count(*) from {table}")).await, 0);
    }
    assert_eq!(number(&lake, "select count(*) from detections where top5[1]['confidence'] > 0.5").await, 0);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "reading creates nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_of_the_field_can_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let boxes: Vec<_> = (0..4).map(|number| jaguar(&format!("s3://b/p/{number:07}.jpg"), "run")).collect();
    lake.append_detections(&boxes, &Transaction::new("t", 1)).await.unwrap();
    lake.append_media(&many(0, 6, "run"), &Transaction::new("t", 1)).await.unwrap();
    for (query, expected) in [
        ("select count(*) from Media m left join detections d on m.uri = d.uri where d.uri is null", 2),
        ("select count(*) from detections where date_part('hour', captured_at) = 22", 4),
        ("select count(*) from detections where detected_date = '2024-06-01'", 4),
        ("select count(*) from media m join detections d on m.processed_date = d.detected_date", 24),
        ("select count(*) from detections where top5[2]['species'] = 'leopard'", 4),
        ("select count(*) from (select unnest(top5) from detections)", 12),
        ("select count(*) from information_schema.columns where table_name = 'media'", 24),
        ("with a as (select species, count(*) n from observations group by species) select n from a", 4),
        ("select count(*) from observations where captured_at >= timestamp '2024-05-31 22:00:00'", 4),
    ] {
        assert_eq!(number(&lake, query).await, expected, "{query}");
    }
    for query in ["show tables", "describe media", "explain select * from detections", "show columns from media"] {
        lake.sql(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_reading_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    lake.append_media(&many(0, 2, "run"), &Transaction::new("t", 1)).await.unwrap();
    let outside = folder.path().join("stolen.csv");
    for query in [
        "insert into media select * from media".to_owned(),
        "delete from media".to_owned(),
        "update media set uri = 'x'".to_owned(),
        "drop table media".to_owned(),
        "create table t as select 1".to_owned(),
        "create view v as select 1".to_owned(),
        "create external table t stored as csv location '/etc/passwd'".to_owned(),
        format!("copy media to '{}'", outside.display()),
        "set datafusion.execution.batch_size = 1".to_owned(),
        "select 1; drop table media".to_owned(),
        "explain analyze insert into media select * from media".to_owned(),
    ] {
        let error = message(&lake, &query).await;
        assert!(!error.contains('\n'), "one line: {error}");
    }
    assert!(!outside.exists());
    assert_eq!(number(&lake, "select count(*) from media").await, 2);
    assert!(message(&lake, "drop table media").await.starts_with("only reading statements can be run here, not "));
    let file = message(&lake, "select * from '/etc/passwd'").await;
    assert!(file.starts_with("no table '"), "{file}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_answered_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let column = message(&lake, "select speces from detections").await;
    assert!(
        column.starts_with("no column 'speces'; did you mean 'species'? there are: burst_id, captured_at, "),
        "{column}"
    );
    let column = message(&lake, "select * from media where zzz = 1").await;
    assert!(column.starts_with("no column 'zzz'; there are: burst_id, camera, "), "{column}");
    assert_eq!(
        message(&lake, "select * from detection").await,
        "no table 'detection'; did you mean 'detections'? there are: detections, evaluation, media, observations"
    );
    let syntax = message(&lake, "selct 1").await;
    assert!(syntax.starts_with("the query cannot be parsed: "), "{syntax}");
    let function = message(&lake, "select uper(uri) from media").await;
    assert!(function.starts_with("the query cannot be run: ") && function.contains("'upper'"), "{function}");
    for query in ["", "   ", ";", "select", "select 1 from", "select * from media where uri > 5 +", "select 'a"] {
        let error = message(&lake, query).await;
        assert!(!error.contains('\n') && !error.is_empty(), "{query}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["", "gs://bucket/x", "http://host/x", "file://host/x"] {
        let error = Lake::open(url).await.err().unwrap_or_else(|| panic!("'{url}' was opened"));
        assert!(matches!(error, Error::Place(_)), "{url}: {error}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Lake::open(file.to_str().unwrap()).await.err().unwrap();
    assert!(error.to_string().contains("file"), "{error}");

    // A broken log says which table it is.
    let log = folder.path().join("media/_delta_log");
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("00000000000000000000.json"), "not json").unwrap();
    let lake = open(folder.path()).await;
    let error = lake.sql("select 1").await.err().unwrap();
    assert!(error.to_string().contains("media"), "{error}");
}

async fn message(lake: &Lake, query: &str) -> String {
    match lake.sql(query).await {
        Ok(_) => panic!("'{query}' was run"),
        Err(Error::Sql { message }) => message,
        Err(other) => panic!("'{query}': {other}"),
    }
}
