//! Promotions, rollbacks and approvals.

use serde_json::{Value, json};

use crate::common::{Answer, Registry};

const ADA: &[(&str, &str)] = &[("safari-actor", "ada"), ("safari-roles", "scientist,ranger")];
const BOB: &[(&str, &str)] = &[("safari-actor", "bob"), ("safari-roles", "scientist")];

async fn promote(registry: &Registry, who: &[(&str, &str)], body: Value) -> Answer {
    let mut whole = json!({"alias": "champion", "reason": "better"});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    registry.ask_as(who, "POST", "/api/v1/models/owl/promotions", whole).await
}

async fn history(registry: &Registry) -> Vec<Value> {
    let answer = registry.ask_as(&[], "GET", "/api/v1/models/owl/history", Value::Null).await;
    answer.body["promotions"].as_array().cloned().unwrap()
}

#[tokio::test]
async fn an_alias_moves_only_from_what_is_expected_and_the_loser_hears_who_won() {
    let registry = Registry::new().await;
    registry.model("owl", 3).await;
    let first = promote(&registry, ADA, json!({"version": 1, "expected": null})).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!((&first.body["from"], &first.body["to"]), (&Value::Null, &json!("1")));
    assert_eq!(first.body["outcome"], "moved");
    let second = promote(&registry, ADA, json!({"version": "2", "expected": "1", "reason": "F1 0.9"})).await;
    assert_eq!(second.status, 200, "{}", second.body);

    let late = promote(&registry, BOB, json!({"version": 3, "expected": 1})).await;
    let message = "alias `champion` of owl is not moved to version 3: it names version 2 by now, moved there by ada (F1 \
                   0.9); look again";
    assert_eq!(late.refusal(), (409, "RESOURCE_CONFLICT", message));
    assert_eq!(late.body["promotion"]["winner"]["actor"], "ada");
    assert_eq!(registry.alias("owl", "champion").await.as_deref(), Some("2"));
    let late = promote(&registry, BOB, json!({"version": 3, "expected": null})).await;
    assert_eq!(late.status, 409);
    let read = promote(&registry, BOB, json!({"version": 3})).await;
    assert_eq!(read.status, 200, "without `expected` it is what the server reads: {}", read.body);
    let outcomes: Vec<Value> = history(&registry).await.into_iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, ["moved", "lost", "lost", "moved", "moved"]);
}

#[tokio::test]
async fn gates_refuse_with_their_numbers() {
    let registry = Registry::new().await;
    registry.model("owl", 2).await;
    promote(&registry, ADA, json!({"version": 1})).await;
    let gate = |passed: bool| {
        json!([{"name": "macro F1", "kind": "sql", "wanted": 0.84, "found": 0.81, "passed": passed},
               {"name": "it runs", "kind": "smoke", "passed": true}])
    };
    let required = json!([{"name": "papers", "tags": {"reviewed": "true", "card": "yes"}},
                          {"name": "people", "approvals": {"scientist": 2, "ranger": 1}}]);
    let refused = promote(&registry, BOB, json!({"version": 2, "gates": gate(false), "required": required})).await;
    let message = "alias `champion` of owl is not moved to version 2: gate `macro F1` found 0.81, wanted 0.84; gate \
                   `papers` found nothing, wanted `yes` (tag card); gate `papers` found nothing, wanted `true` (tag \
                   reviewed); gate `people` found 0, wanted 1 (approvals of ranger); gate `people` found 0, wanted 2 \
                   (approvals of scientist)";
    assert_eq!(refused.refusal(), (422, "FAILED_PRECONDITION", message));
    assert_eq!(registry.alias("owl", "champion").await.as_deref(), Some("1"));

    for (key, value) in [("reviewed", "true"), ("card", "yes")] {
        let body = json!({"name": "owl", "version": "2", "key": key, "value": value});
        registry.must("POST", "model-versions/set-tag", body).await;
    }
    let approve = async |who: &[(&str, &str)], role: &str| {
        let body = json!({"alias": "champion", "version": 2, "role": role, "comment": "looks good"});
        registry.ask_as(who, "POST", "/api/v1/models/owl/approvals", body).await
    };
    assert_eq!(approve(ADA, "scientist").await.status, 200);
    assert_eq!(approve(ADA, "scientist").await.status, 200, "once more is no error, and counts once");
    assert_eq!(approve(ADA, "ranger").await.status, 200);
    let other_alias = json!({"alias": "challenger", "version": 2, "role": "scientist"});
    registry.ask_as(BOB, "POST", "/api/v1/models/owl/approvals", other_alias).await;
    let one_short = promote(&registry, BOB, json!({"version": 2, "gates": gate(true), "required": required})).await;
    assert!(
        one_short.refusal().2.ends_with("gate `people` found 1, wanted 2 (approvals of scientist)"),
        "{}",
        one_short.body
    );
    assert_eq!(approve(BOB, "scientist").await.status, 200);
    let done = promote(&registry, BOB, json!({"version": 2, "gates": gate(true), "required": required})).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let rows = history(&registry).await;
    assert_eq!(rows[0]["gates"].as_array().unwrap().len(), 6, "the audit has what every gate found");
    assert_eq!(rows[2]["outcome"], "refused");
    assert_eq!(rows[2]["gates"][0]["found"], 0.81);

    let stranger = approve(BOB, "ranger").await;
    assert_eq!((stranger.refusal().0, stranger.refusal().1), (403, "PERMISSION_DENIED"));
    let listed = registry.ask_as(&[], "GET", "/api/v1/models/owl/approvals?version=2", Value::Null).await;
    assert_eq!(listed.body["approvals"].as_array().unwrap().len(), 4);
    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": "2"})).await;
    assert_eq!(registry.sql("SELECT count(*) FROM approval").await, 0);
}

