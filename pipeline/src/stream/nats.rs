//! Messages of a NATS JetStream consumer.

use std::time::{Duration, Instant};

use async_nats::{Client, Message};
use futures::StreamExt;
use serde_json::{Value, json};

use super::notification;
use super::{LEASE, most_waiting};
use crate::clock::Timestamp;
use crate::dag::Continuous;
use crate::state::Store;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Messages that are asked for together.
const TOGETHER: u64 = 500;

/// How long it waits when there is no message or no room.
const PAUSE: Duration = Duration::from_millis(250);

/// How long one reader goes on; then the next asks whether the DAG still has this source.
const PASS: Duration = Duration::from_secs(20);

/// Where the messages are.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) url: String,
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) consumer: String,
}

/// Reads messages for a while. They are acknowledged when they are written down: one that comes again because of a crash
/// in between is known. While too much waits, none are asked for.
pub(super) async fn read(store: &Store, dag: &str, continuous: &Continuous, source: &Source) -> Result<(), String> {
    let consumer = Consumer::open(source).await?;
    let most = most_waiting(continuous);
    let began = Instant::now();
    while began.elapsed() < PASS {
        let told = |error: crate::Error| error.to_string();
        store.set_reading(dag, Timestamp::now().plus(LEASE), None).await.map_err(told)?;
        let room = most.saturating_sub(store.waiting_items(dag, most).await.map_err(told)?).min(TOGETHER);
        let messages = if room > 0 { consumer.fetch(room).await? } else { Vec::new() };
        if messages.is_empty() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let mut items = Vec::with_capacity(messages.len());
        for message in &messages {
            let body = serde_json::from_slice(&message.payload)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&message.payload).into_owned()));
            items.extend(notification::items(&body, Some(&name(message)?)));
        }
        store.add_items(dag, &items, Timestamp::now()).await.map_err(told)?;
        consumer.acknowledge(&messages).await?;
    }
    Ok(())
}

/// A durable pull consumer, asked by the requests of JetStream's API:
/// <https://docs.nats.io/reference/reference-protocols/nats_api_reference> (ADR 8).
struct Consumer {
    client: Client,
    stream: String,
    name: String,
}

impl Consumer {
    /// Finds the consumer, or makes it.
    async fn open(source: &Source) -> Result<Self, String> {
        let Source { url, stream, subject, consumer } = source;
        for (what, name) in [("stream", stream), ("consumer", consumer)] {
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || ".*>/\\".contains(c)) {
                return Err(format!("`{name}` cannot be the name of a JetStream {what}"));
            }
        }
        let options = async_nats::ConnectOptions::new().connection_timeout(ANSWER).request_timeout(Some(ANSWER));
        // The URL may hold a password.
        let connected = options.connect(url.as_str()).await;
        let client = connected.map_err(|error| format!("the NATS server of consumer `{consumer}`: {error}"))?;
        let found = Self { client, stream: stream.clone(), name: consumer.clone() };
        found.ask(&format!("STREAM.INFO.{stream}"), &Value::Null).await?;
        let config = json!({ "durable_name": consumer, "ack_policy": "explicit", "filter_subject": subject });
        let request = json!({ "stream_name": stream, "config": config });
        // Of a consumer that is there already, with the same settings, it changes nothing.
        found.ask(&format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}"), &request).await?;
        Ok(found)
    }

    /// The messages that are there, as far as `most`.
    async fn fetch(&self, most: u64) -> Result<Vec<Message>, String> {
        let told = |error: String| format!("fetching messages: {error}");
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|error| told(error.to_string()))?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name);
        let request = json!({ "batch": most, "no_wait": true }).to_string();
        let asked = self.client.publish_with_reply(subject, inbox, request.into()).await;
        asked.map_err(|error| told(error.to_string()))?;
        let mut messages = Vec::new();
        while (messages.len() as u64) < most {
            let next = tokio::time::timeout(ANSWER, answers.next()).await;
            let next = next.map_err(|_| told("the server does not answer".to_owned()))?;
            match next {
                // A status says that there are no more.
                Some(message) if message.status.is_some() => break,
                Some(message) => messages.push(message),
                None => return Err(told("the connection has ended".to_owned())),
            }
        }
        Ok(messages)
    }

    async fn acknowledge(&self, messages: &[Message]) -> Result<(), String> {
        let told = |error: String| format!("acknowledging messages: {error}");
        for reply in messages.iter().filter_map(|message| message.reply.clone()) {
            self.client.publish(reply, "+ACK".into()).await.map_err(|error| told(error.to_string()))?;
        }
        self.client.flush().await.map_err(|error| told(error.to_string()))
    }

    /// Sends a request to JetStream and looks whether it was refused.
    async fn ask(&self, what: &str, request: &Value) -> Result<(), String> {
        let told = |error: String| format!("the JetStream stream `{}`: {error}", self.stream);
        let payload = if request.is_null() { String::new() } else { request.to_string() };
        let answer = self.client.request(format!("$JS.API.{what}"), payload.into()).await;
        let answer = answer.map_err(|error| told(error.to_string()))?;
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(|error| told(error.to_string()))?;
        match answer["error"]["description"].as_str() {
            Some(refused) => Err(told(refused.to_owned())),
            None => Ok(()),
        }
    }
}

/// The same whenever the message is delivered: stream, place in it, and time, which tells a stream that was made anew
/// from the one before. They are in the subject that acknowledges the message:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<place>.<place of the consumer>.<nanoseconds>.<pending>`, where newer servers
/// put a domain and an account before the stream and a token at the end.
fn name(message: &Message) -> Result<String, String> {
    let reply = message.reply.as_ref().map(|reply| reply.as_str()).unwrap_or_default();
    let parts: Vec<&str> = reply.strip_prefix("$JS.ACK.").unwrap_or_default().split('.').collect();
    let first = match parts.len() {
        7 => 0,
        9.. => 2,
        _ => return Err(format!("a message that is of no stream (`{reply}`)")),
    };
    Ok(format!("{}/{}@{}", parts[first], parts[first + 3], parts[first + 5]))
}
