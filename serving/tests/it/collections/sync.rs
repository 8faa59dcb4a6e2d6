//! Sightings that are sent again, at once and later: each is there once.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::field::on_both;
use crate::server::{problem, sample};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_one_sighting_however_often_and_however_many_at_once() {
    on_both(async |field| {
        let key = Uuid::new_v4();
        let sighting = json!({ "species": "vulpes-vulpes", "client_id": key, "time": "2026-05-01T12:00:00Z" });
        let dog = sample("farmyard/dog.jpg");
        let answers = join_all((0..20).map(|_| field.sees_with(&field.lin, &sighting, &dog))).await;
        let made = answers.iter().filter(|(status, _)| *status == 201).count();
        assert_eq!(made, 1, "{answers:?}");
        assert!(answers.iter().all(|(status, one)| matches!(status, 200 | 201) && one["id"] == answers[0].1["id"]));
        assert_eq!(
            (field.rows("sighting").await, field.rows("picture").await, field.rows("stray_object").await),
            (1, 1, 0)
        );
        assert_eq!(field.objects().len(), 1, "uploads that were not needed are gone");

        // By the header it is the same key; with other content it is refused; another person has keys of their own.
        let (status, other) =
            field.record(&field.lin, &json!({ "species": "panthera-tigris", "client_id": key })).await;
        assert_eq!((status, other["detail"].as_str().unwrap().contains("new key")), (409, true), "{other}");
        let by_header = async |token: &str, header: String| {
            let request = field.ask(token, Method::POST, "/v1/sightings").header("content-type", "application/json");
            let body = json!({ "species": "vulpes-vulpes" }).to_string();
            request.header("idempotency-key", header).body(body).send().await.unwrap().status().as_u16()
        };
        assert_eq!(by_header(&field.lin, key.to_string()).await, 409);
        assert_eq!(by_header(&field.kim, format!("\"{key}\"")).await, 201);
        assert_eq!(by_header(&field.kim, key.to_string()).await, 200);
        assert_eq!(by_header(&field.kim, "two words".to_owned()).await, 400);

        let path = format!("/v1/sightings/{}", answers[0].1["id"].as_str().unwrap());
        assert_eq!(field.ask(&field.lin, Method::DELETE, &path).send().await.unwrap().status(), 204);
        let (status, late) = field.sees_with(&field.lin, &sighting, &dog).await;
        assert_eq!(status, 410, "a late repeat does not bring it back: {late}");
        assert!(field.objects().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_sent_again_adds_what_is_missing_and_tells_each_ones_fate() {
    on_both(async |field| {
        let sighting = |species: &str, day: u32| json!({ "client_id": Uuid::new_v4(), "species": species, "time": format!("2026-04-{day:02}T08:00:00Z") });
        let all: Vec<Value> = (1..=10).map(|day| sighting("vulpes-vulpes", day)).collect();
        let sync = async |sightings: &[Value]| {
            let (status, answer) = field.send(&field.lin, Method::POST, "/v1/sightings/sync", &json!({ "sightings": sightings })).await;
            assert_eq!(status, 200, "{answer}");
            let results = answer["results"].as_array().unwrap().clone();
            assert_eq!(results.len(), sightings.len());
            results
        };
        let statuses = |results: &[Value]| -> Vec<u64> { results.iter().map(|one| one["status"].as_u64().unwrap()).collect() };
        assert_eq!(statuses(&sync(&all[..6]).await), [201; 6]);
        let second = sync(&all).await;
        assert_eq!(statuses(&second), [200, 200, 200, 200, 200, 200, 201, 201, 201, 201]);
        assert_eq!(second[9]["client_id"], all[9]["client_id"]);
        // Two devices at the same moment, and one of them twice.
        let more: Vec<Value> = (11..=20).map(|day| sighting("panthera-tigris", day)).collect();
        let results = join_all([sync(&more), sync(&more), sync(&more)]).await;
        let made: usize = results.iter().map(|one| statuses(one).iter().filter(|status| **status == 201).count()).sum();
        assert_eq!(made, 10);
        assert_eq!(field.sightings(&field.lin, "?person=me").await.len(), 20);

        let mut mixed = vec![sighting("vulpes-vulpes", 21), sighting("unicornis", 21), json!({ "species": "vulpes-vulpes" }), json!(7)];
        mixed.push(json!({ "client_id": all[0]["client_id"], "species": "panthera-tigris" }));
        let results = sync(&mixed).await;
        assert_eq!(statuses(&results), [201, 422, 400, 400, 409], "one that is refused keeps no other back");
        assert!(results[1]["problem"]["detail"].as_str().unwrap().contains("unicornis"));

        let many: Vec<Value> = (0..501).map(|_| sighting("vulpes-vulpes", 1)).collect();
        let (status, _) = field.send(&field.lin, Method::POST, "/v1/sightings/sync", &json!({ "sightings": many })).await;
        assert_eq!(status, 422);
        let nobody = field.server.post("/v1/sightings/sync", "application/json", "{\"sightings\":[]}");
        assert_eq!(problem(nobody.send().await.unwrap()).await.0, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_everything_beside_writers_leaves_whole_sightings_or_none() {
    on_both(async |field| {
        let dog = sample("farmyard/dog.jpg");
        for _ in 0..3 {
            let write = async |_: usize| {
                let (status, answer) = field.sees_with(&field.lin, &json!({ "species": "vulpes-vulpes" }), &dog).await;
                assert_eq!(status, 201, "{answer}");
            };
            let delete = async || {
                let path = "/v1/collection?confirm=true";
                assert_eq!(field.ask(&field.lin, Method::DELETE, path).send().await.unwrap().status(), 204);
            };
            tokio::join!(join_all((0..8).map(write)), delete());
            for seen in field.sightings(&field.lin, "?person=me").await {
                let picture =
                    field.ask(&field.lin, Method::GET, seen["picture"].as_str().unwrap()).send().await.unwrap();
                assert_eq!(picture.bytes().await.unwrap(), dog);
            }
            assert_eq!(field.rows("stray_object").await, 0);
            assert_eq!(field.objects().len() as i64, field.rows("picture").await);
            delete().await;
            assert!(field.objects().is_empty());
        }
    })
    .await;
}
