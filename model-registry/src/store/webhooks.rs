//! The webhooks themselves.

use serde::{Serialize, Serializer};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::registry_search::Page;
use super::{Store, Write};
use crate::clock::now_millis;
use crate::webhooks::{Event, SecretKey};
use crate::{Error, Result, page};

/// A webhook as the API writes it; its secret is never among it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Webhook {
    pub(crate) webhook_id: String,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) url: String,
    #[serde(serialize_with = "as_pairs")]
    pub(crate) events: Vec<Event>,
    pub(crate) status: WebhookStatus,
    pub(crate) creation_timestamp: i64,
    pub(crate) last_updated_timestamp: i64,
}

/// Whether a webhook is told anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum WebhookStatus {
    #[default]
    Active,
    Disabled,
}

/// What is written of a webhook; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct WebhookFields {
    pub(crate) name: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) events: Option<Vec<Event>>,
    pub(crate) description: Option<String>,
    /// Empty for none.
    pub(crate) secret: Option<String>,
    pub(crate) status: Option<WebhookStatus>,
}

/// A webhook's columns and one of its events.
type Row = (String, String, Option<String>, String, String, i64, i64, String);

const COLUMNS: &str = "w.id, w.name, w.description, w.url, w.status, w.created_at, w.updated_at, e.event";

impl WebhookStatus {
    /// Reads `ACTIVE` or `DISABLED`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "ACTIVE" => Ok(Self::Active),
            "DISABLED" => Ok(Self::Disabled),
            other => Err(Error::invalid(format!("Invalid webhook status '{other}'. Valid are: ACTIVE, DISABLED"))),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Disabled => "DISABLED",
        }
    }
}

impl Store {
    /// Makes a webhook. Its name, URL and events were checked.
    pub(crate) async fn create_webhook(&self, fields: &WebhookFields, key: &SecretKey) -> Result<Webhook> {
        let (id, now) = (Uuid::new_v4().to_string(), now_millis());
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO webhook (id, name, description, url, secret, status, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        )
        .bind(&id)
        .bind(fields.name.as_deref().unwrap_or_default())
        .bind(fields.description.as_deref().filter(|text| !text.is_empty()))
        .bind(fields.url.as_deref().unwrap_or_default())
        .bind(sealed(key, &id, fields.secret.as_deref())?)
        .bind(fields.status.unwrap_or_default().as_str())
        .bind(now)
        .execute(write.connection())
        .await
        .map_err(Error::database("making a webhook"))?;
        write.put_events(&id, fields.events.as_deref().unwrap_or_default()).await?;
        write.commit().await?;
        self.webhook(&id).await
    }

