//! The forms in which pictures are asked about, and what is refused.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Server, form, json, problem, said, sample};

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_answered_the_same_in_every_form() {
    let picture = sample("farmyard/cow.jpg");
    let files = Router::new()
        .route(
            "/traps/cow.jpg",
            get({
                let picture = picture.clone();
                || async { picture }
            }),
        )
        .route("/traps/elsewhere.jpg", get(|| async { axum::response::Redirect::temporary("/secret.jpg") }))
        .route("/traps/endless.jpg", get(|| async { vec![0_u8; 40 << 20] }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let media = format!("http://{}/traps/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, files).await });
    let allow = vec![media.parse().unwrap()];
    let server = Server::start(|options| {
        options.fetch.allow = allow;
        options.fetch.anywhere = true;
        options.cache.bytes = 0;
    })
    .await;

    let raw = server.found(&picture).await;
    let found = &raw["media"][0];
    assert_eq!((&found["category"], &found["cached"], &raw["burst"]), (&json!("animal"), &json!(false), &json!(false)));
    let cow = &found["detections"][0];
    assert_eq!(cow["scientific_name"], "Bos taurus", "{raw}");
    assert!(cow["confidence"].as_f64().unwrap() > 0.3 && cow["top5"].as_array().unwrap().len() == 5, "{raw}");
    assert!(raw["model"]["version"].as_str().unwrap().starts_with("wildlife-"), "{raw}");
    let timings = &raw["timings"];
    for part in ["queue_ms", "decode_ms", "forward_ms", "total_ms"] {
        assert!(timings[part].as_f64().is_some_and(|ms| ms >= 0.0), "{part}: {timings}");
    }
    assert!(timings["total_ms"].as_f64() >= timings["forward_ms"].as_f64(), "{timings}");

    let untyped = server.client.post(server.url("/v1/detections")).body(picture.clone());
    let (kind, parts) = form(&[("image", Some("cow.jpg"), &picture)]);
    let in_form = server.post("/v1/detections", &kind, parts);
    let encoded = json!({ "image": STANDARD.encode(&picture) }).to_string();
    let in_json = server.post("/v1/detections", "application/json", encoded);
    let by_url = json!({ "url": format!("{media}cow.jpg") }).to_string();
    let by_url = server.post("/v1/detections", "application/json", by_url);
    let curl = server.post("/v1/detections", "application/x-www-form-urlencoded", picture.clone());
    for (what, request) in [("untyped", untyped), ("curl", curl), ("form", in_form), ("json", in_json), ("url", by_url)]
    {
        let answer = json(request.send().await.unwrap()).await;
        assert_eq!(said(&answer), said(&raw), "{what}");
        assert_eq!(answer["media"][0]["name"] == "cow.jpg", what == "form", "{answer}");
    }

    for (url, expected) in [
        (format!("{media}elsewhere.jpg"), 502),
        (format!("{media}missing.jpg"), 502),
        (format!("{media}endless.jpg"), 413),
        (format!("{media}../secret.jpg"), 403),
        ("file:///etc/passwd".to_owned(), 403),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), 403),
        ("no url".to_owned(), 400),
    ] {
        let asked = server.post("/v1/detections", "application/json", json!({ "url": url }).to_string());
        let (status, detail) = problem(asked.send().await.unwrap()).await;
        assert_eq!(status, expected, "{url}: {detail}");
        assert!(!detail.contains("127.0.0.1"), "{detail}");
    }
    assert_eq!(server.metric("safari_serving_body_bytes").await, 0.0, "memory is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_are_refused_unless_they_are_allowed_and_public() {
    let nothing_allowed = Server::start(|_| {}).await;
    let ask = |server: &Server, url: &str| {
        let request = server.post("/v1/detections", "application/json", json!({ "url": url }).to_string());
        async move { problem(request.send().await.unwrap()).await }
    };
    assert_eq!(ask(&nothing_allowed, "https://media.example.org/a.jpg").await.0, 403);
    let allow: Vec<_> =
        ["https://localhost/", "https://127.0.0.1/", "https://[::1]/"].map(|url| url.parse().unwrap()).into();
    let inside = Server::start(|options| options.fetch.allow = allow).await;
    for url in ["https://127.0.0.1/a.jpg", "https://[::1]/a.jpg", "https://2130706433/a.jpg"] {
        assert_eq!(ask(&inside, url).await.0, 403, "{url}");
    }
    // A name is resolved before it is known to lead inside.
    assert_eq!(ask(&inside, "https://localhost/a.jpg").await.0, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_with_boxes_is_drawn() {
    let server = Server::start(|_| {}).await;
    let picture = sample("farmyard/cow.jpg");
    let answer = server.picture(&picture).header("accept", "image/jpeg").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &"image/jpeg".parse().unwrap()));
    let drawn = image::load_from_memory(&answer.bytes().await.unwrap()).unwrap().to_rgb8();
    let plain = image::load_from_memory(&picture).unwrap().to_rgb8();
    assert_eq!(drawn.dimensions(), plain.dimensions());
    let far = |a: &image::Rgb<u8>, b: &image::Rgb<u8>| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > 60);
    let changed = drawn.pixels().zip(plain.pixels()).filter(|(a, b)| far(a, b)).count();
    assert!(changed > 500, "{changed} pixels of boxes and names");

    let kept = server.found(&picture).await;
    assert_eq!(kept["media"][0]["cached"], true);
    assert!(
        kept["timings"].get("forward_ms").is_none() && kept["timings"]["total_ms"].as_f64().unwrap() > 0.0,
        "{kept}"
    );
    let (kind, two) = form(&[("image", Some("a.jpg"), &picture), ("image", Some("b.jpg"), &picture)]);
    let two = server.post("/v1/detections", &kind, two).header("accept", "image/jpeg");
    assert_eq!(problem(two.send().await.unwrap()).await.0, 406);
    let page = server.picture(&picture).header("accept", "text/html").send().await.unwrap();
    assert_eq!(problem(page).await.0, 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let server = Server::start(|options| options.limits.pictures = 3).await;
    let picture = sample("farmyard/cow.jpg");
    let video = sample("prairie/horses.mp4");
    let send = async |kind: &str, body: Vec<u8>| {
        problem(server.post("/v1/detections", kind, body).send().await.unwrap()).await
    };
    let cut = picture[..picture.len() / 3].to_vec();
    for (kind, body, expected) in [
        ("image/jpeg", Vec::new(), 422),
        ("image/jpeg", b"no picture".to_vec(), 422),
        ("image/jpeg", cut, 422),
        ("video/mp4", video.to_vec(), 415),
        ("application/octet-stream", video.to_vec(), 422),
        ("text/plain", picture.to_vec(), 415),
        ("application/json", b"{".to_vec(), 400),
        ("application/json", b"{}".to_vec(), 400),
        ("application/json", b"{\"image\": \"*\"}".to_vec(), 400),
        ("application/json", b"{\"picture\": \"\"}".to_vec(), 400),
        ("application/json", b"{\"image\": \"aa\", \"url\": \"https://a/\"}".to_vec(), 400),
        ("application/json", b"{\"captured_at\": 7, \"image\": \"\"}".to_vec(), 400),
        ("multipart/form-data", b"x".to_vec(), 400),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n".to_vec(), 400),
    ] {
        let (status, detail) = send(kind, body).await;
        assert_eq!(status, expected, "{kind}: {detail}");
    }
    let parts: Vec<_> = (0..4).map(|_| ("image", Some("a.jpg"), &picture[..])).collect();
    let (kind, body) = form(&parts);
    assert_eq!(send(&kind, body).await.0, 413);
    let (kind, body) = form(&[("captured_at", None, b"2026-07-01T05:30:00Z"), ("image", Some("a.jpg"), &picture)]);
    assert_eq!(send(&kind, body).await.0, 400);
    let (kind, body) =
        form(&[("image", Some("a.jpg"), &picture), ("captured_at", None, b"noon"), ("image", Some("b.jpg"), &picture)]);
    assert_eq!(send(&kind, body).await.0, 400);
    for (header, value) in [
        ("x-request-timeout", "soon"),
        ("safari-priority", "urgent"),
        ("safari-captured-at", "noon"),
        ("safari-deployment", ""),
    ] {
        let asked = server.picture(&picture).header(header, value).send().await.unwrap();
        assert_eq!(problem(asked).await.0, 400, "{header}");
    }
    // One of several that cannot be read leaves the others their answers.
    let (kind, body) = form(&[("image", Some("bad.jpg"), b"no picture"), ("image", Some("cow.jpg"), &picture)]);
    let answer = json(server.post("/v1/detections", &kind, body).send().await.unwrap()).await;
    assert!(answer["media"][0]["failure"].is_string() && answer["media"][0]["category"].is_null(), "{answer}");
    assert_eq!((&answer["media"][1]["name"], &answer["media"][1]["category"]), (&json!("cow.jpg"), &json!("animal")));

    assert_eq!(problem(server.get("/v1/nothing").await).await.0, 404);
    assert_eq!(problem(server.get("/v1/detections").await).await.0, 405);
    assert_eq!(problem(server.get("/v1/detection-jobs/x").await).await.0, 501);
}

/// A sender that stops in the middle of head or body is not waited for, and one that says too much is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn slow_and_large_senders_are_bounded() {
    let server = Server::start(|options| {
        options.limits.header_timeout = Duration::from_millis(300);
        options.limits.body_timeout = Duration::from_millis(300);
        options.limits.body_bytes = 1 << 20;
    })
    .await;
    let reply = async |text: &str| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut said = String::new();
        // The connection may be reset instead of closed.
        let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut said)).await.unwrap();
        said
    };
    for silent in ["", "PRI * HT", "POST /v1/detections HTTP/1.1\r\nHost: a\r\nX-A: "] {
        let said = reply(silent).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{silent:?}: {said}");
    }
    let head = "POST /v1/detections HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length:";
    let said = reply(&format!("{head} 1000\r\n\r\nabc")).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    let said = reply(&format!("{head} 1048577\r\n\r\n")).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let said = reply(&format!("{head} many\r\n\r\n")).await;
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let large = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "a".repeat(1 << 20));
    let said = reply(&large).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    // Without a length that says so beforehand.
    let head = "POST /v1/detections HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let said = reply(&format!("{head}{:x}\r\n{}", 1_100_000, "a".repeat(1_100_000))).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 413"), "{said}");
    assert_eq!(server.get("/healthz/ready").await.status(), 200);
    assert_eq!(server.metric("safari_serving_body_bytes").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_document_are_there() {
    let server = Server::start(|_| {}).await;
    let page = server.get("/").await;
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert!(page.text().await.unwrap().contains("try.js"));
    assert!(server.get("/try.js").await.text().await.unwrap().contains("/v1/detections"));
    let document = json(server.get("/openapi.json").await).await;
    assert!(document["paths"]["/v1/detections"]["post"].is_object());
    for path in ["/healthz/live", "/healthz/ready", "/healthz/startup", "/healthz"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
}
