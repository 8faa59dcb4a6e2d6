//! Experiments: folders of runs.

use std::collections::HashMap;

use platform::database::{Engine, Statement};
use sqlx::AnyConnection;

use super::sets::push_one_of;
use super::{Store, Write};
use crate::clock::now_millis;
use crate::entities::{Experiment, Lifecycle, Pair, View};
use crate::filter::{self, Filter, Order};
use crate::page;
use crate::{Error, ErrorCode, ExperimentId, Result};

/// What a search for experiments or runs wants besides its filter.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// At most so many.
    pub(crate) size: i64,
    /// Where it begins.
    pub(crate) offset: i64,
}

/// A search for experiments.
#[derive(Clone, Debug)]
pub(crate) struct ExperimentSearch {
    pub(crate) filter: Filter,
    pub(crate) order: Order,
    pub(crate) view: View,
    pub(crate) page: Page,
}

type Row = (i64, String, String, String, i64, i64);

const COLUMNS: &str = "SELECT e.id, e.name, e.artifact_location, e.lifecycle, e.created_at, e.updated_at";

impl Store {
    /// Makes an experiment. Without a location, its files are below the artifact root.
    pub(crate) async fn create_experiment(
        &self,
        name: &str,
        location: Option<&str>,
        tags: &[Pair],
    ) -> Result<ExperimentId> {
        let now = now_millis();
        let mut write = self.write().await?;
        let made: Option<i64> = sqlx::query_scalar(
            "INSERT INTO experiment (name, artifact_location, lifecycle, created_at, updated_at)
             VALUES ($1, $2, 'active', $3, $4) ON CONFLICT (name) DO NOTHING RETURNING id",
        )
        .bind(name)
        .bind(location.unwrap_or_default())
        .bind(now)
        .bind(now)
        .fetch_optional(write.connection())
        .await
        .map_err(Error::database("making an experiment"))?;
        let id = made.ok_or_else(|| Error::exists(format!("Experiment(name={name}) already exists.")))?;
        if location.is_none() {
            sqlx::query("UPDATE experiment SET artifact_location = $1 WHERE id = $2")
                .bind(format!("{}/{id}", self.artifact_root()))
                .bind(id)
                .execute(write.connection())
                .await
                .map_err(Error::database("placing an experiment"))?;
        }
        set_tags(write.connection(), id, tags).await?;
        write.commit().await?;
        Ok(ExperimentId(id))
    }

    /// An experiment, also a deleted one.
    pub(crate) async fn experiment(&self, id: ExperimentId) -> Result<Experiment> {
        let mut statement = with_tags();
        statement.push(" WHERE e.id = ").number(id.0);
        let found = self.experiment_of(statement).await?;
        found.ok_or_else(|| missing(id))
    }

    /// An experiment, also a deleted one, by its name.
    pub(crate) async fn experiment_by_name(&self, name: &str) -> Result<Experiment> {
        let mut statement = with_tags();
        statement.push(" WHERE e.name = ").text(name);
        let found = self.experiment_of(statement).await?;
        found.ok_or_else(|| Error::missing(format!("Could not find experiment with name '{name}'")))
    }

    /// Deletes an experiment and its runs; they can be restored until they are removed for good.
    pub(crate) async fn delete_experiment(&self, id: ExperimentId) -> Result<()> {
        let now = now_millis();
        let mut write = self.write().await?;
        turn(&mut write, id, Lifecycle::Active, Lifecycle::Deleted, now).await?;
        sqlx::query(
            "UPDATE run SET lifecycle = 'deleted', deleted_at = $1 WHERE experiment_id = $2 AND lifecycle = 'active'",
        )
        .bind(now)
        .bind(id.0)
        .execute(write.connection())
        .await
        .map_err(Error::database("deleting the runs of an experiment"))?;
        write.commit().await
    }

    /// Restores an experiment and all of its runs.
    pub(crate) async fn restore_experiment(&self, id: ExperimentId) -> Result<()> {
        let mut write = self.write().await?;
        turn(&mut write, id, Lifecycle::Deleted, Lifecycle::Active, now_millis()).await?;
        sqlx::query(
            "UPDATE run SET lifecycle = 'active', deleted_at = NULL WHERE experiment_id = $1 AND lifecycle = 'deleted'",
        )
        .bind(id.0)
        .execute(write.connection())
        .await
        .map_err(Error::database("restoring the runs of an experiment"))?;
        write.commit().await
    }

