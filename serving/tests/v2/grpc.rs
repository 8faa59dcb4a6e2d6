//! Over gRPC: messages that lie, sizes, and calls that are given up.

use std::time::Duration;

use bytes::Bytes;
use serving::v2::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use serving::v2::proto::model_infer_request::InferInputTensor;
use serving::v2::proto::{ModelInferRequest, ServerLiveRequest};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::server::{MAX_BODY, Server};

async fn connect(server: &Server) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::connect(server.url("")).await.unwrap()
}

fn request(model: &str, input: &str, shape: &[i64], raw: Vec<u8>) -> ModelInferRequest {
    let input = InferInputTensor {
        name: input.to_owned(),
        datatype: "INT64".to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: model.to_owned(),
        id: "g".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_lie_are_refused() {
    let server = Server::start().await;
    let mut client = connect(&server).await;
    for (shape, bytes) in [
        (vec![1], 7),
        (vec![-1], 8),
        (vec![i64::MAX], 8),
        (vec![i64::MAX, i64::MAX], 8),
        (vec![0, i64::MAX], 0),
        (vec![0], 0),
        (vec![1; 100], 8),
        (vec![], 8),
    ] {
        let status = client.model_infer(request("lookup", "index", &shape, vec![0; bytes])).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{shape:?}: {status}");
        assert!(!status.message().is_empty());
    }
    let mut none = request("lookup", "index", &[1], vec![]);
    none.inputs.clear();
    assert_eq!(client.model_infer(none).await.unwrap_err().code(), Code::InvalidArgument);
    let large = request("lookup", "index", &[1], vec![0; MAX_BODY + 1]);
    let status = client.model_infer(large).await.unwrap_err();
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange), "{status}");

    let answer =
        client.model_infer(request("lookup", "index", &[1], vec![1, 0, 0, 0, 0, 0, 0, 0])).await.unwrap().into_inner();
    assert_eq!(answer.id, "g");
    let row: Vec<u8> = [3.0_f32, 4.0, 5.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(answer.raw_output_contents, [Bytes::from(row)]);
}

/// One call holds the model's thread. Those that wait behind it and are given up, by the caller or at their deadlines,
/// are never computed.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_are_not_computed() {
    let server = Server::start().await;
    let client = connect(&server).await;
    // On a fast machine the first call may end before the others have come and gone: then it has to be longer.
    let mut times = 400;
    while !given_up_behind(&server, &client, times).await {
        times *= 4;
    }
}

/// Whether the first call, of so many rounds, was still computed when all others had come and gone.
async fn given_up_behind(server: &Server, client: &GrpcInferenceServiceClient<Channel>, times: i64) -> bool {
    let call = |times: i64| {
        let mut client = client.clone();
        let message = request("slow", "times", &[1, 1], times.to_le_bytes().to_vec());
        async move { client.model_infer(Request::new(message)).await }
    };
    let begun = counted(server, "safari_serving_wait_seconds_count{version=\"slow\"}");
    let first = tokio::spawn(call(times));
    while counted(server, "safari_serving_wait_seconds_count{version=\"slow\"}") == begun {
        tokio::task::yield_now().await;
    }
    let given_up: Vec<_> = (0..6).map(|_| tokio::spawn(call(1))).collect();
    let mut late = Request::new(request("slow", "times", &[1, 1], 1_i64.to_le_bytes().to_vec()));
    late.set_timeout(Duration::from_millis(1));
    let late = client.clone().model_infer(late).await;
    while counted(server, "safari_serving_queue{version=\"slow\"}") < 6 && !first.is_finished() {
        tokio::task::yield_now().await;
    }
    for call in &given_up {
        call.abort();
    }
    // Its frames come after theirs on the connection.
    client.clone().server_live(ServerLiveRequest {}).await.unwrap();
    let in_time = !first.is_finished();
    first.await.unwrap().unwrap();
    if !in_time {
        return false;
    }
    let status = late.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    call(1).await.unwrap();
    let computed = counted(server, "safari_serving_wait_seconds_count{version=\"slow\"}") - begun;
    assert_eq!(computed, 2, "the first and the last");
    true
}

fn counted(server: &Server, line: &str) -> u64 {
    let text = server.metrics.text().unwrap();
    let found = text.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_faces_share_a_port() {
    let server = Server::start().await;
    let mut client = connect(&server).await;
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    let live = reqwest::get(server.url("/v2/health/live")).await.unwrap();
    assert!(live.status().is_success());
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
}
