//! The one error type of this crate.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with settings, objects, databases and telemetry.
///
/// [`Error::is_transient`] says whether trying again may help, [`Error::is_about_one_object`] whether only one object is
/// concerned, so that a job can note the failure and go on with the next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings file cannot be read or is not TOML.
    #[error("cannot read the settings file {path}: {reason}", path = path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where it is known.
        reason: String,
    },

    /// A setting that does not exist.
    #[error("unknown setting `{key}` in {origin}{hint}")]
    UnknownSetting {
        /// The key or variable as written.
        key: String,
        /// Where it was written: a file with its line, a variable, or the command line.
        origin: String,
        /// The nearest name, as the end of the sentence, or nothing.
        hint: String,
    },

    /// A setting whose value is not allowed.
    #[error("`{value}` is not allowed for {key} in {origin}: give {allowed}")]
    InvalidSetting {
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// Where it was written.
        origin: String,
        /// What may be given instead.
        allowed: String,
    },

    /// A place for objects that is neither a folder nor an S3 prefix.
    #[error("`{location}` is no place for objects: {reason}")]
    InvalidLocation {
        /// The text as given.
        location: String,
        /// What is wrong and what is understood.
        reason: String,
    },

    /// A key that a store refuses: it would leave the store's root, or names nothing.
    #[error("`{key}` cannot be a key in {location}: {reason}")]
    InvalidKey {
        /// The key as given.
        key: String,
        /// The store's root.
        location: String,
        /// What is wrong with it.
        reason: String,
    },

    /// There is no such object or folder.
    #[error("{uri} does not exist: check its spelling and whether it was moved or deleted")]
    NotFound {
        /// The object or folder.
        uri: String,
    },

    /// One object or one folder of a listing cannot be read, while its neighbours can.
    #[error("cannot read {uri}: {reason}")]
    Unreadable {
        /// The object or folder.
        uri: String,
        /// Why.
        reason: String,
    },

    /// The bucket does not exist.
    #[error(
        "the bucket `{bucket}` does not exist on {endpoint}: check its name, create it, or set AWS_ENDPOINT_URL if it is \
         on another server"
    )]
    BucketMissing {
        /// The bucket's name.
        bucket: String,
        /// The server that was asked.
        endpoint: String,
    },

    /// The server or the file system refuses: wrong or missing credentials, or too few rights.
    #[error("access to {uri} was denied, {reason}: {advice}")]
    Denied {
        /// The bucket, object, file or folder.
        uri: String,
        /// Why.
        reason: String,
        /// What to do.
        advice: String,
    },

    /// The server does not answer.
    #[error(
        "cannot reach the object store at {endpoint} ({reason}): check that it runs, the network, and AWS_ENDPOINT_URL"
    )]
    Unreachable {
        /// The server's address.
        endpoint: String,
        /// Why: refused, timed out, name not found.
        reason: String,
    },

    /// No room is left to write.
    #[error("no space is left to write {uri}: free some space, or use another place (`home` and `lake.url` set it)")]
    Full {
        /// What was being written.
        uri: String,
    },

    /// What was to be written ended before it was whole.
    #[error("the content of {uri} broke off ({reason}) and nothing was written: send it again")]
    BrokenOff {
        /// What was being written.
        uri: String,
        /// Why.
        reason: String,
    },

    /// An object cannot be made of parts that are not there.
    #[error("part {number} of {uri} is not there or has changed: send it again, or begin a new upload")]
    UnknownPart {
        /// The object.
        uri: String,
        /// The part, from 1 on.
        number: u32,
    },

    /// Anything else that an object store answers.
    #[error("cannot {action} {uri}: {reason}")]
    ObjectStore {
        /// What was tried: `read`, `write`, `list`, `delete`.
        action: &'static str,
        /// The object or folder.
        uri: String,
        /// What the store said.
        reason: String,
        /// Whether trying again may help.
        transient: bool,
    },

    /// The file exists and is not a SQLite database, or is damaged.
    #[error(
        "{path} is not a usable SQLite database ({reason}): move it away to start afresh, or set `state.url` to another file",
        path = path.display()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },

    /// The database is locked by another process for longer than the time-out.
    #[error(
        "the database {path} stays locked by another process: wait for it to finish, or stop it and try again",
        path = path.display()
    )]
    DatabaseBusy {
        /// The file.
        path: PathBuf,
    },

    /// Any other failure of the database.
    #[error("the database {path} failed: {reason}", path = path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said, and what to do where it is known.
        reason: String,
    },

    /// The database server cannot be reached.
    #[error("cannot reach the database server {server} ({reason}): check that it runs, the network, and `state.url`")]
    ServerUnreachable {
        /// Its address without a password.
        server: String,
        /// Why.
        reason: String,
    },

    /// The database server answers and refuses.
    #[error("the database server {server} refuses ({reason}): {advice}")]
    ServerRefused {
        /// Its address without a password.
        server: String,
        /// What it said.
        reason: String,
        /// What to do.
        advice: &'static str,
    },

    /// An address that others can reach, and nobody is asked who they are.
    #[error(
        "{0} can be reached from other machines, and identity is off: add a user with `safari user add NAME --role admin` \
         and set `identity.enabled = true`, or give a loopback address such as 127.0.0.1 with --listen"
    )]
    OpenAddress(SocketAddr),

    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; another program may use it, give another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },

    /// Certificate or key cannot be used.
    #[error("the TLS file {path} cannot be used: {reason}; check `tls.cert` and `tls.key`", path = path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The database does not do what identity asks of it.
    #[error("the database of identity failed while {doing}: {source}")]
    Identity {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        source: sqlx::Error,
    },

    /// The tables of identity cannot be brought up to date.
    #[error("the tables of identity cannot be brought up to date: {0}")]
    IdentityTables(sqlx::migrate::MigrateError),

    /// The tables of a database that others use are changed by an operator only.
    #[error(
        "the tables of identity in {database} are not those of this version: run `safari migrate`, then start again"
    )]
    OldIdentityTables {
        /// The database, without its password.
        database: String,
    },

    /// A name that no user can have.
    #[error("`{0}` cannot be the name of a user: give at most 100 letters, digits and . _ - @ +")]
    UserName(String),

    /// Another user has that name.
    #[error("there is a user {0} already: give another name, or change this one with `safari user password`")]
    UserExists(String),

    /// There is no such user.
    #[error("there is no user {0}: `safari user list` shows all")]
    UserUnknown(String),

    /// There is no such token that goes on.
    #[error("there is no token {0} that goes on: `safari token list` shows all")]
    TokenUnknown(String),

    /// A password that is guessed too easily, or longer than anybody needs.
    #[error("the password has {0} characters: give from 12 to 1000")]
    PasswordLength(usize),

    /// A role that does not exist.
    #[error("`{0}` is no role: `safari roles` shows all")]
    RoleUnknown(String),

    /// The key that seals secrets is not one.
    #[error("the key that seals secrets cannot be used: {0}; give 32 random bytes in base64")]
    SealingKey(String),

    /// What was sealed does not open.
    #[error(
        "the sealed secret of {owner} does not open: it was sealed with another key, give that one or make the secret anew"
    )]
    Sealed {
        /// Whose secret it is.
        owner: String,
    },

    /// A token cannot be signed.
    #[error("a token cannot be signed: {0}")]
    Signing(String),

    /// The external issuer of tokens cannot be used.
    #[error("the issuer {issuer} cannot be asked: {reason}; check `identity.oidc_issuer`")]
    Issuer {
        /// Its URL.
        issuer: String,
        /// Why.
        reason: String,
    },

    /// A log level that does not exist.
    #[error(
        "`{level}` is no log level: give off, error, warn, info, debug or trace, or a list such as warn,pipeline=debug"
    )]
    LogLevel {
        /// The level as given.
        level: String,
    },
}

