//! Where files lie below the root of all artifacts. What could leave the root is refused, in MLflow's words.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{Error, Result};

/// Bytes of one name, as file systems have it.
const NAME_BYTES: usize = 255;
/// Bytes of a whole path: S3 takes 1024, of which the store's prefix needs some.
const PATH_BYTES: usize = 900;
/// How often a path is decoded to look for what hides behind percent signs, as MLflow does.
const DECODINGS: usize = 10;

/// The path of a file or folder: names with `/` between them, none of them `.` or `..`; empty for the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArtifactPath(String);

impl ArtifactPath {
    /// Reads a path that is relative to the root.
    ///
    /// # Errors
    /// `Invalid path` for what is absolute, has `..` in it (also behind percent signs), backslashes, NUL characters, `#`,
    /// or is too long.
    pub fn parse(text: &str) -> Result<Self> {
        let mut decoded = text.to_owned();
        check(&decoded)?;
        for _ in 0..DECODINGS {
            let next = percent_decode_str(&decoded).decode_utf8().map_err(|_| invalid())?.into_owned();
            if next == decoded {
                break;
            }
            check(&next)?;
            decoded = next;
        }
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let path = names.join("/");
        if path.len() > PATH_BYTES || names.iter().any(|name| name.len() > NAME_BYTES) {
            return Err(Error::invalid("Invalid path: it is too long, give names of at most 255 bytes, 900 in all"));
        }
        Ok(Self(path))
    }

    /// Where the files of a run or model lie whose artifact URI this is: `mlflow-artifacts:/PATH`,
    /// `mlflow-artifacts://HOST/PATH`, or the address of a proxy of artifacts.
    ///
    /// # Errors
    /// For URIs of files that are not kept here.
    pub fn of_uri(uri: &str) -> Result<Self> {
        const ANCHOR: &str = "/api/2.0/mlflow-artifacts/artifacts/";
        let elsewhere = || Error::invalid(format!("the artifacts of {uri} are not kept by this server"));
        if let Some(rest) = uri.strip_prefix("mlflow-artifacts:") {
            let path = match rest.strip_prefix("//") {
                Some(rest) if !rest.starts_with('/') => rest.split_once('/').map_or("", |(_, path)| path),
                _ => rest,
            };
            return Self::parse(path.trim_start_matches('/'));
        }
        let url = Url::parse(uri).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(elsewhere)?;
        let (_, path) = url.path().split_once(ANCHOR).ok_or_else(elsewhere)?;
        Self::parse(&percent_decode_str(path).decode_utf8().map_err(|_| invalid())?)
    }

    /// A path below this one.
    ///
    /// # Errors
    /// As [`ArtifactPath::parse`].
    pub fn join(&self, below: &str) -> Result<Self> {
        let below = Self::parse(below)?;
        if self.0.is_empty() || below.0.is_empty() {
            return Ok(if self.0.is_empty() { below } else { self.clone() });
        }
        Self::parse(&format!("{self}/{below}"))
    }

    /// The key in the object store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(path: &str) -> Result<()> {
    let bytes = path.as_bytes();
    let has_drive = bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && bytes[2] == b'/';
    if path.contains(['\\', '\0', '#'])
        || path.starts_with('/')
        || path.starts_with("file:")
        || has_drive
        || path.split('/').any(|name| name == "..")
    {
        return Err(invalid());
    }
    Ok(())
}

fn invalid() -> Error {
    Error::invalid("Invalid path")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (text, expected) in [
            ("", ""),
            ("0/run/artifacts/model/MLmodel", "0/run/artifacts/model/MLmodel"),
            ("a//b/./c/", "a/b/c"),
            ("100% sure.txt", "100% sure.txt"),
            ("a%20b", "a%20b"),
            ("..a/b..", "..a/b.."),
            ("ä/日本.txt", "ä/日本.txt"),
        ] {
            assert_eq!(ArtifactPath::parse(text).unwrap().as_str(), expected, "{text}");
        }
        for text in [
            "..",
            "../x",
            "a/../b",
            "a/..",
            "/etc/passwd",
            "%2e%2e/x",
            "a/%2E%2e/b",
            "%252e%252e/x",
            "a%2f..%2fb",
            "a\\b",
            "a%5cb",
            "C:/x",
            "c:\\x",
            "file:///etc",
            "file:x",
            "a\0b",
            "a%00b",
            "a#b",
            "a%23b",
            "%2fetc/passwd",
            "%ff/x",
        ] {
            let error = ArtifactPath::parse(text).unwrap_err();
            assert_eq!(error.to_string(), "Invalid path", "{text}");
        }
        assert!(ArtifactPath::parse(&"a".repeat(255)).is_ok());
        assert!(ArtifactPath::parse(&"a".repeat(256)).is_err());
        assert!(ArtifactPath::parse(&"a/".repeat(500)).is_err());
    }

    #[test]
    fn uris_name_paths() {
        let path = |uri: &str| ArtifactPath::of_uri(uri).map(|path| path.as_str().to_owned());
        assert_eq!(path("mlflow-artifacts:/0/r/artifacts").unwrap(), "0/r/artifacts");
        assert_eq!(path("mlflow-artifacts://host:5000/0/r").unwrap(), "0/r");
        assert_eq!(path("mlflow-artifacts:///0/r").unwrap(), "0/r");
        assert_eq!(path("http://host/x/api/2.0/mlflow-artifacts/artifacts/0/a%20b").unwrap(), "0/a b");
        for uri in ["mlflow-artifacts:/../x", "s3://bucket/x", "/tmp/x", "http://host/x", ""] {
            assert!(path(uri).is_err(), "{uri}");
        }
        let run = ArtifactPath::parse("0/r").unwrap();
        assert_eq!(run.join("model/x").unwrap().as_str(), "0/r/model/x");
        assert_eq!(run.join("").unwrap(), run);
        assert!(run.join("../other").is_err());
    }
}
