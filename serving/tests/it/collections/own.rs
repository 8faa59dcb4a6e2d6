//! Whose data are whose: what others see, what can be taken along, and what is gone when it is deleted.

use reqwest::Method;
use serde_json::{Value, json};

use super::field::{Field, near_the_lake, on_both};
use crate::server::{Server, config, problem, sample};

#[tokio::test(flavor = "multi_thread")]
async fn people_see_and_change_their_own_data_only() {
    on_both(async |field| {
        let fox = json!({ "species": "vulpes-vulpes", "place": near_the_lake(0.0), "client_id": uuid::Uuid::new_v4() });
        let (status, fox) = field.sees_with(&field.lin, &fox, &sample("farmyard/dog.jpg")).await;
        assert_eq!((status, &fox["mine"]), (201, &true.into()), "{fox}");
        let path = format!("/v1/sightings/{}", fox["id"].as_str().unwrap());

        let nothing_is_seen = async || {
            for (method, path) in
                [(Method::GET, path.clone()), (Method::GET, format!("{path}/picture")), (Method::DELETE, path.clone())]
            {
                let answer = field.ask(&field.kim, method, &path).send().await.unwrap();
                assert_eq!(problem(answer).await.0, 404, "{path}");
            }
            let (status, _) = field.send(&field.kim, Method::PATCH, &path, &json!({ "place": null })).await;
            assert_eq!(status, 404);
            assert!(field.sightings(&field.kim, "").await.is_empty());
            assert_eq!(field.get(&field.kim, "/v1/collection").await["species"], json!([]));
            assert_eq!(field.get(&field.kim, "/v1/leaderboard").await["collectors"], json!([]));
        };
        nothing_is_seen().await;

        // Shown to others it is still nobody else's, and what is in the photograph nobody else's business.
        let handle = field.shows(&field.lin, "Lin of the lake", "public").await;
        let seen = field.get(&field.kim, &path).await;
        assert_eq!((&seen["mine"], &seen["collector"]["name"]), (&false.into(), &"Lin of the lake".into()));
        for own in ["key", "picture", "model", "detection", "created_at"] {
            assert!(fox.get(own).is_some() && seen.get(own).is_none(), "{own}: {seen}");
        }
        assert_eq!(field.sightings(&field.kim, &format!("?person={handle}")).await, [seen]);
        assert!(field.sightings(&field.kim, "?person=me").await.is_empty());
        for (method, path) in [(Method::GET, format!("{path}/picture")), (Method::DELETE, path.clone())] {
            assert_eq!(problem(field.ask(&field.kim, method, &path).send().await.unwrap()).await.0, 404);
        }
        let (status, _) = field.send(&field.kim, Method::PATCH, &path, &json!({ "species": "panthera-tigris" })).await;
        assert_eq!(status, 404);
        assert_eq!(field.get(&field.lin, &path).await["species"]["id"], "vulpes-vulpes");

        field.shows(&field.lin, "Lin of the lake", "hidden").await;
        nothing_is_seen().await;
        assert_eq!(field.get(&field.lin, "/v1/leaderboard").await["collectors"][0]["me"], true);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changes_and_deletes_ones_own() {
    on_both(async |field| {
        let sighting = field.sees(&field.lin, "vulpes-vulpes").await;
        let path = format!("/v1/sightings/{}", sighting["id"].as_str().unwrap());
        let change = json!({ "species": "panthera-tigris", "time": "2026-05-02T06:00:00+02:00", "place": null });
        let (status, changed) = field.send(&field.lin, Method::PATCH, &path, &change).await;
        assert_eq!(
            (status, &changed["place"], &changed["time"]),
            (200, &Value::Null, &"2026-05-02T04:00:00.000Z".into())
        );
        assert_eq!(changed["species"]["scientific_name"], "Panthera tigris");
        let (_, same) = field.send(&field.lin, Method::PATCH, &path, &json!({})).await;
        assert_eq!(
            (&same["time"], &same["species"]),
            (&changed["time"], &changed["species"]),
            "what is left out stays"
        );

        let deleted = field.ask(&field.lin, Method::DELETE, &path).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
        assert_eq!(problem(field.ask(&field.lin, Method::GET, &path).send().await.unwrap()).await.0, 404);
        assert_eq!(field.get(&field.lin, "/v1/collection").await["total"]["seen"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_everything_and_a_deletion_leaves_nothing() {
    on_both(async |field| {
        let (dog, cow) = (sample("farmyard/dog.jpg"), sample("farmyard/cow.jpg"));
        let sighting = json!({ "species": "panthera-tigris", "place": near_the_lake(0.0) });
        assert_eq!(field.sees_with(&field.lin, &sighting, &dog).await.0, 201);
        assert_eq!(field.sees_with(&field.lin, &sighting, &cow).await.0, 201);
        assert_eq!(field.sees_with(&field.kim, &sighting, &cow).await.0, 201);
        let gone = field.sees(&field.lin, "vulpes-vulpes").await;
        let path = format!("/v1/sightings/{}", gone["id"].as_str().unwrap());
        assert_eq!(field.ask(&field.lin, Method::DELETE, &path).send().await.unwrap().status(), 204);
        assert_eq!(field.objects().len(), 2, "one for each content");

        let export = export(field, &field.lin).await;
        let kinds: Vec<&str> = export.iter().map(|line| line["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["profile", "sighting", "sighting", "deleted", "picture", "picture", "end"]);
        assert_eq!(export[1]["sighting"]["place"], near_the_lake(0.0), "as exact as it was given");
        assert_eq!(export[3]["key"], gone["key"]);
        let data = export[4..6].iter().map(|line| decoded(&line["data"])).collect::<Vec<_>>();
        assert!(data.contains(&dog.to_vec()) && data.contains(&cow.to_vec()));
        assert_eq!((&export[6]["sightings"], &export[6]["pictures"]), (&2.into(), &2.into()));

        let unsure = field.ask(&field.lin, Method::DELETE, "/v1/collection").send().await.unwrap();
        assert_eq!(problem(unsure).await.0, 400);
        let path = "/v1/collection?confirm=true";
        for _ in 0..2 {
            assert_eq!(field.ask(&field.lin, Method::DELETE, path).send().await.unwrap().status(), 204);
        }
        assert_eq!((field.rows("sighting").await, field.rows("collector").await), (1, 1), "kim's");
        assert_eq!((field.rows("picture").await, field.rows("stray_object").await), (1, 0));
        assert_eq!(field.objects().len(), 1, "the photograph that kim sent, too");
        let kims = field.sightings(&field.kim, "?person=me").await;
        let picture = field.ask(&field.kim, Method::GET, kims[0]["picture"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(picture.bytes().await.unwrap(), cow);
        let export = self::export(field, &field.lin).await;
        assert_eq!(export.len(), 2, "nothing but an empty profile and the end: {export:?}");

        assert_eq!(field.ask(&field.kim, Method::DELETE, path).send().await.unwrap().status(), 204);
        for table in ["sighting", "collector", "picture", "stray_object"] {
            assert_eq!(field.rows(table).await, 0, "{table}");
        }
        assert!(field.objects().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_identity_is_off_there_is_one_person_and_pages_of_other_sites_change_nothing() {
    let server = Server::start(|_| {}).await;
    let record = |site: Option<&str>| {
        let body = json!({ "species": "vulpes-vulpes" }).to_string();
        let request = server.post("/v1/sightings", "application/json", body);
        site.map(|site| request.try_clone().unwrap().header("sec-fetch-site", site)).unwrap_or(request)
    };
    assert_eq!(problem(record(Some("cross-site")).send().await.unwrap()).await.0, 403);
    assert_eq!(record(Some("same-origin")).send().await.unwrap().status(), 201);
    assert_eq!(record(None).send().await.unwrap().status(), 201);
    let collection = crate::server::json(server.get("/v1/collection").await).await;
    assert_eq!(collection["species"][0]["count"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_that_are_off_say_so_and_a_broken_table_of_statuses_ends_the_start() {
    let off = Server::start_in(tempfile::tempdir().unwrap(), &[("collections.enabled", "false")], |_| {}).await;
    off.wait_ready().await;
    let (status, detail) = problem(off.get("/v1/collection").await).await;
    assert!(status == 501 && detail.contains("collections.enabled"), "{status} {detail}");
    let found = off.found(&sample("farmyard/cow.jpg")).await;
    assert!(found["media"][0]["detections"].as_array().unwrap().iter().all(|one| one.get("token").is_none()));

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("statuses.csv");
    std::fs::write(&file, "scientific_name,status,source\nVulpes vulpes,safe,a list\n").unwrap();
    let config = config(&home, &[("collections.statuses", file.to_str().unwrap())]);
    let mut options = serving::Options::of(&config).unwrap();
    options.listen = "127.0.0.1:0".parse().unwrap();
    let refused = serving::Service::open(options, config, detector::device::Device::Cpu).await.unwrap_err().to_string();
    let words = format!("collections.statuses: {}: line 2: `safe` is no category; give one of", file.display());
    assert!(refused.starts_with(&words), "{refused}");
}

async fn export(field: &Field, token: &str) -> Vec<Value> {
    let answer = field.ask(token, Method::GET, "/v1/collection/export").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    let text = answer.text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn decoded(data: &Value) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(data.as_str().unwrap()).unwrap()
}
