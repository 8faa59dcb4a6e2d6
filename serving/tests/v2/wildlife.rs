//! The detection model under the protocol, with an eye that is easily checked.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use serving::batch::Terms;
use serving::v2::wildlife::{Found, Look, MAX_IMAGES};
use serving::v2::{Models, Wildlife};
use serving::{Error, Result};

use crate::server::Server;

/// Sees as many animals as the picture has bytes.
struct Counts;

#[async_trait]
impl Look for Counts {
    async fn look(&self, image: Bytes, _: Terms) -> Result<Found> {
        if image.as_ref() == b"damaged" {
            return Err(Error::Media("the JPEG file is damaged".to_owned()));
        }
        let count = image.len();
        Ok(Found {
            boxes: vec![[0.0, 0.25, 0.5, 1.0]; count],
            labels: vec!["ibex".to_owned(); count],
            scores: vec![0.5; count],
            version: "wildlife-1".to_owned(),
        })
    }

    fn version(&self) -> String {
        "wildlife-1".to_owned()
    }

    fn ready(&self) -> bool {
        true
    }
}

async fn ask(server: &Server, images: &[&str]) -> (u16, Value) {
    let input = json!({"name": "image", "shape": [images.len()], "datatype": "BYTES", "data": images});
    let request = reqwest::Client::new().post(server.url("/v2/models/wildlife/infer"));
    let response = request.body(json!({"id": "w", "inputs": [input]}).to_string()).send().await.unwrap();
    (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_name_their_pictures() {
    let models = Models::new();
    models.add("wildlife", Arc::new(Wildlife::new(Arc::new(Counts)))).unwrap();
    models.load_all().await.unwrap();
    let server = Server::of(models, tempfile::tempdir().unwrap()).await;
    let (status, answer) = ask(&server, &["a", "", "ab"]).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["id"], &answer["model_version"]), (&json!("w"), &json!("wildlife-1")));
    let output = |name: &str| {
        let found = answer["outputs"].as_array().unwrap().iter().find(|output| output["name"] == name).unwrap();
        (found["shape"].clone(), found["data"].clone())
    };
    assert_eq!(output("image"), (json!([3]), json!([0, 2, 2])));
    assert_eq!(output("labels"), (json!([3]), json!(["ibex", "ibex", "ibex"])));
    assert_eq!(output("scores"), (json!([3]), json!([0.5, 0.5, 0.5])));
    assert_eq!(output("boxes").0, json!([3, 4]));

    let (status, answer) = ask(&server, &[""]).await;
    assert_eq!((status, &answer["outputs"][0]["shape"]), (200, &json!([0, 4])), "{answer}");
    let (status, answer) = ask(&server, &["a", "damaged"]).await;
    assert!(status == 422 && answer["error"].as_str().unwrap().contains("damaged"), "{status} {answer}");
    let (status, answer) = ask(&server, &vec!["a"; MAX_IMAGES + 1]).await;
    assert!(status == 413 && answer["error"].as_str().unwrap().contains("number of pictures"), "{status} {answer}");
}
