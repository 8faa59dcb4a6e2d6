//! Rollouts and their events in SQLite or PostgreSQL.
//!
//! A change names the revision that it was decided on, and that of a driver its fence, too: whoever was slower, or lost the
//! lease meanwhile, changes nothing. Times are those of the database, so that clocks of drivers need not agree.

mod lease;
mod migrations;
mod rows;

use std::sync::Arc;

use model_registry::VersionNumber;
use platform::database::{Address, Database, Engine, Pending};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use lease::Lease;
pub use rows::{Event, Rollout};

use crate::machine::Phase;
use crate::plan::Plan;
use crate::{Error, Result, RolloutId};
use rows::{COLUMNS, EventRow, Row};

/// A handle to the tables; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    /// On SQLite one writer at a time: waiting here is fair and costs nothing; waiting for SQLite's own lock is neither.
    writer: Arc<Mutex<()>>,
}

/// A rollout that is to begin.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The registered model.
    pub model: String,
    /// The alias that moves.
    pub alias: String,
    /// What it names.
    pub stable: VersionNumber,
    /// What it is to name.
    pub candidate: VersionNumber,
    /// What to do, and with which replicas.
    pub plan: Stored,
    /// Who asks.
    pub actor: String,
    /// Who asks again with the same key gets the same rollout.
    pub key: Option<String>,
}

/// The parts of a rollout that are kept as JSON.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stored {
    /// What to do.
    pub plan: Plan,
    /// With which replicas.
    pub fleet: crate::fleet::Place,
}

/// How a rollout is to stand.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its phase.
    pub phase: Phase,
    /// Its step, from 0.
    pub step: usize,
    /// Why; for people.
    pub note: String,
}

/// A transaction that changes something. Dropped without [`Write::commit`], it changes nothing.
struct Write {
    transaction: Transaction<'static, Any>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Store {
    /// Opens the tables and brings them up to date, as the state does with those that they lie beside.
    ///
    /// # Errors
    /// What is wrong with the database.
    pub async fn open(address: &Address) -> Result<Self> {
        let database = Database::open(address).await?;
        migrations::run(&database).await?;
        Ok(Self { database, writer: Arc::default() })
    }

