//! Waiting kinds: one look at a folder, a clock or a server.

use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::{TimeDelta, Utc};
use jobs::{Masker, WaitForHttpJob, WaitForObjectJob, WaitForTimeJob};
use pipeline::{Job, JobError, JobOutput, Retry};
use serde_json::{Value, json};

use crate::common::{PATIENCE, context};
use crate::server::{Server, nobody};

async fn look(job: &dyn Job, with: Value) -> Result<JobOutput, JobError> {
    job.check(&with).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (_stop, context) = context(home.path());
    tokio::time::timeout(PATIENCE, job.run(context, with)).await.expect("a look does not hang")
}

async fn for_object(with: Value) -> Result<JobOutput, JobError> {
    look(&WaitForObjectJob::new(), with).await
}

fn write(path: &Path, content: &str, age: Duration) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[tokio::test]
async fn an_object_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("new/data.csv");
    let error = for_object(json!({"object": path})).await.unwrap_err();
    assert_eq!(error.retry, Retry::Later(Duration::from_secs(30)));
    assert!(error.message.ends_with("data.csv is not there"), "{error}");
    write(&path, "12345", Duration::ZERO);
    let output = for_object(json!({"object": format!("file://{}", path.display())})).await.unwrap();
    assert_eq!(output.value["size"], 5);
    assert_eq!(output.value["uri"], json!(path));
    assert_eq!(output.value["key"], json!(path));
    assert!(output.value["version"].is_string() && output.value["modified"].is_string());
    // A folder is no object.
    let error = for_object(json!({"object": home.path().join("new"), "interval": "5m"})).await.unwrap_err();
    assert_eq!(error.retry, Retry::Later(Duration::from_secs(300)));
}

#[tokio::test]
async fn an_object_is_waited_for_until_it_is_large_and_quiet() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data.csv");
    write(&path, "12345", Duration::from_secs(100));
    let error = for_object(json!({"object": path, "min_size": 6})).await.unwrap_err();
    assert!(matches!(error.retry, Retry::Later(_)) && error.message.contains("has 5 of at least 6 bytes"), "{error}");
    for_object(json!({"object": path, "min_size": 5, "stable_for": "90s"})).await.unwrap();
    let error = for_object(json!({"object": path, "stable_for": "110s"})).await.unwrap_err();
    let Retry::Later(wait) = error.retry else { panic!("{error:?}") };
    assert!(wait <= Duration::from_secs(10), "only as long as is left: {wait:?}");
    let error = for_object(json!({"object": path, "stable_for": "1h"})).await.unwrap_err();
    assert_eq!(error.retry, Retry::Later(Duration::from_secs(30)));
    assert!(error.message.contains("was changed 1m "), "{error}");
}

#[tokio::test]
async fn objects_under_a_prefix_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("in");
    let with = |count: u64| json!({"prefix": folder, "min_count": count, "min_size": 2, "stable_for": "10s"});
    let error = for_object(with(1)).await.unwrap_err();
    assert!(error.message.contains("has 0 of at least 1 objects"), "{error}");
    write(&folder.join("b/2"), "22", Duration::from_secs(60));
    write(&folder.join("a"), "333", Duration::from_secs(90));
    write(&folder.join("small"), "1", Duration::ZERO);
    let output = for_object(with(2)).await.unwrap();
    assert_eq!(output.value["count"], 2);
    assert_eq!(output.value["size"], 5);
    assert_eq!(output.value["keys"], json!(["a", "b/2"]));
    assert_eq!(output.value["more"], false);
    assert!(for_object(with(3)).await.unwrap_err().message.contains("has 2 of at least 3"));
    write(&folder.join("new"), "22", Duration::ZERO);
    let error = for_object(with(2)).await.unwrap_err();
    assert!(matches!(error.retry, Retry::Later(_)) && error.message.contains("was changed"), "{error}");
}

#[tokio::test]
async fn long_listings_have_bounded_outputs() {
    let home = tempfile::tempdir().unwrap();
    for number in 0..1_050 {
        std::fs::write(home.path().join(format!("{number:0200}")), "x").unwrap();
    }
    let output = for_object(json!({"prefix": home.path()})).await.unwrap();
    assert_eq!(output.value["count"], 1_050);
    assert_eq!(output.value["more"], true);
    let length = output.value.to_string().len();
    assert!((100_000..200_000).contains(&length), "{length}");
}

