//! What the garbage collector asks of the tables.

use std::fmt;

use sqlx::AssertSqlSafe;

use super::{Store, Write};
use crate::clock::now_millis;
use crate::register::IDEMPOTENCY_TAG;
use crate::{Error, Result};

/// What can be deleted and collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Run,
    LoggedModel,
    Experiment,
}

/// A row that was deleted long enough ago.
#[derive(Clone, Debug)]
pub(crate) struct Doomed {
    pub(crate) no: i64,
    pub(crate) id: String,
    /// Where its files are.
    pub(crate) uri: String,
}

/// Files that nothing names, unless something does by now.
#[derive(Clone, Debug)]
pub(crate) struct Orphan {
    pub(crate) no: i64,
    pub(crate) uri: String,
}

impl Kind {
    /// The rows of this kind that were deleted before `$1`, from the number `$2` on.
    fn doomed(self) -> &'static str {
        match self {
            Self::Run => {
                "SELECT r.no, r.id, r.artifact_uri FROM run r JOIN experiment e ON e.id = r.experiment_id
                 WHERE ((r.lifecycle = 'deleted' AND r.deleted_at < $1)
                   OR (e.lifecycle = 'deleted' AND e.updated_at < $1)) AND r.no > $2 ORDER BY r.no LIMIT $3"
            }
            Self::LoggedModel => {
                "SELECT l.no, l.id, l.artifact_location FROM logged_model l JOIN experiment e ON e.id = l.experiment_id
                 WHERE ((l.lifecycle = 'deleted' AND l.deleted_at < $1)
                   OR (e.lifecycle = 'deleted' AND e.updated_at < $1)) AND l.no > $2 ORDER BY l.no LIMIT $3"
            }
            Self::Experiment => {
                "SELECT e.id, e.name, e.artifact_location FROM experiment e
                 WHERE e.lifecycle = 'deleted' AND e.updated_at < $1 AND e.id > $2 ORDER BY e.id LIMIT $3"
            }
        }
    }

    /// The row `$1` if it is still deleted since before `$2`.
    fn still_doomed(self) -> &'static str {
        match self {
            Self::Run => {
                "SELECT r.no FROM run r JOIN experiment e ON e.id = r.experiment_id
                 WHERE r.no = $1 AND ((r.lifecycle = 'deleted' AND r.deleted_at < $2)
                   OR (e.lifecycle = 'deleted' AND e.updated_at < $2))"
            }
            Self::LoggedModel => {
                "SELECT l.no FROM logged_model l JOIN experiment e ON e.id = l.experiment_id
                 WHERE l.no = $1 AND ((l.lifecycle = 'deleted' AND l.deleted_at < $2)
                   OR (e.lifecycle = 'deleted' AND e.updated_at < $2))"
            }
            Self::Experiment => "SELECT id FROM experiment WHERE id = $1 AND lifecycle = 'deleted' AND updated_at < $2",
        }
    }

    fn remove(self) -> &'static str {
        match self {
            Self::Run => "DELETE FROM run WHERE no = $1",
            Self::LoggedModel => "DELETE FROM logged_model WHERE no = $1",
            Self::Experiment => "DELETE FROM experiment WHERE id = $1",
        }
    }

    /// For the note of its files.
    fn reason(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::LoggedModel => "logged_model",
            Self::Experiment => "experiment",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::LoggedModel => "logged model",
            Self::Experiment => "experiment",
        })
    }
}

/// A version that needs files at or below `$1` (`$2` is `$1` with a slash), or that names them as `runs:/…` (`$3`).
const VERSION_BELOW: &str = "SELECT m.name, v.version FROM model_version v JOIN registered_model m ON m.no = v.model_no
    WHERE v.storage_location = $1 OR substr(v.storage_location, 1, length($2)) = $2
      OR ($3 <> '' AND substr(v.storage_location, 1, length($3)) = $3) LIMIT 1";
/// A logged model whose files are below `$1`, other than that of the number `$2`.
const LOGGED_MODEL_BELOW: &str = "SELECT id, no FROM logged_model
    WHERE no <> $2 AND substr(artifact_location, 1, length($1)) = $1 LIMIT 1";
/// Whether something keeps files at `$1`, below it (`$2` is `$1` with a slash), or has it among its own.
const IN_USE: &str = "SELECT 1 FROM run WHERE artifact_uri = $1 OR substr(artifact_uri, 1, length($2)) = $2
      OR substr($1, 1, length(artifact_uri) + 1) = artifact_uri || '/'
    UNION ALL SELECT 1 FROM logged_model WHERE artifact_location = $1 OR substr(artifact_location, 1, length($2)) = $2
      OR substr($1, 1, length(artifact_location) + 1) = artifact_location || '/'
    UNION ALL SELECT 1 FROM model_version WHERE storage_location = $1 OR substr(storage_location, 1, length($2)) = $2
      OR (storage_location <> '' AND substr($1, 1, length(storage_location) + 1) = storage_location || '/')
    UNION ALL SELECT 1 FROM experiment WHERE artifact_location = $1 OR substr(artifact_location, 1, length($2)) = $2
    LIMIT 1";

