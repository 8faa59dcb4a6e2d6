//! Whom to tell about a run, and when.

use std::collections::BTreeSet;

/// An entry of `alerts:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What it tells of; each once, at least one.
    pub on: Vec<AlertEvent>,
    /// Whom it tells.
    pub target: AlertTarget,
    /// Names of the secrets that the target's texts use.
    pub secret_uses: BTreeSet<String>,
}

/// What an alert tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertEvent {
    /// A run has failed.
    Failure,
    /// An attempt has failed and is tried again.
    Retry,
    /// A run has not ended by its deadline.
    Deadline,
    /// A run has succeeded.
    Success,
}

/// Whom an alert tells. The texts may be templates with parameters, the run, its data interval and secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertTarget {
    /// An http or https URL, called with POST.
    Webhook(String),
    /// A program and its arguments, run without a shell.
    Command(Vec<String>),
}

impl AlertEvent {
    /// All events, in the order in which they are explained.
    pub const ALL: [Self; 4] = [Self::Failure, Self::Retry, Self::Deadline, Self::Success];

    /// The name in DAG files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Retry => "retry",
            Self::Deadline => "deadline",
            Self::Success => "success",
        }
    }

    /// The event of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}