impl Error {
    /// Whether trying the same again later may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::DatabaseBusy { .. }
            | Error::ServerUnreachable { .. }
            | Error::Identity { .. }
            | Error::Issuer { .. } => true,
            Error::ObjectStore { transient, .. } => *transient,
            _ => false,
        }
    }

    /// Whether the failure concerns one object only, so that work on other objects can go on.
    ///
    /// A missing bucket, wrong credentials, a dead server or a full disk concern every object.
    pub fn is_about_one_object(&self) -> bool {
        matches!(self, Error::NotFound { .. } | Error::Unreadable { .. } | Error::InvalidKey { .. })
    }

    /// For `map_err` on a statement about identity.
    pub(crate) fn identity(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Identity { doing, source }
    }

    /// A failure of the file system while doing `action` (`read`, `write`, `delete`) with `path`.
    pub fn from_io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        let uri = path.display().to_string();
        let reason = io_reason(error);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if action == "read" => Error::NotFound { uri },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { uri },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if action != "read" => Error::Denied {
                uri,
                reason,
                advice: "check the owner and the mode of the folder, or use another place".to_owned(),
            },
            _ if action == "read" => Error::Unreadable { uri, reason },
            _ => Error::ObjectStore { action, uri, reason, transient: error.kind() == io::ErrorKind::Interrupted },
        }
    }
}

/// The text of an I/O error in lower case and without the error number.
pub(crate) fn io_reason(error: &io::Error) -> String {
    plain_words(&error.to_string())
}

/// The innermost error of a chain, as part of a sentence: "connection refused" rather than "dispatch failure".
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain_words(&cause.to_string())
}

/// Part of a sentence: a small letter first, no full stop, no error number.
fn plain_words(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or(text).trim_end_matches('.');
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => "no reason given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let path = Path::new("/data/lake/x.parquet");
        let full = Error::from_io("write", path, &io::Error::from_raw_os_error(28));
        assert!(matches!(&full, Error::Full { uri } if uri == "/data/lake/x.parquet"), "{full}");
        assert!(!full.is_about_one_object() && !full.is_transient());
        let quota = Error::from_io("write", path, &io::Error::from_raw_os_error(122));
        assert!(matches!(quota, Error::Full { .. }), "{quota}");
        let read_only = Error::from_io("write", path, &io::Error::from_raw_os_error(30));
        assert_eq!(
            read_only.to_string(),
            "access to /data/lake/x.parquet was denied, read-only file system: check the owner and the mode of the \
             folder, or use another place"
        );
    }

    #[test]
    fn causes_are_plain() {
        assert_eq!(root_cause(&io::Error::from_raw_os_error(2)), "no such file or directory");
        let error = Error::from_io("read", Path::new("a.jpg"), &io::Error::from_raw_os_error(13));
        assert_eq!(root_cause(&io::Error::other(error)), "cannot read a.jpg: permission denied");
    }

    #[test]
    fn an_unreadable_file_concerns_that_file_only() {
        let error = Error::from_io("read", Path::new("a.jpg"), &io::Error::from_raw_os_error(13));
        assert_eq!(error.to_string(), "cannot read a.jpg: permission denied");
        assert!(error.is_about_one_object());
        let error = Error::from_io("read", Path::new("a.jpg"), &io::Error::from_raw_os_error(2));
        assert!(matches!(error, Error::NotFound { .. }));
    }
}
