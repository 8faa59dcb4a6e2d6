//! The one error type of this crate.

use std::path::PathBuf;

use platform::database::Address;

use crate::id::BackupId;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why something is not backed up, restored or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A place for objects, or a database.
    #[error(transparent)]
    Platform(#[from] platform::Error),

    /// The tables.
    #[error(transparent)]
    Lake(#[from] lake::Error),

    /// A database does not do what it is asked.
    #[error("the database {address} failed while {doing}: {reason}")]
    Database {
        /// The database, without its password.
        address: Address,
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        reason: String,
    },

    /// A public key of age that is none.
    #[error(
        "`{key}` in `backup.recipients` is no public key of age: {reason}; `age-keygen -y FILE` prints that of a file"
    )]
    Recipient {
        /// As given.
        key: String,
        /// What is wrong.
        reason: String,
    },

    /// The file of secret keys cannot be used.
    #[error("the keys in {path} cannot be used: {reason}; `backup.identity_file` names a file that age-keygen wrote", path = path.display())]
    IdentityFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the keys.
        reason: String,
    },

    /// The backup is encrypted, and no key was given.
    #[error("backup {0} is encrypted: name the file of its secret key with `backup.identity_file`")]
    NoIdentity(BackupId),

    /// The backup is encrypted for somebody else.
    #[error("{what} is encrypted for another key: give that one with `backup.identity_file`")]
    Undecipherable {
        /// The object.
        what: String,
    },

    /// What cannot be encrypted or compressed.
    #[error("{what} cannot be packed: {reason}")]
    Unpackable {
        /// What it is.
        what: String,
        /// Why.
        reason: String,
    },

    /// A stored object is not as it was written.
    #[error("{what} is damaged: {reason}; restore another backup (`safari backup list`), and look at the place's disk")]
    Damaged {
        /// The object.
        what: String,
        /// What differs.
        reason: String,
    },

    /// The backup was made by a newer version.
    #[error("backup {id} has format {format}, and this version reads up to {known}: use a newer safari")]
    NewerFormat {
        /// The backup.
        id: BackupId,
        /// Its format.
        format: u32,
        /// What this version knows.
        known: u32,
    },

    /// Another backup, or a removal of old ones, is at work there.
    #[error("{place} is in use by {holder}: wait for it to end, and try again")]
    InUse {
        /// The place of backups.
        place: String,
        /// Who is at work.
        holder: String,
    },

    /// This process stood still, and another one has taken its place.
    #[error(
        "this process stood still for so long that {place} was given to another: nothing was recorded, begin again"
    )]
    LockLost {
        /// The place of backups.
        place: String,
    },

    /// There is no such backup.
    #[error("there is no backup {wanted} in {place}: `safari backup list` shows all")]
    NoBackup {
        /// What was asked for, such as an id or a time.
        wanted: String,
        /// The place of backups.
        place: String,
    },

    /// An id that is none.
    #[error("`{0}` is no id of a backup, such as 20260102T030405-0a1b2c: `safari backup list` shows all")]
    Id(String),

    /// The backup does not have what is to be restored.
    #[error("backup {id} has no {what}: give another one with --backup")]
    NotInBackup {
        /// The backup.
        id: BackupId,
        /// What was asked for.
        what: String,
    },

    /// There is nothing to back up.
    #[error("there is nothing to back up: {0} do not exist yet")]
    Nothing(String),

    /// Something is there already.
    #[error("{targets} would be replaced: say --force if that is what you want, or restore to another place with --to")]
    WouldReplace {
        /// What is there.
        targets: String,
    },

    /// A folder to restore to is not empty.
    #[error("{path} is not empty: give a folder that does not exist yet with --to", path = path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },

    /// A database is open elsewhere.
    #[error("the database {0} is in use: stop the servers and workers that have it open, and try again")]
    DatabaseInUse(Address),

    /// What was restored is not what was backed up.
    #[error(
        "what was restored of {part} is not what was backed up: {reason}; nothing was replaced, restore another backup"
    )]
    Differs {
        /// The part.
        part: &'static str,
        /// The first difference.
        reason: String,
    },

    /// The backup's kind of database is not that of the settings.
    #[error("{part} was backed up from {from} and the settings name {to}: set its database to one of the same kind")]
    OtherEngine {
        /// The part.
        part: &'static str,
        /// Such as `SQLite`.
        from: &'static str,
        /// The database of the settings.
        to: Address,
    },

    /// The settings give one database to several parts that were apart.
    #[error("the settings give {part} no place of its own, and the backup has one: set its database to one of its own")]
    SharedDatabase {
        /// The part.
        part: &'static str,
    },

    /// A file of this machine cannot be used.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// `read`, `write`, `rename`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// No server's files are named.
    #[error(
        "no PostgreSQL server is backed up as files: set `backup.postgres_data` to its data folder and `state.url` to its address"
    )]
    NoCluster,

    /// A bucket that pgBackRest cannot use.
    #[error(
        "pgBackRest speaks to buckets over TLS only, and {endpoint} is without: name its https:// address with AWS_ENDPOINT_URL"
    )]
    InsecureBucket {
        /// The server's address.
        endpoint: String,
    },

    /// The server runs.
    #[error("the server in {data} runs (process {process}): stop it before its files are replaced", data = data.display())]
    ClusterRuns {
        /// Its folder.
        data: PathBuf,
        /// Its process.
        process: u32,
    },

    /// A program that is needed is not there, or fails.
    #[error("{program} {reason}")]
    Program {
        /// Such as `pg_dump`.
        program: &'static str,
        /// What happened and what to do.
        reason: String,
    },

    /// The clock of the place went back.
    #[error("the newest backup in {place} is from the future ({newest}): set the clock, nothing was removed")]
    ClockWentBack {
        /// The place of backups.
        place: String,
        /// When that backup was written.
        newest: String,
    },
}

impl Error {
    /// For `map_err` on work with a file.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err` on a statement.
    pub(crate) fn database(address: &Address, doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        let address = address.clone();
        move |error| Self::Database { address, doing, reason: error.to_string() }
    }

    pub(crate) fn damaged(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), reason: reason.into() }
    }

    /// Whether trying the same again later may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Platform(error) => error.is_transient(),
            Self::Lake(error) => matches!(error, lake::Error::Busy { .. } | lake::Error::Storage { .. }),
            Self::InUse { .. } | Self::LockLost { .. } => true,
            _ => false,
        }
    }
}
