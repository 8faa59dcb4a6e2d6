//! The one writer of the state database. A commit costs a flush to the disk, so everything that waits while one commit
//! is under way goes into the next transaction together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use platform::database::{Database, Engine};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, Connection};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::Plan;
use super::create::{Create, create};
use super::reopen::{Reopen, reopen};
use super::step::{Step, StepDone, step};
use super::stop::{Stop, stop};
use super::types::RunState;
use super::watch::say;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::AttemptId;

/// Writes in one transaction at most: bounds how long the first of them waits for its answer.
const MOST_IN_ONE: usize = 256;
/// How long a database locked by another process is tried again.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
/// How PostgreSQL is to look for what the writer asks: always by the index that each statement was made for. A plan that was
/// made while a table was small would otherwise read all of it, and go on to when it has grown.
const BY_INDEX: [&str; 4] = [
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET plan_cache_mode = force_generic_plan",
];
/// A transaction that takes longer is suspected of waiting on a connection that is dead.
const SUSPICIOUS: Duration = Duration::from_secs(3);
const DOING: &str = "recording the state of a run";

type Reply<T> = oneshot::Sender<Result<T>>;

enum Write {
    Create(Box<Create>, Reply<bool>),
    Step(Box<Step>, Reply<StepDone>),
    Stop(Arc<Plan>, Stop, Reply<RunState>),
    Reopen(Arc<Plan>, Reopen, Reply<RunState>),
    Renew(String, Timestamp, Reply<Vec<AttemptId>>),
}

enum Done {
    Create(bool),
    Step(StepDone),
    Stop(RunState),
    Reopen(RunState),
    Renew(Vec<AttemptId>),
}

/// A handle to the writer; it ends when all handles are gone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Write>,
    /// Counts the commits after which there may be more to do for others than the one who wrote.
    changed: Arc<watch::Sender<u64>>,
    /// By which other processes know what this one says.
    name: Arc<str>,
}

impl Writer {
    pub(super) fn start(database: Database) -> Self {
        let (queue, waiting) = mpsc::channel(1024);
        let changed = Arc::new(watch::Sender::new(0));
        let notified = Arc::clone(&changed);
        let name: Arc<str> = Uuid::new_v4().to_string().into();
        let place = Place { database, name: Arc::clone(&name) };
        let runtime = tokio::runtime::Handle::current();
        // A thread of its own: its turns come in time however busy the runtime's workers are.
        let thread = std::thread::Builder::new().name("state writer".to_string());
        if let Err(error) = thread.spawn(move || runtime.block_on(serve(place, waiting, &notified))) {
            // Every write now answers that the writer is gone.
            tracing::error!(%error, "no thread for the state writer");
        }
        Self { queue, changed, name }
    }

    pub(super) async fn create(&self, create: Create) -> Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Create(Box::new(create), reply), answer).await
    }

    pub(super) async fn step(&self, step: Step) -> Result<StepDone> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Step(Box::new(step), reply), answer).await
    }

    pub(super) async fn stop(&self, plan: Arc<Plan>, stop: Stop) -> Result<RunState> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Stop(plan, stop, reply), answer).await
    }

    pub(super) async fn reopen(&self, plan: Arc<Plan>, reopen: Reopen) -> Result<RunState> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Reopen(plan, reopen, reply), answer).await
    }

    /// Changes when there may be something to do.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says that something was written beside the writer that others may have to act on.
    pub(super) fn tell_others(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// By which other processes know what this one says.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn renew(&self, owner_key: String, until: Timestamp) -> Result<Vec<AttemptId>> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Renew(owner_key, until, reply), answer).await
    }

    async fn send<T>(&self, write: Write, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        self.queue.send(write).await.map_err(|_| Error::WriterGone)?;
        answer.await.map_err(|_| Error::WriterGone)?
    }
}

/// Where the writer writes, and as who.
struct Place {
    database: Database,
    name: Arc<str>,
}

/// The writer's connection, kept from one transaction to the next.
struct Kept {
    connection: PoolConnection<Any>,
    /// The server's process behind it, on PostgreSQL.
    backend: Option<i64>,
}

impl Kept {
    async fn open(database: &Database) -> Result<Self> {
        let doing = |error| Error::database(DOING, error);
        let mut connection = database.pool().acquire().await.map_err(doing)?;
        if database.engine() == Engine::Sqlite {
            return Ok(Self { connection, backend: None });
        }
        for setting in BY_INDEX {
            sqlx::query(setting).execute(&mut *connection).await.map_err(doing)?;
        }
        let asked = sqlx::query_scalar("SELECT CAST(pg_backend_pid() AS BIGINT)");
        let backend = asked.fetch_one(&mut *connection).await.map_err(doing)?;
        Ok(Self { connection, backend: Some(backend) })
    }
}

async fn serve(place: Place, mut waiting: mpsc::Receiver<Write>, changed: &watch::Sender<u64>) {
    let mut connection = None;
    while let Some(first) = waiting.recv().await {
        let mut batch = vec![first];
        while batch.len() < MOST_IN_ONE
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        write(&place, &mut connection, batch, changed).await;
    }
}

/// Writes a batch and answers. When it fails as a whole, each is tried alone, so that one cannot fail the others.
async fn write(place: &Place, connection: &mut Option<Kept>, batch: Vec<Write>, changed: &watch::Sender<u64>) {
    match commit(place, connection, &batch).await {
        Ok(done) => {
            if done.iter().any(Done::concerns_others) {
                changed.send_modify(|count| *count += 1);
            }
            batch.into_iter().zip(done).for_each(|(write, done)| write.answer(Ok(done)));
        }
        Err(error) if batch.len() == 1 => {
            if let Some(write) = batch.into_iter().next() {
                write.answer(Err(error));
            }
        }
        // The batch may have been written: to try parts of it again would write them twice.
        Err(Error::DatabaseUnreachable { doing, reason }) => {
            for write in batch {
                write.answer(Err(Error::DatabaseUnreachable { doing, reason: reason.clone() }));
            }
        }
        Err(_) => {
            for write in batch {
                let result = commit(place, connection, std::slice::from_ref(&write)).await;
                changed.send_modify(|count| *count += 1);
                write.answer(result.and_then(|mut done| done.pop().ok_or(Error::WriterGone)));
            }
        }
    }
}

