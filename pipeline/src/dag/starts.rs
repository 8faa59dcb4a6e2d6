//! What starts the runs of a DAG by itself.

use std::time::Duration;

use super::mistake::Place;
use crate::schedule::Timetable;

/// What makes a DAG run without being asked: the value of `schedule:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DagSchedule {
    /// Nothing: runs are started by hand, through an API, or by another DAG.
    #[default]
    Manual,
    /// The clock (`cron` or `every`).
    Time(Timetable),
    /// Each of these assets was updated since the last run that they started.
    AllAssets(Vec<String>),
    /// Any of these assets was updated.
    AnyAsset(Vec<String>),
}

/// A DAG that never ends: items come in, and each batch of them is a run. The value of `continuous:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuous {
    /// Where the items come from.
    pub source: StreamSource,
    /// Most items of a batch, at least 1.
    pub max_batch: u32,
    /// A batch that is not full starts when its first item has waited this long.
    pub max_age: Duration,
    /// Most batches that run at once, at least 1.
    pub max_in_flight: u32,
}

/// Where the items of a continuous DAG come from. The texts may be templates with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamSource {
    /// New objects under a folder or an S3 URL prefix.
    Folder(String),
    /// Requests to the webhook of this name.
    Webhook(String),
    /// Messages of a JetStream consumer.
    Nats {
        /// The server, such as `nats://localhost:4222`.
        url: String,
        /// The stream.
        stream: String,
        /// Subject of the messages, which may have wildcards.
        subject: String,
        /// Name of the durable consumer.
        consumer: String,
    },
}

/// A named set of tasks: an entry of `groups:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name; no task has the same.
    pub name: String,
    /// What it is for, in words.
    pub description: String,
    /// Tasks and groups that each of its tasks needs, as the file names them.
    pub needs: Vec<String>,
    pub(crate) place: Place,
}