#[test]
fn wrong_objects_are_told() {
    let job = WaitForObjectJob::new();
    for with in [
        json!({"object": "s3://bucket/{{ params.day }}/x"}),
        json!({"object": "s3://bucket/a/b.csv", "min_size": "{{ params.size }}", "interval": "1m"}),
        json!({"prefix": "s3://bucket", "min_count": 3}),
    ] {
        assert_eq!(job.check(&with), Ok(()), "{with}");
    }
    for (with, part) in [
        (json!({}), "give either `object` or `prefix`"),
        (json!({"object": "a", "prefix": "b"}), "give either"),
        (json!({"object": "s3://bucket"}), "names no object"),
        (json!({"object": "s3://bucket/a/"}), "use `prefix`"),
        (json!({"object": "gs://bucket/a"}), "is no place for objects"),
        (json!({"object": "a", "min_count": 2}), "goes with `prefix`"),
        (json!({"prefix": "a", "min_count": 0}), "at least 1"),
        (json!({"prefix": "a", "min_size": "5 MB"}), "a whole number from 0, but is a text"),
        (json!({"object": "a", "interval": "0s"}), "more than no time"),
        (json!({"object": "a", "stable_fro": "1s"}), "did you mean `stable_for`?"),
    ] {
        let message = job.check(&with).unwrap_err();
        assert!(message.contains(part), "{with}: {message}");
    }
}

#[tokio::test]
async fn a_time_is_waited_for() {
    let job = WaitForTimeJob::new();
    let since = (Utc::now() - TimeDelta::seconds(100)).to_rfc3339();
    let output = look(&job, json!({"after": "90s", "since": since})).await.unwrap();
    assert!(output.value["late_seconds"].as_u64().is_some_and(|late| (9..60).contains(&late)), "{output:?}");
    let error = look(&job, json!({"after": "1h", "since": since})).await.unwrap_err();
    let Retry::Later(left) = error.retry else { panic!("{error:?}") };
    assert!(left <= Duration::from_secs(3_500) && left > Duration::from_secs(3_400), "{left:?}");
}

#[tokio::test]
async fn an_answer_is_waited_for() {
    let job = WaitForHttpJob::new(Masker::default());
    let later = Retry::Later(Duration::from_secs(5));
    let with =
        |url: &str| json!({"http": url, "interval": "5s", "json": {"/state": "ready"}, "headers": {"X-Key": "k"}});
    let error = look(&job, with(&nobody().await)).await.unwrap_err();
    assert!(error.retry == later && error.message.contains("connection refused"), "{error}");
    let absent = Server::always("404 Not Found").await;
    let error = look(&job, with(&absent.url)).await.unwrap_err();
    assert!(error.retry == later && error.message.ends_with("it answered 404 Not Found"), "{error}");
    assert!(absent.asked()[0].contains("\r\nx-key: k\r\n"));
    let busy = Server::always("200 OK\n\n{\"state\": \"busy\"}").await;
    let error = look(&job, with(&busy.url)).await.unwrap_err();
    assert!(error.retry == later && error.message.contains("`/state` is \"busy\", not \"ready\""), "{error}");
    let ready = Server::always("200 OK\n\n{\"state\": \"ready\"}").await;
    let output = look(&job, with(&ready.url)).await.unwrap();
    assert_eq!(output.value, json!({"status": 200, "body": {"state": "ready"}}));
    let closed = Server::always("403 Forbidden").await;
    let error = look(&job, with(&closed.url)).await.unwrap_err();
    assert!(error.retry == Retry::No && error.message.contains("check `headers`"), "{error}");
    look(&job, json!({"http": closed.url, "status": 403})).await.unwrap();
    let silent = Server::always("").await;
    let error = look(&job, json!({"http": silent.url, "timeout": "100ms"})).await.unwrap_err();
    assert_eq!(error.retry, Retry::Later(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_look_stops_on_request() {
    let home = tempfile::tempdir().unwrap();
    let (stop, context) = context(home.path());
    stop.send_replace(true);
    let with = json!({"object": home.path().join("x")});
    assert_eq!(WaitForObjectJob::new().run(context, with).await.unwrap_err(), JobError::interrupted());
}
