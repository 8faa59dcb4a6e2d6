//! Everything at once for a while: four times what can be done, models that come and go, slow callers, callers that leave,
//! and bodies that are none. `LOAD_TEST_SECONDS=300` goes on for longer. A process of its own, for its memory is looked at.
#![allow(clippy::unwrap_used)]

// Not all of it is needed here.
#[allow(dead_code)]
#[path = "../it/server.rs"]
mod server;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model_registry::client::{Client, Progress, Source};
use model_registry::register::{Registration, register_folder};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::server::{Server, config, model_folder, sample};

const PICTURES: [&str; 4] = ["farmyard/cow.jpg", "farmyard/pig.jpg", "garden/hedgehog.jpg", "prairie/bison.jpg"];

/// How long an accepted request may take while four times as much comes as can be done: a queue of eight before two
/// threads on a busy machine.
const BOUND: Duration = Duration::from_secs(20);

/// What came of the requests.
#[derive(Default)]
struct Tally {
    statuses: BTreeMap<u16, usize>,
    accepted: Vec<Duration>,
    wrong: Vec<String>,
}

#[test]
fn nothing_is_answered_wrongly_while_everything_goes_on() {
    // As the program does, before any thread has an arena.
    detector::allocator::tune();
    Runtime::new().unwrap().block_on(everything_goes_on());
}

async fn everything_goes_on() {
    let seconds = std::env::var("LOAD_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let home = tempfile::tempdir().unwrap();
    let client = Client::open(&config(&home, &[])).await.unwrap();
    for number in [1, 2] {
        let folder = model_folder(home.path(), number);
        let aliases = if number == 1 { vec!["champion".to_owned()] } else { Vec::new() };
        let registration = Registration { name: "wildlife".to_owned(), aliases, ..Registration::default() };
        register_folder(&client, &folder, &registration, &Progress::default()).await.unwrap();
    }
    let server = Server::start_in(home, &[], |options| {
        options.model = "models:/wildlife@champion".parse().unwrap();
        options.poll = Duration::ZERO;
        options.engine.queue = 8;
        // Every request costs a forward.
        options.cache.bytes = 0;
    })
    .await;
    server.wait_ready().await;
    let server = Arc::new(server);
    let pictures: Vec<Bytes> = PICTURES.iter().map(|name| sample(name)).collect();
    let mut expected = HashMap::new();
    for (number, picture) in pictures.iter().enumerate() {
        expected.insert(number, boxes(&server.found(picture).await));
    }
    let (pictures, expected) = (Arc::new(pictures), Arc::new(expected));
    let until = Instant::now() + Duration::from_secs(seconds);
    let over = Arc::new(AtomicBool::new(false));
    let swaps = Arc::new(AtomicU64::new(0));

    // Eight callers are four times the two threads.
    let mut callers = Vec::new();
    for caller in 0..8_usize {
        let (server, pictures, expected) = (Arc::clone(&server), Arc::clone(&pictures), Arc::clone(&expected));
        callers.push(tokio::spawn(async move { call(caller, &server, &pictures, &expected, until).await }));
    }
    let swapping = tokio::spawn(swap(Arc::clone(&server), client, Arc::clone(&swaps), until));
    let mut nuisances = Vec::new();
    for kind in 0..3 {
        let (server, picture, over) = (Arc::clone(&server), pictures[0].clone(), Arc::clone(&over));
        nuisances.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                annoy(kind, &server, &picture).await;
            }
        }));
    }
    let half = until - Duration::from_secs(seconds) / 2;
    tokio::time::sleep_until(half.into()).await;
    let memory_before = memory();
    let mut all = Tally::default();
    for caller in callers {
        let one = caller.await.unwrap();
        one.statuses.into_iter().for_each(|(status, count)| *all.statuses.entry(status).or_default() += count);
        all.accepted.extend(one.accepted);
        all.wrong.extend(one.wrong);
    }
    over.store(true, Ordering::Relaxed);
    swapping.await.unwrap();
    for nuisance in nuisances {
        nuisance.await.unwrap();
    }
    let memory_after = memory();

    all.accepted.sort();
    let p99 = all.accepted[(all.accepted.len() - 1) * 99 / 100];
    eprintln!(
        "{:?}, p99 {p99:?}, {} swaps, memory {memory_before} MiB, then {memory_after} MiB",
        all.statuses,
        swaps.load(Ordering::Relaxed)
    );
    assert!(all.wrong.is_empty(), "{:?}", all.wrong);
    assert!(all.statuses.keys().all(|status| matches!(status, 200 | 429)), "{:?}", all.statuses);
    assert!(all.statuses[&200] > 20 && swaps.load(Ordering::Relaxed) >= 2, "{:?}", all.statuses);
    assert!(p99 < BOUND, "{p99:?}");
    // Two models are there at any time, and a third while one is loaded.
    assert!(memory_after < memory_before + 250, "{memory_before} MiB, then {memory_after} MiB");
    let idle = async || server.metric("safari_serving_body_bytes").await == 0.0;
    server.wait_for("memory of bodies is given back", idle).await;
    Arc::into_inner(server).unwrap().end().await.unwrap();
}

