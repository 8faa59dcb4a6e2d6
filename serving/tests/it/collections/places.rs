//! What others learn of where and when something was seen: exactly what is safe, and of all else the cell and the day.

use serde_json::{Value, json};

use super::field::{Field, near_the_lake, on_both};

const LAKE: &str = "46.0501,7.3042";

#[tokio::test(flavor = "multi_thread")]
async fn threatened_and_unknown_species_are_blurred_for_others_and_for_nobody_else() {
    on_both(async |field| {
        field.shows(&field.lin, "Lin", "public").await;
        // What the table calls safe, what it calls threatened, what it does not know, and a name above them.
        for (species, blurred) in
            [("vulpes-vulpes", false), ("panthera-tigris", true), ("giraffa", true), ("felidae", true)]
        {
            let own = field.sees(&field.lin, species).await;
            assert_eq!((&own["place"], &own["time"]), (&near_the_lake(0.0), &"2026-05-01T18:30:00.000Z".into()));
            let seen = field.get(&field.kim, &format!("/v1/sightings/{}", own["id"].as_str().unwrap())).await;
            assert_eq!((&seen["blurred"], &own["blurred"]), (&blurred.into(), &false.into()), "{species}");
            if blurred {
                assert_eq!(seen["time"], "2026-05-01T00:00:00.000Z");
                assert_eq!(seen["place"]["accuracy_m"], 8000.0);
                assert_ne!(seen["place"]["latitude"], own["place"]["latitude"]);
            } else {
                assert_eq!((&seen["place"], &seen["time"]), (&own["place"], &own["time"]));
            }
            let of_species = field.get(&field.kim, &format!("/v1/species/{species}")).await;
            assert_eq!(of_species["blurred"], blurred);
        }
        let tiger = field.get(&field.kim, "/v1/species/panthera-tigris").await;
        assert_eq!(tiger["conservation"], json!({ "status": "EN", "source": "a list for tests, second" }));
        assert_eq!(field.get(&field.kim, "/v1/species/giraffa").await["conservation"], Value::Null);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_often_or_cleverly_tells_no_more_than_the_cell() {
    on_both(async |field| {
        field.shows(&field.lin, "Lin", "public").await;
        // Twenty sightings all over one cell, some changed to other points of it.
        for number in 0..20 {
            let body = json!({ "species": "panthera-tigris", "place": near_the_lake(0.001 * f64::from(number)),
                "time": format!("2026-05-01T{:02}:30:00Z", number) });
            let (status, one) = field.record(&field.lin, &body).await;
            assert_eq!(status, 201, "{one}");
            let path = format!("/v1/sightings/{}", one["id"].as_str().unwrap());
            let moved = json!({ "place": near_the_lake(0.0005 * f64::from(number)) });
            assert_eq!(field.send(&field.lin, reqwest::Method::PATCH, &path, &moved).await.0, 200);
        }
        let shown = async || -> Vec<(Value, Value)> {
            let seen = field.sightings(&field.kim, "").await;
            seen.iter().map(|one| (one["place"].clone(), one["time"].clone())).collect()
        };
        let first = shown().await;
        assert_eq!(first.len(), 20);
        assert!(first.iter().all(|one| *one == first[0]), "any mean of them is the middle of the cell: {first:?}");
        for _ in 0..5 {
            assert_eq!(shown().await, first, "the same at every request");
        }

        // A search finds them from the middle of the cell on, wherever in it they were.
        let count = async |token: &str, near: &str, km: f64| {
            field.sightings(token, &format!("?near={near}&within_km={km}")).await.len()
        };
        let middle = format!("{},{}", first[0].0["latitude"], first[0].0["longitude"]);
        assert_eq!(count(&field.kim, &middle, 0.01).await, 20);
        assert_eq!(count(&field.lin, &middle, 0.01).await, 0, "none is there");
        assert_eq!(count(&field.lin, LAKE, 0.01).await, 1);
        let far = distance_of_first(field, LAKE).await;
        for number in 0..10 {
            let near = format!("{},7.3042", 46.0501 + 0.0005 * f64::from(number));
            let found = count(&field.kim, &near, 0.01).await;
            assert_eq!(found, 0, "a circle around the true point finds it, {far} km from the middle");
        }
        // All of one day are one in order and time; the hour decides nothing that others see.
        let ids = async |token: &str| -> Vec<String> {
            let seen = field.sightings(token, "").await;
            seen.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
        };
        let mut sorted = ids(&field.kim).await;
        sorted.sort_by(|a, b| b.cmp(a));
        assert_eq!(ids(&field.kim).await, sorted, "by the day, then by ids that chance made");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_whole_and_in_order() {
    on_both(async |field| {
        for day in 1..=7 {
            let body = json!({ "species": "vulpes-vulpes", "time": format!("2026-03-{day:02}T12:00:00Z") });
            assert_eq!(field.record(&field.lin, &body).await.0, 201);
        }
        let (mut times, mut query) = (Vec::new(), "?person=me&limit=3".to_owned());
        loop {
            let page = field.get(&field.lin, &format!("/v1/sightings{query}")).await;
            let seen = page["sightings"].as_array().unwrap();
            assert!(seen.len() <= 3);
            times.extend(seen.iter().map(|one| one["time"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_page_token"].as_str() else { break };
            query = format!("?person=me&limit=3&page_token={next}");
        }
        let days: Vec<&str> = times.iter().map(|time| &time[8..10]).collect();
        assert_eq!(days, ["07", "06", "05", "04", "03", "02", "01"]);

        let (mut ids, mut query) = (Vec::new(), "?limit=100".to_owned());
        loop {
            let page = field.get(&field.kim, &format!("/v1/species{query}")).await;
            ids.extend(page["species"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_page_token"].as_str() else { break };
            query = format!("?limit=100&page_token={next}");
        }
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert!(unique == ids && ids.len() > 100, "{} taxa", ids.len());
        let threatened = field.get(&field.kim, "/v1/species?status=EN").await;
        assert_eq!(threatened["species"].as_array().unwrap().len(), 1);
        let foxes = field.get(&field.kim, "/v1/species?text=RED%20fox&rank=species&collectable=true").await;
        assert_eq!(foxes["species"][0]["id"], "vulpes-vulpes");
    })
    .await;
}

/// Kilometres from a place to what others are shown of the first sighting.
async fn distance_of_first(field: &Field, near: &str) -> f64 {
    for km in [0.5, 1.0, 2.0, 4.0, 8.0] {
        if !field.sightings(&field.kim, &format!("?near={near}&within_km={km}")).await.is_empty() {
            return km;
        }
    }
    panic!("a place is at most 8 km from the middle of its cell");
}
