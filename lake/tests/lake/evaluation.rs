//! The table of evaluations: rows once, questions with and without views, another reader.

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use futures::TryStreamExt as _;
use lake::{Appended, EvaluationRow, Lake, QueryRows, Role, Table, Transaction};

use crate::others::python;
use crate::sample::{number, open};

fn row(role: Role, model_version: &str, label: Option<&str>, f1: f64) -> EvaluationRow {
    EvaluationRow {
        evaluation_id: format!("run/evaluate/{model_version}"),
        model: "wildlife".to_owned(),
        version: (role == Role::Champion).then_some(4),
        model_version: model_version.to_owned(),
        model_digest: "d1".repeat(32),
        role: Some(role),
        dataset: "s3://bucket/labelled".to_owned(),
        dataset_digest: "e2".repeat(32),
        split: "test".to_owned(),
        label: label.map(str::to_owned),
        species: label.map(|_| "jaguar".to_owned()),
        count: 12,
        accuracy: label.is_none().then_some(0.75),
        macro_f1: label.is_none().then_some(f1),
        coverage: 0.5,
        precision: label.map(|_| 1.0),
        recall: label.map(|_| 0.5),
        f1: label.map(|_| f1),
        support: 12,
        training_digest: None,
        training_table_version: Some(7),
        run_id: "run".to_owned(),
        task: "evaluate".to_owned(),
        evaluated_at: "2026-06-01T08:00:00Z".parse().unwrap(),
    }
}

async fn filled(folder: &std::path::Path) -> Lake {
    let lake = open(folder).await;
    let rows = [
        row(Role::Challenger, "wildlife-new", None, 0.81),
        row(Role::Challenger, "wildlife-new", Some("Panthera onca"), 0.8),
        row(Role::Champion, "wildlife-old", None, 0.84),
    ];
    let name = Transaction::new("run/evaluate", 1);
    assert_eq!(lake.append_evaluation(&rows, &name).await.unwrap(), Appended::Committed { version: 1, rows: 3 });
    assert_eq!(lake.append_evaluation(&rows, &name).await.unwrap(), Appended::AlreadyThere);
    lake
}

async fn floats(rows: QueryRows) -> Vec<f64> {
    let batches: Vec<_> = rows.try_collect().await.unwrap();
    let first = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
    (0..first.num_columns()).map(|column| first.column(column).as_primitive::<Float64Type>().value(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_there_once_and_can_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let lake = filled(folder.path()).await;
    assert_eq!(lake.version(Table::Evaluation).await.unwrap(), Some(1));
    assert_eq!(lake.version(Table::Media).await.unwrap(), None);
    for (query, expected) in [
        ("select count(*) from evaluation", 3),
        ("select count(*) from evaluation where label is null and role = 'champion' and version = 4", 1),
        ("select training_table_version from evaluation where label is not null", 7),
        ("select count(*) from evaluation where evaluated_date = '2026-06-01'", 3),
    ] {
        assert_eq!(number(&lake, query).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_may_take_the_place_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let lake = filled(folder.path()).await;
    let numbered = "select e.model_version, e.macro_f1, e.label, coalesce(v.version, e.version) as version \
                    from evaluation e left join (values (5, 'wildlife-new')) as v (version, model_version) \
                    on e.model_version = v.model_version";
    let query = "select c.macro_f1 as found, b.macro_f1 - 0.01 as wanted from evaluation c, evaluation b \
                 where c.version = 5 and b.version = 4 and c.label is null and b.label is null";
    let numbers = floats(lake.sql_with_views(query, &[("evaluation", numbered)]).await.unwrap()).await;
    assert!((numbers[0] - 0.81).abs() < 1e-12 && (numbers[1] - 0.83).abs() < 1e-12, "{numbers:?}");
    let change = lake.sql_with_views("drop table evaluation", &[("evaluation", numbered)]).await;
    assert!(change.err().unwrap().to_string().contains("only reading statements"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_deltalake_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let lake = filled(folder.path()).await;
    let script = "
import json, sys
from deltalake import DeltaTable, QueryBuilder
table = DeltaTable(sys.argv[1].removeprefix('file://') + '/evaluation')
rows = QueryBuilder().register('e', table).execute('select macro_f1, version from e where label is null order by 1')
print(json.dumps({
    'columns': [field.name for field in table.schema().fields],
    'txn': table.transaction_version('run/evaluate'),
    'rows': rows.read_all().to_struct_array().to_pylist(),
}))";
    let seen = python(script, lake.location(), b"");
    let names: Vec<String> = Table::Evaluation.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(seen["columns"], serde_json::json!(names));
    assert_eq!(seen["txn"], 1);
    let rows = serde_json::json!([{"macro_f1": 0.81, "version": null}, {"macro_f1": 0.84, "version": 4}]);
    assert_eq!(seen["rows"], rows);
}
