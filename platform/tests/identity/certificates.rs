//! TLS by certificate files that change while the server runs.

use std::path::Path;

use axum::Router;
use axum::routing::get;
use platform::Error;
use platform::serve::{Entrance, Server, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::sync::watch;

/// Writes a new certificate for this machine, and gives it in PEM form.
fn certify(cert: &Path, key: &Path) -> String {
    let CertifiedKey { cert: made, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(cert, made.pem()).unwrap();
    std::fs::write(key, signing_key.serialize_pem()).unwrap();
    made.pem()
}

/// The answer to whoever trusts this certificate alone, on a connection of its own.
async fn ask(port: u16, trusted: &str) -> reqwest::Result<String> {
    let root = reqwest::Certificate::from_pem(trusted.as_bytes())?;
    let client = reqwest::Client::builder().tls_certs_only([root]).build()?;
    client.get(format!("https://localhost:{port}/")).send().await?.text().await
}

#[tokio::test]
async fn a_new_certificate_counts_for_new_connections_and_a_broken_one_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let missing = Tls::open(&cert, &key).unwrap_err();
    assert!(matches!(&missing, Error::Tls { path, .. } if *path == cert), "{missing}");
    let first = certify(&cert, &key);
    let tls = Tls::open(&cert, &key).unwrap();
    let entrance = Entrance { tls: Some(tls.clone()), ..Entrance::default() };
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), &entrance).await.unwrap();
    assert!(server.url().starts_with("https://127.0.0.1:"));
    let port = server.address().port();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(server.run(Router::new().route("/", get(|| async { "hello" })), stopped));

    assert_eq!(ask(port, &first).await.unwrap(), "hello");
    reqwest::get(format!("http://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(!tls.reload().unwrap(), "nothing has changed");

    let second = certify(&cert, &key);
    assert!(tls.reload().unwrap());
    assert_eq!(ask(port, &second).await.unwrap(), "hello");
    ask(port, &first).await.unwrap_err();

    // A key of another certificate, as between two writes of who renews them.
    let whole = std::fs::read(&key).unwrap();
    certify(&folder.path().join("other.crt"), &key);
    let unfit = tls.reload().unwrap_err();
    assert!(matches!(&unfit, Error::Tls { path, .. } if *path == key), "{unfit}");
    assert_eq!(ask(port, &second).await.unwrap(), "hello", "what was read before is used");
    std::fs::write(&key, whole).unwrap();
    assert!(!tls.reload().unwrap());
}

#[tokio::test]
async fn without_identity_no_address_that_others_reach_is_listened_on() {
    let refused = Server::bind("0.0.0.0:0".parse().unwrap(), &Entrance::default()).await.unwrap_err();
    let words = refused.to_string();
    assert!(words.contains("safari user add") && words.contains("identity.enabled"), "{words}");
}
