//! Registers a model: first all its files, then the version that names them. Whoever dies between leaves files that
//! nothing names, never a version without its files; whoever tries again goes on.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::client::{Client, Files, LoggedModel, NewVersion, Progress, Source, Step, quoted};
use crate::folder::{FileEntry, Lineage, MANIFEST_FILE, MLMODEL_FILE, Manifest, ModelFolder, StageOptions, Staged};
use crate::registered::{ModelVersion, Tag};
use crate::{Error, Result};

/// The tag whose value two versions of a model never share.
pub const IDEMPOTENCY_TAG: &str = "safari.idempotency_key";
/// The tag with one sha256 for all files: see [`Manifest::digest`].
pub const DIGEST_TAG: &str = "safari.digest";

/// What is to be registered, and how.
#[derive(Clone, Debug, Default)]
pub struct Registration {
    /// The registered model; made if it is not there.
    pub name: String,
    /// The experiment that the files are kept under; made if it is not there.
    pub experiment: String,
    /// The run that made the model.
    pub run_id: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// More tags of the version.
    pub tags: Vec<Tag>,
    /// Aliases that are to name the version, without gates.
    pub aliases: Vec<String>,
    /// Registering again under the same key gives the same version; by default the key is the content.
    pub key: Option<String>,
    /// What is added to the folder.
    pub stage: StageOptions,
}

/// What was registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// The version.
    pub version: ModelVersion,
    /// Whether it was made now, and not by an earlier try.
    pub is_new: bool,
    /// What a complete model has and this one has not.
    pub missing: Vec<&'static str>,
}

/// Registers a model folder.
///
/// # Errors
/// The folder is no model; the server does not answer or refuses. Then no version was made.
pub async fn register_folder(
    client: &Client,
    folder: &Path,
    registration: &Registration,
    progress: &Progress,
) -> Result<Registered> {
    let folder = ModelFolder::open(folder)?;
    let stage = StageOptions { name: registration.name.clone(), ..registration.stage.clone() };
    let staged = {
        let folder = folder.clone();
        blocking(move || Staged::new(&folder, &stage)).await?
    };
    let digest = staged.manifest.digest();
    let key = registration.key.clone().unwrap_or_else(|| staged.content.clone());
    let mut missing = folder.missing();
    missing.retain(|what| !(what.starts_with("an input") && registration.stage.input_example.is_some()));
    if let Some(version) = registered_before(client, &registration.name, &key).await? {
        return finish(client, version, false, missing, registration).await;
    }
    client.ensure_model(&registration.name, None, &[]).await?;
    let model = place(client, registration, &key, &digest).await?;
    let files = client.files(&model.artifact_uri).await?;
    send(&files, &staged, progress).await?;
    client.finish_logged_model(&model.model_id).await?;
    let new = NewVersion {
        source: format!("models:/{}", model.model_id),
        model_id: Some(model.model_id),
        ..new_version(registration, &staged.lineage, &key, &digest)
    };
    let version = client.create_version(&new).await?;
    finish(client, version, true, missing, registration).await
}

/// Registers files that a run has logged already. The list of their checksums is added beside them.
///
/// # Errors
/// As [`register_folder`].
pub async fn register_logged(client: &Client, source: &Source, registration: &Registration) -> Result<Registered> {
    let (uri, run_id) = client.find_files(source).await?;
    let files = client.files(&uri).await?;
    let listed = files.list().await?;
    if !listed.iter().any(|file| file.path == MLMODEL_FILE) {
        return Err(Error::Model { folder: source.to_string(), reason: format!("it has no file {MLMODEL_FILE}") });
    }
    let text = String::from_utf8_lossy(&files.read(MLMODEL_FILE).await?).into_owned();
    let description = crate::folder::Mlmodel::parse(&text)
        .map_err(|reason| Error::Model { folder: source.to_string(), reason: format!("{MLMODEL_FILE}: {reason}") })?;
    let manifest = logged_manifest(&files, source).await?;
    let digest = manifest.digest();
    let key = registration.key.clone().unwrap_or_else(|| digest.clone());
    let mut missing = Vec::new();
    if description.signature.is_none() {
        missing.push("a signature");
    }
    if description.saved_input_example_info.is_none() {
        missing.push("an input example");
    }
    if let Some(version) = registered_before(client, &registration.name, &key).await? {
        return finish(client, version, false, missing, registration).await;
    }
    client.ensure_model(&registration.name, None, &[]).await?;
    let new = NewVersion {
        source: match source {
            Source::Run(..) => uri,
            other => other.to_string(),
        },
        model_id: match source {
            Source::Logged(id) => Some(id.clone()),
            _ => None,
        },
        run_id: registration.run_id.clone().or(run_id),
        ..new_version(registration, &registration.stage.lineage, &key, &digest)
    };
    let version = client.create_version(&new).await?;
    finish(client, version, true, missing, registration).await
}