    /// Gives an experiment another name.
    pub(crate) async fn rename_experiment(&self, id: ExperimentId, name: &str) -> Result<()> {
        let mut write = self.write().await?;
        if lifecycle(&mut write, id, self.for_update()).await? != Lifecycle::Active {
            return Err(Error::refused(ErrorCode::InvalidState, "Cannot rename a non-active experiment."));
        }
        let done = sqlx::query(
            "UPDATE experiment SET name = $1, updated_at = $2
             WHERE id = $3 AND NOT EXISTS (SELECT 1 FROM experiment o WHERE o.name = $4 AND o.id <> $5)",
        )
        .bind(name)
        .bind(now_millis())
        .bind(id.0)
        .bind(name)
        .bind(id.0)
        .execute(write.connection())
        .await
        .map_err(Error::database("renaming an experiment"))?;
        if done.rows_affected() == 0 {
            return Err(Error::exists(format!("Experiment(name={name}) already exists.")));
        }
        write.commit().await
    }

    /// Sets a tag of an experiment.
    pub(crate) async fn set_experiment_tag(&self, id: ExperimentId, tag: Pair) -> Result<()> {
        let mut write = self.write().await?;
        active(&mut write, id, self.for_share()).await?;
        set_tags(write.connection(), id.0, &[tag]).await?;
        write.commit().await
    }

    /// Removes a tag of an experiment.
    pub(crate) async fn delete_experiment_tag(&self, id: ExperimentId, key: &str) -> Result<()> {
        let mut write = self.write().await?;
        active(&mut write, id, self.for_share()).await?;
        let done = sqlx::query("DELETE FROM experiment_tag WHERE experiment_id = $1 AND key = $2")
            .bind(id.0)
            .bind(key)
            .execute(write.connection())
            .await
            .map_err(Error::database("removing an experiment's tag"))?;
        if done.rows_affected() == 0 {
            return Err(Error::missing(format!("No tag with name: {key} in experiment with id {id}")));
        }
        write.commit().await
    }

    /// A page of experiments, and the token of the next one.
    pub(crate) async fn search_experiments(
        &self,
        search: &ExperimentSearch,
    ) -> Result<(Vec<Experiment>, Option<String>)> {
        let mut statement = Statement::new(COLUMNS);
        statement.push(" FROM experiment e WHERE e.lifecycle").push(search.view.sql());
        search.filter.push(&mut statement, self.engine(), None);
        search.order.push(&mut statement, self.engine());
        search.page.push(&mut statement);
        let mut rows: Vec<Row> =
            statement.query_as().fetch_all(self.pool()).await.map_err(Error::database("searching experiments"))?;
        let next = search.page.cut(&mut rows);
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let mut tags = self.tags_of_experiments(&ids).await?;
        let experiments = rows.into_iter().map(|row| {
            let tags = tags.remove(&row.0).unwrap_or_default();
            experiment(row, tags)
        });
        Ok((experiments.collect::<Result<_>>()?, next))
    }

    /// The end of a SELECT whose rows must not change before the transaction ends.
    pub(super) fn for_share(&self) -> &'static str {
        match self.engine() {
            Engine::Sqlite => "",
            Engine::Postgres => " FOR SHARE",
        }
    }

    async fn experiment_of(&self, statement: Statement) -> Result<Option<Experiment>> {
        type WithTag = (i64, String, String, String, i64, i64, Option<String>, Option<String>);
        let rows: Vec<WithTag> =
            statement.query_as().fetch_all(self.pool()).await.map_err(Error::database("reading an experiment"))?;
        let mut found: Option<Row> = None;
        let mut tags = Vec::new();
        for (id, name, location, lifecycle, created, updated, key, value) in rows {
            found = Some((id, name, location, lifecycle, created, updated));
            if let (Some(key), Some(value)) = (key, value) {
                tags.push(Pair { key, value });
            }
        }
        tags.sort_by(|a: &Pair, b| a.key.cmp(&b.key));
        found.map(|row| experiment(row, tags)).transpose()
    }

    async fn tags_of_experiments(&self, ids: &[i64]) -> Result<HashMap<i64, Vec<Pair>>> {
        let mut tags: HashMap<i64, Vec<Pair>> = HashMap::new();
        if ids.is_empty() {
            return Ok(tags);
        }
        let mut statement = Statement::new("SELECT experiment_id, key, value FROM experiment_tag WHERE ");
        push_one_of(&mut statement, self.engine(), "experiment_id", ids);
        statement.push(" ORDER BY experiment_id, key");
        let rows: Vec<(i64, String, String)> = statement
            .query_as()
            .fetch_all(self.pool())
            .await
            .map_err(Error::database("reading tags of experiments"))?;
        for (id, key, value) in rows {
            tags.entry(id).or_default().push(Pair { key, value });
        }
        Ok(tags)
    }
}

