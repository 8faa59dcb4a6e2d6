//! Assets: what tasks update and what DAGs wait for. An update is written in the transaction that ends its task, and the
//! run that it starts takes it in the transaction that makes the run: no update is lost, and none starts two runs.

use sqlx::AnyConnection;

use super::Store;
use super::step::RunTransaction;
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::dag::{Dag, DagSchedule, is_asset};
use crate::error::{Error, Result};
use crate::ids::{AssetEventId, RunId};
use platform::database::Statement;

const DOING: &str = "keeping updates of assets";

/// An update of an asset.
#[derive(Clone, Debug)]
pub struct AssetEvent {
    /// Its id; later updates have greater ones.
    pub id: AssetEventId,
    /// The asset.
    pub asset: String,
    /// The run whose task updated it; nothing when a person or another program did.
    pub run: Option<RunId>,
    /// The task.
    pub task: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

impl RunTransaction<'_> {
    /// Notes that a task which succeeded has updated its assets.
    pub(super) async fn update_assets(&mut self, position: usize) -> Result<()> {
        let Some(task) = self.plan.dag.tasks().get(position) else { return Ok(()) };
        for asset in &task.produces {
            let source = Some((self.plan.run, task.id.as_str()));
            note(self.connection, asset, source, self.now).await?;
            // DAGs that wait for it may begin.
            self.concerns_others = true;
        }
        Ok(())
    }
}

impl Store {
    /// Notes that a person or another program has updated an asset.
    ///
    /// # Errors
    /// [`Error::AssetName`] for a name that no DAG could wait for, and errors of the database.
    pub async fn update_asset(&self, asset: &str, now: Timestamp) -> Result<AssetEvent> {
        if !is_asset(asset) {
            return Err(Error::AssetName(asset.to_owned()));
        }
        let mut transaction = self.pool().begin_with(self.database.begin_write()).await.map_err(doing)?;
        let id = note(&mut transaction, asset, None, now).await?;
        self.say(&mut transaction).await.map_err(doing)?;
        transaction.commit().await.map_err(doing)?;
        self.writer.tell_others();
        Ok(AssetEvent { id, asset: asset.to_owned(), run: None, task: None, created_at: now })
    }

    /// Updates, newest first; those before another one if it is given, of one asset or of all.
    pub async fn asset_events(
        &self,
        most: u32,
        before: Option<AssetEventId>,
        asset: Option<&str>,
    ) -> Result<Vec<AssetEvent>> {
        let mut query = Statement::new("SELECT id, asset, run_id, task, created_at FROM asset_event WHERE TRUE");
        if let Some(asset) = asset {
            query.push(" AND asset = ").text(asset);
        }
        if let Some(before) = before {
            query.push(" AND id < ").text(before.to_string());
        }
        query.push(" ORDER BY id DESC LIMIT ").number(i64::from(most));
        type Row = (String, String, Option<String>, Option<String>, i64);
        let rows: Vec<Row> = query.query_as().fetch_all(self.pool()).await.map_err(doing)?;
        let read = |(id, asset, run, task, created_at): Row| {
            let run = run.as_deref().map(read_id).transpose()?;
            Ok(AssetEvent { id: read_id(&id)?, asset, run, task, created_at: Timestamp::from_millis(created_at) })
        };
        rows.into_iter().map(read).collect()
    }

    /// Assets with an update that the DAG has had no run for yet.
    pub(crate) async fn updated_assets(&self, dag: &str) -> Result<Vec<String>> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT asset FROM asset_wait WHERE dag = $1 AND event_id IS NOT NULL ORDER BY asset")
                .bind(dag)
                .fetch_all(self.pool())
                .await
                .map_err(doing)?;
        Ok(rows.into_iter().map(|(asset,)| asset).collect())
    }
}

/// Takes the updates that start a run; false when another scheduler has taken them.
pub(super) async fn take(connection: &mut AnyConnection, dag: &str, assets: &[String]) -> Result<bool> {
    for asset in assets {
        let taken =
            sqlx::query("UPDATE asset_wait SET event_id = NULL WHERE dag = $1 AND asset = $2 AND event_id IS NOT NULL")
                .bind(dag)
                .bind(asset)
                .execute(&mut *connection)
                .await
                .map_err(doing)?;
        // The first tells: all of them are taken together.
        if taken.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes down which assets a DAG waits for. Updates of those that it waited for before are kept.
pub(super) async fn subscribe(connection: &mut AnyConnection, dag: &Dag) -> Result<()> {
    let (DagSchedule::AllAssets(assets) | DagSchedule::AnyAsset(assets)) = &dag.schedule else {
        return forget(connection, &dag.name, &[]).await;
    };
    forget(connection, &dag.name, assets).await?;
    for asset in assets {
        sqlx::query("INSERT INTO asset_wait (dag, asset) VALUES ($1, $2) ON CONFLICT (dag, asset) DO NOTHING")
            .bind(&dag.name)
            .bind(asset)
            .execute(&mut *connection)
            .await
            .map_err(doing)?;
    }
    Ok(())
}

async fn forget(connection: &mut AnyConnection, dag: &str, but: &[String]) -> Result<()> {
    let mut delete = Statement::new("DELETE FROM asset_wait WHERE dag = ");
    delete.text(dag);
    if !but.is_empty() {
        delete.push(" AND asset NOT IN ").row();
        for asset in but {
            delete.text(asset.as_str());
        }
        delete.end_row();
    }
    delete.query().execute(connection).await.map(drop).map_err(doing)
}

async fn note(
    connection: &mut AnyConnection,
    asset: &str,
    source: Option<(RunId, &str)>,
    now: Timestamp,
) -> Result<AssetEventId> {
    let id = AssetEventId::new();
    sqlx::query("INSERT INTO asset_event (id, asset, run_id, task, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.to_string())
        .bind(asset)
        .bind(source.map(|(run, _)| run.to_string()))
        .bind(source.map(|(_, task)| task))
        .bind(now.millis())
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
    sqlx::query("UPDATE asset_wait SET event_id = $1 WHERE asset = $2")
        .bind(id.to_string())
        .bind(asset)
        .execute(connection)
        .await
        .map_err(doing)?;
    Ok(id)
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
