//! Replicas that serve a model: what a rollout does to them.

mod exposition;
mod kubernetes;
mod replica;
mod replicas;

use std::time::Duration;

use async_trait::async_trait;
use model_registry::VersionNumber;
use model_registry::client::Source;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::analysis::Counters;
use crate::{Error, Result};

pub(crate) use exposition::Gathered;
pub use kubernetes::{ClusterAccess, Kubernetes, Target};
pub use replicas::Replicas;

/// How long a replica may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Where the replicas are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Servers of `safari serve`. Each URL is a replica; the name of a host that has several addresses is a replica for each
    /// of them, looked up anew every time.
    Replicas(Vec<Url>),
    /// A Deployment of Kubernetes.
    Kubernetes(Target),
}

/// The two versions of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Versions {
    /// The registered model.
    pub model: String,
    /// The one that is to be replaced.
    pub stable: VersionNumber,
    /// The one that is to replace it.
    pub candidate: VersionNumber,
}

/// How replicas stand after something was asked of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Replicas that stand as they should.
    pub there: Vec<String>,
    /// Those that do not.
    pub behind: Vec<Behind>,
}

/// A replica that does not stand as it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Behind {
    /// The replica.
    pub replica: String,
    /// Why, for people.
    pub reason: String,
    /// What that means.
    pub cause: Cause,
}

/// Why a replica does not stand as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It cannot be asked; it may come back.
    Away,
    /// It cannot do it now.
    NotYet,
    /// It is being done, and wants nothing but time.
    Soon,
    /// It has refused the candidate, and would again.
    Refused,
}

/// What one replica has counted of the two versions since it was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// The replica.
    pub replica: String,
    /// The version that is to be replaced.
    pub stable: Counters,
    /// The version that is to replace it.
    pub candidate: Counters,
}

/// Replicas. All that is asked of them may be asked again.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Lets the candidate answer a share of the requests at every replica.
    ///
    /// # Errors
    /// The replicas cannot be found. What is wrong with one of them is a part of the answer.
    async fn share(&self, versions: &Versions, percent: u8) -> Result<Standing>;

    /// Takes the candidate away from every replica, whatever the alias names.
    ///
    /// # Errors
    /// The replicas cannot be found. What is wrong with one of them is a part of the answer.
    async fn withdraw(&self) -> Result<Standing>;

    /// What every replica that can be asked has counted.
    ///
    /// # Errors
    /// The replicas cannot be found.
    async fn counted(&self, versions: &Versions) -> Result<Vec<Counted>>;

    /// Lets every replica answer with `version` alone, which the alias names by now.
    ///
    /// # Errors
    /// The replicas cannot be found. What is wrong with one of them is a part of the answer.
    async fn agree(&self, model: &str, version: VersionNumber) -> Result<Standing>;

    /// Whether replicas come to what the alias names only as long as somebody brings them there. Others follow it by
    /// themselves, so that a rollout may end without them.
    fn needs_a_driver(&self) -> bool {
        false
    }
}

impl Standing {
    /// Of something that does not stand as it should.
    pub(crate) fn only(behind: Behind) -> Self {
        Self { there: Vec::new(), behind: vec![behind] }
    }

    /// Whether the share can be counted on: at least one replica has it, and each of the others is away.
    pub fn holds(&self) -> bool {
        !self.there.is_empty() && self.behind.iter().all(|behind| behind.cause == Cause::Away)
    }

    /// Whether every replica stands as it should.
    pub fn is_whole(&self) -> bool {
        !self.there.is_empty() && self.behind.is_empty()
    }

    /// The first replica that will not take the candidate.
    pub fn refusal(&self) -> Option<&Behind> {
        self.behind.iter().find(|behind| behind.cause == Cause::Refused)
    }

    /// Those that do not stand as they should, for people.
    pub fn told(&self) -> String {
        if self.there.is_empty() && self.behind.is_empty() {
            return "there is no replica".to_owned();
        }
        let told: Vec<String> =
            self.behind.iter().map(|behind| format!("{}: {}", behind.replica, behind.reason)).collect();
        told.join("; ")
    }
}

/// Asks replicas. Each connection is closed soon: a name may lead elsewhere the next time.
pub(crate) fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Error::Fleet(error.to_string()))
}

impl Versions {
    /// What names a version, as replicas say it: `models:/wildlife/3`.
    pub fn source(&self, version: VersionNumber) -> String {
        source(&self.model, version)
    }
}

/// What names a version, as replicas say it: `models:/wildlife/3`.
pub(crate) fn source(model: &str, version: VersionNumber) -> String {
    Source::Version(model.to_owned(), version).to_string()
}
