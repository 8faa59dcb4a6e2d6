//! Slots that tasks of all runs share. What is used is counted in the transaction that begins or ends an attempt, so it
//! is right whoever dies when.

use std::collections::BTreeMap;

use platform::database::Engine;
use sqlx::AnyConnection;

use super::Store;
use crate::error::{Error, Result};
use platform::database::Statement;

const DOING: &str = "counting the slots of pools";

/// Free slots of pools, as a transaction sees and holds them.
#[derive(Debug, Default)]
pub(super) struct Room {
    free: BTreeMap<String, Free>,
    taken: BTreeMap<String, i64>,
    /// Pools of which a task found too few: nothing behind it may go first, or a heavy task would wait for ever.
    closed: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Free {
    slots: i64,
    /// Nothing of the pool is used.
    empty: bool,
}

impl Room {
    /// Looks at pools and, on PostgreSQL, locks them until the transaction ends.
    pub(super) async fn look(
        &mut self,
        connection: &mut AnyConnection,
        engine: Engine,
        pools: impl Iterator<Item = &str>,
    ) -> Result<()> {
        let mut new: Vec<&str> = pools.filter(|pool| !self.free.contains_key(*pool)).collect();
        new.sort_unstable();
        new.dedup();
        if new.is_empty() {
            return Ok(());
        }
        let mut query = Statement::new("SELECT name, slots, used FROM pool WHERE name IN ");
        query.row();
        for pool in new {
            query.text(pool);
        }
        // In order of name, so that two transactions cannot wait for one another.
        query.end_row().push(" ORDER BY name");
        if engine == Engine::Postgres {
            query.push(" FOR UPDATE");
        }
        let rows: Vec<(String, i64, i64)> =
            query.query_as().fetch_all(connection).await.map_err(|error| Error::database(DOING, error))?;
        rows.into_iter().for_each(|(name, slots, used)| self.know(name, slots, used));
        Ok(())
    }

    /// How many slots a pool has, and how many of them are used.
    pub(super) fn know(&mut self, name: String, slots: i64, used: i64) {
        self.free.insert(name, Free { slots: slots - used, empty: used == 0 });
    }

    /// Whether a pool has slots for a task; when it has too few, it has none for any later task either. A task that is
    /// heavier than its whole pool goes when nothing else uses the pool: it could never go otherwise.
    pub(super) fn has(&mut self, pool: &str, slots: i64) -> bool {
        if self.closed.iter().any(|closed| closed == pool) {
            return false;
        }
        let has = self.free.get(pool).is_some_and(|free| free.slots >= slots || free.empty);
        if !has {
            self.closed.push(pool.to_owned());
        }
        has
    }

    /// Takes slots that the pool has.
    pub(super) fn take(&mut self, pool: &str, slots: i64) {
        if let Some(free) = self.free.get_mut(pool) {
            *free = Free { slots: free.slots - slots, empty: false };
            *self.taken.entry(pool.to_owned()).or_default() += slots;
        }
    }

    /// Pools without room.
    pub(super) fn closed(&self) -> &[String] {
        &self.closed
    }

    /// Writes what was taken since the last call.
    pub(super) async fn write(&mut self, connection: &mut AnyConnection) -> Result<()> {
        for (pool, slots) in std::mem::take(&mut self.taken) {
            add(connection, &pool, slots).await?;
        }
        Ok(())
    }
}

impl Store {
    /// Makes a pool, or changes how many slots it has. Tasks at work keep theirs; others wait until enough are free.
    pub async fn set_pool(&self, name: &str, slots: u32) -> Result<()> {
        let set = sqlx::query(
            "INSERT INTO pool (name, slots) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET slots = excluded.slots",
        );
        let set = set.bind(name).bind(i64::from(slots));
        self.write_and_tell(set).await.map(drop).map_err(|error| Error::database(DOING, error))
    }

    /// All pools by name, with their slots and how many of them are used.
    pub async fn pools(&self) -> Result<Vec<(String, u32, u32)>> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as("SELECT name, slots, used FROM pool ORDER BY name")
            .fetch_all(self.pool())
            .await
            .map_err(|error| Error::database(DOING, error))?;
        let small = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(rows.into_iter().map(|(name, slots, used)| (name, small(slots), small(used))).collect())
    }
}

/// Gives back the slots of an attempt that has ended.
pub(super) async fn give_back(connection: &mut AnyConnection, pool: &str, slots: i64) -> Result<()> {
    add(connection, pool, -slots).await
}

async fn add(connection: &mut AnyConnection, pool: &str, slots: i64) -> Result<()> {
    sqlx::query("UPDATE pool SET used = used + $1 WHERE name = $2")
        .bind(slots)
        .bind(pool)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| Error::database(DOING, error))
}
