//! Claims: a ready task instance gets a running attempt.

use std::time::Duration;

use platform::database::Engine;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow, Row as _};

use super::create::ROWS_IN_ONE;
use super::pools::Room;
use super::types::Owner;
use super::writer::read_id;
use crate::clock::Timestamp;
use crate::dag::{ExecutorKind, Resources};
use crate::error::{Error, Result};
use crate::ids::{AttemptId, RunId, TaskInstanceId};
use crate::runner::Offer;
use platform::database::Statement;

const DOING: &str = "claiming tasks";
/// An instance under which the process died this often in a row is suspected of killing it, and runs alone from then
/// on: instances that only happened to run beside the guilty one are cleared.
pub(super) const SUSPECT: i64 = 2;
/// A step of priority counts as much as waiting a minute: what is urgent goes first, and what waits long goes in the end.
pub(super) const STEP_OF_PRIORITY: Duration = Duration::from_secs(60);
/// The greatest priority that a DAG file can give.
const GREATEST_PRIORITY: u32 = 100;

/// An attempt that is ours to run.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) attempt: AttemptId,
    pub(crate) run: RunId,
    pub(crate) instance: TaskInstanceId,
    /// The fencing token.
    pub(crate) number: u32,
    /// Place of the task in the DAG's topological order.
    pub(crate) position: usize,
    pub(crate) map_index: Option<u32>,
    /// JSON text of the item.
    pub(crate) item: Option<String>,
    /// Earlier attempts that count against the retries.
    pub(crate) failed: u32,
    /// Nothing else should run in this process meanwhile.
    pub(crate) alone: bool,
    /// The pool whose slots it holds, and how many.
    pub(crate) pool: Option<String>,
    pub(crate) slots: i64,
    /// What it takes of the machine.
    pub(crate) resources: Resources,
    /// When the first attempt at the instance began.
    pub(crate) started_at: Timestamp,
    /// When this attempt was claimed.
    pub(crate) claimed_at: Timestamp,
    /// How long the instance was ready before.
    pub(crate) delay: Duration,
}

/// What to claim.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimRequest {
    /// How many instances at most.
    pub(crate) free: usize,
    /// Whether nothing is at work in this process.
    pub(crate) idle: bool,
    /// Only of this run.
    pub(crate) run: Option<RunId>,
    /// Only of these queues and of none; empty for any.
    pub(crate) queues: Vec<String>,
    /// What the worker has, if it looks at what tasks need.
    pub(crate) offer: Option<Offered>,
    /// Whose tasks.
    pub(crate) takes: Takes,
}

/// Tasks of which executor a claim is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Of any: whoever drives one run does all of it.
    #[default]
    Any,
    /// Of this one, and those that name none if it is the installation's default.
    Of { executor: ExecutorKind, is_default: bool },
}

/// What a worker has and has left.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) offer: Offer,
    pub(crate) left: Resources,
}

/// What limits a claim, once it is known which labels there are.
pub(super) struct Limits<'a> {
    request: &'a ClaimRequest,
    /// Label texts of ready instances that the worker satisfies.
    labels: Vec<String>,
}

struct Candidate {
    id: String,
    run_id: String,
    position: i64,
    map_index: i64,
    attempts: i64,
    failed: i64,
    item: Option<String>,
    lost_in_a_row: i64,
    pool: Option<String>,
    slots: i64,
    started_at: Option<i64>,
    ready_at: i64,
    cpu_millis: i64,
    memory_bytes: i64,
    gpus: i64,
}

/// Claims ready instances: the longest waiting first, a step of priority counting as a minute, within the room of their
/// pools. A suspect is claimed only when nothing else is left.
pub(super) async fn claim(
    connection: &mut AnyConnection,
    engine: Engine,
    owner: &Owner,
    now: Timestamp,
    lease_until: Timestamp,
    limits: &Limits<'_>,
) -> Result<Vec<Claimed>> {
    let request = limits.request;
    let mut claimed = Vec::new();
    let mut room = Room::default();
    let mut left = request.offer.as_ref().map(|offered| offered.left);
    while claimed.len() < request.free {
        let most = request.free - claimed.len();
        let closed_before = room.closed().len();
        let found = ready(connection, engine, now, most, false, limits, room.closed()).await?;
        let all = found.len() < most;
        let Fitting { fitting, full } = fitting(connection, engine, &mut room, &mut left, found).await?;
        claimed.extend(take(connection, owner, now, lease_until, fitting).await?);
        // Behind tasks whose pool is full there may be others.
        if all || full || room.closed().len() == closed_before {
            break;
        }
    }
    if claimed.is_empty() && request.idle && request.free > 0 {
        let found = ready(connection, engine, now, 1, true, limits, room.closed()).await?;
        let Fitting { fitting, .. } = fitting(connection, engine, &mut room, &mut left, found).await?;
        claimed.extend(take(connection, owner, now, lease_until, fitting).await?);
    }
    Ok(claimed)
}

