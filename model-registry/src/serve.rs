//! The server: opens tables and files, listens, answers, tidies up, and ends when it is told to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use platform::config::Config;
use platform::database::Address;
use platform::object_store::Location;
use platform::serve::{Entrance, Server};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::Result;
use crate::api::{App, router_behind};
use crate::artifacts::Artifacts;
use crate::store::Store;
use crate::webhooks::{Deliverer, WebhookOptions, Webhooks, open_key};

/// What artifact URIs begin with: clients send files to this server, which puts them where they belong.
pub const ARTIFACT_ROOT: &str = "mlflow-artifacts:";

/// How long messages under way may take when the server is told to end.
const DRAIN: Duration = Duration::from_secs(30);
/// How often uploads are looked for that will not be completed.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// When an upload that was begun is given up.
pub const UPLOAD_HOURS: i64 = 24;

/// Where a registry keeps its things.
#[derive(Clone, Debug)]
pub struct Places {
    /// The tables.
    pub database: Address,
    /// The files.
    pub artifacts: Location,
    /// The folder of the key that seals secrets of webhooks, unless a variable holds it.
    pub home: PathBuf,
    /// How receivers of webhooks are told.
    pub webhooks: WebhookOptions,
}

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Who is let in, and certificates. Without identity the address must be a loopback one.
    pub entrance: Entrance,
    /// Tables and files.
    pub places: Places,
}

impl Places {
    /// Those of the settings.
    ///
    /// # Errors
    /// `registry.artifacts` is no place for files.
    pub fn of(config: &Config) -> Result<Self> {
        let anywhere = config.registry.webhooks_anywhere;
        Ok(Self {
            database: config.registry_address(),
            artifacts: Location::parse(&config.artifacts_url())?,
            home: config.home.clone(),
            webhooks: WebhookOptions { allow_http: anywhere, allow_private: anywhere, ..WebhookOptions::default() },
        })
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Service {
    app: App,
    server: Server,
    entrance: Entrance,
}

/// Opens tables and files. SQLite's tables are brought up to date; those of a PostgreSQL server only by `safari migrate`.
///
/// # Errors
/// What is wrong with the database or the place of the files, and what to do.
pub async fn open(places: &Places) -> Result<App> {
    let (store, artifacts) =
        tokio::try_join!(Store::open_current(&places.database, ARTIFACT_ROOT), Artifacts::open(&places.artifacts))?;
    let webhooks = Webhooks::new(places.webhooks, open_key(&places.home)?)?;
    Ok(App { store, artifacts: Arc::new(artifacts), webhooks })
}

impl Service {
    /// Opens tables and files and listens.
    ///
    /// # Errors
    /// As [`open`], and [`Server::bind`].
    pub async fn open(options: &Options) -> Result<Self> {
        options.entrance.guard.check(options.listen)?;
        let app = open(&options.places).await?;
        let server = Server::bind(options.listen, &options.entrance).await?;
        Ok(Self { app, server, entrance: options.entrance.clone() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What its handlers share.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Answers until `stop` is true. Then no connection is taken any more, and answers under way get 30 s to end.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let Self { app, server, entrance } = self;
        info!(url = %server.url(), "the registry answers");
        let tidying = tokio::spawn(tidy(app.clone(), stop.clone()));
        let deliverer = Deliverer::new(app.store.clone(), app.webhooks.clone());
        let stopped = stop.clone();
        let telling = tokio::spawn(async move { deliverer.serve(stopped).await });
        server.run(router_behind(app, &entrance.guard), stop).await;
        tidying.abort();
        // What was being told is told again by the next one, if this does not end by itself.
        let _ = tokio::time::timeout(DRAIN, telling).await;
    }
}

/// Gives up uploads that nobody completes.
async fn tidy(app: App, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let before = Utc::now() - TimeDelta::hours(UPLOAD_HOURS);
        match app.artifacts.clean(&app.store, before).await {
            Ok((0, 0)) => {}
            Ok((uploads, leftovers)) => info!(uploads, leftovers, "uploads that were not completed are removed"),
            Err(error) => warn!(%error, "uploads that were not completed cannot be removed"),
        }
        tokio::select! {
            () = tokio::time::sleep(CLEAN_EVERY) => {}
            _ = stop.changed() => {}
        }
    }
}
