//! Bodies and paths that mean harm: a refusal, never a failure of the server, and nothing outside the artifacts' folder.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use platform::database::Engine;
use serde_json::{Value, json};

use crate::servers::Ours;

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leaves_the_folder_of_the_artifacts() {
    let ours = Ours::start(Engine::Sqlite).await;
    std::fs::write(ours.home.path().join("secret"), b"secret").unwrap();
    let outside = [
        "../secret",
        "a/../../secret",
        "/etc/passwd",
        "//etc/passwd",
        "./../secret",
        "a/b/../../../secret",
        "..\\secret",
        "a\0b",
    ];
    let encoded = |text: &str, times: u32| {
        (0..times).fold(text.to_owned(), |text, _| {
            percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string()
        })
    };
    for path in outside {
        for times in 0..4 {
            let written = encoded(path, times).replace('\0', "%00").replace('\\', "%5C");
            for (method, body) in [("GET", ""), ("PUT", "harm"), ("DELETE", "")] {
                let (status, answer) =
                    raw(&ours.url, method, &format!("/api/2.0/mlflow-artifacts/artifacts/{written}"), body.as_bytes());
                assert!(status < 500, "{method} {written}: {status} {answer}");
                assert!(!answer.contains("secret\n") && answer != "secret", "{method} {written}: {answer}");
                assert!(!answer.contains("root:"), "{method} {written}: {answer}");
            }
        }
    }
    assert_eq!(std::fs::read(ours.home.path().join("secret")).unwrap(), b"secret");
    let left: Vec<_> = std::fs::read_dir(ours.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let known = ["artifacts", "registry.db", "registry.db-wal", "registry.db-shm", "secret"];
    assert!(
        left.iter().all(|name| known.contains(&name.to_str().unwrap()) || !name.to_str().unwrap().contains("passwd")),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_makes_the_server_fail() {
    let ours = Ours::start(Engine::Sqlite).await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 8] = [
        b"\xff\xfe\xfd",
        b"{\"name\": \"\xff\xff\"}",
        b"",
        b"null",
        deep.as_bytes(),
        b"{\"name\":",
        b"{\"name\": \"\\ud800\"}",
        b"{\"name\": 1e99999}",
    ];
    let paths = [
        "experiments/create",
        "runs/create",
        "runs/log-batch",
        "runs/search",
        "registered-models/create",
        "model-versions/create",
        "logged-models",
    ];
    for path in paths {
        for body in bodies {
            let (status, answer) = raw(&ours.url, "POST", &format!("/api/2.0/mlflow/{path}"), body);
            // A run may be made of nothing, as with the real server.
            assert!(
                status < 500,
                "{path} {:?}: {status} {answer}",
                String::from_utf8_lossy(&body[..body.len().min(30)])
            );
        }
    }
    for query in
        ["%ff%fe", "name=%ff", "name=a%00b", "%00", "name=%", "name=%zz", "filter=%27%3B%20DROP%20TABLE%20run%3B--"]
    {
        for path in ["registered-models/get", "registered-models/search", "experiments/get-by-name"] {
            let (status, answer) = raw(&ours.url, "GET", &format!("/api/2.0/mlflow/{path}?{query}"), b"");
            assert!(status < 500, "{path}?{query}: {status} {answer}");
        }
    }
    healthy(&ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_sql_are_only_words() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let ours = Ours::start(engine).await;
        let client = reqwest::Client::new();
        let post = async |path: &str, body: Value| {
            let request =
                client.post(format!("{}/api/2.0/mlflow/{path}", ours.url)).header("content-type", "application/json");
            let answer = request.body(body.to_string()).send().await.unwrap();
            let status = answer.status().as_u16();
            (status, serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap_or_default())
        };
        let names = ["'; DROP TABLE run; --", "\" OR 1=1 --", "a' OR 'a'='a", "%", "_", "\\", "$1", "?1", "a/*", "`x`"];
        for name in names {
            let (status, made) =
                post("experiments/create", json!({"name": name, "tags": [{"key": "k", "value": name}]})).await;
            assert_eq!(status, 200, "{name}: {made}");
            let id = made["experiment_id"].clone();
            // Each is found by its own name and by no other.
            let quoted = if name.contains('\'') { format!("\"{name}\"") } else { format!("'{name}'") };
            if !(name.contains('\'') && name.contains('"')) {
                let (status, found) =
                    post("experiments/search", json!({"max_results": 50, "filter": format!("tags.k = {quoted}")}))
                        .await;
                assert_eq!((status, found["experiments"].as_array().map(Vec::len)), (200, Some(1)), "{name}: {found}");
                assert_eq!(found["experiments"][0]["experiment_id"], id, "{name}");
            }
            for order in ["name; DROP TABLE run", "name, (SELECT 1)", "name DESC; --", "1", "name COLLATE x"] {
                let (status, refused) =
                    post("experiments/search", json!({"max_results": 5, "order_by": [order]})).await;
                assert_eq!(status, 400, "{order}: {refused}");
            }
        }
        let (status, found) = post("experiments/search", json!({"max_results": 50})).await;
        assert_eq!((status, found["experiments"].as_array().unwrap().len()), (200, names.len() + 1));
        healthy(&ours).await;
    }
}

async fn healthy(ours: &Ours) {
    let answer = reqwest::get(format!("{}/health", ours.url)).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "OK");
}

/// Status and text of the answer to a request that a well-behaved client would not send.
fn raw(url: &str, method: &str, target: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server may refuse before it has read everything.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}
