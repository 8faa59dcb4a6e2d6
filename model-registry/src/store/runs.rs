//! Runs: what they are, and their tags.

use platform::database::Statement;

use super::experiments::active as active_experiment;
use super::parts::set_tags;
use super::{Store, Write, names};
use crate::clock::now_millis;
use crate::entities::{Lifecycle, Pair, Run, RunData, RunInfo, RunInputs, RunStatus};
use crate::{Error, ExperimentId, Result, RunId};

/// The tag that holds a run's name.
pub(crate) const RUN_NAME: &str = "mlflow.runName";

/// What a new run is to be.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) experiment: ExperimentId,
    pub(crate) user_id: String,
    pub(crate) name: Option<String>,
    pub(crate) started_at: i64,
    pub(crate) tags: Vec<Pair>,
}

/// What of a run is to change.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunChange {
    pub(crate) status: Option<RunStatus>,
    pub(crate) ended_at: Option<i64>,
    pub(crate) name: Option<String>,
}

/// A run that can be changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActiveRun {
    pub(super) no: i64,
    pub(super) experiment: i64,
}

/// `no`, id, experiment, name, user, status, start, end, lifecycle, artifacts.
pub(super) type Row = (i64, String, i64, String, String, String, i64, Option<i64>, String, String);

pub(super) const COLUMNS: &str = "SELECT r.no, r.id, r.experiment_id, r.name, r.user_id, r.status, r.started_at, \
                                  r.ended_at, r.lifecycle, r.artifact_uri";

impl Store {
    /// Makes a run in an active experiment. A run without a name gets one.
    pub(crate) async fn create_run(&self, new: NewRun) -> Result<Run> {
        let NewRun { experiment, user_id, name, started_at, mut tags } = new;
        let tagged = tags.iter().rev().find(|tag| tag.key == RUN_NAME).map(|tag| tag.value.clone());
        let (name, tagged) = (name.filter(|name| !name.is_empty()), tagged.filter(|name| !name.is_empty()));
        if let (Some(name), Some(tagged)) = (&name, &tagged)
            && name != tagged
        {
            return Err(Error::invalid(format!(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values \
                 (run_name='{name}', mlflow.runName='{tagged}')."
            )));
        }
        let name = name.or(tagged).unwrap_or_else(names::random);
        tags.retain(|tag| tag.key != RUN_NAME);
        tags.push(Pair { key: RUN_NAME.to_owned(), value: name.clone() });
        let id = RunId::random();
        let mut write = self.write().await?;
        let location = active_experiment(&mut write, experiment, self.for_share()).await?;
        let artifact_uri = format!("{}/{id}/artifacts", location.trim_end_matches('/'));
        let no: i64 = sqlx::query_scalar(
            "INSERT INTO run (id, experiment_id, name, user_id, status, started_at, lifecycle, artifact_uri)
             VALUES ($1, $2, $3, $4, 'RUNNING', $5, 'active', $6) RETURNING no",
        )
        .bind(id.as_str())
        .bind(experiment.0)
        .bind(&name)
        .bind(&user_id)
        .bind(started_at)
        .bind(&artifact_uri)
        .fetch_one(write.connection())
        .await
        .map_err(Error::database("making a run"))?;
        set_tags(write.connection(), no, &tags).await?;
        write.commit().await?;
        let row = (
            no,
            id.to_string(),
            experiment.0,
            name,
            user_id,
            "RUNNING".to_owned(),
            started_at,
            None,
            "active".to_owned(),
            artifact_uri,
        );
        let data = RunData { tags, ..RunData::default() };
        Ok(Run { info: info(row)?, data, inputs: RunInputs::default(), outputs: None })
    }

    /// A run with all that it logged, also a deleted one.
    pub(crate) async fn run(&self, id: &str) -> Result<Run> {
        let mut connection = self.pool().acquire().await.map_err(Error::database("reading a run"))?;
        let mut statement = Statement::new(COLUMNS);
        statement.push(" FROM run r WHERE r.id = ").text(id);
        let row: Option<Row> =
            statement.query_as().fetch_optional(&mut *connection).await.map_err(Error::database("reading a run"))?;
        let row = row.ok_or_else(|| missing(id))?;
        let mut runs = self.with_parts(&mut connection, vec![row]).await?;
        runs.pop().ok_or_else(|| missing(id))
    }

