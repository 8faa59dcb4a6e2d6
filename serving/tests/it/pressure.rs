//! More than can be done, too late, not yet, and no more.

use std::time::Duration;

use futures::future::join_all;
use serving::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Server, burst, form, json, problem, sample};

/// A request that takes long: many pictures of one burst, by one thread.
fn long(server: &Server) -> reqwest::RequestBuilder {
    let frames = burst("prairie/burst-bison", 5);
    let times: Vec<String> = (0..20).map(|second| format!("2026-07-01T05:30:{second:02}Z")).collect();
    let parts: Vec<_> = times
        .iter()
        .enumerate()
        .flat_map(|(number, time)| {
            [("image", Some("a.jpg"), &frames[number % 5][..]), ("captured_at", None, time.as_bytes())]
        })
        .collect();
    let (kind, body) = form(&parts);
    server.post("/v1/detections", &kind, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_what_was_taken_is_answered() {
    let server = Server::start(|options| {
        options.engine.threads = 1;
        options.engine.queue = 2;
        options.cache.bytes = 0;
    })
    .await;
    let picture = sample("farmyard/cow.jpg");
    let answers = join_all((0..24).map(|_| server.picture(&picture).send())).await;
    let (mut answered, mut refused) = (0, 0);
    for answer in answers {
        let answer = answer.unwrap();
        match answer.status().as_u16() {
            200 => {
                assert_eq!(json(answer).await["media"][0]["category"], "animal");
                answered += 1;
            }
            429 => {
                let after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=60).contains(&after), "{after}");
                refused += 1;
            }
            other => panic!("{other}: {}", answer.text().await.unwrap()),
        }
    }
    assert!(answered >= 3 && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!(server.found(&picture).await["media"][0]["category"], "animal", "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_request_and_callers_who_left_cost_nothing() {
    let server = Server::start(|options| {
        options.engine.threads = 1;
        options.cache.bytes = 0;
    })
    .await;
    let version = server.found(&sample("farmyard/cow.jpg")).await["model"]["version"].as_str().unwrap().to_owned();
    // Requests whose work has begun.
    let taken = format!("safari_serving_wait_seconds_count{{version=\"{version}\"}}");
    let waiting = format!("safari_serving_queue{{version=\"{version}\"}}");
    let before = server.metric(&taken).await;
    let held = tokio::spawn(long(&server).send());
    server.wait_for("the worker is busy", async || server.metric(&taken).await > before).await;
    let late = server.picture(&sample("farmyard/pig.jpg")).header("x-request-timeout", "20ms").send().await.unwrap();
    let (status, _) = problem(late).await;
    assert_eq!(status, 504);
    let mut leaving = Vec::new();
    for name in ["farmyard/dog.jpg", "farmyard/cat.jpg", "farmyard/duck.jpg"] {
        leaving.push(tokio::spawn(server.picture(&sample(name)).send()));
    }
    // With the late one, whose place is not taken yet.
    server.wait_for("they wait", async || server.metric(&waiting).await >= 4.0).await;
    for caller in &leaving {
        caller.abort();
    }
    for caller in leaving {
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    assert_eq!(json(held.await.unwrap().unwrap()).await["media"].as_array().unwrap().len(), 20);
    server.found(&sample("garden/hedgehog.jpg")).await;
    let gone = server.metric(&format!("safari_serving_left_out_total{{reason=\"gone\",version=\"{version}\"}}")).await;
    let late = server.metric(&format!("safari_serving_left_out_total{{reason=\"late\",version=\"{version}\"}}")).await;
    assert!(gone + late >= 4.0, "{gone} gone, {late} late");
    assert_eq!(server.metric(&taken).await - before, 2.0, "the long one and the last");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_bodies_is_bounded_for_all_requests_together() {
    let server = Server::start(|options| {
        options.limits.all_body_bytes = 512 << 10;
        options.limits.body_bytes = 1 << 20;
    })
    .await;
    let large = vec![0_u8; 600 << 10];
    let (status, _) = problem(server.post("/v1/detections", "image/jpeg", large).send().await.unwrap()).await;
    assert!(status == 429 || status == 413, "{status}");
    // Base64 is there three times: as it came, as a text, and decoded.
    let text = format!("{{\"image\": \"{}\"}}", "A".repeat(300 << 10));
    let (status, _) = problem(server.post("/v1/detections", "application/json", text).send().await.unwrap()).await;
    assert!(status == 429 || status == 413, "{status}");
    assert_eq!(server.found(&sample("farmyard/cow.jpg")).await["media"][0]["category"], "animal");
}

/// What is under way is answered, what comes meanwhile is sent away, and then the port is free.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_loses_no_request() {
    let server = Server::start(|_| {}).await;
    // It is under way for as long as the rest of it does not come.
    let picture = sample("farmyard/cow.jpg");
    let (first, rest) = picture.split_at(picture.len() / 2);
    let mut under_way = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/detections HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        picture.len()
    );
    under_way.write_all(&[head.as_bytes(), first].concat()).await.unwrap();
    server.wait_for("it is under way", async || server.metric("safari_serving_body_bytes").await > 0.0).await;
    server.tell_to_end();
    let draining = async || server.get("/healthz/ready").await.status() == 503;
    server.wait_for("it says so", draining).await;
    let refused = server.picture(&sample("farmyard/cow.jpg")).send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(problem(refused).await.0, 503);
    let infer = server.post("/v2/models/wildlife/infer", "application/json", "{\"inputs\": []}").send().await.unwrap();
    assert_eq!(infer.status(), 503, "{}", infer.text().await.unwrap());
    assert_eq!(server.get("/healthz/live").await.status(), 200);
    under_way.write_all(rest).await.unwrap();
    let mut answer = String::new();
    under_way.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Bos taurus"), "{answer}");
    let address = server.address;
    server.end().await.unwrap();
    TcpListener::bind(address).await.unwrap();
}

/// It is told to end while it loads, and while no connection is free.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_heard_at_any_moment() {
    let home = tempfile::tempdir().unwrap();
    // A registry that takes connections and never answers: the server loads for as long as the test wants.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = format!("http://{}", silent.local_addr().unwrap());
    let wildlife = |options: &mut Options| options.model = "models:/wildlife@champion".parse().unwrap();
    let loading = Server::start_in(home, &[("registry.url", &registry)], wildlife).await;
    let early = loading.picture(&sample("farmyard/cow.jpg")).send().await.unwrap();
    assert!(early.headers().contains_key("retry-after"));
    assert_eq!(problem(early).await.0, 503);
    assert_eq!(loading.get("/healthz/startup").await.status(), 503);
    assert_eq!(loading.get("/healthz/live").await.status(), 200);
    tokio::time::timeout(Duration::from_secs(60), loading.end()).await.unwrap().unwrap();

    let full = Server::start(|options| options.limits.connections = 2).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(full.address).await.unwrap());
    }
    tokio::time::timeout(Duration::from_secs(60), full.end()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_loaded_ends_the_start() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("no-model");
    std::fs::create_dir(&folder).unwrap();
    let server =
        Server::start_in(home, &[], |options| options.model = serving::models::ModelSource::Folder(folder)).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), server.ended()).await.unwrap();
    let told = ended.unwrap_err().to_string();
    assert!(told.contains("settings.json"), "{told}");
}
