//! Continuous DAGs: items that have come in, and the batches that they are cut into.
//!
//! An item is written once under the name that its source has for it, and stays when its batch is done: what is known is
//! not taken again. A batch is a run, made in the transaction that gives it its items, so that each item is in one batch.

use platform::database::Engine;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};

use super::Store;
use crate::clock::Timestamp;
use crate::dag::Continuous;
use crate::error::{Error, Result};
use crate::ids::RunId;
use platform::database::Statement;

const DOING: &str = "keeping the items of a continuous dag";

/// Items in one INSERT: far below the number of values that SQLite and PostgreSQL take.
const ITEMS_IN_ONE: usize = 200;

/// Something that came in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewItem {
    /// Its name in its source, the same whenever it comes in; another version of it has another name.
    pub id: String,
    /// What templates see in `batch.items`.
    pub item: Value,
}

/// How a continuous DAG stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// The DAG.
    pub dag: String,
    /// Items that have come in and are in no batch.
    pub waiting: u64,
    /// Batches that are queued or running.
    pub in_flight: u64,
    /// Batches so far.
    pub batches: u64,
    /// When the oldest item came in that is in no batch, or in one that has not ended.
    pub oldest: Option<Timestamp>,
    /// Why the source could not be read the last time.
    pub error: Option<String>,
}

impl StreamRecord {
    /// How long the oldest unfinished item has been there.
    pub fn lag(&self, now: Timestamp) -> std::time::Duration {
        self.oldest.map(|oldest| now.since(oldest)).unwrap_or_default()
    }
}

impl Store {
    /// Writes down what came in; gives how many items were not known before.
    pub async fn add_items(&self, dag: &str, items: &[NewItem], now: Timestamp) -> Result<u64> {
        let mut new = 0;
        let mut connection = self.pool().acquire().await.map_err(doing)?;
        for chunk in items.chunks(ITEMS_IN_ONE) {
            // Most of what a listing finds is known: no transaction for that.
            let known = known(&mut connection, dag, chunk).await?;
            let fresh: Vec<&NewItem> = chunk.iter().filter(|item| !known.contains(&item.id)).collect();
            if fresh.is_empty() {
                continue;
            }
            let mut transaction = connection.begin_with(self.database.begin_write()).await.map_err(doing)?;
            new += insert(&mut transaction, dag, &fresh, now).await?;
            self.say(&mut transaction).await.map_err(doing)?;
            transaction.commit().await.map_err(doing)?;
        }
        if new > 0 {
            self.writer.tell_others();
        }
        Ok(new)
    }

    /// How many items of a DAG wait, as far as `most`.
    pub(crate) async fn waiting_items(&self, dag: &str, most: u64) -> Result<u64> {
        let (count,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM stream_item WHERE dag = $1 AND run_id IS NULL LIMIT $2) waiting",
        )
        .bind(dag)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_one(self.pool())
        .await
        .map_err(doing)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// When the next batch of a DAG is due; nothing while no item waits or as many batches are in flight as may be.
    pub(crate) async fn batch_due(&self, dag: &str, continuous: &Continuous) -> Result<Option<Timestamp>> {
        let mut connection = self.pool().acquire().await.map_err(doing)?;
        due(&mut connection, dag, continuous).await
    }

    /// Takes the right to read a DAG's source until `until`; false when it is not time yet or somebody else reads it.
    pub(crate) async fn begin_reading(&self, dag: &str, now: Timestamp, until: Timestamp) -> Result<bool> {
        let taken = sqlx::query("UPDATE stream SET next_read_at = $1 WHERE dag = $2 AND next_read_at <= $3")
            .bind(until.millis())
            .bind(dag)
            .bind(now.millis())
            .execute(self.pool())
            .await
            .map_err(doing)?;
        Ok(taken.rows_affected() > 0)
    }

    /// Says until when the source is being read, or, at the end, when it is to be read again and what went wrong.
    pub(crate) async fn set_reading(&self, dag: &str, next: Timestamp, error: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE stream SET next_read_at = $1, error = $2 WHERE dag = $3")
            .bind(next.millis())
            .bind(error.map(str::to_owned))
            .bind(dag)
            .execute(self.pool())
            .await
            .map(drop)
            .map_err(doing)
    }

    /// All continuous DAGs by name.
    pub async fn streams(&self) -> Result<Vec<StreamRecord>> {
        self.streams_after(u32::MAX, None).await
    }

    /// At most so many continuous DAGs by name: all, or those behind a name.
    pub async fn streams_after(&self, most: u32, after: Option<&str>) -> Result<Vec<StreamRecord>> {
        type Row = (String, i64, Option<String>, i64, Option<i64>, i64, Option<i64>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT stream.dag, stream.batches, stream.error,
                    (SELECT COUNT(*) FROM stream_item item WHERE item.dag = stream.dag AND item.run_id IS NULL),
                    (SELECT MIN(item.arrived_at) FROM stream_item item
                     WHERE item.dag = stream.dag AND item.run_id IS NULL),
                    (SELECT COUNT(*) FROM run WHERE run.dag = stream.dag AND run.cause = 'stream'
                       AND run.state IN ('queued', 'running')),
                    (SELECT MIN(item.arrived_at) FROM run JOIN stream_item item ON item.run_id = run.id
                     WHERE run.dag = stream.dag AND run.cause = 'stream' AND run.state IN ('queued', 'running'))
             FROM stream WHERE stream.dag > $1 ORDER BY stream.dag LIMIT $2",
        )
        .bind(after.unwrap_or_default())
        .bind(i64::from(most))
        .fetch_all(self.pool())
        .await
        .map_err(doing)?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let record = |(dag, batches, error, waiting, oldest_waiting, in_flight, oldest_in_flight): Row| StreamRecord {
            dag,
            waiting: count(waiting),
            in_flight: count(in_flight),
            batches: count(batches),
            oldest: oldest_waiting.into_iter().chain(oldest_in_flight).min().map(Timestamp::from_millis),
            error,
        };
        Ok(rows.into_iter().map(record).collect())
    }

