//! URIs of what model versions are made of, read as Python's `urlparse` and MLflow's parsers read them: a reader with
//! other rules would let through what the client then resolves to something else.

use percent_encoding::percent_decode_str;

use crate::{Error, Result};

/// Schemes whose artifacts lie on the host that the URI names.
const OF_HOSTS: [&str; 10] =
    ["ftp", "sftp", "hdfs", "viewfs", "http", "https", "mlflow-artifacts", "r2", "b2", "abfss"];

/// A URI in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    /// In small letters; empty for a path.
    pub(crate) scheme: String,
    /// What is between `//` and the path.
    pub(crate) authority: String,
    /// Without query and fragment.
    pub(crate) path: String,
}

/// What a `models:` URI names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelUri {
    /// `models:/m-…`
    LoggedModel,
    /// `models:/name/7`
    Version { name: String, version: String },
    /// `models:/name@champion`
    Alias { name: String, alias: String },
    /// `models:/name/latest`, or of a stage: `models:/name/Production`
    Latest { name: String, stage: Option<String> },
}

impl Uri {
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim_start_matches(|character: char| character <= ' ').replace(['\t', '\n', '\r'], "");
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest.to_owned()),
            _ => (String::new(), text),
        };
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (rest[..end].to_owned(), rest[end..].to_owned())
            }
            None => (String::new(), rest),
        };
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        Self { scheme, authority, path: rest[..end].to_owned() }
    }

    /// Whether it names a file of the machine on which it is read.
    pub(crate) fn is_local(&self) -> Result<bool> {
        if self.scheme.is_empty() {
            return Ok(true);
        }
        if self.scheme != "file" {
            return Ok(false);
        }
        let host = self.host();
        if host.is_empty() || host == "." || host.starts_with("localhost") || host.starts_with("127.0.0.1") {
            return Ok(true);
        }
        Err(Error::invalid(format!(
            "file://{}{} is not a valid remote uri. For remote access on windows, please consider using a different \
             scheme such as SMB (e.g. smb://<hostname>/<path>).",
            self.authority, self.path
        )))
    }

    /// Whether this server keeps it.
    pub(crate) fn is_proxied_artifact(&self) -> bool {
        self.scheme == "mlflow-artifacts"
    }

    /// The first part of the path, such as the run of `runs:/…`.
    pub(crate) fn first_part(&self) -> &str {
        self.path.strip_prefix('/').unwrap_or_default().split('/').next().unwrap_or_default()
    }

    /// Whether it is `root` or lies below it.
    pub(crate) fn is_within(&self, root: &Self) -> bool {
        let (parts, root_parts) = (self.parts(), root.parts());
        self.scheme == root.scheme
            && self.authority.eq_ignore_ascii_case(&root.authority)
            && !root_parts.is_empty()
            && parts.starts_with(&root_parts)
    }

    /// Whether both are files and it is `root` or lies below it.
    pub(crate) fn is_file_within(&self, root: &Self) -> bool {
        let folders = |uri: &Self| {
            let path = percent_decode_str(&uri.path).decode_utf8_lossy().into_owned();
            path.starts_with('/').then(|| resolve(&path))
        };
        let local = matches!(root.is_local(), Ok(true));
        match (folders(self), folders(root)) {
            (Some(own), Some(root)) => local && own.starts_with(&root),
            _ => false,
        }
    }

    fn parts(&self) -> Vec<String> {
        self.path.split('/').filter(|part| !part.is_empty()).map(|part| unquote(part, false)).collect()
    }

    fn host(&self) -> String {
        let host = self.authority.rsplit('@').next().unwrap_or_default();
        let host = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() };
        host.to_ascii_lowercase()
    }
}

impl ModelUri {
    /// Reads the path of a `models:` URI; nothing when it names nothing.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            [name, suffix] if !name.trim().is_empty() && !suffix.trim().is_empty() => {
                let name = (*name).to_owned();
                if suffix.chars().all(|character| character.is_ascii_digit()) {
                    return Some(Self::Version { name, version: (*suffix).to_owned() });
                }
                let stage = (!suffix.eq_ignore_ascii_case("latest")).then(|| (*suffix).to_owned());
                Some(Self::Latest { name, stage })
            }
            [name] if name.trim().is_empty() => None,
            [name] => match name.rsplit_once('@') {
                Some((_, alias)) if alias.trim().is_empty() => None,
                Some((name, alias)) => Some(Self::Alias { name: name.to_owned(), alias: alias.to_owned() }),
                None => Some(Self::LoggedModel),
            },
            _ => None,
        }
    }
}

/// Refuses sources on a host that somebody names: whoever loads the model would connect to it.
pub(crate) fn check_host(source: &str) -> Result<()> {
    let uri = Uri::parse(source);
    let scheme = uri.scheme.as_str();
    if !OF_HOSTS.contains(&scheme) || (scheme == "mlflow-artifacts" && uri.authority.is_empty()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "'source' cannot use the '{scheme}' scheme: the '{scheme}' scheme addresses a host other than the tracking \
         server's configured artifact storage, so the server would connect to the host named in the URI."
    )))
}

