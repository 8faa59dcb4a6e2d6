//! Many at once: version numbers without gap or repeat, one winner of each compare-and-set.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::Registry;

const CLIENTS: u32 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_counted_without_gap_or_repeat() {
    let registry = Arc::new(Registry::new().await);
    registry.model("owl", 0).await;
    let clients = (0..CLIENTS).map(|client| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let mut numbers = Vec::new();
            for round in 0..5 {
                let made = registry.version("owl", &format!("s3://bucket/{client}/{round}")).await;
                let number = made["version"].as_str().unwrap().to_owned();
                // A refusal in between must not take a number; a deleted one must not come back.
                let refused = json!({"name": "owl", "source": "/etc/passwd"});
                assert_eq!(registry.ask("POST", "model-versions/create", refused).await.status, 400);
                let alias = json!({"name": "owl", "alias": format!("of-{client}"), "version": number});
                registry.must("POST", "registered-models/alias", alias).await;
                if round == 2 {
                    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": number})).await;
                }
                numbers.push(number.parse::<u32>().unwrap());
            }
            numbers
        })
    });
    let mut all = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        all.extend(client.await.unwrap());
    }
    assert_eq!(all.len(), 80);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), (1..=80).collect());
    let model = registry.must("GET", "registered-models/get?name=owl", Value::Null).await;
    assert_eq!(model["registered_model"]["aliases"].as_array().unwrap().len(), 16);
    assert_eq!(registry.sql("SELECT count(*) FROM model_version").await, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_promote_at_once_one_wins_each_round() {
    let registry = Arc::new(Registry::new().await);
    registry.model("owl", CLIENTS + 1).await;
    let mut now: Option<u32> = None;
    for round in 0..5 {
        let clients = (1..=CLIENTS).map(|client| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move {
                let name = format!("client-{client}");
                let who = [("safari-actor", name.as_str())];
                let version = if round % 2 == 0 { client } else { client + 1 };
                let body = json!({"alias": "champion", "version": version, "expected": now, "reason": "mine"});
                let answer = registry.ask_as(&who, "POST", "/api/v1/models/owl/promotions", body).await;
                (version, answer)
            })
        });
        let mut winners = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            let (version, answer) = client.await.unwrap();
            match answer.status.as_u16() {
                200 => winners.push(version),
                409 => {
                    let winner = &answer.body["promotion"]["winner"];
                    assert_eq!(winner["to"], answer.body["promotion"]["from"], "{}", answer.body);
                }
                other => panic!("{other}: {}", answer.body),
            }
        }
        // Moving an alias to where it is already leaves it what the others expect.
        winners.dedup();
        let named: u32 = registry.alias("owl", "champion").await.unwrap().parse().unwrap();
        assert!(winners.contains(&named), "{winners:?} {named}");
        assert!(winners.iter().filter(|version| Some(**version) != now).count() <= 1, "{winners:?} from {now:?}");
        now = Some(named);
    }
    let moved = registry.sql("SELECT count(*) FROM promotion WHERE outcome = 'moved'").await;
    let lost = registry.sql("SELECT count(*) FROM promotion WHERE outcome = 'lost'").await;
    assert_eq!(moved + lost, 80, "every try is in the audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_read_the_same_cannot_both_win() {
    let registry = Arc::new(Registry::new().await);
    registry.model("owl", 3).await;
    let body = json!({"alias": "champion", "version": 1});
    registry.ask_as(&[], "POST", "/api/v1/models/owl/promotions", body).await;
    let two = [2, 3].map(|version| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let body = json!({"alias": "champion", "version": version, "expected": 1});
            registry.ask_as(&[], "POST", "/api/v1/models/owl/promotions", body).await.status.as_u16()
        })
    });
    let mut statuses = Vec::new();
    for one in two {
        statuses.push(one.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}
