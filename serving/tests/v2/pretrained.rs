//! The pretrained networks, where they are: a served answer is what libtorch computes by itself, to the last digit.

use serde_json::json;
use serving::v2::Models;

use crate::server::{Server, torchscript, workspace};

#[tokio::test(flavor = "multi_thread")]
async fn a_pretrained_network_is_served_to_the_last_digit() {
    let file = workspace().join("../shared/models/efficientnet_lite0_imagenet.pt");
    if !file.is_file() {
        eprintln!("skipped: {} is not there", file.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&file, folder.path().join("net.pt")).unwrap();
    let signature = json!({
        "inputs": [{"name": "picture", "datatype": "FP32", "shape": [-1, 3, 224, 224]}],
        "outputs": [
            {"name": "embedding", "datatype": "FP32", "shape": [-1, 1280]},
            {"name": "logits", "datatype": "FP32", "shape": [-1, 1000]},
        ],
    });
    std::fs::write(folder.path().join("signature.yaml"), signature.to_string()).unwrap();
    let models = Models::new();
    models.add("net", torchscript(folder.path())).unwrap();
    models.load_all().await.unwrap();
    let server = Server::of(models, folder).await;

    let picture: Vec<f32> = (0..3 * 224 * 224).map(|at| ((at % 255) as f32 - 127.0) / 128.0).collect();
    let bytes: Vec<u8> = picture.iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = json!({
        "inputs": [{"name": "picture", "datatype": "FP32", "shape": [1, 3, 224, 224], "parameters": {"binary_data_size": bytes.len()}}],
        "outputs": [{"name": "logits", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let request = reqwest::Client::new()
        .post(server.url("/v2/models/net/infer"))
        .header("Inference-Header-Content-Length", json.len())
        .body([json.as_bytes(), &bytes].concat());
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    let length: usize = response.headers()["Inference-Header-Content-Length"].to_str().unwrap().parse().unwrap();
    let answer = response.bytes().await.unwrap().slice(length..);

    let computed = tokio::task::spawn_blocking(move || {
        tch::set_num_threads(1);
        let mut module = tch::CModule::load(&file).unwrap();
        module.f_set_eval().unwrap();
        let input = tch::Tensor::from_slice(&picture).view([1, 3, 224, 224]);
        let output = tch::no_grad(|| module.forward_is(&[tch::IValue::Tensor(input)])).unwrap();
        let tch::IValue::Tuple(values) = output else { panic!("no tuple") };
        let tch::IValue::Tensor(logits) = &values[1] else { panic!("no tensor") };
        Vec::<f32>::try_from(logits.flatten(0, -1)).unwrap()
    });
    let expected: Vec<u8> = computed.await.unwrap().iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(answer[..], expected[..]);
}
