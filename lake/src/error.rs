//! What can go wrong with a lake, in words that say what to do next.

use std::error::Error as StdError;
use std::io;

use deltalake_core::DeltaTableError;

use crate::schema::Table;

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the lake.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place is no folder or bucket, or cannot be reached or entered.
    #[error(transparent)]
    Place(#[from] platform::Error),
    /// The storage refused or failed after the lake was opened.
    #[error("the lake at '{location}' cannot be used: {reason}")]
    Storage {
        /// The lake or the table.
        location: String,
        /// What the storage answered, and what to check.
        reason: String,
    },
    /// The disk or the bucket has no room left.
    #[error(
        "no space left at '{location}'; free some space and run the same command again, nothing half-written is visible"
    )]
    Full {
        /// The lake or the table.
        location: String,
    },
    /// The rows, or the table that is there, do not have the columns that this version writes.
    #[error(
        "table {table} has other columns than this version of safari writes: {reason}; use another lake.url, or the version that wrote it"
    )]
    Schema {
        /// Which table.
        table: Table,
        /// The first difference.
        reason: String,
    },
    /// Other writers changed the table again and again while this one tried to append.
    #[error(
        "table {table} was changed by other writers in all of {tries} tries to append to it; run the same command again"
    )]
    Busy {
        /// Which table.
        table: Table,
        /// How often it was tried.
        tries: u32,
    },
    /// The Delta log or a data file is not as it should be.
    #[error("table {table} at '{location}' cannot be used: {source}")]
    Delta {
        /// Which table.
        table: Table,
        /// Where it is.
        location: String,
        /// What Delta says.
        source: Box<DeltaTableError>,
    },
    /// A query that cannot be run; the message is one line for the person who wrote it.
    #[error("{message}")]
    Sql {
        /// What is wrong, where, and the nearest names.
        message: String,
    },
    /// Rows could not be made into Arrow arrays, or the other way round.
    #[error("rows cannot be converted: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A table holds a word that this version does not know.
    #[error("a table holds a word that this version of safari does not know: {0}; update safari")]
    Word(#[from] UnknownWord),
    /// The result could not be written to where the caller wants it.
    #[error("the result cannot be written: {0}")]
    Output(#[source] io::Error),
}

/// A word that is not one of an enum's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is not one of {known}")]
pub struct UnknownWord {
    /// What was given.
    pub word: String,
    /// What there is, separated by commas.
    pub known: &'static str,
}

/// Turns an error of Delta into ours, looking through its causes for a full disk and for refusals of the storage.
pub(crate) fn from_delta(table: Table, location: &str, error: DeltaTableError) -> Error {
    storage_error(location, &error).unwrap_or_else(|| Error::Delta {
        table,
        location: location.to_owned(),
        source: Box::new(error),
    })
}

/// The storage error that caused `error`, if one did.
pub(crate) fn storage_error(location: &str, error: &(dyn StdError + 'static)) -> Option<Error> {
    let chain = causes(error);
    if chain.iter().any(|cause| is_full(*cause)) {
        return Some(Error::Full { location: location.to_owned() });
    }
    let advice = chain.iter().rev().find_map(|cause| storage_advice(*cause))?;
    let innermost = chain.last().map(|cause| one_line(&cause.to_string())).unwrap_or_default();
    Some(Error::Storage { location: location.to_owned(), reason: format!("{advice} ({innermost})") })
}

/// `text` on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The error and everything that caused it, outermost first.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut chain = vec![error];
    while let Some(source) = chain[chain.len() - 1].source() {
        chain.push(source);
    }
    chain
}

fn is_full(cause: &(dyn StdError + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<io::Error>()
        && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    {
        return true;
    }
    // Some layers keep only the text of their cause.
    let text = cause.to_string();
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

fn storage_advice(cause: &(dyn StdError + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return match error.kind() {
            io::ErrorKind::PermissionDenied => Some("permission denied; check who owns the folder"),
            io::ErrorKind::ReadOnlyFilesystem => Some("the file system is read-only; use another lake.url"),
            _ => None,
        };
    }
    match cause.downcast_ref::<object_store::Error>()? {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => Some(
            "access denied; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN and the bucket's policy",
        ),
        error @ object_store::Error::NotFound { .. } if error.to_string().contains("NoSuchBucket") => {
            Some("the bucket does not exist; create it or check lake.url")
        }
        object_store::Error::Generic { store: "S3", .. } => {
            Some("the S3 server did not answer as expected; check AWS_ENDPOINT_URL, AWS_REGION and the network")
        }
        _ => None,
    }
}
