//! Tells other processes that there may be something to do, and hears it from them.
//!
//! On PostgreSQL it is said by `NOTIFY` in the transaction that leaves something to do, and heard when that is committed. On
//! SQLite a short question tells whether others have written.

use std::time::Duration;

use platform::database::{Engine, Listener};
use sqlx::any::{AnyArguments, AnyQueryResult};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use super::Store;
use crate::error::{Error, Result};

/// How often it looks at a SQLite database. A look is one short question, where those who wait for work ask twenty.
const LOOK: Duration = Duration::from_millis(150);

/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Where processes tell each other on PostgreSQL.
const CHANNEL: &str = "safari_state";

/// How often those who wait for work look for it while nobody can be heard.
const LOOK_ALONE: Duration = Duration::from_millis(250);

/// Whoever was told is not told again for so long, however much is said: a thousand ends a second are not a thousand looks.
const REST: Duration = Duration::from_millis(5);

impl Store {
    /// Wakes schedulers and workers of this process when another process left them something to do, so that they need not
    /// look for it themselves. While it cannot hear others it wakes them four times a second. It goes on until it is
    /// dropped.
    pub async fn watch_others(&self) {
        match self.database.engine() {
            Engine::Sqlite => self.look_at_others().await,
            Engine::Postgres => self.hear_others().await,
        }
    }

    async fn look_at_others(&self) {
        loop {
            if let Err(error) = self.watch().await {
                tracing::warn!(%error, "what other processes write is noticed later");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn watch(&self) -> Result<()> {
        let doing = |error| Error::database("watching the state", error);
        let mut connection = self.pool().acquire().await.map_err(doing)?;
        let mut seen = None;
        loop {
            // Changes with the commits of all connections but this one: <https://sqlite.org/pragma.html#pragma_data_version>.
            let asked = sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(&mut *connection);
            let version = asked.await.map_err(doing)?;
            if seen.replace(version).is_some_and(|seen| seen != version) {
                self.writer.tell_others();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn hear_others(&self) {
        let mut deaf = false;
        loop {
            let error = match self.looking_meanwhile(self.database.listener(CHANNEL)).await {
                Ok(listener) => {
                    if std::mem::take(&mut deaf) {
                        tracing::info!("other processes are heard again");
                    }
                    // What was written while nobody listened.
                    self.writer.tell_others();
                    self.hear(listener).await
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut deaf, true) {
                tracing::warn!(%error, "other processes are not heard; what they leave to do is looked for");
            }
            self.looking_meanwhile(tokio::time::sleep(PAUSE)).await;
        }
    }

    /// Until the connection is lost.
    async fn hear(&self, mut listener: Listener) -> platform::Error {
        loop {
            match listener.heard().await {
                Ok(names) if names.iter().all(|name| name == self.writer.name()) => continue,
                Ok(_) => self.writer.tell_others(),
                Err(error) => return error,
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Wakes those who wait for work now and then until something is done.
    async fn looking_meanwhile<T>(&self, doing: impl Future<Output = T>) -> T {
        tokio::pin!(doing);
        loop {
            tokio::select! {
                done = &mut doing => return done,
                () = tokio::time::sleep(LOOK_ALONE) => self.writer.tell_others(),
            }
        }
    }

    /// Writes something beside the writer that others may have to act on, and tells them if it changed anything.
    pub(super) async fn write_and_tell(&self, write: Query<'_, Any, AnyArguments>) -> sqlx::Result<AnyQueryResult> {
        let mut transaction = self.pool().begin_with(self.database.begin_write()).await?;
        let done = write.execute(&mut *transaction).await?;
        if done.rows_affected() > 0 {
            self.say(&mut transaction).await?;
        }
        transaction.commit().await?;
        if done.rows_affected() > 0 {
            self.writer.tell_others();
        }
        Ok(done)
    }

    /// Tells other processes, as soon as the transaction is committed, that they may have something to do. Those of this
    /// process are told afterwards by [`super::writer::Writer::tell_others`].
    pub(super) async fn say(&self, transaction: &mut AnyConnection) -> sqlx::Result<()> {
        say(transaction, self.database.engine(), self.writer.name()).await
    }
}

/// Says to other processes that `name` has left something to do, once the transaction is committed.
pub(super) async fn say(transaction: &mut AnyConnection, engine: Engine, name: &str) -> sqlx::Result<()> {
    match engine {
        Engine::Sqlite => Ok(()),
        // `NOTIFY` takes no values; the name is a UUID.
        Engine::Postgres => {
            let sql = AssertSqlSafe(format!("NOTIFY {CHANNEL}, '{name}'"));
            sqlx::query(sql).execute(transaction).await.map(drop)
        }
    }
}