#[tokio::test]
async fn a_rollback_goes_to_what_was_before_the_last_move() {
    let registry = Registry::new().await;
    registry.model("owl", 3).await;
    let back = async |body: Value| {
        let mut whole = json!({"alias": "champion", "reason": "it is worse"});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        registry.ask_as(BOB, "POST", "/api/v1/models/owl/rollback", whole).await
    };
    assert_eq!(back(json!({})).await.status, 400, "it was never moved");
    promote(&registry, ADA, json!({"version": 1})).await;
    let nothing = back(json!({})).await;
    let message = "alias `champion` of owl named no version before its last move";
    assert_eq!(nothing.refusal(), (400, "INVALID_PARAMETER_VALUE", message));
    promote(&registry, ADA, json!({"version": 3})).await;
    promote(&registry, ADA, json!({"version": 2, "required": [{"name": "a", "tags": {"no": "such"}}]})).await;
    let late = back(json!({"expected": 1})).await;
    assert_eq!(late.status, 409, "{}", late.body);
    let done = back(json!({"expected": 3})).await;
    assert_eq!((done.status.as_u16(), &done.body["to"]), (200, &json!("1")), "a refusal is no move: {}", done.body);
    assert_eq!(done.body["kind"], "rollback");
    let again = back(json!({})).await;
    assert_eq!(again.body["to"], "3", "going back from going back");
    registry.must("DELETE", "model-versions/delete", json!({"name": "owl", "version": "1"})).await;
    let gone = back(json!({})).await;
    assert_eq!(gone.refusal(), (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=owl, version=1) not found"));

    registry.must("DELETE", "registered-models/delete", json!({"name": "owl"})).await;
    registry.model("owl", 3).await;
    assert_eq!(back(json!({})).await.status, 400, "another model's moves are not this one's");
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let registry = Registry::new().await;
    registry.model("owl", 1).await;
    for (body, status) in [
        (json!({"version": 9}), 404),
        (json!({"version": 1, "alias": "latest"}), 400),
        (json!({"version": 1, "alias": "v3"}), 400),
        (json!({"version": 1, "unknown": true}), 400),
        (json!({"version": "x"}), 400),
        (json!({"version": 1, "reason": "x".repeat(5001)}), 400),
        (json!({"version": 1, "kind": "set"}), 400),
    ] {
        let answer = promote(&registry, ADA, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.body);
    }
    let none = registry.ask_as(ADA, "POST", "/api/v1/models/x/promotions", json!({"alias": "a", "version": 1})).await;
    assert_eq!(none.status, 404);
    let nul = registry.ask_as(ADA, "GET", "/api/v1/models/%00/history", Value::Null).await;
    assert_eq!(nul.status, 400);
    assert_eq!(registry.sql("SELECT count(*) FROM promotion").await, 0);
}
