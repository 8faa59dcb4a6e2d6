//! The same pictures and plain TorchScript models under the Open Inference Protocol, on the same port.

use std::path::PathBuf;

use serde_json::{Value, json};
use serving::models::ModelSource;
use serving::v2::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use serving::v2::proto::model_infer_request::InferInputTensor;
use serving::v2::proto::{InferTensorContents, ModelInferRequest, ServerReadyRequest};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::server::{Server, json, problem, root, sample};

fn models() -> PathBuf {
    root().join("serving/tests/models")
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let found = answer["outputs"].as_array().unwrap().iter().find(|output| output["name"] == name);
    &found.unwrap()["data"]
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_answered_the_same_over_both_protocols() {
    let server = Server::start(|options| {
        options.models = vec![("rows".to_owned(), models().join("lookup"))];
        options.repository = Some(models());
    })
    .await;
    let picture = sample("farmyard/cow.jpg");
    let found = server.found(&picture).await;
    let encoded = STANDARD.encode(&picture);
    let body = json!({"inputs": [{
        "name": "image", "shape": [2], "datatype": "BYTES",
        "parameters": {"content_type": "base64"}, "data": [encoded, encoded],
    }]});
    let answer = server.post("/v2/models/wildlife/infer", "application/json", body.to_string()).send().await.unwrap();
    let answer = json(answer).await;
    assert_eq!(answer["model_version"], found["model"]["version"]);
    let boxes = found["media"][0]["detections"].as_array().unwrap();
    assert_eq!(output(&answer, "image"), &json!([vec![0; boxes.len()], vec![1; boxes.len()]].concat()));
    assert_eq!(output(&answer, "labels")[0], boxes[0]["species"]);
    assert_eq!(output(&answer, "scores")[0].as_f64().unwrap() as f32, boxes[0]["confidence"].as_f64().unwrap() as f32);

    // gRPC on the same port.
    let mut client = GrpcInferenceServiceClient::connect(server.url("")).await.unwrap();
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let input = InferInputTensor {
        name: "image".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1],
        contents: Some(InferTensorContents { bytes_contents: vec![picture.clone()], ..Default::default() }),
        ..Default::default()
    };
    let request =
        ModelInferRequest { model_name: "wildlife".to_owned(), inputs: vec![input.clone()], ..Default::default() };
    let answer = client.model_infer(request).await.unwrap().into_inner();
    assert_eq!(answer.model_version, found["model"]["version"].as_str().unwrap());
    let bad = InferInputTensor {
        contents: Some(InferTensorContents { bytes_contents: vec!["no picture".into()], ..Default::default() }),
        ..input
    };
    let request = ModelInferRequest { model_name: "wildlife".to_owned(), inputs: vec![bad], ..Default::default() };
    assert_eq!(client.model_infer(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    let rows = json!({"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [2]}]}).to_string();
    let answer = server.post("/v2/models/rows/infer", "application/json", rows.clone()).send().await.unwrap();
    assert_eq!(output(&json(answer).await, "row"), &json!([6.0, 7.0, 8.0]));
    let loaded = server.client.post(server.url("/v2/repository/models/lookup/load")).send().await.unwrap();
    assert_eq!(loaded.status(), 200);
    let answer = server.post("/v2/models/lookup/infer", "application/json", rows).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let again = server.client.post(server.url("/v2/repository/models/wildlife/load")).send().await.unwrap();
    assert_eq!(again.status(), 200, "it is looked for where it comes from");

    let requests = "safari_serving_requests_total{route=\"/v2/models/{model}/infer\",status=\"200\"}";
    assert_eq!(server.metric(requests).await, 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_torchscript_file_is_a_server_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    std::fs::copy(models().join("lookup/model.pt"), place.path().join("net.pt")).unwrap();
    std::fs::copy(models().join("lookup/signature.yaml"), place.path().join("net.signature.yaml")).unwrap();
    let source: ModelSource = place.path().join("net.pt").display().to_string().parse().unwrap();
    let server = Server::start(|options| options.model = source).await;
    let rows = json!({"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [2]}]}).to_string();
    let answer = server.post("/v2/models/net/infer", "application/json", rows).send().await.unwrap();
    assert_eq!(output(&json(answer).await, "row"), &json!([6.0, 7.0, 8.0]));
    let (status, detail) = problem(server.picture(&sample("farmyard/cow.jpg")).send().await.unwrap()).await;
    assert!(status == 501 && detail.contains("/v2"), "{status} {detail}");
    assert_eq!(server.get("/v2/health/ready").await.status(), 200);
    server.end().await.unwrap();
}
