//! What ends the program with exit code 1.

use std::io;
use std::path::PathBuf;

use platform::database::Address;

/// Result of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The one message that a failed command prints.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Configuration, state database or object store.
    #[error(transparent)]
    Platform(#[from] platform::Error),
    /// The DAG file, its parameters, or the state of a run.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// The state database is full, locked or damaged.
    #[error("{address}: {source}")]
    State {
        /// The database.
        address: Address,
        /// What is wrong with it.
        source: pipeline::Error,
    },
    /// The tables.
    #[error(transparent)]
    Lake(#[from] lake::Error),
    /// A backup or a restoration.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// A job's services.
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    /// The registry: its tables, files, server, or what it refuses.
    #[error(transparent)]
    Registry(#[from] model_registry::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] oci::Error),
    /// A rollout, its tables or its replicas.
    #[error(transparent)]
    Rollout(#[from] rollout::Error),
    /// A rollout ended otherwise than was asked.
    #[error("{0}")]
    RolloutFailed(String),
    /// The command was told to end while it drove a rollout.
    #[error(
        "rollout {0} is left as it stands; `safari server` goes on with it, and so does `safari rollout resume {0}`"
    )]
    RolloutLeft(rollout::RolloutId),
    /// The server of live detections.
    #[cfg(feature = "torch")]
    #[error(transparent)]
    Serving(#[from] serving::Error),
    /// The model or a picture.
    #[error(transparent)]
    Detector(#[from] detector::Error),
    /// A `--param` without an equals sign.
    #[error("--param {0}: write it as name=value")]
    Param(String),
    /// A range of time that holds nothing.
    #[error("--from {start} is not before --to {end}")]
    EmptyRange {
        /// Its first moment.
        start: chrono::DateTime<chrono::Utc>,
        /// The moment after its last.
        end: chrono::DateTime<chrono::Utc>,
    },
    /// A path on the command line that does not exist.
    #[error("{0}: there is no such file or folder")]
    MissingPath(PathBuf),
    /// Pods on other machines cannot share a file.
    #[error(
        "`kubernetes.executor` needs the state in PostgreSQL, which pods can reach, but it is {0}; set `state.url` to \
         postgres://…"
    )]
    PodsNeedPostgres(Address),
    /// `safari dag render --task` names no task.
    #[error("dag `{dag}` has no task `{task}`; its tasks: {names}")]
    NoTask {
        /// The DAG.
        dag: String,
        /// The name.
        task: String,
        /// All names that there are.
        names: String,
    },
    /// A Job cannot be written.
    #[error("the Job cannot be written as YAML: {0}")]
    Render(String),
    /// The folder of DAG files is not there.
    #[error("{0}: there is no such folder; give the folder of DAG files with --dags")]
    NoDagFolder(PathBuf),
    /// The server of `server.url` is not there.
    #[error(
        "the server {server} does not answer: {reason}; check that it runs and that `server.url` (--server) names it"
    )]
    ServerUnreachable {
        /// The server.
        server: String,
        /// Why.
        reason: String,
    },
    /// Something else answers there.
    #[error("{server} answered {what}, and that is no answer of this version's API; check `server.url` (--server)")]
    NoSafariServer {
        /// The server.
        server: String,
        /// What it answered.
        what: String,
    },
    /// The server cannot do what was asked; in its own words, which say what to do.
    #[error("{0}")]
    Refused(String),
    /// The server failed.
    #[error("the server {server} failed: {detail}")]
    ServerFailed {
        /// The server.
        server: String,
        /// In its own words.
        detail: String,
    },
    /// Two ways to drive a run.
    #[error("--here drives the run in this process, without a server; leave out --server (`server.url`)")]
    HereAndServer,
    /// `safari migrate --check` has found old tables.
    #[error("{0} changes of tables are to be made: run `safari migrate`")]
    OldTables(usize),
    /// `--registry` names no server.
    #[error("--registry {0}: give http://HOST:PORT or https://HOST, or leave it out for the registry of this machine")]
    NoRegistry(String),
    /// `--registry` of a server names no address.
    #[error("--registry {0}: give an address such as 127.0.0.1:5000, or `off`")]
    NoRegistryAddress(String),
    /// `--trained-on` names no version of a table.
    #[error("--trained-on {0}: write the table's URL, an @, and the number of its version")]
    TrainedOn(String),
    /// A model without a name.
    #[error("{0}: say what the registered model is called, with --name")]
    NoModelName(String),
    /// A model with all its versions is to be removed.
    #[error("model {0} would be removed with all its versions; say --yes if that is what you want")]
    NotSure(String),
    /// A copy that would be its own original.
    #[error("model {0} is to be copied onto itself; give another server with --from or --to, or another name")]
    CopyOntoItself(String),
    /// A file of secrets cannot be read or written.
    #[error("{path} cannot be used: {source}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No password was given.
    #[error("no password was given: type it, give it as one line on standard input, or let --generate make one")]
    NoPassword,
    /// `safari login` knows no server.
    #[error("say which server to log in to, with --server URL")]
    NoServer,
    /// A run ended with a failed task.
    #[error("{0}")]
    RunFailed(String),
    /// Output cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// The file, or standard output.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The program's threads cannot be started.
    #[error("the program's threads cannot be started: {0}")]
    Runtime(io::Error),
}

impl Error {
    /// An [`Error::Write`] about `path`.
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    /// The same error, with the database named if it is about the state database.
    pub(crate) fn about_state(self, state: &Address) -> Self {
        use pipeline::Error as E;
        match self {
            Self::Pipeline(
                source @ (E::DiskFull { .. }
                | E::DatabaseBusy { .. }
                | E::DatabaseUnreachable { .. }
                | E::Database { .. }
                | E::Migrate(_)
                | E::SharedDatabase),
            ) => Self::State { address: state.clone(), source },
            other => other,
        }
    }

    /// True if the reader of standard output has gone.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Write { source, .. } | Self::Lake(lake::Error::Output(source)) => {
                source.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }
}
