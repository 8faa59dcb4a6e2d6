//! Pictures that are judged together: in one request, one after the other, and as a stream.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::server::{Server, burst, form, json, said, sample};

fn names(media: &Value) -> Vec<(String, String)> {
    let boxes = media["detections"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    boxes.iter().map(|found| (text(&found["category"]), text(&found["scientific_name"]))).collect()
}

fn second(number: usize) -> String {
    format!("2026-07-01T05:30:{:02}Z", number * 2)
}

async fn as_burst(server: &Server, frames: &[Bytes]) -> Value {
    let times: Vec<String> = (0..frames.len()).map(second).collect();
    let parts: Vec<_> = frames
        .iter()
        .zip(&times)
        .flat_map(|(frame, time)| [("image", Some("frame.jpg"), &frame[..]), ("captured_at", None, time.as_bytes())])
        .collect();
    let (kind, body) = form(&parts);
    json(server.post("/v1/detections", &kind, body).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cameras_burst_goes_on_from_request_to_request() {
    let server = Server::start(|_| {}).await;
    let frames = burst("forest-trail/burst-jaguar", 6);
    let together = as_burst(&server, &frames).await;
    assert_eq!(together["burst"], true);
    let media = together["media"].as_array().unwrap();
    assert!(media.len() == 6 && media.iter().all(|one| one["captured_at"].is_string()), "{together}");
    assert!(media.iter().flat_map(|one| one["detections"].as_array().unwrap()).all(|found| found["track"].is_u64()));

    let mut last = Value::Null;
    for (number, frame) in frames.iter().enumerate() {
        let asked =
            server.picture(frame).header("safari-deployment", "gate").header("safari-captured-at", second(number));
        last = json(asked.send().await.unwrap()).await;
        let alone =
            json(server.picture(frame).header("safari-deployment", format!("other {number}")).send().await.unwrap())
                .await;
        // A camera's first picture is judged by itself, its later ones by all before.
        if number == 0 {
            assert_eq!(names(&alone["media"][0]), names(&last["media"][0]));
        }
    }
    // The last picture of a live burst is named as in the burst as a whole.
    assert_eq!(names(&last["media"][0]), names(&media[5]), "{last}");
    assert_eq!(server.metric("safari_serving_deployments").await, 7.0);

    let damaged = [frames[0].clone(), Bytes::from_static(b"no picture"), frames[1].clone()];
    let answer = as_burst(&server, &damaged).await;
    assert!(answer["media"][1]["failure"].is_string() && answer["media"][2]["failure"].is_null(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_answered_in_order_and_a_bad_frame_breaks_nothing() {
    let server = Server::start(|_| {}).await;
    let pictures = [sample("farmyard/cow.jpg"), Bytes::from_static(b"no picture"), sample("prairie/bison.jpg")];
    let mut alone = Vec::new();
    for picture in [&pictures[0], &pictures[2]] {
        alone.push(said(&server.found(picture).await));
    }
    let (mut socket, _) = connect_async(format!("ws://{}/v1/stream", server.address)).await.unwrap();
    // More than may be under way: the server reads on as it answers.
    for number in 0..12 {
        socket.send(Message::Binary(pictures[number % 3].clone())).await.unwrap();
    }
    for number in 0..12 {
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["frame"], number);
        match number % 3 {
            1 => assert_eq!(answer["problem"]["status"], 422, "{answer}"),
            kind => assert_eq!(said(&answer), alone[kind / 2], "{answer}"),
        }
    }
    // It is told that the server ends, after its frames are answered.
    socket.send(Message::Binary(pictures[0].clone())).await.unwrap();
    let Message::Text(_) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
    server.tell_to_end();
    let told = tokio::time::timeout(Duration::from_secs(60), socket.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&told, Message::Close(Some(frame)) if u16::from(frame.code) == 1001), "{told:?}");
    server.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_camera_is_a_burst() {
    let server = Server::start(|_| {}).await;
    let mut request = format!("ws://{}/v1/stream", server.address).into_client_request().unwrap();
    request.headers_mut().insert("safari-deployment", "gate".parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    for frame in burst("prairie/burst-bison", 5) {
        socket.send(Message::Binary(frame)).await.unwrap();
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["burst"], json!(true), "{answer}");
        let boxes = answer["media"][0]["detections"].as_array().unwrap();
        assert!(!boxes.is_empty() && boxes.iter().all(|found| found["track"].is_u64()), "{answer}");
    }
    socket.send(Message::Text("a text".into())).await.unwrap();
    let told = socket.next().await.unwrap().unwrap();
    assert!(matches!(&told, Message::Close(Some(frame)) if u16::from(frame.code) == 1003), "{told:?}");
}
