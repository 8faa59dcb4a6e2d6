//! `webhooks`, and what they were told.

use axum::Json as Out;
use axum::extract::{Path, State};
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::registered_models::{Done, required};
use super::{App, Json, Query, wrong_type};
use crate::store::{Page, Webhook, WebhookFields, WebhookStatus};
use crate::webhooks::{Change, Delivery, Event, Message};
use crate::{Error, Result};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .get("/webhooks", Permission::WebhooksManage, list)
        .post("/webhooks", Permission::WebhooksManage, create)
        .get("/webhooks/{id}", Permission::WebhooksManage, read)
        .patch("/webhooks/{id}", Permission::WebhooksManage, update)
        .delete("/webhooks/{id}", Permission::WebhooksManage, remove)
        .post("/webhooks/{id}/test", Permission::WebhooksManage, test)
}

/// Below `/api/v1`: what MLflow's API does not have.
pub(super) fn own_routes() -> Guarded<App> {
    Guarded::new().get("/webhooks/{id}/deliveries", Permission::WebhooksManage, deliveries)
}

#[derive(Serialize)]
struct One {
    webhook: Webhook,
}

#[derive(Serialize)]
struct Many {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    webhooks: Vec<Webhook>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct Tested {
    result: TestResult,
}

#[derive(Serialize)]
struct TestResult {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

#[derive(Serialize)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
struct Fields {
    name: Option<String>,
    description: Option<String>,
    url: Option<String>,
    events: Option<Vec<Pair>>,
    secret: Option<String>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(default)]
    entity: String,
    #[serde(default)]
    action: String,
}

#[derive(Deserialize)]
struct ListQuery {
    max_results: Option<String>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct Test {
    event: Option<Pair>,
}

#[derive(Deserialize)]
struct DeliveriesQuery {
    before: Option<i64>,
    limit: Option<i64>,
}

async fn create(State(app): State<App>, Json(asked): Json<Fields>) -> Result<Out<One>> {
    required(&asked.name, "name")?;
    required(&asked.url, "url")?;
    if asked.events.is_none() {
        required(&None, "events")?;
    }
    let fields = read_fields(&app, asked).await?;
    let webhook = app.store.create_webhook(&fields, app.webhooks.key()).await?;
    Ok(Out(One { webhook }))
}

async fn list(State(app): State<App>, Query(asked): Query<ListQuery>) -> Result<Out<Many>> {
    let number = |text: &String| text.parse().map_err(|_| wrong_type("max_results", &Value::from(text.as_str())));
    let max_results = asked.max_results.as_ref().map(number).transpose()?;
    let Page { items, next } = app.store.webhooks(max_results, asked.page_token.as_deref()).await?;
    Ok(Out(Many { webhooks: items, next_page_token: next }))
}

async fn read(State(app): State<App>, Path(id): Path<String>) -> Result<Out<One>> {
    Ok(Out(One { webhook: app.store.webhook(&id).await? }))
}

async fn update(State(app): State<App>, Path(id): Path<String>, Json(mut asked): Json<Fields>) -> Result<Out<One>> {
    // What is empty stays as it is, but for the description and the secret.
    asked.name = asked.name.filter(|text| !text.is_empty());
    asked.url = asked.url.filter(|text| !text.is_empty());
    asked.events = asked.events.filter(|events| !events.is_empty());
    let fields = read_fields(&app, asked).await?;
    let webhook = app.store.update_webhook(&id, &fields, app.webhooks.key()).await?;
    Ok(Out(One { webhook }))
}

async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<Out<Done>> {
    app.store.delete_webhook(&id).await?;
    Ok(Out(Done {}))
}

/// Sends an example at once, and says what came back.
async fn test(State(app): State<App>, Path(id): Path<String>, Json(asked): Json<Test>) -> Result<Out<Tested>> {
    let webhook = app.store.webhook(&id).await?;
    let event = match asked.event {
        Some(pair) => Event::parse(&pair.entity, &pair.action)?,
        None => *webhook.events.first().ok_or_else(|| Error::invalid("Webhook events cannot be empty"))?,
    };
    let sealed = app.store.sealed_secret(&id).await?;
    let secret = sealed.map(|sealed| app.webhooks.key().unseal(&id, &sealed)).transpose()?;
    let message = Message {
        url: &webhook.url,
        delivery_id: &uuid::Uuid::new_v4().to_string(),
        body: &Change::example(event).body(),
        secret: secret.as_deref(),
    };
    let result = match app.webhooks.sender().send(message).await {
        Ok(answer) => TestResult {
            success: answer.status < 400,
            response_status: Some(answer.status),
            response_body: Some(answer.body).filter(|body| !body.is_empty()),
            error_message: None,
        },
        Err(reason) => TestResult {
            success: false,
            response_status: None,
            response_body: None,
            error_message: Some(format!("Failed to test webhook: {reason}")),
        },
    };
    Ok(Out(Tested { result }))
}

async fn deliveries(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(asked): Query<DeliveriesQuery>,
) -> Result<Out<Deliveries>> {
    app.store.webhook(&id).await?;
    let limit = asked.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Error::invalid(format!("`limit` is {limit}; give a number from 1 to 1000")));
    }
    let deliveries = app.store.deliveries(&id, asked.before, limit).await?;
    Ok(Out(Deliveries { deliveries }))
}

async fn read_fields(app: &App, asked: Fields) -> Result<WebhookFields> {
    if let Some(name) = &asked.name {
        check_name(name)?;
    }
    if let Some(url) = &asked.url {
        app.webhooks.sender().check(url).await?;
    }
    let events = match asked.events {
        Some(pairs) if pairs.is_empty() => {
            return Err(Error::invalid("Webhook events must be a non-empty list of WebhookEvent objects: []."));
        }
        Some(pairs) => {
            Some(pairs.iter().map(|pair| Event::parse(&pair.entity, &pair.action)).collect::<Result<Vec<_>>>()?)
        }
        None => None,
    };
    let status = asked.status.as_deref().filter(|text| !text.is_empty()).map(WebhookStatus::parse).transpose()?;
    let Fields { name, description, url, secret, .. } = asked;
    Ok(WebhookFields { name, url, events, description, secret, status })
}

fn check_name(name: &str) -> Result<()> {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() <= 63 && ends(name.bytes().next()) && ends(name.bytes().last()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Webhook name '{name}' is invalid. It must start and end with a letter or digit, be less than 63 characters long, \
         and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
    )))
}
