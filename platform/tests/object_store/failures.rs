//! Servers that are dead, busy, cut off, or no S3 servers at all.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use platform::Error;
use platform::object_store::{AwsAccess, DEFAULT_REGION, Location, ObjectStore, open_with};

use crate::fake::{empty_listing, failure, header, response, serve};

async fn open_at(endpoint: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let access = AwsAccess::with_keys(endpoint, DEFAULT_REGION, "key", "secret")?;
    open_with(&Location::parse("s3://photos/2024")?, &access).await
}

#[tokio::test]
async fn a_closed_port_fails_soon() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let started = Instant::now();
    let error = open_at(&endpoint).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient());
    let expected = format!("cannot reach the object store at {endpoint} (connection refused): check that it runs");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_silent_server_fails_within_ten_seconds() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let started = Instant::now();
    let error = open_at(&format!("http://{}", listener.local_addr().unwrap())).await.unwrap_err();
    assert!(error.to_string().contains("(it does not answer within 10 s)"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_unknown_host_fails_soon() {
    let started = Instant::now();
    let error = open_at("http://no-such-host.invalid:8333").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_web_server_is_not_taken_for_s3() {
    for answer in ["200 OK", "404 Not Found"] {
        let (endpoint, _) = serve(move |_, _| response(answer, "content-type: text/html\r\n", "<html>hello</html>"));
        let text = match open_at(&endpoint).await {
            Err(error) => error.to_string(),
            Ok(store) => panic!("{answer} was taken for an S3 server: {store:?}"),
        };
        assert!(text.contains("does not answer as an S3 server does"), "{text}");
        assert!(text.contains("check AWS_ENDPOINT_URL"), "{text}");
    }
}

#[tokio::test]
async fn the_region_that_the_server_names_is_passed_on() {
    let (endpoint, _) = serve(|_, _| response("301 Moved Permanently", "x-amz-bucket-region: eu-north-1\r\n", ""));
    let error = open_at(&endpoint).await.unwrap_err();
    assert!(error.to_string().ends_with("set AWS_REGION=eu-north-1"), "{error}");
}

#[tokio::test]
async fn busy_servers_are_asked_again() {
    let (endpoint, requests) = serve(|number, _| match number {
        0 => empty_listing(),
        1 | 2 => failure("503 Slow Down", "SlowDown"),
        _ => response("200 OK", "", "content"),
    });
    let store = open_at(&endpoint).await.unwrap();
    assert_eq!(store.get("a.jpg").await.unwrap(), "content");
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    assert!(requests[3].starts_with("GET /photos/2024/a.jpg"), "{}", requests[3]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_read_again() {
    let cut = || Some("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\ncon".to_owned());
    let (endpoint, requests) = serve(move |number, _| match number {
        0 => empty_listing(),
        1 | 3 => cut(),
        2 | 4 => response("200 OK", "", "content"),
        _ => cut(),
    });
    let store = open_at(&endpoint).await.unwrap();
    assert_eq!(store.get("a.jpg").await.unwrap(), "content");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a.jpg");
    store.download("a.jpg", &target).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"content");
    assert_eq!(requests.lock().unwrap().len(), 5);

    let error = store.get("a.jpg").await.unwrap_err();
    assert!(matches!(error, Error::ObjectStore { transient: true, .. }), "{error:?}");
    assert_eq!(requests.lock().unwrap().len(), 8, "three attempts, then the failure");
    let other = folder.path().join("b.jpg");
    store.download("a.jpg", &other).await.unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written stays");
}

#[tokio::test]
async fn a_conditional_write_whose_answer_was_lost_is_known_as_ours() {
    let writer = std::sync::Mutex::new(String::new());
    let (endpoint, requests) = serve(move |number, head| match number {
        0 => empty_listing(),
        1 => {
            *writer.lock().unwrap() = header(head, "x-amz-meta-safari-writer").unwrap().to_owned();
            None
        }
        2 | 4 => failure("412 Precondition Failed", "PreconditionFailed"),
        3 => response("200 OK", &format!("x-amz-meta-safari-writer: {}\r\n", writer.lock().unwrap()), ""),
        _ => response("200 OK", "x-amz-meta-safari-writer: somebody\r\n", ""),
    });
    let store = open_at(&endpoint).await.unwrap();
    assert!(store.put_if_absent("log", Bytes::from_static(b"x")).await.unwrap(), "written, but the answer was lost");
    assert!(!store.put_if_absent("log", Bytes::from_static(b"y")).await.unwrap(), "written by somebody else");
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 6);
    assert!(header(&requests[1], "if-none-match") == Some("*"), "{}", requests[1]);
}

#[tokio::test]
async fn a_full_server_is_told_from_a_broken_one() {
    let (endpoint, _) = serve(|number, _| match number {
        0 => empty_listing(),
        _ => failure("507 Insufficient Storage", "XMinioStorageFull"),
    });
    let store = open_at(&endpoint).await.unwrap();
    let error = store.put("a", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(&error, Error::Full { uri } if uri == "s3://photos/2024/a"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_cut_to_them() {
    let (endpoint, _) = serve(|number, _| match number {
        0 => empty_listing(),
        _ => response("200 OK", "", "0123456789"),
    });
    let store = open_at(&endpoint).await.unwrap();
    assert_eq!(store.get_range("a", 2..5).await.unwrap(), "234");
    assert_eq!(store.get_range("a", 8..50).await.unwrap(), "89");
}
