//! Sends what is to be told, again and again with growing waits.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};
use uuid::Uuid;

use super::Webhooks;
use super::send::{Answer, Message};
use crate::clock::now_millis;
use crate::store::{Attempted, DueDelivery, Store};
use crate::{Error, Result};

/// Messages sent at the same time.
const AT_ONCE: i64 = 16;
/// Others may have written something; so often it is looked for.
const POLL: Duration = Duration::from_secs(2);
/// What was told is remembered so long.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// No receiver may ask for a longer rest.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// Characters of an error that are kept.
const MOST_OF_ERROR: usize = 500;

/// A message to a webhook and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// Greater than that of all before.
    pub id: i64,
    /// Such as `model_version.created`.
    pub event: String,
    /// What became of it.
    pub status: DeliveryStatus,
    /// Attempts so far.
    pub attempts: i64,
    /// The status of the last answer.
    pub response_status: Option<i64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the change was, in milliseconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// When it was told or given up.
    pub done_at: Option<i64>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeliveryStatus {
    /// It is still to be told.
    Pending,
    /// It was told.
    Delivered,
    /// It could not be told.
    GivenUp,
}

/// Tells webhooks. Any number of processes may: each attempt is made by one of them.
#[derive(Clone, Debug)]
pub struct Deliverer {
    store: Store,
    webhooks: Webhooks,
}

impl DeliveryStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delivered => "DELIVERED",
            Self::GivenUp => "GIVEN_UP",
        }
    }

    pub(crate) fn stored(text: &str) -> Result<Self> {
        let all = [Self::Pending, Self::Delivered, Self::GivenUp];
        let unreadable = || Error::Unreadable { what: "webhook_delivery.status", found: text.to_owned() };
        all.into_iter().find(|status| status.as_str() == text).ok_or_else(unreadable)
    }
}

impl Deliverer {
    /// Tells the webhooks of a store.
    pub fn new(store: Store, webhooks: Webhooks) -> Self {
        Self { store, webhooks }
    }

    /// Tells what is due until `stop` is set. A database that fails now may do better later: it goes on.
    pub async fn serve(&self, mut stop: watch::Receiver<bool>) {
        let mut tidied: Option<std::time::Instant> = None;
        while !*stop.borrow_and_update() {
            if tidied.is_none_or(|at| at.elapsed() > TIDY_EVERY) {
                tidied = Some(std::time::Instant::now());
                let until = now_millis() - millis(REMEMBERED);
                if let Err(error) = self.store.forget_deliveries(until).await {
                    warn!(%error, "what webhooks were told long ago could not be forgotten");
                }
            }
            let wait = match self.deliver_due(now_millis()).await {
                Ok(0) => self.wait().await,
                Ok(_) => continue,
                Err(error) => {
                    warn!(%error, "webhooks could not be told; they are tried again");
                    POLL
                }
            };
            tokio::select! {
                () = self.store.something_to_tell() => {}
                // Whoever could stop it is gone.
                changed = stop.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Tells what is due at `now` (milliseconds since 1970-01-01 UTC), several at once; gives how many attempts that were.
    ///
    /// # Errors
    /// When the database fails. A receiver that cannot be told is no error.
    pub async fn deliver_due(&self, now: i64) -> Result<usize> {
        let mut telling = JoinSet::new();
        // Twice the time of an attempt: by then it has ended, or its process has.
        let dead_at = now_millis().max(now) + 2 * millis(self.webhooks.sender().options().timeout) + 1000;
        for mut due in self.store.due_deliveries(now, AT_ONCE).await? {
            if self.store.take_delivery(&mut due, dead_at).await? {
                let own = self.clone();
                telling.spawn(async move { own.attempt(&due, now).await });
            }
        }
        let mut attempts = 0;
        while let Some(done) = telling.join_next().await {
            match done {
                Ok(done) => done?,
                // It is taken again when its time is over.
                Err(error) => warn!(%error, "telling a webhook broke off"),
            }
            attempts += 1;
        }
        Ok(attempts)
    }

    /// How long there is nothing to do.
    async fn wait(&self) -> Duration {
        let due = self.store.next_delivery_due().await.ok().flatten();
        let wait = due.map_or(POLL, |due| Duration::from_millis(u64::try_from(due - now_millis()).unwrap_or(0)));
        wait.clamp(Duration::from_millis(10), POLL)
    }

    async fn attempt(&self, due: &DueDelivery, now: i64) -> Result<()> {
        let answer = self.send(due).await;
        let ended = self.judge(due, now, answer);
        let (webhook, attempt) = (&due.webhook_id, due.attempts);
        match &ended {
            Attempted::Delivered { .. } => info!(webhook, attempt, "webhook told"),
            Attempted::Again { error, .. } => info!(webhook, attempt, error, "webhook not told, will be tried again"),
            Attempted::GivenUp { error, .. } => warn!(webhook, attempt, error, "webhook given up"),
        }
        self.store.delivery_attempted(due, &ended).await
    }

    async fn send(&self, due: &DueDelivery) -> std::result::Result<Answer, String> {
        let secret = match &due.secret {
            Some(sealed) => {
                Some(self.webhooks.key().unseal(&due.webhook_id, sealed).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        let message = Message {
            url: &due.url,
            delivery_id: &delivery_id(&due.change_id, &due.webhook_id),
            body: &due.payload,
            secret: secret.as_deref(),
        };
        self.webhooks.sender().send(message).await
    }

    fn judge(&self, due: &DueDelivery, now: i64, answer: std::result::Result<Answer, String>) -> Attempted {
        let options = self.webhooks.sender().options();
        let (status, error, retry_after) = match answer {
            Ok(answer) if answer.status < 300 => return Attempted::Delivered { status: answer.status },
            Ok(answer) => {
                let error = cut(&format!("it answered {}: {}", answer.status, answer.body));
                // Nobody answers otherwise next time to what is wrong with the request.
                if !matches!(answer.status, 408 | 429 | 500..) {
                    return Attempted::GivenUp { status: Some(answer.status), error };
                }
                (Some(answer.status), error, answer.retry_after)
            }
            Err(error) => (None, cut(&error), None),
        };
        if due.attempts >= i64::from(options.attempts) {
            return Attempted::GivenUp { status, error };
        }
        let doublings = u32::try_from(due.attempts - 1).unwrap_or(0).min(20);
        let wait = options.first_wait.saturating_mul(1 << doublings).min(options.longest_wait);
        // Up to half as long again, so that many receivers are not all asked in the same moment.
        let wait = wait + wait.mul_f64(rand::random::<f64>() / 2.0);
        let wait = wait.max(retry_after.unwrap_or_default().min(LONGEST_REST));
        Attempted::Again { at: now.max(now_millis()) + millis(wait), status, error }
    }
}

/// The same for all attempts to tell a webhook of a change, another one for another webhook.
fn delivery_id(change: &str, webhook: &str) -> String {
    let space = Uuid::try_parse(change).unwrap_or(Uuid::NAMESPACE_OID);
    Uuid::new_v5(&space, webhook.as_bytes()).to_string()
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_OF_ERROR).collect()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}