impl Page {
    /// The page that a request asks for; `size` was checked.
    pub(crate) fn new(size: i64, token: Option<&str>) -> Result<Self> {
        Ok(Self { size, offset: page::offset(token)? })
    }

    /// Adds a LIMIT of one more row, which tells whether there is a next page.
    pub(super) fn push(&self, statement: &mut Statement) {
        statement.push(" LIMIT ").number(self.size.saturating_add(1)).push(" OFFSET ").number(self.offset);
    }

    /// Takes the additional row away; then there is a next page.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>) -> Option<String> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return None;
        }
        rows.truncate(size);
        Some(page::token(self.offset.saturating_add(self.size)))
    }
}

impl View {
    /// A test of a column `lifecycle`.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::ActiveOnly => " = 'active'",
            Self::DeletedOnly => " = 'deleted'",
            Self::All => " IN ('active', 'deleted')",
        }
    }
}

/// Where an experiment's files are, if it is active. `lock` is the end of the SELECT.
pub(super) async fn active(write: &mut Write, id: ExperimentId, lock: &'static str) -> Result<String> {
    let mut statement = Statement::new("SELECT lifecycle, artifact_location FROM experiment WHERE id = ");
    statement.number(id.0).push(lock);
    let found: Option<(String, String)> = statement
        .query_as()
        .fetch_optional(write.connection())
        .await
        .map_err(Error::database("reading an experiment"))?;
    let (lifecycle, location) = found.ok_or_else(|| missing(id))?;
    if Lifecycle::read(&lifecycle)? == Lifecycle::Active {
        return Ok(location);
    }
    Err(Error::invalid(format!("The experiment {id} must be in the 'active' state. Current state is {lifecycle}.")))
}

async fn lifecycle(write: &mut Write, id: ExperimentId, lock: &'static str) -> Result<Lifecycle> {
    let mut statement = Statement::new("SELECT lifecycle FROM experiment WHERE id = ");
    statement.number(id.0).push(lock);
    let found: Option<(String,)> = statement
        .query_as()
        .fetch_optional(write.connection())
        .await
        .map_err(Error::database("reading an experiment"))?;
    Lifecycle::read(&found.ok_or_else(|| missing(id))?.0)
}

/// An experiment that is not in the state that is left is none, as MLflow sees it.
async fn turn(write: &mut Write, id: ExperimentId, from: Lifecycle, to: Lifecycle, now: i64) -> Result<()> {
    let done = sqlx::query("UPDATE experiment SET lifecycle = $1, updated_at = $2 WHERE id = $3 AND lifecycle = $4")
        .bind(to.as_str())
        .bind(now)
        .bind(id.0)
        .bind(from.as_str())
        .execute(write.connection())
        .await
        .map_err(Error::database("deleting or restoring an experiment"))?;
    if done.rows_affected() == 0 { Err(missing(id)) } else { Ok(()) }
}

/// Of a key that occurs twice, the last value is kept.
async fn set_tags(connection: &mut AnyConnection, id: i64, tags: &[Pair]) -> Result<()> {
    let last: HashMap<&str, &str> = tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())).collect();
    if last.is_empty() {
        return Ok(());
    }
    let mut statement = Statement::new("INSERT INTO experiment_tag (experiment_id, key, value) VALUES ");
    for (key, value) in last {
        statement.row().number(id).text(key).text(value).end_row();
    }
    statement.push(" ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value");
    statement.query().execute(connection).await.map_err(Error::database("setting tags of an experiment"))?;
    Ok(())
}

fn with_tags() -> Statement {
    let mut statement = Statement::new(COLUMNS);
    statement.push(", t.key, t.value FROM experiment e LEFT JOIN experiment_tag t ON t.experiment_id = e.id");
    statement
}

fn experiment(row: Row, tags: Vec<Pair>) -> Result<Experiment> {
    let (id, name, artifact_location, lifecycle, creation_time, last_update_time) = row;
    Ok(Experiment {
        experiment_id: id.to_string(),
        name,
        artifact_location,
        lifecycle_stage: Lifecycle::read(&lifecycle)?,
        last_update_time,
        creation_time,
        tags,
    })
}

fn missing(id: ExperimentId) -> Error {
    Error::missing(format!("No Experiment with id={id} exists"))
}

/// Reads the filter and the order of a search.
pub(crate) fn search(filter: Option<&str>, order_by: &[String], view: View, page: Page) -> Result<ExperimentSearch> {
    let filter = filter::experiments(filter)?;
    let order = filter::experiments_order(order_by)?;
    Ok(ExperimentSearch { filter, order, view, page })
}
