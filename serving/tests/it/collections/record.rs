//! Sightings from detections, from photographs, and by name; what cannot be one; what they add up to.

use reqwest::Method;
use serde_json::{Value, json};

use super::field::{Field, near_the_lake, on_both};
use crate::server::{form, json as said, problem, sample};

/// The surest box with a name, of the answer to a photograph.
async fn detected(field: &Field, picture: &bytes::Bytes) -> Value {
    let request = field.ask(&field.lin, Method::POST, "/v1/detections").header("content-type", "image/jpeg");
    let answer = said(request.body(picture.clone()).send().await.unwrap()).await;
    let found = answer["media"][0]["detections"].as_array().unwrap();
    found.iter().find(|one| one.get("token").is_some()).unwrap_or_else(|| panic!("{answer}")).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detection_or_its_photograph_makes_the_same_sighting() {
    on_both(async |field| {
        let cow = sample("farmyard/cow.jpg");
        let found = detected(field, &cow).await;
        let token = found["token"].as_str().unwrap();
        let again = detected(field, &cow).await;
        assert_eq!(again["token"], found["token"], "an answer that was kept has the same");

        let (status, by_token) =
            field.record(&field.lin, &json!({ "detection": token, "place": near_the_lake(0.0) })).await;
        assert_eq!((status, &by_token["source"], &by_token["detection"]), (201, &"detection".into(), &found["id"]));
        assert_eq!(by_token["species"]["scientific_name"], found["scientific_name"]);
        assert_eq!((&by_token["time"], &by_token["picture"]), (&Value::Null, &Value::Null), "both are optional");
        let request = field.ask(&field.lin, Method::POST, "/v1/sightings").header("content-type", "image/jpeg");
        let answer = request.body(cow.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let by_picture = said(answer).await;
        assert_eq!((&by_picture["source"], &by_picture["place"]), (&"photograph".into(), &Value::Null));
        for same in ["species", "confidence", "model"] {
            assert_eq!(by_picture[same], by_token[same], "{same}");
        }
        let (status, with_both) = field.sees_with(&field.kim, &json!({ "detection": token }), &cow).await;
        assert_eq!((status, &with_both["source"]), (201, &"detection".into()));
        let picture = field.ask(&field.kim, Method::GET, with_both["picture"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(
            (&picture.headers()["content-type"], &picture.headers()["x-content-type-options"]),
            (&"image/jpeg".parse().unwrap(), &"nosniff".parse().unwrap())
        );
        assert_eq!(picture.bytes().await.unwrap(), cow);

        // The person has the last word, and then no model has said it.
        let (status, named) =
            field.record(&field.lin, &json!({ "detection": token, "species": "vulpes-vulpes" })).await;
        assert_eq!((status, &named["source"], &named["confidence"]), (201, &"named".into(), &Value::Null));

        let dog = sample("farmyard/dog.jpg");
        let (status, refused) = field.sees_with(&field.lin, &json!({ "detection": token }), &dog).await;
        assert!(
            status == 422 && refused["detail"].as_str().unwrap().contains("not the one of `detection`"),
            "{refused}"
        );
        for forged in [&token[1..], &format!("{token}x"), "no-token", ""] {
            let (status, refused) = field.record(&field.lin, &json!({ "detection": forged })).await;
            assert!(status == 404 && refused["detail"].as_str().unwrap().contains("send the photograph"), "{refused}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_may_come_after_nothing_on_every_connection() {
    on_both(async |field| {
        for _ in 0..20 {
            assert_eq!(field.record(&field.lin, &json!({ "species": "vulpes-vulpes" })).await.0, 201);
        }
        for _ in 0..20 {
            let place = json!({ "latitude": 46.050_123_456_789_01, "longitude": -7.1, "accuracy_m": 0.1 });
            let (status, one) = field.record(&field.lin, &json!({ "species": "vulpes-vulpes", "place": place })).await;
            assert_eq!((status, &one["place"]), (201, &place), "to the last digit");
            let path = format!("/v1/sightings/{}", one["id"].as_str().unwrap());
            for change in [json!({ "place": null }), json!({ "place": place })] {
                let (status, one) = field.send(&field.lin, Method::PATCH, &path, &change).await;
                assert_eq!((status, &one["place"]), (200, &change["place"]));
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_holds_on_every_replica_and_after_a_restart() {
    let field = Field::start(super::field::on_postgres().await).await;
    let found = detected(&field, &sample("farmyard/cow.jpg")).await;
    let other = Field::start(field.database.clone()).await;
    drop(field);
    let (status, sighting) = other.record(&other.lin, &json!({ "detection": found["token"] })).await;
    assert_eq!((status, &sighting["species"]["scientific_name"]), (201, &found["scientific_name"]), "{sighting}");
    let elsewhere = Field::start(super::field::on_postgres().await).await;
    assert_eq!(elsewhere.record(&elsewhere.lin, &json!({ "detection": found["token"] })).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_has_first_last_count_the_best_picture_and_progress_by_taxon() {
    on_both(async |field| {
        for (species, time) in [
            ("vulpes-vulpes", "2026-05-03T10:00:00Z"),
            ("vulpes-vulpes", "2024-01-02T10:00:00Z"),
            ("panthera-tigris", "2025-01-01T10:00:00Z"),
            ("felidae", "2025-02-01T10:00:00Z"),
        ] {
            assert_eq!(field.record(&field.lin, &json!({ "species": species, "time": time })).await.0, 201);
        }
        let cow = sample("farmyard/cow.jpg");
        let token = detected(field, &cow).await["token"].clone();
        let (_, named) =
            field.sees_with(&field.lin, &json!({ "species": "vulpes-vulpes" }), &sample("farmyard/dog.jpg")).await;
        let (status, sure) =
            field.sees_with(&field.lin, &json!({ "detection": token, "time": "2020-05-05T05:05:05Z" }), &cow).await;

        assert_eq!(status, 201, "{sure}");
        let collection = field.get(&field.lin, "/v1/collection").await;
        let of = |id: &Value| {
            let species = collection["species"].as_array().unwrap();
            species
                .iter()
                .find(|one| one["species"]["id"] == *id)
                .unwrap_or_else(|| panic!("{id}: {collection}"))
                .clone()
        };
        let fox = of(&"vulpes-vulpes".into());
        assert_eq!((&fox["count"], &fox["first"]), (&3.into(), &"2024-01-02T10:00:00.000Z".into()));
        assert_eq!(fox["last"], named["created_at"], "one without a time counts as of when it was recorded");
        assert_eq!(fox["best_picture"]["sighting"], named["id"]);
        let cattle = of(&sure["species"]["id"]);
        assert_eq!(
            (&cattle["best_picture"]["sighting"], &cattle["best_picture"]["confidence"]),
            (&sure["id"], &sure["confidence"])
        );
        assert_eq!(
            (&of(&"felidae".into())["collectable"], &of(&"felidae".into())["count"]),
            (&false.into(), &1.into())
        );
        let progress = |id: &str| {
            let all = collection["progress"].as_array().unwrap();
            all.iter().find(|one| one["taxon"]["id"] == id).unwrap_or_else(|| panic!("{id}")).clone()
        };
        assert_eq!((&progress("felidae")["seen"], &progress("canidae")["seen"]), (&1.into(), &1.into()));
        assert_eq!((&progress("carnivora")["seen"], &progress("carnivora")["rank"]), (&2.into(), &"order".into()));
        let known = progress("mammalia")["known"].as_u64().unwrap();
        assert!(known > 50 && known < collection["total"]["known"].as_u64().unwrap(), "{known}");
        let leaves = if cattle["collectable"] == true { 3 } else { 2 };
        assert_eq!(collection["total"]["seen"], leaves);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaderboard_counts_species_and_then_sightings_of_those_who_are_public() {
    on_both(async |field| {
        for species in ["vulpes-vulpes", "panthera-tigris", "felidae"] {
            field.sees(&field.lin, species).await;
        }
        for _ in 0..4 {
            let old = json!({ "species": "vulpes-vulpes", "time": "2019-05-01T00:00:00Z" });
            assert_eq!(field.record(&field.kim, &old).await.0, 201);
        }
        let board = async |token: &str, query: &str| field.get(token, &format!("/v1/leaderboard{query}")).await;
        let alone = board(&field.lin, "").await;
        assert_eq!(alone["collectors"].as_array().unwrap().len(), 1, "kim shows nothing: {alone}");
        field.shows(&field.kim, "Kim", "public").await;
        field.shows(&field.lin, "Lin", "public").await;
        let all = board(&field.kim, "").await;
        let rows: Vec<(i64, &str, i64, i64, bool)> = all["collectors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let number = |key: &str| one[key].as_i64().unwrap();
                let name = one["collector"]["name"].as_str().unwrap();
                (number("rank"), name, number("species"), number("sightings"), one["me"].as_bool().unwrap())
            })
            .collect();
        assert_eq!(rows, [(1, "Lin", 2, 3, false), (2, "Kim", 1, 4, true)], "a wider name counts as a sighting only");
        let first = board(&field.kim, "?limit=1").await;
        let next = first["next_page_token"].as_str().unwrap();
        let second = board(&field.kim, &format!("?limit=1&page_token={next}")).await;
        assert_eq!((&second["collectors"][0], &second["next_page_token"]), (&all["collectors"][1], &Value::Null));
        let today = json!({ "species": "vulpes-vulpes" });
        assert_eq!(field.record(&field.kim, &today).await.0, 201);
        let week = board(&field.kim, "?period=week").await;
        assert_eq!(
            (&week["collectors"][0]["collector"]["name"], &week["collectors"][0]["sightings"]),
            (&"Kim".into(), &1.into())
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_sighting_is_refused_with_what_to_do() {
    on_both(async |field| {
        let place = |latitude: Value, longitude: Value| json!({ "species": "vulpes-vulpes", "place": { "latitude": latitude, "longitude": longitude } });
        let time = |time: &str| json!({ "species": "vulpes-vulpes", "time": time });
        for (body, status, words) in [
            (json!({}), 422, "give `species`, `detection` or a photograph"),
            (json!({ "species": "unicornis" }), 422, "/v1/species"),
            (json!({ "species": "' OR 1=1 --\u{0}" }), 422, "/v1/species"),
            (place(90.01.into(), 0.into()), 422, "latitude"),
            (place(0.into(), (-180.5).into()), 422, "longitude"),
            (place(Value::Null, 0.into()), 400, "expected f64"),
            (place("NaN".into(), 0.into()), 400, "the body is not as it should be"),
            (json!({ "species": "vulpes-vulpes", "place": { "latitude": 1, "longitude": 1, "accuracy_m": -1 } }), 422, "accuracy_m"),
            (time("2999-01-01T00:00:00Z"), 422, "future"),
            (time("1700-01-01T00:00:00Z"), 422, "1800"),
            (time("yesterday"), 400, "time"),
            (json!({ "species": "vulpes-vulpes", "note": "x".repeat(100_000) }), 400, "unknown field `note`"),
            (json!({ "picture": "no base64!" }), 400, "base64"),
            (json!({ "picture": "bm8gcGljdHVyZQ==" }), 422, "JPEG"),
            (json!({ "species": "vulpes-vulpes", "client_id": "1" }), 400, "UUID parsing failed"),
        ] {
            let (found, problem) = field.record(&field.lin, &body).await;
            assert!(found == status && problem["detail"].as_str().unwrap().contains(words), "{body}: {found} {problem}");
        }
        for (raw, status) in [
            (r#"{"species":"vulpes-vulpes","place":{"latitude":NaN,"longitude":0}}"#, 400),
            (r#"{"species":"vulpes-vulpes","place":{"latitude":1e999,"longitude":0}}"#, 400),
            (r#"{"species":"vulpes-vulpes""#, 400),
        ] {
            let request = field.ask(&field.lin, Method::POST, "/v1/sightings").header("content-type", "application/json");
            assert_eq!(problem(request.body(raw).send().await.unwrap()).await.0, status, "{raw}");
        }
        for (kind, body, status) in [
            ("text/plain", b"a fox".to_vec(), 415),
            ("image/jpeg", b"no picture".to_vec(), 422),
            ("image/jpeg", sample("prairie/horses.mp4").to_vec(), 422),
            ("image/jpeg", sample("savanna-waterhole/blank.jpg").to_vec(), 422),
        ] {
            let request = field.ask(&field.lin, Method::POST, "/v1/sightings").header("content-type", kind);
            assert_eq!(problem(request.body(body).send().await.unwrap()).await.0, status, "{kind}");
        }
        let large = vec![0; 21 << 20];
        let (status, refused) = field.sees_with(&field.lin, &json!({ "species": "vulpes-vulpes" }), &large.into()).await;
        assert_eq!(status, 413, "{refused}");
        let (kind, body) = form(&[("picture", Some("a"), b"a"), ("picture", Some("b"), b"b")]);
        let twice = field.ask(&field.lin, Method::POST, "/v1/sightings").header("content-type", kind);
        assert_eq!(problem(twice.body(body).send().await.unwrap()).await.0, 400);
        for query in ["?limit=0", "?limit=x", "?near=1", "?near=NaN,0", "?near=1,2&within_km=-1", "?within_km=1",
            "?person=a", "?page_token=%00", "?other=1", "?species=%00"] {
            let answer = field.ask(&field.lin, Method::GET, &format!("/v1/sightings{query}")).send().await.unwrap();
            let (status, detail) = problem(answer).await;
            assert!(status == 400 || status == 422, "{query}: {status} {detail}");
        }
        for path in ["/v1/sightings/1", "/v1/sightings/..%2f..%2fetc", "/v1/sightings/%00", "/v1/species/%00", "/v1/species/none"] {
            let status = field.ask(&field.lin, Method::GET, path).send().await.unwrap().status().as_u16();
            assert!(status == 400 || status == 404, "{path}: {status}");
        }
        let name = json!({ "name": "a\u{0}b", "visibility": "public" });
        assert_eq!(field.send(&field.lin, Method::PUT, "/v1/collection/profile", &name).await.0, 422);

        assert_eq!((field.rows("sighting").await, field.rows("picture").await, field.rows("stray_object").await), (0, 0, 0));
        assert!(field.objects().is_empty(), "nothing of what was refused is kept");
    })
    .await;
}
