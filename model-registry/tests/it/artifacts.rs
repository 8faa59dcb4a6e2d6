//! Files: up, down, in parts, and what is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use model_registry::api::{App, router};
use model_registry::artifacts::{ArtifactPath, Artifacts};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tower::ServiceExt;

use crate::common::Registry;

const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";
const PARTS: &str = "/api/2.0/mlflow-artifacts/mpu";

/// An answer with its bytes.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

async fn send(app: &App, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Got {
    let mut request = Request::builder().method(method).uri(path).header("host", "registry.test:5000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = router(app.clone()).oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Got { status: parts.status, headers: parts.headers, bytes }
}

async fn post(app: &App, path: &str, body: Value) -> Got {
    send(app, "POST", path, &[("content-type", "application/json")], body.to_string()).await
}

/// Bytes that are nowhere the same.
fn content(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// All files below the artifacts of a registry, unfinished ones as well.
fn on_disk(registry: &Registry) -> BTreeSet<PathBuf> {
    fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&registry.home.path().join("artifacts"), &mut found);
    found
}

#[tokio::test]
async fn files_go_up_down_and_away() {
    let registry = Registry::new().await;
    let app = &registry.app;
    let whole = content(3_500_000);
    for path in ["0/run/artifacts/model/weights.bin", "0/run/artifacts/with%20space/%C3%A4%25%2B.txt"] {
        let got = send(app, "PUT", &format!("{FILES}/{path}"), &[], whole.clone()).await;
        assert_eq!((got.status, got.json()), (StatusCode::OK, json!({})), "{path}");
        let got = send(app, "GET", &format!("{FILES}/{path}"), &[], "").await;
        assert!(got.status == StatusCode::OK && got.bytes == whole, "{path}: {}", got.status);
        assert_eq!(got.header("content-length"), "3500000");
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert!(got.header("content-disposition").starts_with("attachment; filename="));
    }
    let path = format!("{FILES}/0/run/artifacts/model/weights.bin");
    let head = send(app, "HEAD", &path, &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.bytes.len()), (StatusCode::OK, "3500000", 0));
    assert_eq!(head.header("accept-ranges"), "bytes");

    let listed = send(app, "GET", &format!("{FILES}?path=0/run/artifacts"), &[], "").await;
    assert_eq!(
        listed.json(),
        json!({ "files": [{ "path": "model", "is_dir": true }, { "path": "with space", "is_dir": true }] })
    );
    let listed = send(app, "GET", &format!("{FILES}?path=0/run/artifacts/with%20space"), &[], "").await;
    assert_eq!(listed.json(), json!({ "files": [{ "path": "ä%+.txt", "is_dir": false, "file_size": 3_500_000 }] }));
    let listed = send(app, "GET", &format!("{FILES}?path=0/nothing"), &[], "").await;
    assert_eq!(listed.json(), json!({}), "as MLflow, which leaves empty lists out");

    send(app, "PUT", &path, &[], "other").await;
    assert_eq!(send(app, "GET", &path, &[], "").await.bytes, "other");
    assert_eq!(send(app, "DELETE", &path, &[], "").await.json(), json!({}));
    let gone = send(app, "GET", &path, &[], "").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(
        gone.json(),
        json!({
            "error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such artifact: '0/run/artifacts/model/weights.bin'",
        })
    );
    assert_eq!(send(app, "DELETE", &format!("{FILES}/0/run"), &[], "").await.status, StatusCode::OK);
    assert!(on_disk(&registry).is_empty(), "{:?}", on_disk(&registry));
}

#[tokio::test]
async fn ranges_and_conditions_are_answered() {
    let registry = Registry::new().await;
    let app = &registry.app;
    let whole = content(2_500_000);
    let path = format!("{FILES}/a/b.bin");
    send(app, "PUT", &path, &[], whole.clone()).await;
    let tag = send(app, "HEAD", &path, &[], "").await.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");

    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-2000000", 1_000_000, 2_000_001),
        ("bytes=2499990-", 2_499_990, 2_500_000),
        ("bytes=-7", 2_499_993, 2_500_000),
        ("bytes=2499999-99999999", 2_499_999, 2_500_000),
    ] {
        let got = send(app, "GET", &path, &[("range", range)], "").await;
        assert_eq!(got.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert!(got.bytes == whole[start..end], "{range}");
        assert_eq!(got.header("content-range"), format!("bytes {start}-{}/2500000", end - 1));
        assert_eq!(got.header("content-length"), (end - start).to_string());
    }
    let got = send(app, "GET", &path, &[("range", "bytes=2500000-")], "").await;
    assert_eq!((got.status, got.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */2500000"));
    let got = send(app, "GET", &path, &[("range", "bytes=5-9"), ("if-range", &tag)], "").await;
    assert_eq!(got.bytes, whole[5..10]);
    let got = send(app, "GET", &path, &[("range", "bytes=5-9"), ("if-range", "\"old\"")], "").await;
    assert_eq!((got.status, got.bytes.len()), (StatusCode::OK, whole.len()));
    let got = send(app, "GET", &path, &[("if-none-match", &tag)], "").await;
    assert_eq!((got.status, got.bytes.len()), (StatusCode::NOT_MODIFIED, 0));
    let got = send(app, "GET", &format!("{FILES}/a"), &[], "").await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert_eq!(got.json()["message"], "Artifact path refers to a directory, not a file: 'a'");
}

#[tokio::test]
async fn paths_that_leave_the_root_are_refused() {
    let registry = Registry::new().await;
    let app = &registry.app;
    let outside = registry.home.path().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    for path in [
        "../outside",
        "a/../../outside",
        "..%2Foutside",
        "%2e%2e/outside",
        "%252e%252e%252foutside",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "a%5C..%5Coutside",
        "C:%5Cx",
        "a%23b",
        "a%00b",
        "%FF%FE",
        ".safari-tmp-uploads/x",
        &"n".repeat(300),
        &"long/".repeat(300),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let got = send(app, method, &format!("{FILES}/{path}"), &[], "x").await;
            assert_eq!(got.status, StatusCode::BAD_REQUEST, "{method} {path}");
            assert_eq!(got.json()["error_code"], "INVALID_PARAMETER_VALUE", "{method} {path}");
        }
        // A query that is no UTF-8 is read as a name that nothing has.
        if path != "%FF%FE" {
            let got = send(app, "GET", &format!("{FILES}?path={path}"), &[], "").await;
            assert_eq!(got.status, StatusCode::BAD_REQUEST, "list {path}");
        }
        let body = json!({ "path": "x", "num_parts": 1 });
        assert_eq!(post(app, &format!("{PARTS}/create/{path}"), body).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "secret");
    assert!(on_disk(&registry).is_empty(), "{:?}", on_disk(&registry));
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let registry = Registry::new().await;
    let app = &registry.app;
    let path = format!("{FILES}/model/weights");
    send(app, "PUT", &path, &[], "before").await;
    let pieces = vec![Ok(Bytes::from(content(2_000_000))), Err(std::io::Error::other("the line is dead"))];
    let got = send(app, "PUT", &path, &[], Body::from_stream(futures::stream::iter(pieces))).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert!(got.json()["message"].as_str().unwrap().contains("nothing was written"), "{}", got.json());
    let short = Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"short"))]));
    let got = send(app, "PUT", &path, &[("content-length", "6")], short).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST, "{}", got.json());
    assert_eq!(send(app, "GET", &path, &[], "").await.bytes, "before");
    assert_eq!(on_disk(&registry).len(), 1, "{:?}", on_disk(&registry));
}