impl Done {
    /// Whether somebody else may have something to do now.
    fn concerns_others(&self) -> bool {
        match self {
            Self::Create(made) => *made,
            Self::Step(done) => done.more || done.runs.iter().any(|run| run.state.is_finished()),
            Self::Stop(_) | Self::Reopen(_) => true,
            Self::Renew(_) => false,
        }
    }
}

impl Write {
    /// Nobody may be listening any more; then the answer is dropped.
    fn answer(self, result: Result<Done>) {
        match (self, result) {
            (Self::Create(_, reply), Ok(Done::Create(made))) => drop(reply.send(Ok(made))),
            (Self::Stop(_, _, reply), Ok(Done::Stop(state))) => drop(reply.send(Ok(state))),
            (Self::Reopen(_, _, reply), Ok(Done::Reopen(state))) => drop(reply.send(Ok(state))),
            (Self::Step(_, reply), Ok(Done::Step(done))) => drop(reply.send(Ok(done))),
            (Self::Renew(_, _, reply), Ok(Done::Renew(kept))) => drop(reply.send(Ok(kept))),
            (Self::Create(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Stop(_, _, reply) | Self::Reopen(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Step(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Renew(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            // Dropping the reply tells the caller that the writer failed it.
            (_, Ok(_)) => {}
        }
    }
}

/// One transaction for all of the batch; tried again while another process holds the database.
async fn commit(place: &Place, kept: &mut Option<Kept>, batch: &[Write]) -> Result<Vec<Done>> {
    let database = &place.database;
    let started = Instant::now();
    loop {
        let Kept { connection, backend } = match kept {
            Some(kept) => kept,
            None => kept.insert(Kept::open(database).await?),
        };
        let backend = *backend;
        let work = transaction(connection, place, batch);
        let result = match backend {
            Some(backend) => watched(work, database, backend).await,
            None => work.await,
        };
        match result {
            Err(Error::DatabaseBusy { .. }) if started.elapsed() < BUSY_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                // The connection itself may be what is broken: the pool could wait for a silent one without end. And on
                // PostgreSQL it has settings that are the writer's alone.
                if let Some(Kept { connection, backend }) = kept.take()
                    && (error.is_outage() || backend.is_some())
                {
                    drop(connection.detach());
                }
                return Err(error);
            }
            done => return done,
        }
    }
}

/// Does its work unless the connection falls silent without being closed, as when a host or a firewall on the way dies: the
/// server is asked on another connection whether it is at work or waits for us.
async fn watched<T>(work: impl Future<Output = Result<T>>, database: &Database, backend: i64) -> Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(SUSPICIOUS) => {}
        }
        if !is_at_work(database, backend).await {
            let reason = "the connection fell silent".to_owned();
            // Its last word may have come meanwhile.
            return work.now_or_never().unwrap_or(Err(Error::DatabaseUnreachable { doing: DOING, reason }));
        }
    }
}

async fn is_at_work(database: &Database, backend: i64) -> bool {
    let sql = "SELECT COUNT(*) FROM pg_stat_activity
               WHERE pid = $1 AND (state = 'active' OR state_change > now() - INTERVAL '2 seconds')";
    let asked = sqlx::query_scalar::<_, i64>(sql).bind(backend).fetch_one(database.pool());
    matches!(tokio::time::timeout(SUSPICIOUS, asked).await, Ok(Ok(1..)))
}

async fn transaction(connection: &mut AnyConnection, place: &Place, batch: &[Write]) -> Result<Vec<Done>> {
    let database = &place.database;
    let doing = |error| Error::database(DOING, error);
    let mut transaction = connection.begin_with(database.begin_write()).await.map_err(doing)?;
    let mut done = Vec::with_capacity(batch.len());
    for write in batch {
        done.push(match write {
            Write::Create(request, _) => Done::Create(create(&mut transaction, database.engine(), request).await?),
            Write::Step(request, _) => Done::Step(step(&mut transaction, database.engine(), request).await?),
            Write::Stop(plan, request, _) => {
                Done::Stop(stop(&mut transaction, database.engine(), plan, request).await?)
            }
            Write::Reopen(plan, request, _) => {
                Done::Reopen(reopen(&mut transaction, database.engine(), plan, request).await?)
            }
            Write::Renew(owner, until, _) => Done::Renew(renew(&mut transaction, owner, *until).await?),
        });
    }
    if done.iter().any(Done::concerns_others) {
        say(&mut transaction, database.engine(), &place.name).await.map_err(doing)?;
    }
    transaction.commit().await.map_err(doing)?;
    Ok(done)
}

async fn renew(connection: &mut AnyConnection, owner_key: &str, until: Timestamp) -> Result<Vec<AttemptId>> {
    let rows: Vec<(String,)> =
        sqlx::query_as("UPDATE attempt SET lease_until = $1 WHERE owner_key = $2 AND state = 'running' RETURNING id")
            .bind(until.millis())
            .bind(owner_key)
            .fetch_all(connection)
            .await
            .map_err(|error| Error::database("renewing leases", error))?;
    rows.iter().map(|(id,)| read_id(id)).collect()
}

/// Reads an identifier that this program wrote.
pub(super) fn read_id<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Corrupt { what: format!("identifier `{text}`") })
}
