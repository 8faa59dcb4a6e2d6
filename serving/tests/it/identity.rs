//! Who may ask for live detections, over HTTP and gRPC, and who may say which model answers.

use axum::http::Method;
use detector::device::Device;
use e2e::walk::{Walk, has};
use platform::database::Address;
use platform::identity::{Guard, Identity, IdentityOptions, Manager, Permission, Role, Route};
use platform::sealing::SecretKey;
use serving::models::ModelSource;
use serving::{Options, Service};

use crate::server::{Server, config};

const GRPC: &str = "/inference.GRPCInferenceService/";

#[tokio::test]
async fn every_route_lets_in_whom_the_table_says() {
    let home = tempfile::tempdir().unwrap();
    let walk = Walk::new(&Address::Sqlite(home.path().join("identity.db"))).await;
    let config = config(&home, &[]);
    let mut options = Options::of(&config).unwrap();
    (options.listen, options.model) = ("127.0.0.1:0".parse().unwrap(), ModelSource::Shipped);
    options.entrance.guard = walk.guard();
    let service = Service::open(options, config, Device::Cpu).await.unwrap();
    let router = service.router();
    let own = platform::identity::routes::<()>(&walk.guard()).routes();
    let (grpc, rest): (Vec<Route>, Vec<Route>) =
        serving::doors::routes().into_iter().partition(|route| route.path.starts_with(GRPC));
    let rest: Vec<Route> = rest.into_iter().chain(own).collect();
    assert!(has(&rest, &Method::POST, "/v1/detections") && has(&rest, &Method::POST, "/auth/login"));
    assert!(grpc.iter().any(|route| route.path.ends_with("/ModelInfer")) && grpc.len() > 8, "{grpc:?}");
    let mut differences = walk.compare_grpc(&router, &grpc).await;
    // The last route that it asks logs out.
    differences.extend(walk.compare(&router, &rest).await);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ranger_asks_and_does_not_manage() {
    let home = tempfile::tempdir().unwrap();
    let address = Address::Sqlite(home.path().join("identity.db"));
    let store = platform::identity::store::Store::open(&address).await.unwrap();
    let sealing = SecretKey::from_text("a key for tests, of no worth").unwrap();
    let identity = Identity::new(store, sealing, IdentityOptions::default()).await.unwrap();
    let (password, by) = ("a password for tests", Manager { name: "the tests", address: None });
    identity.add_user("lin", password, Role::Ranger.into(), by).await.unwrap();
    let guard = Guard::Closed(identity);
    let server = Server::start(|options| options.entrance.guard = guard).await;
    let body = serde_json::json!({ "name": "lin", "password": password }).to_string();
    let login = server.post("/auth/login", "application/json", body).send().await.unwrap();
    let login: serde_json::Value = serde_json::from_slice(&login.bytes().await.unwrap()).unwrap();
    let token = login["access_token"].as_str().unwrap();

    let picture = bytes::Bytes::from_static(b"no picture");
    let nobody = server.picture(&picture).send().await.unwrap();
    assert_eq!((nobody.status().as_u16(), nobody.headers().contains_key("www-authenticate")), (401, true));
    let somebody = server.picture(&picture).bearer_auth(token).send().await.unwrap();
    assert_ne!(somebody.status(), 401, "what is wrong is the picture");
    let manage = server.client.post(server.url("/v1/model/rollback")).bearer_auth(token).send().await.unwrap();
    let said = manage.text().await.unwrap();
    assert!(said.contains(Permission::ServingManage.as_str()), "{said}");
    let infer = server.client.post(server.url("/v2/models/wildlife/infer")).send().await.unwrap();
    assert_eq!(infer.status(), 401);
    assert!(infer.text().await.unwrap().starts_with(r#"{"error":"#), "in the words of the protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_it_answers_by_tls_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = platform::serve::Tls::open(&cert, &key).unwrap();
    let server = Server::start_in(tempfile::tempdir().unwrap(), &[], |options| options.entrance.tls = Some(tls)).await;
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let url = format!("https://localhost:{}/healthz/live", server.address.port());
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    server.client.get(server.url("/healthz/live")).send().await.unwrap_err();
}
