//! What can go wrong in the orchestrator, in words for the person at the terminal.

use std::path::PathBuf;

use crate::dag::Mistakes;
use crate::ids::{BackfillId, RunId};
use crate::state::RunState;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way in which the orchestrator itself fails. A job that fails is not an error: it is part of the run's outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A DAG file has mistakes; all of them, each with its place.
    #[error("{0}")]
    Dag(Mistakes),
    /// A DAG file cannot be read.
    #[error("cannot read the DAG file {path}: {source}; give the path of an existing YAML file")]
    ReadDag {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Parameters given for a run do not fit the DAG; every misfit, separated by "; ".
    #[error("parameters of dag `{dag}` do not fit: {mistakes}")]
    Params {
        /// Name of the DAG.
        dag: String,
        /// What is wrong and what is declared.
        mistakes: String,
    },
    /// Two jobs were registered under one kind.
    #[error("job kind `{0}` is registered twice; every kind needs one implementation")]
    DuplicateJob(String),
    /// A live process drives the run.
    #[error(
        "run {run} is being driven by process {pid} on this machine; wait for it to end, or stop that process and start again"
    )]
    RunOwned {
        /// The run.
        run: RunId,
        /// Process id from the lock file (0 when it could not be read).
        pid: u32,
    },
    /// The run was stopped on request before its end.
    #[error("run {run} was interrupted; start the same DAG with the same parameters to go on where it stopped")]
    Interrupted {
        /// The run.
        run: RunId,
    },
    /// A worker was told to stop and has done so.
    #[error("the worker was stopped")]
    Stopped,
    /// Two files of a folder hold DAGs of one name.
    #[error("{second} and {first} both hold a dag named `{name}`; rename one of them", first = first.display(), second = second.display())]
    DuplicateDag {
        /// The name.
        name: String,
        /// The file that had it first.
        first: PathBuf,
        /// The file that has it too.
        second: PathBuf,
    },
    /// No DAG has this name.
    #[error("no dag named `{0}` is known; list the dags to see their names")]
    DagNotFound(String),
    /// Somebody else than its source starts a run of a continuous DAG.
    #[error("dag `{0}` is continuous: a server runs it for what comes in, and nobody else can start a run of it")]
    Continuous(String),
    /// A DAG has no such version, or more than one.
    #[error("no single version of dag `{dag}` is meant: {reason}; list the versions of the dag to see them")]
    DagVersionNotFound {
        /// The DAG.
        dag: String,
        /// Why not.
        reason: String,
    },
    /// A range of the past holds no interval of a DAG's schedule.
    #[error(
        "the schedule of dag `{dag}` has no data interval within {range}; \
         give a wider range, and a `schedule` with cron or every to the dag if it has none"
    )]
    NoIntervals {
        /// Name of the DAG.
        dag: String,
        /// The range.
        range: String,
    },
    /// No DAG could name an asset so.
    #[error("`{0}` cannot name an asset; give a name or a URL without blanks and braces")]
    AssetName(String),
    /// No backfill has this id.
    #[error("backfill {0} is not in the state database; list the backfills to find its id")]
    BackfillNotFound(BackfillId),
    /// No run has this id.
    #[error("run {0} is not in the state database; list the runs to find its id")]
    RunNotFound(RunId),
    /// A run that is to go on has not ended.
    #[error("run {run} is {state}; wait for its end, or cancel it, before tasks of it are done again")]
    RunNotFinished {
        /// The run.
        run: RunId,
        /// Where it stands.
        state: RunState,
    },
    /// A run that is to go on where it failed has not failed.
    #[error(
        "no task of run {0} failed or was cancelled, so there is nothing to go on with; clear a task to do it again"
    )]
    NothingFailed(RunId),
    /// The DAG of a run has no task of this name.
    #[error("run {run} has no task `{task}`; its tasks: {names}")]
    TaskNotFound {
        /// The run.
        run: RunId,
        /// The name.
        task: String,
        /// All names that there are.
        names: String,
    },
    /// Somebody wants to go on behind a change that never was.
    #[error(
        "no change of a run has position {position}, the last is {last}; the position is of another database, \
         begin without one"
    )]
    PositionUnknown {
        /// Where to go on.
        position: i64,
        /// The last change.
        last: i64,
    },
    /// A run has no attempt whose log could be read.
    #[error("run {run} has no such attempt yet; show the run to see what has begun")]
    NoAttempt {
        /// The run.
        run: RunId,
    },
    /// It is not known how to reach a Kubernetes cluster.
    #[error(
        "no Kubernetes cluster can be reached: {reason}; give a kubeconfig with `kubernetes.kubeconfig`, or run as a pod \
         that has a service account"
    )]
    NoCluster {
        /// Why not.
        reason: String,
    },
    /// The pod template of the installation cannot be used.
    #[error("{path}: {reason}; give a pod template as in a Deployment with `kubernetes.pod_template`", path = path.display())]
    PodTemplate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store of the logs of attempts fails.
    #[error("logs of attempts: {0}")]
    Logs(Box<platform::Error>),
    /// A lock file or a folder of the run cannot be made or locked.
    #[error("cannot use {path}: {source}; check that the home folder is writable and its disk not full")]
    Home {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disk of the home folder is full.
    #[error("no space left for {path}; free some space and start again, the run goes on where it stopped")]
    HomeFull {
        /// The file or folder.
        path: PathBuf,
    },
    /// Another process has been starting a run for too long.
    #[error("another process (id {pid}) holds {path} while it starts a run; stop it, then start again")]
    StartBlocked {
        /// The lock file.
        path: PathBuf,
        /// Process id from the lock file (0 when it could not be read).
        pid: u32,
    },
    /// The disk of the state database is full.
    #[error(
        "no space left for the state database while {doing}; free some space and start again, the run goes on where it stopped"
    )]
    DiskFull {
        /// What was being done.
        doing: &'static str,
    },
    /// The state database stayed locked by another process.
    #[error("the state database stayed locked by another process while {doing}; stop what holds it and start again")]
    DatabaseBusy {
        /// What was being done.
        doing: &'static str,
    },
    /// The state database cannot be reached, or went away in the middle. Whether what was being written is written is not
    /// known.
    #[error("the state database did not answer while {doing}: {reason}; check that it runs and can be reached")]
    DatabaseUnreachable {
        /// What was being done.
        doing: &'static str,
        /// The database's or the network's own words.
        reason: String,
    },
    /// The state database failed otherwise.
    #[error("the state database failed while {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's own error.
        source: sqlx::Error,
    },
    /// The database's tables could not be brought to this version of the program.
    #[error("cannot bring the state database up to date: {0}; a newer program may have written it")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The registry's tables lie in the database, and tables of both have the same names.
    #[error("the state of runs cannot be in the registry's database: give it one of its own by `state.url`")]
    SharedDatabase,
    /// The state database holds something that this program never writes.
    #[error(
        "the state database holds {what}, which this program cannot read; restore it from a backup or use a newer program"
    )]
    Corrupt {
        /// What was found where.
        what: String,
    },
    /// The task that writes the state ended early, so nothing more can be recorded.
    #[error("the state writer has stopped; start the program again, the run goes on where it stopped")]
    WriterGone,
}

