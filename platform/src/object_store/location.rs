//! Where objects are: a folder or a prefix in an S3 bucket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::io_reason;
use crate::{Error, Result};

/// The root of an object store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A folder, as an absolute path.
    Local(PathBuf),
    /// A folder-like prefix in a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Without slashes at its ends; empty for the whole bucket.
        prefix: String,
    },
}

impl Location {
    /// Reads `s3://bucket/prefix`, `file:///folder`, or a path, which may be relative to the current folder.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`] for other schemes, a missing bucket, or an empty text.
    pub fn parse(text: &str) -> Result<Location> {
        let refused = |reason: &str| Error::InvalidLocation { location: text.to_owned(), reason: reason.to_owned() };
        if text.is_empty() {
            return Err(refused("it is empty, give a folder or s3://bucket/prefix"));
        }
        if let Some(rest) = text.strip_prefix("s3://").or_else(|| text.strip_prefix("s3a://")) {
            return parse_s3(rest).map_err(refused);
        }
        if text.starts_with("s3:") || text.starts_with("s3a:") {
            return Err(refused("write s3://bucket/prefix"));
        }
        if text.starts_with("file:") {
            let path = url::Url::parse(text).ok().and_then(|url| url.to_file_path().ok());
            return path.map(Location::Local).ok_or_else(|| refused("write file:///absolute/path"));
        }
        if has_scheme(text) {
            return Err(refused("give a folder, file:///folder or s3://bucket/prefix"));
        }
        if text.contains('\0') {
            return Err(refused("it contains a NUL character"));
        }
        let path = std::path::absolute(text).map_err(|error| refused(&io_reason(&error)))?;
        Ok(Location::Local(path))
    }

    /// The name of the object `key` here: `s3://bucket/prefix/key` or an absolute path. [`Location::parse`] understands it.
    pub fn uri(&self, key: &str) -> String {
        if key.is_empty() {
            return self.to_string();
        }
        match self {
            Location::Local(root) => root.join(key).to_string_lossy().into_owned(),
            Location::S3 { bucket, prefix } if prefix.is_empty() => format!("s3://{bucket}/{key}"),
            Location::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}/{key}"),
        }
    }

    /// The location `folder` below this one.
    pub fn join(&self, folder: &str) -> Location {
        let folder = folder.trim_matches('/');
        match self {
            Location::Local(root) => Location::Local(root.join(folder)),
            Location::S3 { bucket, prefix } => {
                let prefix = format!("{prefix}/{folder}").trim_matches('/').to_owned();
                Location::S3 { bucket: bucket.clone(), prefix }
            }
        }
    }

    /// Whether it is a folder of this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Location::Local(_))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(root) => write!(formatter, "{}", root.display()),
            Location::S3 { bucket, prefix } if prefix.is_empty() => {
                write!(formatter, "s3://{bucket}")
            }
            Location::S3 { bucket, prefix } => write!(formatter, "s3://{bucket}/{prefix}"),
        }
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Location> {
        Location::parse(text)
    }
}

impl From<&Path> for Location {
    /// A folder; a path that cannot be made absolute (the current folder is gone) stays as it is.
    fn from(path: &Path) -> Location {
        Location::Local(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }
}

fn parse_s3(rest: &str) -> std::result::Result<Location, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("the bucket's name is missing, write s3://bucket/prefix");
    }
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if !bucket.chars().all(allowed) || bucket.starts_with('.') {
        return Err("a bucket's name has letters, digits, hyphens and dots only");
    }
    let prefix = prefix.trim_matches('/');
    if prefix.split('/').any(|part| part == "." || part == "..") {
        return Err("`.` and `..` are no parts of a prefix");
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// Whether the text starts like a URL of some scheme, such as `gs://`.
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.len() > 1
            && scheme.chars().all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn s3(bucket: &str, prefix: &str) -> Location {
        Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn reads_buckets_and_folders() {
        assert_eq!(Location::parse("s3://photos").unwrap(), s3("photos", ""));
        assert_eq!(Location::parse("s3://photos/").unwrap(), s3("photos", ""));
        assert_eq!(Location::parse("s3://photos/2024/cam 1/").unwrap(), s3("photos", "2024/cam 1"));
        assert_eq!(Location::parse("s3a://photos/x").unwrap(), s3("photos", "x"));
        assert_eq!(Location::parse("/data/a b").unwrap(), Location::Local("/data/a b".into()));
        assert_eq!(Location::parse("file:///data/a%20b").unwrap(), Location::Local("/data/a b".into()));
        let here = std::env::current_dir().unwrap();
        assert_eq!(Location::parse("photos").unwrap(), Location::Local(here.join("photos")));
        assert_eq!(Location::parse("./photos").unwrap(), Location::Local(here.join("photos")));
    }

    #[test]
    fn refuses_what_is_no_place() {
        for bad in
            ["", "s3://", "s3:/b/x", "s3:///x", "s3://a b/x", "s3://b/../x", "gs://b/x", "http://h/x", "file://host/x"]
        {
            let error = Location::parse(bad).unwrap_err();
            assert!(error.to_string().contains("is no place for objects"), "{bad}: {error}");
        }
    }

    #[test]
    fn names_of_objects_can_be_read_again() {
        for root in ["s3://photos", "s3://photos/2024", "/data/photos"] {
            let location = Location::parse(root).unwrap();
            let uri = location.uri("cam 1/a%20.jpg");
            assert_eq!(uri, format!("{root}/cam 1/a%20.jpg"));
            assert_eq!(Location::parse(&uri).unwrap(), location.join("cam 1/a%20.jpg"));
            assert_eq!(location.uri(""), root);
        }
    }
}
