//! Results as a table, CSV, JSON and Arrow.

use std::io::{self, Write};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::ipc::reader::StreamReader;
use lake::{Error, Lake, OutputFormat, Transaction, format};

use crate::sample::{jaguar, open};

const QUERY: &str = "select uri, captured_at, detected_date, confidence, species, top5 from detections order by uri";

async fn written(lake: &Lake, query: &str, format: OutputFormat) -> (u64, Vec<u8>) {
    let mut out = Vec::new();
    let rows = lake.sql(query).await.unwrap();
    let count = format::write(rows, format, &mut out).await.unwrap();
    (count, out)
}

async fn sample(folder: &std::path::Path) -> Lake {
    let lake = open(folder).await;
    let mut unknown = jaguar("b, \"ß\".jpg", "run");
    unknown.species = None;
    unknown.captured_at = None;
    unknown.top5 = Vec::new();
    let boxes = [jaguar("a.jpg", "run"), unknown];
    lake.append_detections(&boxes, &Transaction::new("t", 1)).await.unwrap();
    lake
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let lake = sample(folder.path()).await;
    let query = "select uri, captured_at, detected_date, confidence, species from detections order by uri";
    let (count, table) = written(&lake, query, OutputFormat::Table).await;
    assert_eq!(count, 2);
    assert_eq!(
        String::from_utf8(table).unwrap(),
        "\
+------------+---------------------+---------------+------------+---------+
| uri        | captured_at         | detected_date | confidence | species |
+------------+---------------------+---------------+------------+---------+
| a.jpg      | 2024-05-31 22:10:30 | 2024-06-01    | 0.75       | jaguar  |
| b, \"ß\".jpg |                     | 2024-06-01    | 0.75       |         |
+------------+---------------------+---------------+------------+---------+
"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_has_a_header_and_nested_values_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let lake = sample(folder.path()).await;
    let (count, csv) = written(&lake, QUERY, OutputFormat::Csv).await;
    assert_eq!(count, 2);
    let csv = String::from_utf8(csv).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "uri,captured_at,detected_date,confidence,species,top5");
    assert!(lines[1].starts_with("a.jpg,2024-05-31T22:10:30.250"), "{}", lines[1]);
    assert!(
        lines[1].contains(",2024-06-01,0.75,jaguar,\"[{\"\"scientific_name\"\":\"\"Panthera onca\"\","),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "\"b, \"\"ß\"\".jpg\",,2024-06-01,0.75,,[]");
    let (_, empty) = written(&lake, "select uri, top5 from detections where false", OutputFormat::Csv).await;
    assert_eq!(empty, b"uri,top5\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_one_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let lake = sample(folder.path()).await;
    let (_, json) = written(&lake, QUERY, OutputFormat::Json).await;
    let json = String::from_utf8(json).unwrap();
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["confidence"], 0.75);
    assert_eq!(lines[0]["top5"][1]["species"], "leopard");
    assert_eq!(lines[0]["top5"][2]["species"], serde_json::Value::Null);
    assert!(lines[0]["captured_at"].as_str().unwrap().starts_with("2024-05-31T22:10:30.25"));
    assert_eq!(lines[1]["uri"], "b, \"ß\".jpg");
    assert!(lines[1].as_object().unwrap().contains_key("species"), "nulls are written: {}", lines[1]);
    let (count, empty) = written(&lake, "select uri from detections where false", OutputFormat::Json).await;
    assert_eq!((count, empty.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrow_has_plain_types_that_every_reader_knows() {
    let folder = tempfile::tempdir().unwrap();
    let lake = sample(folder.path()).await;
    let (_, bytes) = written(&lake, QUERY, OutputFormat::Arrow).await;
    let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let schema = reader.schema();
    let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types[0], &DataType::Utf8);
    assert_eq!(types[1], &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(types[2], &DataType::Date32);
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    assert_eq!(batches[0].column(0).as_string::<i32>().value(0), "a.jpg");
    let (count, empty) = written(&lake, "select uri from detections where false", OutputFormat::Arrow).await;
    assert_eq!(count, 0);
    assert_eq!(StreamReader::try_new(empty.as_slice(), None).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_without_columns_of_the_tables_has_output_too() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let (count, table) = written(&lake, "select 1 as one, 'x' as x", OutputFormat::Table).await;
    assert_eq!(count, 1);
    assert!(String::from_utf8(table).unwrap().contains("| 1   | x |"));
    let (_, table) = written(&lake, "describe media", OutputFormat::Table).await;
    assert!(String::from_utf8(table).unwrap().contains("processed_date"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_and_a_failing_query_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let lake = sample(folder.path()).await;
    for format in [OutputFormat::Table, OutputFormat::Csv, OutputFormat::Json, OutputFormat::Arrow] {
        let rows = lake.sql(QUERY).await.unwrap();
        let error = format::write(rows, format, &mut Closed).await.unwrap_err();
        assert!(
            matches!(&error, Error::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe),
            "{format}: {error}"
        );
    }
    let rows = lake.sql("select 1 / (frame - frame) from detections").await.unwrap();
    let error = format::write(rows, OutputFormat::Csv, &mut io::sink()).await.unwrap_err();
    assert!(matches!(&error, Error::Sql { message } if message.to_lowercase().contains("divi")), "{error}");
}

#[test]
fn formats_have_names() {
    for name in ["table", "csv", "json", "arrow"] {
        assert_eq!(name.parse::<OutputFormat>().unwrap().to_string(), name);
    }
    assert!("jsn".parse::<OutputFormat>().unwrap_err().to_string().contains("table, csv, json, arrow"));
}

/// A pipe whose reader is gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}