    /// A webhook by its ID.
    pub(crate) async fn webhook(&self, id: &str) -> Result<Webhook> {
        let sql = format!(
            "SELECT {COLUMNS} FROM webhook w JOIN webhook_event e ON e.webhook_id = w.id WHERE w.id = $1
             ORDER BY e.position"
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(id)
            .fetch_all(self.pool())
            .await
            .map_err(Error::database("reading a webhook"))?;
        gather(rows)?.pop().ok_or_else(|| no_webhook(id))
    }

    /// Webhooks, the newest first.
    pub(crate) async fn webhooks(&self, max_results: Option<i64>, token: Option<&str>) -> Result<Page<Webhook>> {
        let limit = max_results.filter(|max| *max != 0).unwrap_or(100);
        if !(1..=1000).contains(&limit) {
            return Err(Error::invalid("max_results must be between 1 and 1000."));
        }
        let offset = page::offset(token)?;
        let sql = format!(
            "WITH page AS (SELECT * FROM webhook ORDER BY created_at DESC, id LIMIT $1 OFFSET $2)
             SELECT {COLUMNS} FROM page w JOIN webhook_event e ON e.webhook_id = w.id
             ORDER BY w.created_at DESC, w.id, e.position"
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(limit + 1)
            .bind(offset)
            .fetch_all(self.pool())
            .await
            .map_err(Error::database("listing webhooks"))?;
        let mut items = gather(rows)?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = (items.len() > most).then(|| page::token(offset + limit));
        items.truncate(most);
        Ok(Page { items, next })
    }

    /// Changes a webhook. What is still to be told to one that is disabled is given up.
    pub(crate) async fn update_webhook(&self, id: &str, fields: &WebhookFields, key: &SecretKey) -> Result<Webhook> {
        let mut write = self.write().await?;
        let (has_secret, secret) = match fields.secret.as_deref() {
            Some(secret) => (1_i64, sealed(key, id, Some(secret))?),
            None => (0, None),
        };
        let changed = sqlx::query(
            "UPDATE webhook SET name = COALESCE($2, name), url = COALESCE($3, url),
               description = COALESCE($4, description), status = COALESCE($5, status),
               secret = CASE WHEN $6 = 1 THEN $7 ELSE secret END, updated_at = $8 WHERE id = $1",
        )
        .bind(id)
        .bind(fields.name.as_deref())
        .bind(fields.url.as_deref())
        .bind(fields.description.as_deref())
        .bind(fields.status.map(WebhookStatus::as_str))
        .bind(has_secret)
        .bind(secret)
        .bind(now_millis())
        .execute(write.connection())
        .await
        .map_err(Error::database("changing a webhook"))?;
        if changed.rows_affected() == 0 {
            return Err(no_webhook(id));
        }
        if let Some(events) = &fields.events {
            sqlx::query("DELETE FROM webhook_event WHERE webhook_id = $1")
                .bind(id)
                .execute(write.connection())
                .await
                .map_err(Error::database("changing a webhook's events"))?;
            write.put_events(id, events).await?;
        }
        if fields.status == Some(WebhookStatus::Disabled) {
            write.give_up_deliveries(id, "the webhook was disabled").await?;
        }
        write.commit().await?;
        self.webhook(id).await
    }

    /// Deletes a webhook and what is still to be told to it.
    pub(crate) async fn delete_webhook(&self, id: &str) -> Result<()> {
        let mut write = self.write().await?;
        let deleted = sqlx::query("DELETE FROM webhook WHERE id = $1")
            .bind(id)
            .execute(write.connection())
            .await
            .map_err(Error::database("deleting a webhook"))?;
        if deleted.rows_affected() == 0 {
            return Err(no_webhook(id));
        }
        write.commit().await
    }

    /// The sealed secret of a webhook.
    pub(crate) async fn sealed_secret(&self, id: &str) -> Result<Option<String>> {
        let found: Option<(Option<String>,)> = sqlx::query_as("SELECT secret FROM webhook WHERE id = $1")
            .bind(id)
            .fetch_optional(self.pool())
            .await
            .map_err(Error::database("reading a webhook"))?;
        Ok(found.and_then(|(secret,)| secret))
    }
}

impl Write {
    async fn put_events(&mut self, id: &str, events: &[Event]) -> Result<()> {
        for (position, event) in (0_i64..).zip(events) {
            sqlx::query(
                "INSERT INTO webhook_event (event, webhook_id, position) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            )
            .bind(event.as_str())
            .bind(id)
            .bind(position)
            .execute(self.connection())
            .await
            .map_err(Error::database("writing a webhook's events"))?;
        }
        Ok(())
    }
}

fn sealed(key: &SecretKey, id: &str, secret: Option<&str>) -> Result<Option<String>> {
    Ok(secret.filter(|secret| !secret.is_empty()).map(|secret| key.seal(id, secret)).transpose()?)
}

fn gather(rows: Vec<Row>) -> Result<Vec<Webhook>> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for (webhook_id, name, description, url, status, creation_timestamp, last_updated_timestamp, event) in rows {
        let event = Event::stored(&event)?;
        match webhooks.last_mut() {
            Some(last) if last.webhook_id == webhook_id => last.events.push(event),
            _ => webhooks.push(Webhook {
                webhook_id,
                name,
                description: description.filter(|text| !text.is_empty()),
                url,
                events: vec![event],
                status: WebhookStatus::parse(&status)?,
                creation_timestamp,
                last_updated_timestamp,
            }),
        }
    }
    Ok(webhooks)
}

fn no_webhook(id: &str) -> Error {
    Error::missing(format!("Webhook with ID {id} not found."))
}

fn as_pairs<S: Serializer>(events: &[Event], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Pair {
        entity: String,
        action: String,
    }
    let upper = |text: &str| text.to_ascii_uppercase();
    serializer
        .collect_seq(events.iter().map(|event| Pair { entity: upper(event.entity()), action: upper(event.action()) }))
}