/// Logged models that a registration made before `$1` and that no version names.
const UNUSED: &str = "lifecycle = 'active' AND created_at < $1
    AND EXISTS (SELECT 1 FROM logged_model_tag t WHERE t.model_no = logged_model.no AND t.key = $2)
    AND NOT EXISTS (SELECT 1 FROM model_version v
      WHERE v.model_id = logged_model.id OR v.source = 'models:/' || logged_model.id)";

impl Store {
    /// Deletes the logged models that a registration made before `until` for a version which is not there, because the
    /// registration broke off or the version was deleted since; with `dry_run` it only counts them.
    pub(crate) async fn give_up_unused(&self, until: i64, dry_run: bool) -> Result<u64> {
        let doing = Error::database("giving up files of registrations");
        if dry_run {
            let sql = format!("SELECT CAST(count(*) AS BIGINT) FROM logged_model WHERE {UNUSED}");
            let question = sqlx::query_scalar(AssertSqlSafe(sql)).bind(until).bind(IDEMPOTENCY_TAG);
            let count: i64 = question.fetch_one(self.pool()).await.map_err(doing)?;
            return Ok(u64::try_from(count).unwrap_or_default());
        }
        let mut write = self.write().await?;
        let sql =
            format!("UPDATE logged_model SET lifecycle = 'deleted', deleted_at = $3, updated_at = $3 WHERE {UNUSED}");
        let change = sqlx::query(AssertSqlSafe(sql)).bind(until).bind(IDEMPOTENCY_TAG).bind(now_millis());
        let done = change.execute(write.connection()).await.map_err(doing)?;
        write.commit().await?;
        Ok(done.rows_affected())
    }

    /// Rows that were deleted before `until`, in the order of their numbers, from behind `after`.
    pub(crate) async fn doomed(&self, kind: Kind, until: i64, after: i64, most: i64) -> Result<Vec<Doomed>> {
        let rows: Vec<(i64, String, String)> = sqlx::query_as(kind.doomed())
            .bind(until)
            .bind(after)
            .bind(most)
            .fetch_all(self.pool())
            .await
            .map_err(Error::database("looking for what was deleted"))?;
        Ok(rows.into_iter().map(|(no, id, uri)| Doomed { no, id, uri }).collect())
    }

    /// Why a row must stay, as far as it can be told without removing anything.
    pub(crate) async fn needed_by(&self, kind: Kind, row: &Doomed) -> Result<Option<String>> {
        let mut write = self.write().await?;
        match kind {
            Kind::Experiment => write.kept_in_experiment(row).await,
            _ => write.needed_by(kind, row).await,
        }
    }