/// The version of a model that was registered under a key; none if there is none.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn registered_before(client: &Client, name: &str, key: &str) -> Result<Option<ModelVersion>> {
    let filter = format!("name = {} AND tag.`{IDEMPOTENCY_TAG}` = {}", quoted(name), quoted(key));
    Ok(client.search_versions(&filter, 1, None).await?.items.into_iter().next())
}

/// Deletes, after versions were, the files that a registration sent for them, and gives how many versions had such.
/// They go when the garbage is collected. Files that a run logged stay the run's, and those of which a version was made
/// that is still there stay, too.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn delete_files(client: &Client, deleted: &[ModelVersion]) -> Result<usize> {
    let mut count = 0;
    for version in deleted {
        let Some(id) = version.source.strip_prefix("models:/m-") else { continue };
        let id = format!("m-{id}");
        let Some(logged) = client.logged_model(&id).await? else { continue };
        let is_sent = logged.tags.iter().any(|tag| tag.key == IDEMPOTENCY_TAG);
        let filter = format!("source_path = {}", quoted(&version.source));
        if is_sent && client.search_versions(&filter, 1, None).await?.items.is_empty() {
            client.delete_logged_model(&id).await?;
            count += 1;
        }
    }
    Ok(count)
}

fn new_version(registration: &Registration, lineage: &Lineage, key: &str, digest: &str) -> NewVersion {
    let mut tags = lineage.tags();
    tags.push(Tag { key: DIGEST_TAG.to_owned(), value: digest.to_owned() });
    tags.push(Tag { key: IDEMPOTENCY_TAG.to_owned(), value: key.to_owned() });
    tags.retain(|tag| !registration.tags.iter().any(|given| given.key == tag.key));
    tags.extend(registration.tags.iter().cloned());
    NewVersion {
        name: registration.name.clone(),
        run_id: registration.run_id.clone(),
        tags,
        description: registration.description.clone(),
        ..NewVersion::default()
    }
}

async fn finish(
    client: &Client,
    version: ModelVersion,
    is_new: bool,
    missing: Vec<&'static str>,
    registration: &Registration,
) -> Result<Registered> {
    for alias in &registration.aliases {
        let names_it = |found: ModelVersion| found.version == version.version;
        if !client.version_by_alias(&version.name, alias).await?.is_some_and(names_it) {
            client.set_alias(&version.name, alias, version.version).await?;
        }
    }
    Ok(Registered { version, is_new, missing })
}

/// The logged model that holds the files: that of an earlier try, or a new one.
async fn place(client: &Client, registration: &Registration, key: &str, digest: &str) -> Result<LoggedModel> {
    let experiment = match registration.experiment.as_str() {
        "" => "Default",
        name => name,
    };
    let experiment = client.ensure_experiment(experiment).await?;
    let filter = format!("tags.`{IDEMPOTENCY_TAG}` = {} AND tags.`{DIGEST_TAG}` = {}", quoted(key), quoted(digest));
    let before = client.search_logged_models(&experiment, &filter, 100).await?;
    let name = logged_name(&registration.name);
    // Files of another registered model stay its own.
    let is_usable = |model: &LoggedModel| model.name == name && model.status != "LOGGED_MODEL_UPLOAD_FAILED";
    if let Some(found) = before.into_iter().find(is_usable) {
        return Ok(found);
    }
    let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
    let tags = [tag(IDEMPOTENCY_TAG, key), tag(DIGEST_TAG, digest)];
    client.create_logged_model(&experiment, &name, registration.run_id.as_deref(), &tags).await
}

/// Names of logged models take fewer characters than those of registered models.
fn logged_name(name: &str) -> String {
    name.chars().map(|letter| if "/:.%\"'".contains(letter) { '-' } else { letter }).collect()
}

