//! Notices what other processes write to a SQLite database.

use std::time::Duration;

use platform::database::Engine;

use super::Store;
use crate::error::{Error, Result};

/// How often it looks. A look is one short question, where those who wait for work ask twenty.
const LOOK: Duration = Duration::from_millis(150);

/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_secs(1);

impl Store {
    /// Wakes schedulers and workers of this process when another process has written to a SQLite database, so that they
    /// need not look for it themselves. It goes on until it is dropped; at PostgreSQL it never does anything.
    pub async fn watch_others(&self) {
        if self.database.engine() != Engine::Sqlite {
            return;
        }
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::Timestamp;
    use crate::dag::Dag;

    async fn opened(home: &std::path::Path) -> Store {
        let database = platform::database::open_sqlite(&home.join("state.db")).await.unwrap();
        Store::open(database).await.unwrap()
    }

    #[tokio::test]
    async fn what_another_process_writes_wakes_who_waits_for_work() {
        let home = tempfile::tempdir().unwrap();
        let (here, there) = (opened(home.path()).await, opened(home.path()).await);
        let mut changed = here.changed();
        let watched = here.clone();
        let watching = tokio::spawn(async move { watched.watch_others().await });
        // It looks for the first time now, and nothing has happened since.
        tokio::time::sleep(LOOK * 3).await;
        assert!(!changed.has_changed().unwrap());
        let dag = Dag::parse("test.yaml", "dag: d\ntasks: {a: {job: x}}").unwrap();
        there.create_run(&dag, &dag.params(&[]).unwrap(), Timestamp::now()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), changed.changed()).await.expect("it is woken").unwrap();
        watching.abort();
    }
}