    /// Changes the state, the end or the name of a run.
    pub(crate) async fn update_run(&self, id: &str, change: RunChange) -> Result<RunInfo> {
        let mut write = self.write().await?;
        let run = self.active_run(&mut write, id).await?;
        let name = change.name.filter(|name| !name.is_empty());
        let row: Row = sqlx::query_as(
            "UPDATE run SET status = COALESCE($1, status), ended_at = COALESCE($2, ended_at), name = COALESCE($3, name)
             WHERE no = $4
             RETURNING no, id, experiment_id, name, user_id, status, started_at, ended_at, lifecycle, artifact_uri",
        )
        .bind(change.status.map(RunStatus::as_str))
        .bind(change.ended_at)
        .bind(name.as_deref())
        .bind(run.no)
        .fetch_one(write.connection())
        .await
        .map_err(Error::database("changing a run"))?;
        if let Some(name) = name {
            set_tags(write.connection(), run.no, &[Pair { key: RUN_NAME.to_owned(), value: name }]).await?;
        }
        write.commit().await?;
        info(row)
    }

    /// Deletes a run; it can be restored until it is removed for good.
    pub(crate) async fn delete_run(&self, id: &str) -> Result<()> {
        self.turn_run(id, Lifecycle::Deleted, Some(now_millis())).await
    }

    /// Restores a run.
    pub(crate) async fn restore_run(&self, id: &str) -> Result<()> {
        self.turn_run(id, Lifecycle::Active, None).await
    }

    /// Removes a tag of a run.
    pub(crate) async fn delete_run_tag(&self, id: &str, key: &str) -> Result<()> {
        let mut write = self.write().await?;
        let run = self.active_run(&mut write, id).await?;
        let done = sqlx::query("DELETE FROM run_tag WHERE run_no = $1 AND key = $2")
            .bind(run.no)
            .bind(key)
            .execute(write.connection())
            .await
            .map_err(Error::database("removing a run's tag"))?;
        if done.rows_affected() == 0 {
            return Err(Error::missing(format!("No tag with name: {key} in run with id {id}")));
        }
        write.commit().await
    }

    /// Where a run's files are, also of a deleted one.
    pub async fn artifact_uri_of_run(&self, id: &str) -> Result<String> {
        let found: Option<String> = sqlx::query_scalar("SELECT artifact_uri FROM run WHERE id = $1")
            .bind(id)
            .fetch_optional(self.pool())
            .await
            .map_err(Error::database("reading a run"))?;
        found.ok_or_else(|| missing(id))
    }

    /// A run that can be changed; on PostgreSQL its row is locked until the transaction ends.
    pub(super) async fn active_run(&self, write: &mut Write, id: &str) -> Result<ActiveRun> {
        let mut statement = Statement::new("SELECT no, experiment_id, lifecycle FROM run WHERE id = ");
        statement.text(id).push(self.for_update());
        let found: Option<(i64, i64, String)> =
            statement.query_as().fetch_optional(write.connection()).await.map_err(Error::database("reading a run"))?;
        let (no, experiment, lifecycle) = found.ok_or_else(|| missing(id))?;
        if Lifecycle::read(&lifecycle)? == Lifecycle::Active {
            return Ok(ActiveRun { no, experiment });
        }
        Err(Error::invalid(format!("The run {id} must be in the 'active' state. Current state is {lifecycle}.")))
    }

    async fn turn_run(&self, id: &str, to: Lifecycle, deleted_at: Option<i64>) -> Result<()> {
        let mut write = self.write().await?;
        let done = sqlx::query("UPDATE run SET lifecycle = $1, deleted_at = $2 WHERE id = $3")
            .bind(to.as_str())
            .bind(deleted_at)
            .bind(id)
            .execute(write.connection())
            .await
            .map_err(Error::database("deleting or restoring a run"))?;
        if done.rows_affected() == 0 {
            return Err(missing(id));
        }
        write.commit().await
    }
}

/// What a row says about a run.
pub(super) fn info(row: Row) -> Result<RunInfo> {
    let (_, id, experiment, run_name, user_id, status, start_time, end_time, lifecycle, artifact_uri) = row;
    Ok(RunInfo {
        run_uuid: id.clone(),
        experiment_id: experiment.to_string(),
        run_name,
        user_id,
        status: RunStatus::read(&status)?,
        start_time,
        end_time: end_time.filter(|&time| time != 0),
        artifact_uri,
        lifecycle_stage: Lifecycle::read(&lifecycle)?,
        run_id: id,
    })
}

fn missing(id: &str) -> Error {
    Error::missing(format!("Run with id={id} not found"))
}
