//! Over gRPC: messages that lie, sizes, and calls that are given up.

use std::time::{Duration, Instant};

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
/// are never computed: what comes after them is answered as soon as the first one is.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_are_not_computed() {
    const LONG: i64 = 400;
    let server = Server::start().await;
    let client = connect(&server).await;
    let call = |times: i64| {
        let mut client = client.clone();
        let message = request("slow", "times", &[1, 1], times.to_le_bytes().to_vec());
        async move { client.model_infer(Request::new(message)).await }
    };
    let begun = Instant::now();
    call(LONG).await.unwrap();
    let alone = begun.elapsed();

    let first = tokio::spawn(call(LONG));
    // Four for each batch, and another thread is not there: these wait.
    let mut given_up = Vec::new();
    for _ in 0..6 {
        given_up.push(tokio::spawn(call(LONG * 100)));
    }
    let late = {
        let mut client = client.clone();
        let mut late = Request::new(request("slow", "times", &[1, 1], (LONG * 100).to_le_bytes().to_vec()));
        late.set_timeout(Duration::from_millis(1));
        async move { client.model_infer(late).await }
    };
    let status = late.await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    for call in &given_up {
        call.abort();
    }
    first.await.unwrap().unwrap();
    let begun = Instant::now();
    call(1).await.unwrap();
    let waited = begun.elapsed();
    assert!(waited < alone * 50, "{waited:?} after calls that were given up; one takes {alone:?}");
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