async fn call(
    caller: usize,
    server: &Server,
    pictures: &[Bytes],
    expected: &HashMap<usize, Vec<Value>>,
    until: Instant,
) -> Tally {
    let mut tally = Tally::default();
    let mut number = caller;
    while Instant::now() < until {
        number += 1;
        let which = number % pictures.len();
        let begun = Instant::now();
        let answer = match server.picture(&pictures[which]).send().await {
            Ok(answer) => answer,
            Err(error) => {
                tally.wrong.push(format!("no answer: {error}"));
                continue;
            }
        };
        let status = answer.status().as_u16();
        *tally.statuses.entry(status).or_default() += 1;
        let text = answer.text().await.unwrap_or_default();
        match status {
            200 => {
                tally.accepted.push(begun.elapsed());
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                if boxes(&answer) != expected[&which] {
                    tally.wrong.push(text);
                }
            }
            // Less than it is told to wait, so that there is always too much.
            429 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => tally.wrong.push(text),
        }
    }
    tally
}

/// Lets the alias name one version and the other.
async fn swap(server: Arc<Server>, client: Client, swaps: Arc<AtomicU64>, until: Instant) {
    for number in [2, 1].into_iter().cycle() {
        if Instant::now() >= until {
            return;
        }
        let Source::Version(name, version) = format!("models:/wildlife/{number}").parse().unwrap() else {
            panic!("no version")
        };
        client.set_alias(&name, "champion", version).await.unwrap();
        let done = server.client.post(server.url("/v1/model/refresh")).send().await.unwrap();
        assert_eq!(done.status(), 200, "{}", done.text().await.unwrap());
        swaps.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// One caller of the kind that nobody wants.
async fn annoy(kind: usize, server: &Server, picture: &Bytes) {
    match kind {
        // Leaves before the answer.
        0 => {
            let asked = server.picture(picture).send();
            let _ = tokio::time::timeout(Duration::from_millis(30), asked).await;
        }
        // Says that much comes, sends little, and leaves.
        1 => {
            let Ok(mut stream) = TcpStream::connect(server.address).await else { return };
            let head = "POST /v1/detections HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            for byte in &picture[..20] {
                let _ = stream.write_all(&[*byte]).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // Sends what is no picture.
        _ => {
            let bad = server.post("/v1/detections", "image/jpeg", picture[..picture.len() / 2].to_vec()).send().await;
            if let Ok(answer) = bad {
                assert!(matches!(answer.status().as_u16(), 422 | 429), "{}", answer.status());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What was found, without the names of boxes, which hold the model's version.
fn boxes(answer: &Value) -> Vec<Value> {
    let found = answer["media"][0]["detections"].as_array().cloned().unwrap_or_default();
    let without_id = |mut one: Value| {
        one["id"].take();
        one["token"].take();
        one
    };
    found.into_iter().map(without_id).collect()
}

/// Memory of this process, in MiB.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() / 1024
}