impl Error {
    /// Wraps a database error, telling a full disk and a locked database from the rest.
    pub(crate) fn database(doing: &'static str, source: sqlx::Error) -> Self {
        let trouble = match &source {
            sqlx::Error::Database(error) => Trouble::of(&error.code().unwrap_or_default()),
            // A connection that ends while it is being made seems to speak another protocol.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => {
                Some(Trouble::Unreachable)
            }
            _ => None,
        };
        match trouble {
            Some(Trouble::DiskFull) => Self::DiskFull { doing },
            Some(Trouble::Busy) => Self::DatabaseBusy { doing },
            Some(Trouble::Unreachable) => Self::DatabaseUnreachable { doing, reason: source.to_string() },
            None => Self::Database { doing, source },
        }
    }

    /// What is wrong with a file or folder of the home folder.
    pub(crate) fn home(path: PathBuf, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull => Self::HomeFull { path },
            _ => Self::Home { path, source },
        }
    }

    /// Whether the same may succeed when the database is back.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::DatabaseUnreachable { .. })
    }
}

impl From<platform::Error> for Error {
    /// This crate uses nothing else of the platform's that can fail so.
    fn from(error: platform::Error) -> Self {
        Self::Logs(Box::new(error))
    }
}

enum Trouble {
    DiskFull,
    Busy,
    Unreachable,
}

impl Trouble {
    /// From PostgreSQL's SQLSTATE, which has five characters
    /// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>), or SQLite's result code, of which the low byte
    /// is the primary one (<https://www.sqlite.org/rescode.html>).
    fn of(code: &str) -> Option<Self> {
        if code.len() == 5 {
            return match code {
                "53100" => Some(Self::DiskFull),
                // Serialisation failure, deadlock, lock not available.
                "40001" | "40P01" | "55P03" => Some(Self::Busy),
                // The server shuts down, has crashed, starts up, or has no connection left.
                "57P01" | "57P02" | "57P03" | "53300" => Some(Self::Unreachable),
                // It has ended the connection because this process said nothing for too long.
                "25P03" | "57P05" => Some(Self::Unreachable),
                // It has become a standby: another server takes its place.
                "25006" => Some(Self::Unreachable),
                _ if code.starts_with("08") => Some(Self::Unreachable),
                _ => None,
            };
        }
        match code.parse::<i32>().ok()? & 0xff {
            13 => Some(Self::DiskFull),
            5 | 6 => Some(Self::Busy),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stay_small() {
        assert!(std::mem::size_of::<Error>() < 128, "{}", std::mem::size_of::<Error>());
    }
}
