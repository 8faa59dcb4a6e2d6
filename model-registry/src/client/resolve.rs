//! Names of models, as people and MLflow write them.

use std::fmt;
use std::str::FromStr;

use super::Client;
use crate::registered::ModelVersion;
use crate::{Error, Result, VersionNumber};

/// What a URI of a model names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `models:/NAME/VERSION`, or `NAME/VERSION`.
    Version(String, VersionNumber),
    /// `models:/NAME@ALIAS`, or `NAME@ALIAS`.
    Alias(String, String),
    /// `models:/NAME/latest`, `models:/NAME` or `NAME`: the newest version.
    Latest(String),
    /// `models:/m-…`: a logged model.
    Logged(String),
    /// `runs:/RUN/PATH`: files of a run.
    Run(String, String),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            Error::invalid(format!(
                "`{text}` names no model; write NAME@ALIAS, NAME/VERSION, NAME, models:/… or runs:/RUN/PATH"
            ))
        };
        if let Some(rest) = text.strip_prefix("runs:") {
            let (run, path) = rest.trim_start_matches('/').split_once('/').ok_or_else(refused)?;
            let is_usable = !run.is_empty() && !path.is_empty();
            return is_usable
                .then(|| Self::Run(run.to_owned(), path.trim_end_matches('/').to_owned()))
                .ok_or_else(refused);
        }
        let (rest, is_uri) = match text.strip_prefix("models:") {
            Some(rest) => (rest.trim_start_matches('/'), true),
            None => (text, false),
        };
        if rest.is_empty() || rest.contains("://") {
            return Err(refused());
        }
        if is_uri && is_logged(rest) {
            return Ok(Self::Logged(rest.to_owned()));
        }
        if let Some((name, version)) = rest.rsplit_once('/') {
            if name.is_empty() || name.contains('/') {
                return Err(refused());
            }
            if version.eq_ignore_ascii_case("latest") {
                return Ok(Self::Latest(name.to_owned()));
            }
            let version = version.parse().ok().filter(|version| *version > 0).ok_or_else(refused)?;
            return Ok(Self::Version(name.to_owned(), VersionNumber(version)));
        }
        match rest.rsplit_once('@') {
            Some((name, alias)) if !name.is_empty() && !alias.is_empty() => {
                Ok(Self::Alias(name.to_owned(), alias.to_owned()))
            }
            Some(_) => Err(refused()),
            None => Ok(Self::Latest(rest.to_owned())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(name, version) => write!(f, "models:/{name}/{version}"),
            Self::Alias(name, alias) => write!(f, "models:/{name}@{alias}"),
            Self::Latest(name) => write!(f, "models:/{name}/latest"),
            Self::Logged(id) => write!(f, "models:/{id}"),
            Self::Run(run, path) => write!(f, "runs:/{run}/{path}"),
        }
    }
}

impl Client {
    /// The version that is named.
    ///
    /// # Errors
    /// There is none, or what is named is no version.
    pub async fn find_version(&self, source: &Source) -> Result<ModelVersion> {
        let found = match source {
            Source::Version(name, version) => self.version(name, *version).await?,
            Source::Alias(name, alias) => self.version_by_alias(name, alias).await?,
            Source::Latest(name) => {
                let filter = format!("name = {}", quoted(name));
                // Some servers do not say which version is the latest when there are thousands.
                self.all_versions(&filter).await?.into_iter().next()
            }
            Source::Logged(_) | Source::Run(..) => None,
        };
        found.ok_or_else(|| Error::missing(format!("{source} names no version on {}", self.server())))
    }

    /// Where the files of what is named are, and the run that made them.
    ///
    /// # Errors
    /// There is no such thing.
    pub async fn find_files(&self, source: &Source) -> Result<(String, Option<String>)> {
        match source {
            Source::Run(run, path) => self.files_of_run(run, path).await,
            Source::Logged(id) => {
                let found = self.logged_model(id).await?;
                let found = found.ok_or_else(|| Error::missing(format!("there is no logged model {id}")))?;
                Ok((found.artifact_uri, found.source_run_id))
            }
            _ => {
                let version = self.find_version(source).await?;
                let uri = self.version_uri(&version.name, version.version).await?;
                Ok((uri, version.run_id.filter(|run| !run.is_empty())))
            }
        }
    }

    /// Files that a run logged right below its own, or a logged model of that name that the run made.
    async fn files_of_run(&self, run_id: &str, path: &str) -> Result<(String, Option<String>)> {
        let run = self.run(run_id).await?;
        let run = run.ok_or_else(|| Error::missing(format!("there is no run {run_id} on {}", self.server())))?;
        let uri = format!("{}/{path}", run.info.artifact_uri.trim_end_matches('/'));
        if !self.files(&uri).await?.is_empty().await? {
            return Ok((uri, Some(run.info.run_id)));
        }
        let filter = format!("source_run_id = {} AND name = {}", quoted(run_id), quoted(path));
        let made = self.search_logged_models(&run.info.experiment_id, &filter, 1).await?;
        let found = made.into_iter().find(|model| model.name == path);
        let found =
            found.ok_or_else(|| Error::missing(format!("run {run_id} has neither files nor a model at {path}")))?;
        Ok((found.artifact_uri, Some(run.info.run_id)))
    }
}

/// A text in MLflow's filter language.
pub fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}

fn is_logged(text: &str) -> bool {
    text.strip_prefix("m-").is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let id = format!("m-{}", "0a".repeat(16));
        for (text, written) in [
            ("owl@champion", "models:/owl@champion"),
            ("models:/owl@champion", "models:/owl@champion"),
            ("owl/3", "models:/owl/3"),
            ("models:/owl/latest", "models:/owl/latest"),
            ("owl", "models:/owl/latest"),
            ("a b@c@champion", "models:/a b@c@champion"),
            ("runs:/abc/model/x/", "runs:/abc/model/x"),
            (&format!("models:/{id}"), &format!("models:/{id}")),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), written, "{text}");
        }
        for text in ["", "models:/", "owl/", "owl/x", "owl/0", "@x", "owl@", "runs:/abc", "runs:/", "s3://b/x", "a/b/1"]
        {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