#[tokio::test]
async fn a_connection_that_is_cut_leaves_nothing() {
    let registry = Registry::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(axum::serve(listener, router(registry.app.clone())).into_future());
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("PUT {FILES}/model/weights HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&content(3_000_000)).await.unwrap();
    while !on_disk(&registry).iter().any(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 1_000_000)) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop(connection);
    while !on_disk(&registry).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let got = send(&registry.app, "GET", &format!("{FILES}/model/weights"), &[], "").await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
    served.abort();
}

#[tokio::test]
async fn a_file_comes_in_parts() {
    let registry = Registry::new().await;
    let app = &registry.app;
    let whole = content(5_000_000);
    let parts: Vec<&[u8]> = whole.chunks(2_000_000).collect();
    let body = json!({ "path": "/home/ada/weights.bin", "num_parts": 3 });
    let created = post(app, &format!("{PARTS}/create/0/run/model"), body).await.json();
    let upload = created["upload_id"].as_str().unwrap().to_owned();
    let addresses: Vec<&str> =
        created["credentials"].as_array().unwrap().iter().map(|given| given["url"].as_str().unwrap()).collect();
    assert_eq!(addresses[1], format!("http://registry.test:5000{PARTS}/part/{upload}/2"));

    let local = |address: &str| address.strip_prefix("http://registry.test:5000").unwrap().to_owned();
    let mut tags = Vec::new();
    for number in [2, 0, 1] {
        // The first try of each breaks off or is of other bytes; the last one counts.
        let broken = vec![Ok(Bytes::from(content(100))), Err(std::io::Error::other("dead"))];
        let body = Body::from_stream(futures::stream::iter(broken));
        assert_eq!(send(app, "PUT", &local(addresses[number]), &[], body).await.status, StatusCode::BAD_REQUEST);
        let old = send(app, "PUT", &local(addresses[number]), &[], "other bytes").await.header("etag").to_owned();
        let got = send(app, "PUT", &local(addresses[number]), &[], parts[number].to_vec()).await;
        assert_eq!(got.status, StatusCode::OK);
        assert_ne!(got.header("etag"), old);
        tags.push(json!({ "part_number": number + 1, "etag": got.header("etag"), "url": addresses[number] }));
    }
    let complete = |parts: &[Value]| json!({ "path": "weights.bin", "upload_id": upload, "parts": parts });
    let place = format!("{PARTS}/complete/0/run/model");
    let file = format!("{FILES}/0/run/model/weights.bin");
    let mut wrong = tags.clone();
    wrong[0]["etag"] = json!("\"1-2\"");
    for bad in [&tags[..2], &wrong[..], &[tags[0].clone(), tags[0].clone(), tags[1].clone()]] {
        let got = post(app, &place, complete(bad)).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{}", got.json());
    }
    assert_eq!(send(app, "GET", &file, &[], "").await.status, StatusCode::NOT_FOUND, "nothing appears before its time");
    let got = post(app, &format!("{PARTS}/complete/0/other"), complete(&tags)).await;
    assert_eq!(got.status, StatusCode::NOT_FOUND, "an upload is for one path: {}", got.json());

    for _ in 0..2 {
        let got = post(app, &place, complete(&tags)).await;
        assert_eq!((got.status, got.json()), (StatusCode::OK, json!({})), "also asked again");
    }
    assert!(send(app, "GET", &file, &[], "").await.bytes == whole);
    assert_eq!(on_disk(&registry).len(), 1, "{:?}", on_disk(&registry));
    let late = send(app, "PUT", &local(addresses[0]), &[], "late").await;
    assert_eq!(late.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn uploads_that_nobody_completes_go() {
    let registry = Registry::new().await;
    let app = &registry.app;
    let begin = async |name: &str| {
        let created = post(app, &format!("{PARTS}/create"), json!({ "path": name, "num_parts": 2 })).await.json();
        let upload = created["upload_id"].as_str().unwrap().to_owned();
        let put = send(app, "PUT", &format!("{PARTS}/part/{upload}/1"), &[], content(1000)).await;
        assert_eq!(put.status, StatusCode::OK);
        upload
    };
    let given_up = begin("a").await;
    let forgotten = begin("b").await;
    assert_eq!(on_disk(&registry).len(), 2);
    let body = json!({ "path": "a", "upload_id": given_up });
    assert_eq!(post(app, &format!("{PARTS}/abort"), body.clone()).await.status, StatusCode::OK);
    assert_eq!(post(app, &format!("{PARTS}/abort"), body).await.status, StatusCode::OK);
    assert_eq!(on_disk(&registry).len(), 1);

    let now = chrono::Utc::now();
    let hour = chrono::TimeDelta::hours(1);
    assert_eq!(app.artifacts.clean(&app.store, now - hour).await.unwrap(), (0, 0), "it is young");
    assert_eq!(app.artifacts.clean(&app.store, now + hour).await.unwrap().0, 1);
    assert!(on_disk(&registry).is_empty());
    assert_eq!(registry.sql("SELECT COUNT(*) FROM upload").await, 0);
    let late = send(app, "PUT", &format!("{PARTS}/part/{forgotten}/2"), &[], "x").await;
    assert_eq!(late.status, StatusCode::NOT_FOUND);
    for (parts, upload) in [(0, "create"), (10_001, "create")] {
        let got = post(app, &format!("{PARTS}/{upload}"), json!({ "path": "x", "num_parts": parts })).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{parts}");
    }
}

#[tokio::test]
async fn files_of_runs_and_versions_are_found_by_their_names() {
    let registry = Registry::new().await;
    let app = &registry.app;
    let run = registry.must("POST", "runs/create", json!({ "experiment_id": "0" })).await;
    let (id, uri) = (run["run"]["info"]["run_id"].clone(), run["run"]["info"]["artifact_uri"].clone());
    let (id, uri) = (id.as_str().unwrap(), uri.as_str().unwrap());
    let root = ArtifactPath::of_uri(uri).unwrap();
    send(app, "PUT", &format!("{FILES}/{root}/model/MLmodel"), &[], "flavors: {}").await;
    send(app, "PUT", &format!("{FILES}/{root}/notes.txt"), &[], "seen").await;
    let listed = registry.get(&format!("artifacts/list?run_id={id}")).await.body;
    let notes = json!({ "path": "notes.txt", "is_dir": false, "file_size": 4 });
    assert_eq!(listed, json!({ "root_uri": uri, "files": [{ "path": "model", "is_dir": true }, notes] }));
    let listed = registry.get(&format!("artifacts/list?run_id={id}&path=model")).await.body;
    assert_eq!(listed["files"][0]["path"], "model/MLmodel");
    let got = send(app, "GET", &format!("/get-artifact?run_id={id}&path=notes.txt"), &[], "").await;
    assert_eq!((got.bytes, got.headers["content-type"].to_str().unwrap()), ("seen".into(), "text/plain"));
    let refused = send(app, "GET", &format!("/get-artifact?run_id={id}&path=../../x"), &[], "").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);

    registry.must("POST", "registered-models/create", json!({ "name": "owl" })).await;
    let source = format!("{uri}/model");
    registry.must("POST", "model-versions/create", json!({ "name": "owl", "source": source, "run_id": id })).await;
    let got = send(app, "GET", "/model-versions/get-artifact?name=owl&version=1&path=MLmodel", &[], "").await;
    assert_eq!(got.bytes, "flavors: {}", "{:?}", got.bytes);
    let got = send(app, "GET", "/model-versions/get-artifact?name=owl&version=2&path=MLmodel", &[], "").await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
}

/// On S3 clients get addresses of S3 itself, which need no credentials.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket_parts_and_downloads_pass_by_the_server() {
    let server = e2e::seaweedfs::Server::start().await.unwrap();
    let bucket = server.bucket("artifacts").await.unwrap();
    let registry = Registry::new().await;
    let app = App { artifacts: std::sync::Arc::new(Artifacts::new(bucket)), ..registry.app.clone() };
    let whole = content(12_000_000);
    let parts: Vec<&[u8]> = whole.chunks(6_000_000).collect();
    let created = post(&app, &format!("{PARTS}/create/0/m"), json!({ "path": "w.bin", "num_parts": 2 })).await.json();
    let client = reqwest::Client::new();
    let mut tags = Vec::new();
    for (given, part) in created["credentials"].as_array().unwrap().iter().zip(&parts) {
        let url = given["url"].as_str().unwrap();
        assert!(url.starts_with(server.endpoint()), "{url}");
        let answer = client.put(url).body(part.to_vec()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        tags.push(json!({ "part_number": given["part_number"], "etag": tag }));
    }
    let body = json!({ "path": "w.bin", "upload_id": created["upload_id"], "parts": tags });
    let got = post(&app, &format!("{PARTS}/complete/0/m"), body).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    assert!(send(&app, "GET", &format!("{FILES}/0/m/w.bin"), &[], "").await.bytes == whole);
    let got = send(&app, "GET", &format!("{FILES}/0/m/w.bin"), &[("range", "bytes=5999990-6000009")], "").await;
    assert!(got.bytes == whole[5_999_990..6_000_010] && got.status == StatusCode::PARTIAL_CONTENT);

    let given = send(&app, "GET", "/api/2.0/mlflow-artifacts/presigned/0/m/w.bin", &[], "").await.json();
    assert_eq!(given["file_size"], 12_000_000);
    let answer = client.get(given["url"].as_str().unwrap()).header("range", "bytes=0-9").send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), whole[..10]);
    let missing = send(&app, "GET", "/api/2.0/mlflow-artifacts/presigned/0/m/none", &[], "").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let info = send(&app, "GET", "/api/3.0/mlflow/server-info", &[], "").await.json();
    assert_eq!(info["multipart_downloads_enabled"], true);

    let large = content(40_000_000);
    let pieces = futures::stream::iter(
        large.chunks(123_457).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect::<Vec<_>>(),
    );
    let length = large.len().to_string();
    let got =
        send(&app, "PUT", &format!("{FILES}/large"), &[("content-length", &length)], Body::from_stream(pieces)).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    assert!(send(&app, "GET", &format!("{FILES}/large"), &[], "").await.bytes == large);
    let broken = futures::stream::iter(vec![Ok(Bytes::from(content(20_000_000))), Err(std::io::Error::other("dead"))]);
    let got = send(&app, "PUT", &format!("{FILES}/broken"), &[], Body::from_stream(broken)).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert_eq!(send(&app, "GET", &format!("{FILES}/broken"), &[], "").await.status, StatusCode::NOT_FOUND);
    let listed = send(&app, "GET", FILES, &[], "").await.json();
    assert_eq!(listed["files"][0], json!({ "path": "0", "is_dir": true }));
    assert_eq!(send(&app, "DELETE", &format!("{FILES}/0"), &[], "").await.status, StatusCode::OK);
    assert_eq!(send(&app, "GET", &format!("{FILES}/0/m/w.bin"), &[], "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(send(&app, "GET", &format!("{FILES}/large"), &[], "").await.status, StatusCode::OK);
}
