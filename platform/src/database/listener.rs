//! What is said on a channel of a PostgreSQL server.

use std::time::Duration;

use futures::FutureExt;
use sqlx::Executor;
use sqlx::postgres::{PgListener, PgNotification};

use super::postgres::{CONNECT_TIMEOUT, PING_TIMEOUT, explain, shown};
use crate::{Error, Result};

/// A connection that has brought nothing for so long is asked whether it is alive: one that fell silent without being
/// closed would bring nothing for ever.
const SILENCE: Duration = Duration::from_secs(15);

/// Hears what others say on a channel (`NOTIFY`), on a connection of its own.
#[derive(Debug)]
pub struct Listener {
    connection: PgListener,
    url: String,
}

impl Listener {
    /// Connects and listens. What is said from now on is heard.
    pub(super) async fn open(url: &str, channel: &str) -> Result<Self> {
        let opening = async {
            let mut connection = PgListener::connect(url).await?;
            // What was said meanwhile is lost: whoever listens must know.
            connection.eager_reconnect(false);
            connection.listen(channel).await?;
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(Ok(connection)) => Ok(Self { connection, url: url.to_owned() }),
            Ok(Err(error)) => Err(explain(url, &error)),
            Err(_) => Err(unreachable(url, "it did not answer in time")),
        }
    }

    /// Waits until something is said; gives all that has come in by then. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// [`Error::ServerUnreachable`] and [`Error::ServerRefused`] when the connection has gone. It does not come back: what
    /// is said meanwhile cannot be heard.
    pub async fn heard(&mut self) -> Result<Vec<String>> {
        let first = loop {
            match tokio::time::timeout(SILENCE, self.connection.try_recv()).await {
                Ok(received) => break self.text(received)?,
                Err(_) => self.ping().await?,
            }
        };
        let mut heard = vec![first];
        while let Some(received) = self.connection.try_recv().now_or_never() {
            heard.push(self.text(received)?);
        }
        Ok(heard)
    }

    fn text(&self, received: sqlx::Result<Option<PgNotification>>) -> Result<String> {
        match received {
            Ok(Some(said)) => Ok(said.payload().to_owned()),
            Ok(None) => Err(unreachable(&self.url, "the connection was closed")),
            Err(error) => Err(explain(&self.url, &error)),
        }
    }

    async fn ping(&mut self) -> Result<()> {
        match tokio::time::timeout(PING_TIMEOUT, self.connection.execute("SELECT 'listening'")).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(explain(&self.url, &error)),
            Err(_) => Err(unreachable(&self.url, "the connection fell silent")),
        }
    }
}

fn unreachable(url: &str, reason: &str) -> Error {
    Error::ServerUnreachable { server: shown(url), reason: reason.to_owned() }
}
