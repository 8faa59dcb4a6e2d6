//! Asks a tracking and registry server: ours, MLflow's own, or the tables and files of this machine without a server.
//!
//! ```no_run
//! # async fn example(config: &platform::config::Config) -> model_registry::Result<()> {
//! let client = model_registry::client::Client::open(config).await?;
//! let champion = client.version_by_alias("wildlife", "champion").await?;
//! # Ok(()) }
//! ```

mod credentials;
mod files;
mod logged;
mod promote;
mod registry;
mod resolve;
mod retry;
mod tracking;
mod transport;

use platform::config::Config;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::entities::RunStatus;
pub use credentials::Credentials;
pub use files::{Files, Progress, RemoteFile, Step};
pub use logged::LoggedModel;
pub use registry::{NewVersion, Page};
pub use resolve::{Source, quoted};
pub use tracking::{Experiment, Metric, Param, Run, RunInfo};

use crate::serve::{self, Places};
use crate::{Error, ErrorCode, Result};
use transport::{Ask, Transport};

/// What is asked. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// The server of the settings: `registry.url`, else the variable `MLFLOW_TRACKING_URI` if it is an address of a
    /// server, else the tables and files of the settings, without a server. Credentials come from the variables of
    /// MLflow ([`Credentials::from_environment`]).
    ///
    /// # Errors
    /// What is wrong with the address, the tables or the files.
    pub async fn open(config: &Config) -> Result<Self> {
        let tracking = std::env::var("MLFLOW_TRACKING_URI").unwrap_or_default();
        let is_server = tracking.starts_with("http://") || tracking.starts_with("https://");
        let url = match config.registry.url.as_str() {
            "" if is_server => tracking.as_str(),
            url => url,
        };
        if url.is_empty() {
            return Self::local(config).await;
        }
        Self::connect(url, Credentials::from_environment())
    }

    /// A server at `url`, such as `http://127.0.0.1:5000`. Nothing is asked yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn connect(url: &str, credentials: Credentials) -> Result<Self> {
        Ok(Self { transport: Transport::http(url, credentials)? })
    }

    /// The tables and files of the settings, in this process.
    ///
    /// # Errors
    /// What is wrong with the tables or the files.
    pub async fn local(config: &Config) -> Result<Self> {
        Ok(Self::of_app(serve::open(&Places::of(config)?).await?))
    }

    /// Tables and files that are open already.
    pub fn of_app(app: crate::api::App) -> Self {
        Self { transport: Transport::local(crate::api::router(app)) }
    }

    /// The same, in the name of somebody: who a move of an alias is written down for, and in which roles. Servers that
    /// know their users take no notice.
    #[must_use]
    pub fn acting_as(mut self, name: &str, roles: &[String]) -> Self {
        self.transport.act_as(name, roles);
        self
    }

    /// The server for people, without secrets.
    pub fn server(&self) -> &str {
        self.transport.server()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        self.transport.json(Ask::get(path, query)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.transport.json(Ask::post(path, body)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: axum::http::Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.transport.json(Ask::post(path, body).with(method)).await
    }
}

/// An answer of which nothing is needed.
#[derive(Debug, serde::Deserialize)]
struct Nothing {}

/// Makes "there is no such thing" of an answer that says so.
fn if_there<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an answer says that there is no such thing. A missing alias is an invalid value to MLflow.
fn is_missing(error: &Error) -> bool {
    match error {
        Error::Refused { code: ErrorCode::ResourceDoesNotExist, .. } => true,
        Error::Refused { code: ErrorCode::InvalidParameterValue, message } => {
            message.contains("alias") && message.contains("not found")
        }
        _ => false,
    }
}

/// Whether an answer says that another thing has that name.
pub(crate) fn is_there_already(error: &Error) -> bool {
    matches!(error, Error::Refused { code: ErrorCode::ResourceAlreadyExists, .. })
}
