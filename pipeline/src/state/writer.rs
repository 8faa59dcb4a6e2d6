//! The one writer of the state database. A commit costs a flush to the disk, so everything that waits while one commit
//! is under way goes into the next transaction together.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::create::{Create, create};
use super::step::{Step, StepDone, step};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::AttemptId;

/// Writes in one transaction at most: bounds how long the first of them waits for its answer.
const MOST_IN_ONE: usize = 256;
/// How long a database locked by another process is tried again.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
const DOING: &str = "recording the state of a run";

type Reply<T> = oneshot::Sender<Result<T>>;

enum Write {
    Create(Box<Create>, Reply<()>),
    Step(Box<Step>, Reply<StepDone>),
    Renew(String, Timestamp, Reply<Vec<AttemptId>>),
}

enum Done {
    Create,
    Step(StepDone),
    Renew(Vec<AttemptId>),
}

/// A handle to the writer; it ends when all handles are gone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Write>,
}

impl Writer {
    pub(super) fn start(pool: SqlitePool) -> Self {
        let (queue, waiting) = mpsc::channel(1024);
        let runtime = tokio::runtime::Handle::current();
        // A thread of its own: its turns come in time however busy the runtime's workers are.
        let thread = std::thread::Builder::new().name("state writer".to_string());
        if let Err(error) = thread.spawn(move || runtime.block_on(serve(pool, waiting))) {
            // Every write now answers that the writer is gone.
            tracing::error!(%error, "no thread for the state writer");
        }
        Self { queue }
    }

    pub(super) async fn create(&self, create: Create) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Create(Box::new(create), reply), answer).await
    }

    pub(super) async fn step(&self, step: Step) -> Result<StepDone> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Step(Box::new(step), reply), answer).await
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

async fn serve(pool: SqlitePool, mut waiting: mpsc::Receiver<Write>) {
    let mut connection = None;
    while let Some(first) = waiting.recv().await {
        let mut batch = vec![first];
        while batch.len() < MOST_IN_ONE
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        write(&pool, &mut connection, batch).await;
    }
}

/// Writes a batch and answers. When it fails as a whole, each is tried alone, so that one cannot fail the others.
async fn write(pool: &SqlitePool, connection: &mut Option<PoolConnection<Sqlite>>, batch: Vec<Write>) {
    match commit(pool, connection, &batch).await {
        Ok(done) => batch.into_iter().zip(done).for_each(|(write, done)| write.answer(Ok(done))),
        Err(error) if batch.len() == 1 => {
            if let Some(write) = batch.into_iter().next() {
                write.answer(Err(error));
            }
        }
        Err(_) => {
            for write in batch {
                let result = commit(pool, connection, std::slice::from_ref(&write)).await;
                write.answer(result.and_then(|mut done| done.pop().ok_or(Error::WriterGone)));
            }
        }
    }
}

impl Write {
    /// Nobody may be listening any more; then the answer is dropped.
    fn answer(self, result: Result<Done>) {
        match (self, result) {
            (Self::Create(_, reply), Ok(Done::Create)) => drop(reply.send(Ok(()))),
            (Self::Step(_, reply), Ok(Done::Step(done))) => drop(reply.send(Ok(done))),
            (Self::Renew(_, _, reply), Ok(Done::Renew(kept))) => drop(reply.send(Ok(kept))),
            (Self::Create(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Step(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Renew(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            // Dropping the reply tells the caller that the writer failed it.
            (_, Ok(_)) => {}
        }
    }
}

/// One transaction for all of the batch; tried again while another process holds the database.
async fn commit(pool: &SqlitePool, kept: &mut Option<PoolConnection<Sqlite>>, batch: &[Write]) -> Result<Vec<Done>> {
    let started = Instant::now();
    loop {
        let connection = match kept {
            Some(connection) => connection,
            None => kept.insert(pool.acquire().await.map_err(|error| Error::database(DOING, error))?),
        };
        let result = transaction(connection, batch).await;
        match result {
            Err(Error::DatabaseBusy { .. }) if started.elapsed() < BUSY_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                // The connection itself may be what is broken.
                *kept = None;
                return Err(error);
            }
            done => return done,
        }
    }
}

async fn transaction(connection: &mut SqliteConnection, batch: &[Write]) -> Result<Vec<Done>> {
    let doing = |error| Error::database(DOING, error);
    // IMMEDIATE: a transaction that reads before it writes could not become a writer later.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(doing)?;
    let mut done = Vec::with_capacity(batch.len());
    for write in batch {
        done.push(match write {
            Write::Create(request, _) => {
                create(&mut transaction, request).await?;
                Done::Create
            }
            Write::Step(request, _) => Done::Step(step(&mut transaction, request).await?),
            Write::Renew(owner, until, _) => Done::Renew(renew(&mut transaction, owner, *until).await?),
        });
    }
    transaction.commit().await.map_err(doing)?;
    Ok(done)
}

async fn renew(connection: &mut SqliteConnection, owner_key: &str, until: Timestamp) -> Result<Vec<AttemptId>> {
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
