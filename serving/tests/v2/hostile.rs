//! Requests that lie, over REST: each is a 4xx with a reason, and the next one is answered as before.

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::server::{MAX_BODY, Server};

const LENGTH: &str = "Inference-Header-Content-Length";

async fn post(server: &Server, model: &str, length: Option<&str>, body: impl Into<reqwest::Body>) -> Response {
    let mut request = Client::new().post(server.url(&format!("/v2/models/{model}/infer"))).body(body);
    if let Some(length) = length {
        request = request.header(LENGTH, length);
    }
    request.send().await.unwrap()
}

/// The status and the reason of a refusal.
async fn refusal(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let reason = body["error"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    assert!(status.is_client_error(), "{status} {reason}");
    (status, reason)
}

/// A good request, so that all that was refused before has broken nothing.
async fn assert_answers(server: &Server) {
    let input = json!({"name": "index", "shape": [1], "datatype": "INT64", "data": [2]});
    let response = post(server, "lookup", None, json!({"inputs": [input]}).to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(body["outputs"][0]["data"], json!([6.0, 7.0, 8.0]), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_lie_are_refused() {
    let server = Server::start().await;
    let row = |shape: Value, data: Value| {
        json!({"inputs": [{"name": "index", "shape": shape, "datatype": "INT64", "data": data}]}).to_string()
    };
    let deep = format!(
        r#"{{"inputs": [{{"name": "index", "shape": [1], "datatype": "INT64", "data": {}1{}}}]}}"#,
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    let nan = r#"{"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [NaN]}]}"#.to_owned();
    let bodies = [
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
        "\u{0}".to_owned(),
        nan,
        deep,
        "[".repeat(1_000_000),
        row(json!([1]), json!([null])),
        row(json!([1]), json!([99])),
        row(json!([-1]), json!([1])),
        row(json!([2]), json!([1])),
        row(json!([0]), json!([])),
        row(json!([i64::MAX]), json!([1])),
        row(json!([i64::MAX, i64::MAX]), json!([1])),
        row(json!([0, i64::MAX]), json!([])),
        row(json!([1e300]), json!([1])),
        row(json!(vec![1; 100]), json!([1])),
        row(json!("1"), json!([1])),
        json!({"inputs": vec![json!({"name": "index", "shape": [1], "datatype": "INT64", "data": [1]}); 500]})
            .to_string(),
        json!({"inputs": []}).to_string(),
        json!({"inputs": [], "parameters": {"timeout": -1}}).to_string(),
        json!({"inputs": [], "parameters": {"priority": "first"}}).to_string(),
    ];
    for body in bodies {
        let shown: String = body.chars().take(100).collect();
        let (status, reason) = refusal(post(&server, "lookup", None, body).await).await;
        let expected = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE];
        assert!(expected.contains(&status) && !reason.is_empty(), "{status} {reason}: {shown}");
    }
    assert_answers(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_parts_that_lie_are_refused() {
    let server = Server::start().await;
    let json = |size: Value| {
        let parameters = json!({ "binary_data_size": size });
        json!({"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "parameters": parameters}]}).to_string()
    };
    let good = json(json!(8));
    let length = good.len().to_string();
    let with = |json: &str, binary: usize| [json.as_bytes(), &vec![0; binary]].concat();
    let cases = [
        (with(&good, 7), length.clone()),
        (with(&good, 9), length.clone()),
        (with(&good, 0), length.clone()),
        (with(&good, 8), "-1".to_owned()),
        (with(&good, 8), "99999999999999999999999".to_owned()),
        (with(&good, 8), (good.len() + 9).to_string()),
        (with(&good, 8), (good.len() - 1).to_string()),
        (with(&good, 8), "0".to_owned()),
        (with(&good, 8), "x".to_owned()),
        (with(&json(json!(u64::MAX)), 8), json(json!(u64::MAX)).len().to_string()),
        (with(&json(json!("8")), 8), json(json!("8")).len().to_string()),
        (with(&json(json!(-8)), 8), json(json!(-8)).len().to_string()),
    ];
    for (body, length) in cases {
        let (status, reason) = refusal(post(&server, "lookup", Some(&length), body).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{length}: {reason}");
    }
    let answered = post(&server, "lookup", Some(&length), with(&good, 8)).await;
    assert_eq!(answered.status(), StatusCode::OK);
    for data in [&b"\xff\xff\xff\x7f"[..], b"\x05\0\0\0hi", b"\x01\0", b"\x01\0\0\0a\x01\0\0\0b"] {
        let parameters = json!({ "binary_data_size": data.len() });
        let json = json!({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "parameters": parameters}]})
            .to_string();
        let body = [json.as_bytes(), data].concat();
        let (status, _) = refusal(post(&server, "texts", Some(&json.len().to_string()), body).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{data:?}");
    }
    assert_answers(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_headers_and_sizes_are_checked() {
    let server = Server::start().await;
    let client = Client::new();
    let (status, reason) = refusal(post(&server, "lookup", None, vec![b' '; MAX_BODY + 1]).await).await;
    assert!(status == StatusCode::PAYLOAD_TOO_LARGE && reason.contains("the body is larger"), "{status} {reason}");
    for (path, expected) in [
        ("/v2/models/other/infer", StatusCode::NOT_FOUND),
        ("/v2/models/%2e%2e%2fspare/infer", StatusCode::NOT_FOUND),
        ("/v2/models/%ff/infer", StatusCode::BAD_REQUEST),
        ("/v2/models/lookup/versions/9/infer", StatusCode::NOT_FOUND),
        ("/v2/models/lookup", StatusCode::METHOD_NOT_ALLOWED),
        ("/v2/nothing", StatusCode::NOT_FOUND),
        ("/v2/repository/models/..%2f..%2fetc/load", StatusCode::NOT_FOUND),
    ] {
        let body = if path.ends_with("infer") { r#"{"inputs": []}"# } else { "" };
        let (status, reason) = refusal(client.post(server.url(path)).body(body).send().await.unwrap()).await;
        assert_eq!(status, expected, "{path}: {reason}");
    }
    for (name, value, expected) in [
        ("X-Request-Timeout", "soon", StatusCode::BAD_REQUEST),
        ("X-Request-Timeout", "-1", StatusCode::BAD_REQUEST),
        ("Content-Encoding", "gzip", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let request = client.post(server.url("/v2/models/lookup/infer")).header(name, value).body("{}");
        assert_eq!(refusal(request.send().await.unwrap()).await.0, expected, "{name}: {value}");
    }
    assert_answers(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocols_own_answers() {
    let server = Server::start().await;
    let get = async |path: &str| {
        let response = reqwest::get(server.url(path)).await.unwrap();
        (response.status().as_u16(), serde_json::from_slice::<Value>(&response.bytes().await.unwrap()).unwrap())
    };
    assert_eq!(get("/v2/health/live").await, (200, json!({"live": true})));
    assert_eq!(get("/v2/health/ready").await, (200, json!({"live": true, "ready": true})));
    assert_eq!(get("/v2/models/spare/ready").await, (400, json!({"name": "spare", "ready": false})));
    assert_eq!(get("/v2/models/lookup/versions/1/ready").await, (200, json!({"name": "lookup", "ready": true})));
    let (status, server_metadata) = get("/v2").await;
    assert_eq!((status, &server_metadata["name"]), (200, &json!("safari")));
    let expected = json!({
        "name": "lookup", "versions": ["1"], "platform": "pytorch_torchscript",
        "inputs": [{"name": "index", "datatype": "INT64", "shape": [-1]}],
        "outputs": [{"name": "row", "datatype": "FP32", "shape": [-1, 3]}],
    });
    assert_eq!(get("/v2/models/lookup").await, (200, expected));
}

/// More than may wait are refused at once, and those that were taken are answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_with_429() {
    let server = Server::start().await;
    let ask = || async {
        let input = json!({"name": "times", "shape": [1, 1], "datatype": "INT64", "data": [100]});
        let response = post(&server, "slow", None, json!({"inputs": [input]}).to_string()).await;
        let retry = response.headers().contains_key("retry-after");
        (response.status().as_u16(), retry)
    };
    let answers = futures::future::join_all((0..40).map(|_| ask())).await;
    let count = |status| answers.iter().filter(|answer| answer.0 == status).count();
    assert!(count(200) >= 8 && count(429) > 0 && count(200) + count(429) == 40, "{answers:?}");
    assert!(answers.iter().all(|(status, retry)| (*status == 429) == *retry), "{answers:?}");
}

/// Requests that share a forward get their own rows, and one that the model refuses fails alone.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_share_a_forward_stay_apart() {
    let server = Server::start().await;
    for round in 0..20 {
        let ask = |at: usize| {
            let server = &server;
            async move {
                let index = if at == round % 8 { 1000 } else { at % 4 };
                let rows: Vec<usize> = vec![index; 1 + at % 3];
                let input = json!({"name": "index", "shape": [rows.len()], "datatype": "INT64", "data": rows});
                let response = post(server, "lookup", None, json!({"inputs": [input]}).to_string()).await;
                if index == 1000 {
                    let (status, reason) = refusal(response).await;
                    assert!(status == StatusCode::BAD_REQUEST && reason.contains("the model refuses"), "{reason}");
                    return;
                }
                let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
                let first = (index * 3) as f64;
                let expected: Vec<f64> = rows.iter().flat_map(|_| [first, first + 1.0, first + 2.0]).collect();
                assert_eq!(body["outputs"][0]["data"], json!(expected), "{body}");
            }
        };
        futures::future::join_all((0..8).map(ask)).await;
    }
}

/// Models are exchanged while they are asked: no request fails.
#[tokio::test(flavor = "multi_thread")]
async fn loading_again_fails_no_request() {
    let server = Server::start().await;
    let exchange = async {
        for _ in 0..10 {
            let response = Client::new().post(server.url("/v2/repository/models/lookup/load")).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    };
    let ask = async {
        for _ in 0..200 {
            assert_answers(&server).await;
        }
    };
    tokio::join!(exchange, ask);
}
