//! A place of backups in a bucket, on a server that is busy, breaks off and loses answers.

use std::sync::Arc;
use std::time::Duration;

use backup::restore::Choice;
use backup::{Keys, Places, Progress, Repository, What};
use e2e::seaweedfs::Server;
use e2e::shaky_http::{Fault, ShakyHttp};
use platform::object_store::{AwsAccess, DEFAULT_REGION, Location, open_with};

use crate::house::{House, look, restore_to};

const LEASE: Duration = Duration::from_secs(3);

pub async fn repository(server: &Server, endpoint: &str, prefix: &str) -> Repository {
    let location = Location::parse(&format!("s3://backups/{prefix}")).unwrap();
    let access = AwsAccess::with_keys(endpoint, DEFAULT_REGION, server.access_key(), server.secret_key()).unwrap();
    Repository::new(open_with(&location, &access).await.unwrap(), Keys::new(&[], None).unwrap(), LEASE)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shaky_server_delays_a_backup_and_its_restoration_and_spoils_neither() {
    let server = Arc::new(Server::start().await.unwrap());
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    let before = house.look().await;
    // Each third request meets a fault the first time that it is asked.
    let proxy = ShakyHttp::start(server.endpoint(), |request| {
        let number: usize = request.target.bytes().map(usize::from).sum();
        match (request.before, number % 3, request.method) {
            (0, 0, _) => Some(Fault::Busy),
            (0, 1, "GET") => Some(Fault::BrokenOff),
            _ => None,
        }
    })
    .unwrap();
    let shaky = repository(&server, &proxy.endpoint(), "shaky").await;
    let created = house.back_up(&shaky, What::All).await;
    assert!(proxy.count(Fault::Busy) > 5 && proxy.count(Fault::BrokenOff) > 0);
    let to = tempfile::tempdir().unwrap();
    let places = Places::in_folder(&to.path().join("x"));
    restore_to(&shaky, &places, What::All, Choice::Newest).await.unwrap();
    assert_eq!(look(&places).await, before);
    let steady = repository(&server, server.endpoint(), "shaky").await;
    backup::verify(&steady, &created.manifest.id, &Progress::silent()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_every_answer_makes_no_backup() {
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    let before = house.look().await;
    let steady = repository(&server, server.endpoint(), "broken").await;
    let created = house.back_up(&steady, What::All).await.manifest;
    let proxy = ShakyHttp::start(server.endpoint(), |request| {
        let is_blob = request.method == "GET" && request.target.contains("/blobs/");
        is_blob.then_some(Fault::BrokenOff)
    })
    .unwrap();
    let broken = repository(&server, &proxy.endpoint(), "broken").await;
    house.add_models(20..22).await;
    let after = house.look().await;
    backup::create(&broken, &house.places, What::All, &Progress::silent()).await.unwrap_err();
    let restored = house.restore(&broken, What::All, Choice::Id(created.id.clone())).await;
    restored.unwrap_err();
    assert_eq!(house.look().await, after, "nothing was replaced");
    assert_eq!(steady.list().await.unwrap().len(), 1);
    house.restore(&steady, What::All, Choice::Newest).await.unwrap();
    assert_eq!(house.look().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_backups_to_a_bucket_at_once_one_is_made() {
    let server = Server::start().await.unwrap();
    server.bucket("backups").await.unwrap();
    let house = House::new().await;
    let progress = Progress::silent();
    let mut repositories = Vec::new();
    for _ in 0..6 {
        repositories.push(repository(&server, server.endpoint(), "many").await);
    }
    let all = repositories.iter().map(|one| backup::create(one, &house.places, What::Db, &progress));
    let done = futures::future::join_all(all).await;
    assert_eq!(done.iter().filter(|one| one.is_ok()).count(), 1, "{done:?}");
    for refused in done.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, backup::Error::InUse { .. }), "{refused}");
    }
    assert_eq!(repositories[0].list().await.unwrap().len(), 1);
}