    /// What templates see as `batch` in a run of a continuous DAG.
    pub(crate) async fn batch(&self, run: RunId, dag: &str, number: u64) -> Result<Value> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT item FROM stream_item WHERE run_id = $1 ORDER BY arrived_at, id")
                .bind(run.to_string())
                .fetch_all(self.pool())
                .await
                .map_err(doing)?;
        let read = |(text,): &(String,)| {
            serde_json::from_str(text)
                .map_err(|error| Error::Corrupt { what: format!("an item of run {run} ({error})") })
        };
        let items: Vec<Value> = rows.iter().map(read).collect::<Result<_>>()?;
        Ok(json!({ "id": format!("{dag}-{number}"), "number": number, "items": items }))
    }
}

/// A DAG that a server has read is continuous: items may come in for it.
pub(super) async fn open_stream(connection: &mut AnyConnection, dag: &str) -> Result<()> {
    sqlx::query("INSERT INTO stream (dag) VALUES ($1) ON CONFLICT (dag) DO NOTHING")
        .bind(dag)
        .execute(connection)
        .await
        .map(drop)
        .map_err(doing)
}

/// The number of the batch that is due, while others who would cut one wait; nothing when none is due.
pub(super) async fn next_batch(
    connection: &mut AnyConnection,
    engine: Engine,
    dag: &str,
    continuous: &Continuous,
    now: Timestamp,
) -> Result<Option<i64>> {
    let sql = match engine {
        Engine::Sqlite => "SELECT batches FROM stream WHERE dag = $1",
        Engine::Postgres => "SELECT batches FROM stream WHERE dag = $1 FOR UPDATE",
    };
    let found: Option<(i64,)> = sqlx::query_as(sql).bind(dag).fetch_optional(&mut *connection).await.map_err(doing)?;
    let Some((batches,)) = found else { return Ok(None) };
    match due(connection, dag, continuous).await? {
        Some(due) if due <= now => Ok(Some(batches + 1)),
        _ => Ok(None),
    }
}

/// Gives the run of a batch its items.
pub(super) async fn fill_batch(
    connection: &mut AnyConnection,
    run: RunId,
    dag: &str,
    number: i64,
    most: u32,
) -> Result<()> {
    sqlx::query("UPDATE stream SET batches = $1 WHERE dag = $2")
        .bind(number)
        .bind(dag)
        .execute(&mut *connection)
        .await
        .map_err(doing)?;
    sqlx::query(
        "UPDATE stream_item SET run_id = $1 WHERE dag = $2 AND id IN
           (SELECT id FROM stream_item WHERE dag = $2 AND run_id IS NULL ORDER BY arrived_at, id LIMIT $3)",
    )
    .bind(run.to_string())
    .bind(dag)
    .bind(i64::from(most))
    .execute(connection)
    .await
    .map(drop)
    .map_err(doing)
}

/// A full batch is due when its first item came in, another one `max_age` later.
async fn due(connection: &mut AnyConnection, dag: &str, continuous: &Continuous) -> Result<Option<Timestamp>> {
    let (waiting, oldest): (i64, Option<i64>) = sqlx::query_as(
        "SELECT COUNT(*), MIN(arrived_at) FROM
           (SELECT arrived_at FROM stream_item WHERE dag = $1 AND run_id IS NULL ORDER BY arrived_at, id LIMIT $2) next",
    )
    .bind(dag)
    .bind(i64::from(continuous.max_batch))
    .fetch_one(&mut *connection)
    .await
    .map_err(doing)?;
    let Some(oldest) = oldest.map(Timestamp::from_millis) else { return Ok(None) };
    let (in_flight,): (i64,) = sqlx::query_as(
        "SELECT COUNT(*) FROM run WHERE dag = $1 AND cause = 'stream' AND state IN ('queued', 'running')",
    )
    .bind(dag)
    .fetch_one(connection)
    .await
    .map_err(doing)?;
    if in_flight >= i64::from(continuous.max_in_flight) {
        return Ok(None);
    }
    let full = waiting >= i64::from(continuous.max_batch);
    Ok(Some(if full { oldest } else { oldest.plus(continuous.max_age) }))
}

async fn known(connection: &mut AnyConnection, dag: &str, items: &[NewItem]) -> Result<Vec<String>> {
    let mut query = Statement::new("SELECT id FROM stream_item WHERE dag = ");
    query.text(dag).push(" AND id IN ").row();
    for item in items {
        query.text(item.id.as_str());
    }
    query.end_row();
    let rows: Vec<(String,)> = query.query_as().fetch_all(connection).await.map_err(doing)?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

async fn insert(connection: &mut AnyConnection, dag: &str, items: &[&NewItem], now: Timestamp) -> Result<u64> {
    let mut insert = Statement::new("INSERT INTO stream_item (dag, id, item, arrived_at) VALUES ");
    for item in items {
        insert.row().text(dag).text(item.id.as_str()).text(item.item.to_string()).number(now.millis()).end_row();
    }
    insert.push(" ON CONFLICT (dag, id) DO NOTHING");
    Ok(insert.query().execute(connection).await.map_err(doing)?.rows_affected())
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
