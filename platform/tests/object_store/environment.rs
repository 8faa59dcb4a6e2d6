//! What the environment says about S3. Each case runs in a process of its own with only the variables given.

use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt;
use platform::object_store::{Location, aws_credentials, open};

use crate::s3::server;

const LOCATION: &str = "PLATFORM_TEST_LOCATION";

/// The inner process: opens the location and prints what it finds, or the error.
#[tokio::test]
#[ignore = "run by the other tests of this module, in a process of its own"]
async fn inner() {
    let location = Location::parse(&std::env::var(LOCATION).unwrap()).unwrap();
    match open(&location).await {
        Ok(store) => {
            let count = store.list("").count().await;
            let region = aws_credentials().await.unwrap().region().to_owned();
            println!("found {count} in {region}");
        }
        Err(error) => println!("failed: {error}"),
    }
}

fn run(location: &str, variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "environment::inner", "--ignored", "--nocapture"]);
    command.env_clear().env("HOME", home.path()).env(LOCATION, location).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().find(|line| line.starts_with("found") || line.starts_with("failed")).unwrap_or(&text).to_owned()
}

#[tokio::test]
async fn the_usual_variables_are_enough_and_the_region_has_a_default() {
    let server = server().await;
    server.bucket("environment").await.unwrap().put("x", "x".into()).await.unwrap();
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_ACCESS_KEY_ID", server.access_key()),
        ("AWS_SECRET_ACCESS_KEY", server.secret_key()),
    ];
    assert_eq!(run("s3://environment", &variables), "found 1 in us-east-1");
    variables[0].0 = "AWS_ENDPOINT_URL_S3";
    variables.push(("AWS_ENDPOINT_URL", "http://127.0.0.1:1"));
    variables.push(("AWS_REGION", "eu-north-1"));
    assert_eq!(run("s3://environment", &variables), "found 1 in eu-north-1");
}

#[tokio::test]
async fn profiles_are_read() {
    let server = server().await;
    server.bucket("profiles").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (config, keys) = (folder.path().join("config"), folder.path().join("credentials"));
    let text = format!("[profile ranger]\nregion = sa-east-1\nendpoint_url = {}\n", server.endpoint());
    std::fs::write(&config, text).unwrap();
    let text = format!(
        "[ranger]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        server.access_key(),
        server.secret_key()
    );
    std::fs::write(&keys, text).unwrap();
    let variables = [
        ("AWS_PROFILE", "ranger"),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().unwrap()),
    ];
    assert_eq!(run("s3://profiles", &variables), "found 0 in sa-east-1");
}

#[tokio::test]
async fn without_credentials_the_message_names_the_variables() {
    let server = server().await;
    let started = Instant::now();
    let text = run("s3://environment", &[("AWS_ENDPOINT_URL", server.endpoint())]);
    assert!(text.contains("was denied, no credentials were found"), "{text}");
    assert!(text.contains(": set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn unsigned_requests_need_no_credentials_and_are_refused_by_a_private_bucket() {
    let server = server().await;
    server.bucket("private").await.unwrap();
    let variables = [("AWS_ENDPOINT_URL", server.endpoint()), ("AWS_SKIP_SIGNATURE", "true")];
    let text = run("s3://private", &variables);
    assert!(text.starts_with("failed: access to s3://private was denied, the credentials have no right"), "{text}");
}

#[test]
fn an_endpoint_without_a_scheme_is_refused() {
    let text = run("s3://environment", &[("AWS_ENDPOINT_URL", "localhost:8333")]);
    assert!(text.contains("`localhost:8333` is not allowed for AWS_ENDPOINT_URL"), "{text}");
}
