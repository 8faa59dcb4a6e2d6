//! What is posted to a webhook: S3 event notifications, in the envelopes of SNS, SQS and EventBridge as well, or any
//! JSON.
//!
//! Formats: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html> (MinIO, SeaweedFS
//! and Ceph send the same) and <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::state::NewItem;

/// Envelopes within envelopes are opened so far.
const DEEPEST: usize = 4;

/// The items of a request. `key` is its idempotency key: without one, and where nothing in the body names them, items
/// are new whenever they are sent. Notifications of removed objects and of tests give nothing.
pub fn items(body: &Value, key: Option<&str>) -> Vec<NewItem> {
    let mut found = Vec::new();
    open(body, key, 0, &mut found);
    found
}

fn open(body: &Value, key: Option<&str>, depth: usize, found: &mut Vec<NewItem>) {
    if depth > DEEPEST || is_test(body) {
        return;
    }
    if let Some(records) = body["Records"].as_array() {
        // Of S3, or of SQS as Lambda is given them.
        for record in records {
            match record["s3"].is_object() {
                true => found.extend(s3_record(record)),
                false => open(record, None, depth + 1, found),
            }
        }
        return;
    }
    if let Some(messages) = body["Messages"].as_array() {
        messages.iter().for_each(|message| open(message, None, depth + 1, found));
        return;
    }
    for (text, id) in [("Message", "MessageId"), ("Body", "MessageId"), ("body", "messageId")] {
        if let (Some(text), Some(id)) = (body[text].as_str(), body[id].as_str()) {
            let inner = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
            return open(&inner, Some(id), depth + 1, found);
        }
    }
    if body["source"] == "aws.s3" && body["detail"].is_object() {
        found.extend(event_bridge(body));
        return;
    }
    match body {
        Value::Array(items) => {
            let own = |(index, item): (usize, &Value)| plain(item, key.map(|key| format!("{key}/{index}")));
            found.extend(items.iter().enumerate().map(own));
        }
        item => found.push(plain(item, key.map(str::to_owned))),
    }
}

/// What S3 sends when a notification is set up.
fn is_test(body: &Value) -> bool {
    body["Event"] == "s3:TestEvent"
}

fn s3_record(record: &Value) -> Option<NewItem> {
    let event = record["eventName"].as_str().unwrap_or_default();
    if !event.trim_start_matches("s3:").starts_with("ObjectCreated") {
        return None;
    }
    let (bucket, object) = (record["s3"]["bucket"]["name"].as_str()?, &record["s3"]["object"]);
    // Keys are written as in HTML forms.
    let key = decode(object["key"].as_str()?);
    let named = ["versionId", "sequencer", "eTag"].iter().find_map(|name| object[*name].as_str());
    let version = named.or(record["eventTime"].as_str()).unwrap_or_default();
    Some(object_item(bucket, &key, version, &object["size"], &record["eventTime"]))
}

fn event_bridge(body: &Value) -> Option<NewItem> {
    if body["detail-type"] != "Object Created" {
        return None;
    }
    let (bucket, object) = (body["detail"]["bucket"]["name"].as_str()?, &body["detail"]["object"]);
    let named = ["version-id", "sequencer", "etag"].iter().find_map(|name| object[*name].as_str());
    let version = named.or(body["id"].as_str()).unwrap_or_default();
    Some(object_item(bucket, object["key"].as_str()?, version, &object["size"], &body["time"]))
}

/// The same fields as an object that a listing finds.
fn object_item(bucket: &str, key: &str, version: &str, size: &Value, time: &Value) -> NewItem {
    let uri = format!("s3://{bucket}/{key}");
    NewItem { id: format!("{uri}@{version}"), item: json!({ "uri": uri, "key": key, "size": size, "modified": time }) }
}

fn plain(item: &Value, key: Option<String>) -> NewItem {
    let own = match &item["id"] {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    NewItem { id: own.or(key).unwrap_or_else(|| Uuid::new_v4().to_string()), item: item.clone() }
}

fn decode(key: &str) -> String {
    let with_blanks = format!("k={key}");
    let decoded = url::form_urlencoded::parse(with_blanks.as_bytes()).next();
    decoded.map(|(_, key)| key.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn s3(event: &str, key: &str) -> Value {
        json!({"Records": [{"eventName": event, "eventTime": "2026-03-01T04:00:00.000Z", "s3": {
            "bucket": {"name": "traps"}, "object": {"key": key, "size": 7, "eTag": "abc", "sequencer": "0055"}}}]})
    }

    fn uris(body: &Value) -> Vec<String> {
        items(body, None).iter().map(|item| item.item["uri"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn created_objects_come_in_and_removed_ones_do_not() {
        let body = s3("ObjectCreated:Put", "site+1/a%2Bb.jpg");
        let found = items(&body, None);
        assert_eq!(
            found[0].item,
            json!({"uri": "s3://traps/site 1/a+b.jpg", "key": "site 1/a+b.jpg", "size": 7, "modified": "2026-03-01T04:00:00.000Z"})
        );
        assert_eq!(found[0].id, "s3://traps/site 1/a+b.jpg@0055");
        // MinIO writes the service before the event.
        assert_eq!(uris(&s3("s3:ObjectCreated:Put", "a")), ["s3://traps/a"]);
        assert_eq!(uris(&s3("ObjectRemoved:Delete", "a")), [] as [&str; 0]);
        assert_eq!(uris(&json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "traps"})), [] as [&str; 0]);
    }

    #[test]
    fn envelopes_are_opened() {
        let inner = s3("ObjectCreated:Put", "a");
        let sns = json!({"Type": "Notification", "MessageId": "m", "Message": inner.to_string()});
        let sqs = json!({"Messages": [{"MessageId": "q", "Body": sns.to_string()}, {"MessageId": "r", "Body": inner.to_string()}]});
        assert_eq!(uris(&sqs), ["s3://traps/a", "s3://traps/a"]);
        let lambda = json!({"Records": [{"messageId": "q", "body": inner.to_string()}]});
        assert_eq!(uris(&lambda), ["s3://traps/a"]);
        let bridge = json!({"source": "aws.s3", "detail-type": "Object Created", "id": "e", "time": "t", "detail": {
            "bucket": {"name": "traps"}, "object": {"key": "a b", "size": 7, "etag": "abc"}}});
        assert_eq!(items(&bridge, None)[0].id, "s3://traps/a b@abc");
        let gone = json!({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {"bucket": {"name": "traps"}, "object": {"key": "a"}}});
        assert_eq!(uris(&gone), [] as [&str; 0]);
    }

    #[test]
    fn any_json_is_an_item_and_is_named_as_well_as_can_be() {
        let ids = |body: &Value, key| items(body, key).into_iter().map(|item| item.id).collect::<Vec<_>>();
        assert_eq!(ids(&json!([{"id": "x"}, {"id": 7}, {"a": 1}]), Some("k")), ["x", "7", "k/2"]);
        assert_eq!(ids(&json!({"a": 1}), Some("k")), ["k"]);
        assert_ne!(ids(&json!({"a": 1}), None), ids(&json!({"a": 1}), None));
        let message = json!({"Messages": [{"MessageId": "q", "Body": "river-1"}]});
        assert_eq!(items(&message, None), [NewItem { id: "q".to_owned(), item: json!("river-1") }]);
    }
}