/// Refuses paths that are not as they look: with `..`, however often encoded, `.`, or a NUL.
pub(crate) fn check_path(source: &str) -> Result<()> {
    let plain = unquote(source, true);
    let path = Uri::parse(&plain).path;
    let path = path.trim_end_matches('/');
    let hidden = path.contains('\0') || plain.split('/').any(|part| part == "..");
    let plain_path = path.starts_with('/') && path.split('/').all(|part| part != ".");
    if !hidden && plain_path {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, \
         objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references \
         present. Please provide an absolute path."
    )))
}

/// Decodes until nothing is encoded any more.
fn unquote(text: &str, plus: bool) -> String {
    let mut text = text.to_owned();
    loop {
        let spaced = if plus { text.replace('+', " ") } else { text.clone() };
        let decoded = percent_decode_str(&spaced).decode_utf8_lossy().into_owned();
        if decoded == text {
            return text;
        }
        text = decoded;
    }
}

/// The folders of an absolute path, without `.` and `..`.
fn resolve(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part.to_owned()),
        }
    }
    parts
}

fn is_scheme(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn uris_come_apart_as_in_python() {
        let uri = |scheme: &str, authority: &str, path: &str| Uri {
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: path.to_owned(),
        };
        for (text, parts) in [
            ("runs:/abc/model", uri("runs", "", "/abc/model")),
            ("S3://bucket/a?x#y", uri("s3", "bucket", "/a")),
            ("/tmp/a:b", uri("", "", "/tmp/a:b")),
            ("file:///a b", uri("file", "", "/a b")),
            ("mlflow-artifacts:/1/x", uri("mlflow-artifacts", "", "/1/x")),
            ("fi\nle:/a", uri("file", "", "/a")),
            (" \u{1}file:/a", uri("file", "", "/a")),
        ] {
            assert_eq!(Uri::parse(text), parts, "{text}");
        }
    }

    #[test]
    fn paths_that_leave_their_place_are_refused() {
        for good in ["s3://bucket/a/b", "mlflow-artifacts:/1/abc/artifacts/m", "runs:/abc/m", "s3://b/..a/b.."] {
            check_path(good).unwrap();
        }
        for bad in [
            "s3://bucket/a/../b",
            "s3://bucket/a/%2e%2e/b",
            "s3://bucket/a/%252e%252e/b",
            "mlflow-artifacts:/..%2f..%2fx",
            "s3://bucket/a/./b",
            "s3://bucket",
            "s3://bucket/a%00",
            "runs:abc",
            "s3://b/a?x=/../y",
        ] {
            check_path(bad).unwrap_err();
        }
        for bad in
            ["http://host/a", "https://h/api/2.0/mlflow-artifacts/artifacts/1", "mlflow-artifacts://h/1", "ftp:/a"]
        {
            check_host(bad).unwrap_err();
        }
    }

    #[test]
    fn what_lies_within_is_told_by_whole_parts() {
        let within = |text: &str, root: &str| Uri::parse(text).is_within(&Uri::parse(root));
        assert!(within("mlflow-artifacts:/1/abc/artifacts/m", "mlflow-artifacts:/1/abc/artifacts"));
        assert!(!within("mlflow-artifacts:/1/abcd", "mlflow-artifacts:/1/abc"));
        assert!(!within("mlflow-artifacts:/1", "mlflow-artifacts:/"));
        let file = |text: &str, root: &str| Uri::parse(text).is_file_within(&Uri::parse(root));
        assert!(file("/data/run/m", "file:///data/run"));
        assert!(!file("/data/run/../other", "/data/run"));
        assert!(!file("/data/run", "s3://data/run"));
        assert!(Uri::parse("file://evil.example/x").is_local().is_err());
    }

    #[test]
    fn models_are_named_in_four_ways() {
        let version =
            |name: &str, version: &str| ModelUri::Version { name: name.to_owned(), version: version.to_owned() };
        assert_eq!(ModelUri::parse("/owl/7"), Some(version("owl", "7")));
        assert_eq!(ModelUri::parse("/m-0123"), Some(ModelUri::LoggedModel));
        let alias = ModelUri::Alias { name: "a@b".to_owned(), alias: "champion".to_owned() };
        assert_eq!(ModelUri::parse("/a@b@champion"), Some(alias));
        let latest = |stage: Option<&str>| ModelUri::Latest { name: "owl".to_owned(), stage: stage.map(str::to_owned) };
        assert_eq!(ModelUri::parse("/owl/Latest"), Some(latest(None)));
        assert_eq!(ModelUri::parse("/owl/staging"), Some(latest(Some("staging"))));
        for bad in ["", "/", "owl", "/a/b/c", "/a/ ", "/a@"] {
            assert_eq!(ModelUri::parse(bad), None, "{bad}");
        }
    }
}