/// Candidates that go.
struct Fitting {
    fitting: Vec<Candidate>,
    /// The machine has too little left for the next.
    full: bool,
}

/// Those of the candidates that their pools and the machine have room for; their slots are taken.
async fn fitting(
    connection: &mut AnyConnection,
    engine: Engine,
    room: &mut Room,
    left: &mut Option<Resources>,
    found: Vec<Candidate>,
) -> Result<Fitting> {
    room.look(connection, engine, found.iter().filter_map(|one| one.pool.as_deref())).await?;
    let mut fitting = Vec::with_capacity(found.len());
    let mut full = false;
    for one in found {
        if !one.pool.as_deref().is_none_or(|pool| room.has(pool, one.slots)) {
            continue;
        }
        if let Some(resources) = left {
            // Nothing behind it goes first, or what needs much would wait for ever.
            let Some(less) = resources.less(one.resources()) else {
                full = true;
                break;
            };
            *resources = less;
        }
        if let Some(pool) = &one.pool {
            room.take(pool, one.slots);
        }
        fitting.push(one);
    }
    room.write(connection).await?;
    Ok(Fitting { fitting, full })
}

/// When the first of the instances that wait for their time is ready.
pub(super) async fn next_ready(
    connection: &mut AnyConnection,
    now: Timestamp,
    limits: &Limits<'_>,
) -> Result<Option<Timestamp>> {
    let mut query = Statement::new("SELECT MIN(ready_at) FROM task_instance WHERE state = 'ready' AND ready_at > ");
    query.number(now.millis());
    limit_to(&mut query, limits);
    let next: (Option<i64>,) =
        query.query_as().fetch_one(connection).await.map_err(|error| Error::database(DOING, error))?;
    Ok(next.0.map(Timestamp::from_millis))
}

/// Looks which labels ready instances ask for, and which of them the worker has.
pub(super) async fn limits<'a>(connection: &mut AnyConnection, request: &'a ClaimRequest) -> Result<Limits<'a>> {
    let Some(Offered { offer, .. }) = &request.offer else { return Ok(Limits { request, labels: Vec::new() }) };
    let rows: Vec<(String,)> =
        sqlx::query_as("SELECT DISTINCT labels FROM task_instance WHERE state = 'ready' AND labels IS NOT NULL")
            .fetch_all(connection)
            .await
            .map_err(|error| Error::database(DOING, error))?;
    let has = |text: &String| serde_json::from_str(text).is_ok_and(|wanted| offer.has_labels(&wanted));
    Ok(Limits { request, labels: rows.into_iter().map(|(text,)| text).filter(has).collect() })
}

/// Ready instances that may go, in their order.
async fn ready(
    connection: &mut AnyConnection,
    engine: Engine,
    now: Timestamp,
    most: usize,
    suspects: bool,
    limits: &Limits<'_>,
    closed: &[String],
) -> Result<Vec<Candidate>> {
    let mut query = Statement::new(
        "SELECT id, run_id, position, map_index, attempts, failed, item, lost_in_a_row, pool, slots, started_at,
                ready_at, cpu_millis, memory_bytes, gpus
         FROM task_instance WHERE state = 'ready' AND ready_at <= ",
    );
    // What is ready now has a turn in this range: what waits for a later moment need not be looked at.
    let latest = now.plus(STEP_OF_PRIORITY * GREATEST_PRIORITY);
    query.number(now.millis()).push(" AND turn <= ").number(latest.millis());
    query.push(if suspects { " AND lost_in_a_row >= " } else { " AND lost_in_a_row < " }).number(SUSPECT);
    limit_to(&mut query, limits);
    if !closed.is_empty() {
        query.push(" AND (pool IS NULL OR pool NOT IN ").row();
        for pool in closed.iter() {
            query.text(pool.as_str());
        }
        query.end_row().push(")");
    }
    query.push(" ORDER BY turn, position, map_index LIMIT ").number(most as i64);
    if engine == Engine::Postgres {
        query.push(" FOR UPDATE SKIP LOCKED");
    }
    query.query_as().fetch_all(connection).await.map_err(|error| Error::database(DOING, error))
}

