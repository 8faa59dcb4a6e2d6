//! Webhooks: others are told of changes over HTTP, as MLflow tells them.
//!
//! What is to be told is written in the transaction of the change (`store/outbox.rs`); [`Deliverer`] sends it afterwards,
//! again and again with growing waits, so that neither a crash nor a receiver that is away loses anything. A receiver may
//! hear of a change twice: `X-MLflow-Delivery-Id` is the same both times.

mod address;
mod change;
mod deliver;
mod event;
mod sealing;
mod send;

use std::sync::Arc;

use crate::Result;

pub(crate) use change::Change;
pub use deliver::{Deliverer, Delivery, DeliveryStatus};
pub use event::Event;
pub use sealing::{SECRET_KEY_VARIABLE, SecretKey, open_key};
pub use send::WebhookOptions;
pub(crate) use send::{Message, Sender};

/// What sends and signs messages; clones share it.
#[derive(Clone, Debug)]
pub struct Webhooks {
    sender: Arc<Sender>,
    key: SecretKey,
}

impl Webhooks {
    /// Sends as the options say, and seals secrets with the key.
    ///
    /// # Errors
    /// When the program cannot use HTTP at all.
    pub fn new(options: WebhookOptions, key: SecretKey) -> Result<Self> {
        Ok(Self { sender: Arc::new(Sender::new(options)?), key })
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }
}