    /// Migrations that the tables lack.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn pending(database: &Database) -> Result<Vec<Pending>> {
        migrations::pending(database).await
    }

    /// Makes the tables those of this version.
    ///
    /// # Errors
    /// The database does not answer, or is of a newer version.
    pub async fn migrate(database: &Database) -> Result<()> {
        migrations::run(database).await
    }

    /// Begins a rollout; the one that has its key already is given back as it stands.
    ///
    /// # Errors
    /// [`Error::Busy`] while another of the same alias is under way.
    pub async fn create(&self, draft: &Draft) -> Result<Rollout> {
        let id = RolloutId::new();
        let plan = serde_json::to_string(&draft.plan)
            .map_err(|error| Error::Plan(format!("the plan cannot be written down: {error}")))?;
        let mut write = self.write().await?;
        let sql = format!(
            "INSERT INTO rollout (id, key, model, alias, stable, candidate, plan, actor, phase, step, note, revision, fence,
                                  lease_until, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'advancing', 0, '', 0, 0, 0, {now}, {now})
             ON CONFLICT DO NOTHING",
            now = self.now()
        );
        let made = sqlx::query(AssertSqlSafe(sql))
            .bind(id.to_string())
            .bind(draft.key.clone())
            .bind(&draft.model)
            .bind(&draft.alias)
            .bind(draft.stable.0)
            .bind(draft.candidate.0)
            .bind(plan)
            .bind(&draft.actor)
            .execute(write.connection())
            .await
            .map_err(Error::database("making a rollout"))?;
        if made.rows_affected() == 0 {
            drop(write);
            return self.in_the_way(draft).await;
        }
        let text = format!("{} begins it: version {} after {}", draft.actor, draft.candidate, draft.stable);
        self.note(write.connection(), id, (Phase::Advancing, 0), &text).await?;
        write.commit().await?;
        self.get(id).await
    }

    /// One rollout.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: RolloutId) -> Result<Rollout> {
        let sql = format!("SELECT {COLUMNS} FROM rollout WHERE id = $1");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(id.to_string())
            .fetch_optional(self.database.pool())
            .await
            .map_err(Error::database("reading a rollout"))?;
        row.ok_or(Error::NotFound(id))?.read()
    }

    /// The rollout with this key, if there is one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn by_key(&self, key: &str) -> Result<Option<Rollout>> {
        let sql = format!("SELECT {COLUMNS} FROM rollout WHERE key = $1");
        let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(key)
            .fetch_optional(self.database.pool())
            .await
            .map_err(Error::database("looking for a rollout"))?;
        row.map(Row::read).transpose()
    }

    /// The newest rollouts, the newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn list(&self, most: u32) -> Result<Vec<Rollout>> {
        let sql = format!("SELECT {COLUMNS} FROM rollout ORDER BY id DESC LIMIT $1");
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(i64::from(most))
            .fetch_all(self.database.pool())
            .await
            .map_err(Error::database("listing rollouts"))?;
        rows.into_iter().map(Row::read).collect()
    }

    /// The rollouts that have not ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn under_way(&self) -> Result<Vec<Rollout>> {
        let sql = format!("SELECT {COLUMNS} FROM rollout WHERE ended_at IS NULL ORDER BY id");
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(self.database.pool())
            .await
            .map_err(Error::database("listing rollouts"))?;
        rows.into_iter().map(Row::read).collect()
    }

    /// What happened to a rollout after the event with this number; 0 for all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn events(&self, id: RolloutId, after: i64) -> Result<Vec<Event>> {
        let rows: Vec<EventRow> = sqlx::query_as(
            "SELECT no, at, phase, step, text FROM rollout_event WHERE rollout = $1 AND no > $2 ORDER BY no",
        )
        .bind(id.to_string())
        .bind(after)
        .fetch_all(self.database.pool())
        .await
        .map_err(Error::database("reading events"))?;
        rows.into_iter().map(Event::read).collect()
    }

    /// Changes a rollout that still has the revision of `seen`; with a lease only if it is held still. Gives the rollout after
    /// the change, or none if somebody else was faster.
    ///
    /// # Errors
    /// The database does not answer. [`Error::Busy`] if a rollout that had ended is to go on while another is under way.
    pub async fn change(&self, seen: &Rollout, lease: Option<&Lease>, change: &Change) -> Result<Option<Rollout>> {
        let mut write = self.write().await?;
        let now = self.now();
        let ended = if change.phase.is_end() { now } else { "NULL" };
        let sql = format!(
            "UPDATE rollout SET phase = $3, step = $4, note = $5, revision = revision + 1, updated_at = {now},
                                ended_at = {ended}
             WHERE id = $1 AND revision = $2 AND ($6 < 0 OR fence = $6)"
        );
        let changed = sqlx::query(AssertSqlSafe(sql))
            .bind(seen.id.to_string())
            .bind(seen.revision)
            .bind(change.phase.as_str())
            .bind(i64::try_from(change.step).unwrap_or_default())
            .bind(&change.note)
            .bind(lease.map_or(-1, |lease| lease.fence))
            .execute(write.connection())
            .await;
        let changed = match changed {
            Err(sqlx::Error::Database(failure)) if failure.is_unique_violation() => {
                drop(write);
                return Err(self.busy(&seen.model, &seen.alias).await?.unwrap_or(Error::Changed(seen.id)));
            }
            other => other.map_err(Error::database("changing a rollout"))?,
        };
        if changed.rows_affected() == 0 {
            return Ok(None);
        }
        self.note(write.connection(), seen.id, (change.phase, change.step), &change.note).await?;
        write.commit().await?;
        self.get(seen.id).await.map(Some)
    }

    /// Writes down something that people may want to know, without a change.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tell(&self, rollout: &Rollout, text: &str) -> Result<()> {
        let mut write = self.write().await?;
        self.note(write.connection(), rollout.id, (rollout.phase, rollout.step), text).await?;
        write.commit().await
    }

    /// What stands in the way of a rollout that could not be made.
    async fn in_the_way(&self, draft: &Draft) -> Result<Rollout> {
        if let Some(key) = &draft.key
            && let Some(same) = self.by_key(key).await?
        {
            return Ok(same);
        }
        // The other may have ended meanwhile.
        Err(self.busy(&draft.model, &draft.alias).await?.unwrap_or(Error::Crossed))
    }

    /// The error about the rollout of an alias that is under way.
    async fn busy(&self, model: &str, alias: &str) -> Result<Option<Error>> {
        let mut under_way = self.under_way().await?.into_iter();
        let other = under_way.find(|other| other.model == model && other.alias == alias);
        Ok(other.map(|other| Error::Busy { id: other.id, model: other.model, alias: other.alias, phase: other.phase }))
    }

    async fn note(
        &self,
        connection: &mut AnyConnection,
        id: RolloutId,
        (phase, step): (Phase, usize),
        text: &str,
    ) -> Result<()> {
        let sql = format!(
            "INSERT INTO rollout_event (rollout, at, phase, step, text) VALUES ($1, {}, $2, $3, $4)",
            self.now()
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(id.to_string())
            .bind(phase.as_str())
            .bind(i64::try_from(step).unwrap_or_default())
            .bind(text)
            .execute(connection)
            .await
            .map_err(Error::database("writing an event"))?;
        Ok(())
    }

    /// The database's milliseconds since 1970.
    fn now(&self) -> &'static str {
        match self.database.engine() {
            Engine::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Engine::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    async fn write(&self) -> Result<Write> {
        let turn = match self.database.engine() {
            Engine::Sqlite => Some(Arc::clone(&self.writer).lock_owned().await),
            Engine::Postgres => None,
        };
        let begin = self.database.begin_write();
        let transaction =
            self.database.pool().begin_with(begin).await.map_err(Error::database("beginning a change"))?;
        Ok(Write { transaction, _turn: turn })
    }
}

impl Write {
    fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    async fn commit(self) -> Result<()> {
        self.transaction.commit().await.map_err(Error::database("committing a change"))
    }
}
