//! Requests to a server on loopback.

use std::time::Duration;

use jobs::{HttpJob, Masker};
use pipeline::logs::Stream;
use pipeline::{Job, JobError, JobOutput, Retry};
use serde_json::{Value, json};

use crate::common::{PATIENCE, Recorder, context, logged_context};
use crate::server::{Server, nobody};

async fn send(with: Value) -> Result<JobOutput, JobError> {
    let job = HttpJob::new(Masker::default());
    job.check(&with).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (_stop, context) = context(home.path());
    tokio::time::timeout(PATIENCE, job.run(context, with)).await.expect("the request does not hang")
}

async fn fails(with: Value) -> JobError {
    send(with).await.unwrap_err()
}

#[tokio::test]
async fn posts_json_with_the_idempotency_key() {
    let server = Server::always("201 Created\ncontent-type: application/json; charset=utf-8\n\n{\"id\": 7}").await;
    let with = json!({
        "url": format!("{}/jobs?a=b", server.url), "method": "POST", "headers": {"X-Kind": "test"}, "body": {"n": [1, "ü"]},
    });
    let output = send(with).await.unwrap();
    assert_eq!(output.value, json!({"id": 7}));
    assert!(output.summary.starts_with(&format!("POST {}/jobs?…: 201 Created in ", server.url)), "{}", output.summary);
    let [request] = &server.asked()[..] else { panic!("one request") };
    assert!(request.starts_with("POST /jobs?a=b HTTP/1.1\r\n"), "{request}");
    for line in ["x-kind: test", "idempotency-key: run-1/work", "content-type: application/json"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"n\":[1,\"ü\"]}"), "{request}");
}

