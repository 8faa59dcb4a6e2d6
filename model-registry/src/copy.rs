//! Copies a registered model with its versions, aliases, tags and files to another server. What is there already stays,
//! so that a copy that broke off can be begun again.

use serde::Serialize;

use crate::client::{Client, NewVersion, Progress, quoted};
use crate::register::{IDEMPOTENCY_TAG, registered_before};
use crate::registered::{ModelVersion, Tag};
use crate::{Error, Result, VersionNumber};

/// The tag of a copy that names its original: server, model and version.
pub const ORIGIN_TAG: &str = "safari.copied_from";

/// One version of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// The number at its origin.
    pub from: VersionNumber,
    /// Its number now.
    pub to: VersionNumber,
    /// Whether it was copied now, and not by an earlier try.
    pub is_new: bool,
    /// Files that it has.
    pub files: usize,
}

/// Copies the model `name` of `from` as `new_name` to `to`: all versions, or only `only`. Versions get new numbers, in the
/// same order; a tag of each names its original. Aliases are set at the end.
///
/// # Errors
/// There is no such model, or one of the servers does not answer or refuses. What was copied stays.
pub async fn copy_model(
    from: &Client,
    name: &str,
    only: Option<VersionNumber>,
    to: &Client,
    new_name: &str,
    progress: &Progress,
) -> Result<Vec<Copied>> {
    let missing = || Error::missing(format!("there is no registered model `{name}` on {}", from.server()));
    let model = from.model(name).await?.ok_or_else(missing)?;
    let mut versions = from.all_versions(&format!("name = {}", quoted(name))).await?;
    versions.retain(|version| only.is_none_or(|only| version.version == only));
    versions.reverse();
    if versions.is_empty() {
        return Err(Error::missing(format!("`{name}` on {} has no version to copy", from.server())));
    }
    to.ensure_model(new_name, model.description.as_deref(), &model.tags).await?;
    let mut copied = Vec::new();
    for version in &versions {
        copied.push(copy_version(from, version, to, new_name, progress).await?);
    }
    for alias in &model.aliases {
        if let Some(version) = copied.iter().find(|copied| copied.from == alias.version) {
            let names_it = |found: ModelVersion| found.version == version.to;
            if !to.version_by_alias(new_name, &alias.alias).await?.is_some_and(names_it) {
                to.set_alias(new_name, &alias.alias, version.to).await?;
            }
        }
    }
    Ok(copied)
}

async fn copy_version(
    from: &Client,
    version: &ModelVersion,
    to: &Client,
    new_name: &str,
    progress: &Progress,
) -> Result<Copied> {
    let origin = format!("{} {}/{}", from.server(), version.name, version.version);
    let key = format!("copy of {origin}");
    if let Some(there) = registered_before(to, new_name, &key).await? {
        return Ok(Copied { from: version.version, to: there.version, is_new: false, files: 0 });
    }
    let uri = from.version_uri(&version.name, version.version).await?;
    let source = from.files(&uri).await?;
    // Through a folder of this machine: either side may break off and go on.
    let folder =
        tempfile::tempdir().map_err(|source| Error::Io { doing: "make", path: "a folder".to_owned(), source })?;
    let files = source.download_all(folder.path(), progress).await?;
    if files.is_empty() {
        return Err(Error::missing(format!(
            "the files of `{}/{}` are not at {uri} any more",
            version.name, version.version
        )));
    }
    let path = folder.path().to_owned();
    let checked = tokio::task::spawn_blocking(move || crate::folder::verify(&path)).await;
    checked.map_err(|error| Error::Model { folder: origin.clone(), reason: error.to_string() })??;
    let experiment = to.ensure_experiment("Default").await?;
    let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
    let filter = format!("tags.`{IDEMPOTENCY_TAG}` = {}", quoted(&key));
    let before = to.search_logged_models(&experiment, &filter, 1).await?.into_iter().next();
    let place = match before {
        Some(found) => found,
        None => {
            let name: String =
                new_name.chars().map(|letter| if "/:.%\"'".contains(letter) { '-' } else { letter }).collect();
            to.create_logged_model(&experiment, &name, None, &[tag(IDEMPOTENCY_TAG, &key)]).await?
        }
    };
    let target = to.files(&place.artifact_uri).await?;
    let there = target.list().await?;
    let to_send: Vec<_> = files
        .iter()
        .filter(|file| !there.contains(file))
        .map(|file| (folder.path().join(&file.path), file.path.clone()))
        .collect();
    target.upload_all(&to_send, progress).await?;
    let there = target.list().await?;
    if let Some(lost) = files.iter().find(|file| !there.contains(file)) {
        let reason = format!("`{}` is not there after it was sent; copy again", lost.path);
        return Err(Error::Model { folder: format!("the copy of {origin}"), reason });
    }
    to.finish_logged_model(&place.model_id).await?;
    let mut tags: Vec<Tag> = version.tags.iter().filter(|tag| tag.key != IDEMPOTENCY_TAG).cloned().collect();
    tags.retain(|tag| tag.key != ORIGIN_TAG);
    tags.push(tag(ORIGIN_TAG, &origin));
    tags.push(tag(IDEMPOTENCY_TAG, &key));
    let new = NewVersion {
        name: new_name.to_owned(),
        source: format!("models:/{}", place.model_id),
        model_id: Some(place.model_id),
        run_id: None,
        tags,
        description: version.description.clone(),
    };
    let made = to.create_version(&new).await?;
    Ok(Copied { from: version.version, to: made.version, is_new: true, files: files.len() })
}