    /// Removes a row and notes its files, if it is still deleted and nothing needs them; otherwise says why not.
    pub(crate) async fn remove_doomed(&self, kind: Kind, row: &Doomed, until: i64) -> Result<Option<String>> {
        let mut write = self.write().await?;
        let lock = match kind {
            Kind::Run => " FOR UPDATE OF r",
            Kind::LoggedModel => " FOR UPDATE OF l",
            Kind::Experiment => " FOR UPDATE",
        };
        let lock = if self.for_update().is_empty() { "" } else { lock };
        let found = sqlx::query(AssertSqlSafe(format!("{}{lock}", kind.still_doomed())))
            .bind(row.no)
            .bind(until)
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("looking at what was deleted"))?;
        if found.is_none() {
            return Ok(Some("it was restored meanwhile".to_owned()));
        }
        let needed = match kind {
            Kind::Experiment => write.has_members(row).await?,
            _ => write.needed_by(kind, row).await?,
        };
        if needed.is_some() {
            return Ok(needed);
        }
        write.note_orphan(&row.uri, kind.reason(), until - 1).await?;
        sqlx::query(kind.remove())
            .bind(row.no)
            .execute(write.connection())
            .await
            .map_err(Error::database("removing what was deleted"))?;
        write.commit().await?;
        Ok(None)
    }

    /// Notes of files that were written before `until`.
    pub(crate) async fn orphans(&self, until: i64, after: i64, most: i64) -> Result<Vec<Orphan>> {
        let rows: Vec<(i64, String)> =
            sqlx::query_as("SELECT no, uri FROM orphan WHERE since < $1 AND no > $2 ORDER BY no LIMIT $3")
                .bind(until)
                .bind(after)
                .bind(most)
                .fetch_all(self.pool())
                .await
                .map_err(Error::database("looking for files that nothing names"))?;
        Ok(rows.into_iter().map(|(no, uri)| Orphan { no, uri }).collect())
    }

    /// Whether a run, logged model, version or experiment keeps files at this place, below it or around it.
    pub(crate) async fn is_in_use(&self, uri: &str) -> Result<bool> {
        let found = sqlx::query(IN_USE)
            .bind(uri)
            .bind(format!("{uri}/"))
            .fetch_optional(self.pool())
            .await
            .map_err(Error::database("looking who needs files"))?;
        Ok(found.is_some())
    }

    /// Removes the note of files that are gone, or that something needs.
    pub(crate) async fn forget_orphan(&self, no: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM orphan WHERE no = $1")
            .bind(no)
            .execute(write.connection())
            .await
            .map_err(Error::database("removing the note of files"))?;
        write.commit().await
    }

    /// How many uploads were begun before `until` and not completed.
    pub(crate) async fn unfinished_uploads(&self, until: i64) -> Result<u64> {
        let count: i64 =
            sqlx::query_scalar("SELECT CAST(count(*) AS BIGINT) FROM upload WHERE created_at < $1 AND done_at IS NULL")
                .bind(until)
                .fetch_one(self.pool())
                .await
                .map_err(Error::database("counting uploads"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The folder of a URI in this server's store of artifacts; never the whole store.
    pub(crate) fn folder_of(&self, uri: &str) -> Option<String> {
        let path = uri.strip_prefix(self.artifact_root())?.trim_matches('/');
        let plain = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        plain.then(|| path.to_owned())
    }
}

impl Write {
    async fn needed_by(&mut self, kind: Kind, row: &Doomed) -> Result<Option<String>> {
        let runs_uri = if kind == Kind::Run { format!("runs:/{}/", row.id) } else { String::new() };
        let below = format!("{}/", row.uri);
        let version: Option<(String, i64)> = sqlx::query_as(VERSION_BELOW)
            .bind(&row.uri)
            .bind(&below)
            .bind(runs_uri)
            .fetch_optional(self.connection())
            .await
            .map_err(Error::database("looking who needs files"))?;
        if let Some((model, version)) = version {
            return Ok(Some(format!("version {version} of {model} needs its files")));
        }
        let own = if kind == Kind::LoggedModel { row.no } else { -1 };
        let model: Option<(String, i64)> = sqlx::query_as(LOGGED_MODEL_BELOW)
            .bind(below)
            .bind(own)
            .fetch_optional(self.connection())
            .await
            .map_err(Error::database("looking who needs files"))?;
        Ok(model.map(|(id, _)| format!("logged model {id} keeps its files there")))
    }

    /// Whether an experiment still has runs or logged models.
    async fn has_members(&mut self, row: &Doomed) -> Result<Option<String>> {
        let found: Option<(String,)> = sqlx::query_as(
            "SELECT id FROM run WHERE experiment_id = $1 UNION ALL SELECT id FROM logged_model WHERE experiment_id = $1
             LIMIT 1",
        )
        .bind(row.no)
        .fetch_optional(self.connection())
        .await
        .map_err(Error::database("looking what an experiment has"))?;
        Ok(found.map(|(id,)| format!("it has {id}, which stays")))
    }

    /// Whether an experiment will still have runs or logged models when all that can go is gone.
    async fn kept_in_experiment(&mut self, row: &Doomed) -> Result<Option<String>> {
        let members: Vec<(i64, i64, String, String)> = sqlx::query_as(
            "SELECT 0, no, id, artifact_uri FROM run WHERE experiment_id = $1
             UNION ALL SELECT 1, no, id, artifact_location FROM logged_model WHERE experiment_id = $1",
        )
        .bind(row.no)
        .fetch_all(self.connection())
        .await
        .map_err(Error::database("looking what an experiment has"))?;
        for (kind, no, id, uri) in members {
            let kind = if kind == 0 { Kind::Run } else { Kind::LoggedModel };
            if self.needed_by(kind, &Doomed { no, id: id.clone(), uri }).await?.is_some() {
                return Ok(Some(format!("it has {id}, which stays")));
            }
        }
        Ok(None)
    }

    async fn note_orphan(&mut self, uri: &str, reason: &str, since: i64) -> Result<()> {
        sqlx::query("INSERT INTO orphan (uri, reason, since) VALUES ($1, $2, $3)")
            .bind(uri)
            .bind(reason)
            .bind(since.min(now_millis()))
            .execute(self.connection())
            .await
            .map_err(Error::database("noting files of what was deleted"))?;
        Ok(())
    }
}