#[tokio::test]
async fn the_key_is_sent_only_where_it_matters() {
    let server = Server::always("204 No Content").await;
    let with = |method: &str, key: bool, headers: Value| json!({"url": server.url, "method": method, "idempotency_header": key, "headers": headers, "body": "text"});
    send(with("GET", true, json!({}))).await.unwrap();
    send(with("DELETE", true, json!({}))).await.unwrap();
    send(with("PUT", false, json!({}))).await.unwrap();
    send(with("PATCH", true, json!({"Idempotency-Key": "mine", "Content-Type": "text/csv"}))).await.unwrap();
    let has = |request: &String| request.contains("\r\nidempotency-key: run-1/work\r\n");
    assert_eq!(server.asked().iter().map(has).collect::<Vec<_>>(), [false, true, false, false]);
    assert!(server.asked()[0].contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"));
    assert!(server.asked()[3].contains("\r\nidempotency-key: mine\r\n"));
    assert!(server.asked()[3].contains("\r\ncontent-type: text/csv\r\n"));
}

#[tokio::test]
async fn outputs_are_of_the_kind_asked_for() {
    let page = Server::always("200 OK\ncontent-type: text/html\n\n<p>[1]</p>").await;
    assert_eq!(send(json!({"url": page.url})).await.unwrap().value, Value::Null);
    assert_eq!(send(json!({"url": page.url, "output": "text"})).await.unwrap().value, json!("<p>[1]</p>"));
    let error = fails(json!({"url": page.url, "output": "json"})).await;
    assert!(error.retry == Retry::No && error.message.contains("the answer is no JSON"), "{error}");
    let untyped = Server::always("200 OK\n\n[1]").await;
    assert_eq!(send(json!({"url": untyped.url, "output": "json"})).await.unwrap().value, json!([1]));
    assert_eq!(send(json!({"url": untyped.url, "output": "none"})).await.unwrap().value, Value::Null);
}

#[tokio::test]
async fn statuses_decide_whether_to_try_again() {
    for (answer, retry, part) in [
        (
            "503 Service Unavailable\nretry-after: 120\n\ntoo\n busy",
            Retry::Yes,
            "503 Service Unavailable: too | busy; the server asks to wait 2m 0s",
        ),
        ("429 Too Many Requests", Retry::Yes, "answered 429"),
        ("408 Request Timeout", Retry::Yes, "answered 408"),
        ("425 Too Early", Retry::Yes, "answered 425"),
        ("500 Internal Server Error", Retry::Yes, "answered 500"),
        ("404 Not Found\n\nno such page", Retry::No, "answered 404 Not Found: no such page"),
        ("401 Unauthorized", Retry::No, "answered 401"),
        ("304 Not Modified", Retry::No, "answered 304"),
    ] {
        let server = Server::always(answer).await;
        let error = fails(json!({"url": server.url})).await;
        assert_eq!(error.retry, retry, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
    let server = Server::always("404 Not Found").await;
    send(json!({"url": server.url, "expect": {"status": [200, "4xx"]}})).await.unwrap();
    let error = fails(json!({"url": server.url, "expect": {"status": 200}})).await;
    assert_eq!(error.retry, Retry::No);
}

#[tokio::test]
async fn values_in_the_answer_are_checked() {
    let server = Server::always("200 OK\n\n{\"state\": \"busy\", \"list\": [{\"n\": 1.0}]}").await;
    let with = |json: Value| json!({"url": server.url, "expect": {"json": json}});
    send(with(json!({"/state": "busy", "/list/0/n": 1}))).await.unwrap();
    let error = fails(with(json!({"/state": "ready"}))).await;
    assert_eq!(error.retry, Retry::Yes);
    assert!(error.message.ends_with("answered 200 OK, but `/state` is \"busy\", not \"ready\""), "{error}");
    let error = fails(with(json!({"/list/1": {}}))).await;
    assert!(error.message.contains("nothing at `/list/1`"), "{error}");
}

#[tokio::test]
async fn services_that_do_not_answer_may_do_so_later() {
    let error = fails(json!({"url": nobody().await})).await;
    assert_eq!(error.retry, Retry::Yes);
    assert!(error.message.contains("no answer (connection refused): check that the service runs"), "{error}");
    let silent = Server::always("").await;
    let error = fails(json!({"url": silent.url, "timeout": "200ms"})).await;
    assert_eq!(error.retry, Retry::Yes);
    assert!(error.message.contains("no whole answer within 200 ms"), "{error}");
}

#[tokio::test]
async fn a_request_stops_on_request() {
    let (reached, mut is_reached) = tokio::sync::watch::channel(false);
    let server = Server::start(move |_| {
        reached.send_replace(true);
        String::new()
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let (stop, context) = context(home.path());
    let job = HttpJob::new(Masker::default());
    let stopping = async {
        is_reached.wait_for(|reached| *reached).await.unwrap();
        stop.send_replace(true);
    };
    let running = tokio::time::timeout(PATIENCE, job.run(context, json!({"url": server.url})));
    let (result, ()) = tokio::join!(running, stopping);
    assert_eq!(result.unwrap().unwrap_err(), JobError::interrupted());
}

#[tokio::test]
async fn bodies_are_bounded() {
    let large = Server::always(format!("200 OK\n\n\"{}\"", "x".repeat(3_000_000))).await;
    let error = fails(json!({"url": large.url, "output": "json"})).await;
    assert!(error.retry == Retry::No && error.message.contains("more than the 1048576 bytes"), "{error}");
    send(json!({"url": large.url})).await.unwrap();
    let middle = Server::always(format!("200 OK\n\n{}", "x".repeat(300_000))).await;
    let error = fails(json!({"url": middle.url, "output": "text"})).await;
    assert!(error.message.contains("300002 bytes, more than the 262144 allowed as an output"), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_is_safe() {
    let other = Server::always("200 OK\n\nother").await;
    let elsewhere = format!("307 Temporary Redirect\nlocation: {}/there", other.url);
    let first = Server::start(move |request| match request.split(' ').nth(1) {
        Some("/page") => "303 See Other\nlocation: /done".to_owned(),
        Some("/done") => "200 OK\n\nhere".to_owned(),
        Some("/elsewhere") => elsewhere.clone(),
        Some("/file") => "302 Found\nlocation: file:///etc/passwd".to_owned(),
        _ => "302 Found\nlocation: /loop".to_owned(),
    })
    .await;
    let with = |path: &str| {
        let headers = json!({"X-Key": "secret", "Accept": "text/plain"});
        json!({"url": format!("{}{path}", first.url), "method": "POST", "body": "b", "headers": headers, "output": "text"})
    };
    assert_eq!(send(with("/page")).await.unwrap().value, json!("here"));
    let done = first.asked().pop().unwrap();
    assert!(done.starts_with("GET /done ") && done.contains("x-key: secret"), "{done}");
    assert_eq!(send(with("/elsewhere")).await.unwrap().value, json!("other"));
    let there = other.asked().pop().unwrap();
    assert!(there.starts_with("POST /there ") && there.ends_with("\r\n\r\nb"), "{there}");
    assert!(there.contains("accept: text/plain") && !there.contains("secret"), "{there}");
    let error = fails(with("/loop")).await;
    assert!(error.retry == Retry::No && error.message.contains("more than 10 redirects"), "{error}");
    assert!(fails(with("/file")).await.message.contains("less safe"));
    let mut unfollowed = with("/page");
    unfollowed["follow_redirects"] = json!(false);
    assert!(fails(unfollowed).await.message.contains("answered 303"));
}

#[tokio::test]
async fn secrets_show_nowhere() {
    let nobody = nobody().await.replace("http://", "http://user:geheim@");
    let with = json!({"url": format!("{nobody}/x?token=geheim"), "headers": {"X-Key": "geheim"}});
    let error = fails(with).await;
    assert!(error.message.contains("/x?…") && !error.message.contains("geheim"), "{error}");

    let echo = Server::start(|request| format!("200 OK\n\n{request}")).await;
    let log = Recorder::new();
    let job = HttpJob::new(Masker::new(["geheim".to_owned()]));
    let home = tempfile::tempdir().unwrap();
    let (_stop, context) = logged_context(home.path(), log.clone());
    let url = format!("{}/geheim", echo.url.replace("http://", "http://user:geheim@"));
    let output = job.run(context, json!({"url": url, "output": "text"})).await.unwrap();
    let said = format!("{output:?} {:?}", log.lines(Stream::Event));
    assert!(said.contains("authorization: Basic ") && said.contains("/***: 200 OK"), "{said}");
    assert!(!said.contains("geheim") && !said.contains("Z2VoZWlt") && !said.contains("dXNlcjpnZWhlaW0"), "{said}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_may_pass() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let breaking = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap() > 0);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    };
    let (error, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), fails(json!({"url": url}))), breaking);
    let error = error.unwrap();
    assert!(error.retry == Retry::Yes && error.message.contains("the answer broke off"), "{error}");
}
