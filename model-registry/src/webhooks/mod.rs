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

pub(crate) use change::Change;
pub use deliver::{Deliverer, Delivery, DeliveryStatus};
pub use event::Event;
pub use sealing::SecretKey;
pub(crate) use send::Sender;
pub use send::WebhookOptions;