/// Sends what is not there yet, the description last, and looks whether all of it is there.
async fn send(files: &Files, staged: &Staged, progress: &Progress) -> Result<()> {
    let there = files.list().await?;
    let is_there = |path: &str, size: u64| there.iter().any(|file| file.path == path && file.size == size);
    let size = |path: &str| -> Result<u64> {
        if let Some(entry) = staged.manifest.files.get(path) {
            return Ok(entry.size);
        }
        let file = &staged.files[path];
        let metadata = std::fs::metadata(file);
        let failed = |source| Error::Io { doing: "read", path: file.display().to_string(), source };
        metadata.map(|metadata| metadata.len()).map_err(failed)
    };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (path, file) in &staged.files {
        if !is_there(path, size(path)?) {
            let list = if path == MLMODEL_FILE { &mut last } else { &mut first };
            list.push((file.clone(), path.clone()));
        }
    }
    files.upload_all(&first, progress).await?;
    files.upload_all(&last, &Progress::default()).await?;
    let there = files.list().await?;
    for path in staged.files.keys() {
        let size = size(path)?;
        if !there.iter().any(|file| file.path == *path && file.size == size) {
            let reason = format!("the server does not have `{path}` after it was sent; try again");
            return Err(Error::Model { folder: "the registered model".to_owned(), reason });
        }
    }
    Ok(())
}

/// The checksums that are there, checked; or new ones, put beside the files.
async fn logged_manifest(files: &Files, source: &Source) -> Result<Manifest> {
    let listed = files.list().await?;
    let unusable = |reason: String| Error::Model { folder: source.to_string(), reason };
    let known = match listed.iter().any(|file| file.path == MANIFEST_FILE) {
        true => Some(Manifest::parse(&files.read(MANIFEST_FILE).await?).map_err(unusable)?),
        false => None,
    };
    let mut manifest = Manifest::default();
    for file in listed.iter().filter(|file| file.path != MANIFEST_FILE) {
        let mut hash = Sha256::new();
        let mut size = 0;
        files
            .read_pieces(&file.path, |piece| {
                hash.update(piece);
                size += piece.len() as u64;
            })
            .await?;
        manifest.files.insert(file.path.clone(), FileEntry { size, sha256: hex::encode(hash.finalize()) });
    }
    match known {
        Some(known) if known == manifest => Ok(known),
        Some(_) => Err(unusable(format!("its files are not those of its {MANIFEST_FILE}; log the model again"))),
        None => {
            let local = tempfile::NamedTempFile::new()
                .and_then(|file| std::fs::write(file.path(), manifest.to_text()).map(|()| file))
                .map_err(|source| Error::Io { doing: "write", path: MANIFEST_FILE.to_owned(), source })?;
            files.upload(MANIFEST_FILE, local.path(), &Progress::default()).await?;
            Ok(manifest)
        }
    }
}

/// Fetches the files of a model into a folder that does not exist yet, and checks them; gives whether there were
/// checksums. The folder appears when everything has come and is what it was.
///
/// # Errors
/// There is no such model; a file is not what it was; the folder is there already.
pub async fn fetch(client: &Client, source: &Source, folder: &Path, progress: &Progress) -> Result<bool> {
    let failed = |source| Error::Io { doing: "write", path: folder.display().to_string(), source };
    if folder.exists() && folder.read_dir().map_err(failed)?.next().is_some() {
        let reason = "it is not empty; give a folder that does not exist".to_owned();
        return Err(Error::Model { folder: folder.display().to_string(), reason });
    }
    let (uri, _) = client.find_files(source).await?;
    let files = client.files(&uri).await?;
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tokio::fs::create_dir_all(parent).await.map_err(failed)?;
    let temporary =
        tempfile::Builder::new().prefix(platform::object_store::TEMPORARY_PREFIX).tempdir_in(parent).map_err(failed)?;
    let found = files.download_all(temporary.path(), progress).await?;
    if found.is_empty() {
        return Err(Error::missing(format!("{source} has no files at {uri}")));
    }
    let path = temporary.path().to_owned();
    let checked = blocking(move || crate::folder::verify(&path)).await.map_err(|error| match error {
        Error::Model { reason, .. } => Error::Model { folder: source.to_string(), reason },
        other => other,
    })?;
    if folder.exists() {
        tokio::fs::remove_dir(folder).await.map_err(failed)?;
    }
    let whole = temporary.keep();
    std::fs::set_permissions(&whole, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(failed)?;
    if let Err(error) = tokio::fs::rename(&whole, folder).await {
        let _ = tokio::fs::remove_dir_all(&whole).await;
        return Err(failed(error));
    }
    Ok(checked)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(_) => Err(Error::Model { folder: "a model".to_owned(), reason: "the program is ending".to_owned() }),
    }
}

impl Step {
    /// The bytes that a bar goes forward, or back.
    pub fn advance(self) -> i64 {
        match self {
            Self::Total(_) => 0,
            Self::Bytes(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
            Self::Again(bytes) => -i64::try_from(bytes).unwrap_or(i64::MAX),
        }
    }
}