fn limit_to(query: &mut Statement, limits: &Limits<'_>) {
    let Limits { request, labels } = limits;
    if let Some(Offered { offer, .. }) = &request.offer {
        let Resources { cpu_millis, memory_bytes, gpus } = offer.resources;
        query.push(" AND cpu_millis <= ").number(i64::from(cpu_millis));
        query.push(" AND memory_bytes <= ").number(i64::try_from(memory_bytes).unwrap_or(i64::MAX));
        query.push(" AND gpus <= ").number(i64::from(gpus)).push(" AND (labels IS NULL");
        if !labels.is_empty() {
            query.push(" OR labels IN ").row();
            for text in labels {
                query.text(text.as_str());
            }
            query.end_row();
        }
        query.push(")");
    }
    if let Takes::Of { executor, is_default } = request.takes {
        query.push(if is_default { " AND (executor IS NULL OR executor = " } else { " AND (executor = " });
        query.text(executor.name()).push(")");
    }
    if let Some(run) = request.run {
        query.push(" AND run_id = ").text(run.to_string());
    }
    if !request.queues.is_empty() {
        query.push(" AND (queue IS NULL OR queue IN ").row();
        for queue in request.queues.iter() {
            query.text(queue.as_str());
        }
        query.end_row().push(")");
    }
}

/// Marks the candidates as running and gives each an attempt.
async fn take(
    connection: &mut AnyConnection,
    owner: &Owner,
    now: Timestamp,
    lease_until: Timestamp,
    chosen: Vec<Candidate>,
) -> Result<Vec<Claimed>> {
    let doing = |error| Error::database(DOING, error);
    for chunk in chosen.chunks(ROWS_IN_ONE) {
        let mut update = Statement::new(
            "UPDATE task_instance SET state = 'running', attempts = attempts + 1, started_at = COALESCE(started_at, ",
        );
        update.number(now.millis()).push(") WHERE state = 'ready' AND id IN ").row();
        for one in chunk.iter() {
            update.text(one.id.as_str());
        }
        update.end_row();
        let moved = update.query().execute(&mut *connection).await.map_err(doing)?;
        // Rows that this transaction has read as ready cannot have moved: SQLite has one writer, PostgreSQL locked them.
        if moved.rows_affected() != chunk.len() as u64 {
            return Err(Error::Corrupt { what: "a ready task instance that moved while it was held".to_owned() });
        }
    }
    let claimed: Vec<Claimed> = chosen.into_iter().map(|one| one.claimed(now)).collect::<Result<_>>()?;
    for chunk in claimed.chunks(ROWS_IN_ONE) {
        let mut insert = Statement::new(
            "INSERT INTO attempt
               (id, task_instance_id, number, state, owner_host, owner_pid, owner_key, lease_until, started_at) VALUES ",
        );
        for claim in chunk {
            insert
                .row()
                .text(claim.attempt.to_string())
                .text(claim.instance.to_string())
                .number(i64::from(claim.number))
                .text("running")
                .text(owner.host.as_str())
                .number(i64::from(owner.pid))
                .text(owner.key.as_str())
                .number(lease_until.millis())
                .number(now.millis())
                .end_row();
        }
        insert.query().execute(&mut *connection).await.map_err(doing)?;
    }
    Ok(claimed)
}

impl Candidate {
    fn resources(&self) -> Resources {
        Resources {
            cpu_millis: u32::try_from(self.cpu_millis).unwrap_or(u32::MAX),
            memory_bytes: u64::try_from(self.memory_bytes).unwrap_or(u64::MAX),
            gpus: u32::try_from(self.gpus).unwrap_or(u32::MAX),
        }
    }

    fn claimed(self, now: Timestamp) -> Result<Claimed> {
        let corrupt = |what: String| Error::Corrupt { what };
        let number = self.attempts + 1;
        let resources = self.resources();
        Ok(Claimed {
            attempt: AttemptId::new(),
            run: read_id(&self.run_id)?,
            instance: read_id(&self.id)?,
            number: u32::try_from(number).map_err(|_| corrupt(format!("attempt number {number}")))?,
            position: usize::try_from(self.position).map_err(|_| corrupt(format!("position {}", self.position)))?,
            map_index: u32::try_from(self.map_index).ok(),
            item: self.item,
            failed: u32::try_from(self.failed).unwrap_or(u32::MAX),
            alone: self.lost_in_a_row >= SUSPECT,
            pool: self.pool,
            slots: self.slots,
            resources,
            started_at: self.started_at.map_or(now, Timestamp::from_millis),
            claimed_at: now,
            delay: now.since(Timestamp::from_millis(self.ready_at)),
        })
    }
}

impl FromRow<'_, AnyRow> for Candidate {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            run_id: row.try_get("run_id")?,
            position: row.try_get("position")?,
            map_index: row.try_get("map_index")?,
            attempts: row.try_get("attempts")?,
            failed: row.try_get("failed")?,
            item: row.try_get("item")?,
            lost_in_a_row: row.try_get("lost_in_a_row")?,
            pool: row.try_get("pool")?,
            slots: row.try_get("slots")?,
            started_at: row.try_get("started_at")?,
            ready_at: row.try_get("ready_at")?,
            cpu_millis: row.try_get("cpu_millis")?,
            memory_bytes: row.try_get("memory_bytes")?,
            gpus: row.try_get("gpus")?,
        })
    }
}
