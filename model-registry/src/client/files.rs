//! Files of runs and models: up, down, several at once, in pieces.

use std::fmt;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::{Method, StatusCode, header};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use platform::object_store::{self, Location, ObjectStore};
use serde::Deserialize;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::Client;
use super::promote::path as encoded;
use super::retry::{TRIES, pause};
use super::transport::{Ask, Transport};
use crate::artifacts::ArtifactPath;
use crate::{Error, Result};

/// Files that are on their way at once.
const AT_ONCE: usize = 4;
/// Bytes that are read at once.
const PIECE: usize = 1024 * 1024;
const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// The files below one artifact URI.
#[derive(Clone, Debug)]
pub struct Files {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// The server keeps them or passes them on.
    Proxy { transport: Box<Transport>, root: ArtifactPath },
    /// Clients reach them themselves.
    Store(Arc<dyn ObjectStore>),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Relative to the URI.
    pub path: String,
    /// In bytes.
    pub size: u64,
}

/// What a transfer tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There are so many bytes to move, in all.
    Total(u64),
    /// So many were moved.
    Bytes(u64),
    /// So many that were told of must be moved again.
    Again(u64),
}

/// Who is told.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Progress {
    /// Tells `told`.
    pub fn new(told: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells a step.
    pub fn tell(&self, step: Step) {
        if let Some(told) = &self.0 {
            told(step);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    path: String,
    #[serde(default)]
    is_dir: bool,
    #[serde(default)]
    file_size: Option<serde_json::Value>,
}

impl Client {
    /// The files below an artifact URI: those that the server passes on (`mlflow-artifacts:…`), or those of a folder or
    /// bucket that this machine reaches itself.
    ///
    /// # Errors
    /// The URI is of another kind, or the bucket cannot be used.
    pub async fn files(&self, uri: &str) -> Result<Files> {
        if let Ok(root) = ArtifactPath::of_uri(uri) {
            return Ok(Files { place: Place::Proxy { transport: Box::new(self.transport.clone()), root } });
        }
        let location = Location::parse(uri)?;
        Ok(Files { place: Place::Store(object_store::open(&location).await?) })
    }
}

impl Files {
    /// Whether there are none.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn is_empty(&self) -> Result<bool> {
        match &self.place {
            Place::Proxy { transport, root } => Ok(listing(transport, root).await?.is_empty()),
            Place::Store(store) => Ok(store.children("").await?.is_empty()),
        }
    }

    /// All files, sorted by path.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn list(&self) -> Result<Vec<RemoteFile>> {
        let mut found = match &self.place {
            Place::Proxy { transport, root } => list_proxy(transport, root).await?,
            Place::Store(store) => list_store(store).await?,
        };
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// A small file as a whole.
    ///
    /// # Errors
    /// There is no such file; the server does not answer or refuses.
    pub async fn read(&self, path: &str) -> Result<Bytes> {
        match &self.place {
            Place::Proxy { transport, root } => {
                let answer = transport.ask(Ask::new(Method::GET, &address(&root.join(path)?))).await?;
                let pieces: Vec<Bytes> =
                    answer.bytes.try_collect().await.map_err(|reason| broke_off(transport, path, &reason))?;
                Ok(pieces.concat().into())
            }
            Place::Store(store) => Ok(store.get(path).await?),
        }
    }

    /// Shows every piece of a file to `see`.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub async fn read_pieces(&self, path: &str, mut see: impl FnMut(&[u8])) -> Result<()> {
        match &self.place {
            Place::Proxy { transport, root } => {
                let mut answer = transport.ask(Ask::new(Method::GET, &address(&root.join(path)?))).await?;
                while let Some(piece) = answer.bytes.next().await {
                    see(&piece.map_err(|reason| broke_off(transport, path, &reason))?);
                }
            }
            Place::Store(store) => {
                let mut body = store.get_stream(path, None).await?;
                while let Some(piece) = body.bytes.next().await {
                    see(&piece?);
                }
            }
        }
        Ok(())
    }

    /// Sends a local file. It appears when all of it has come.
    ///
    /// # Errors
    /// The file cannot be read; the server does not answer or refuses.
    pub async fn upload(&self, path: &str, file: &Path, progress: &Progress) -> Result<()> {
        match &self.place {
            Place::Proxy { transport, root } => {
                let ask = Ask::new(Method::PUT, &address(&root.join(path)?))
                    .header(header::CONTENT_TYPE, "application/octet-stream");
                send_file(transport, ask, file, progress).await
            }
            Place::Store(store) => {
                store.put_file(path, file).await?;
                progress.tell(Step::Bytes(size_of(file).await?));
                Ok(())
            }
        }
    }

    /// Sends all files of a list, several at once: local file and path.
    ///
    /// # Errors
    /// The first that goes wrong. Files that were sent stay.
    pub async fn upload_all(&self, files: &[(PathBuf, String)], progress: &Progress) -> Result<()> {
        let mut total = 0;
        for (file, _) in files {
            total += size_of(file).await?;
        }
        progress.tell(Step::Total(total));
        // Each owns what it needs: futures that borrow from a list cannot be sent to other threads (rust#102211).
        let sent: Vec<_> = files
            .iter()
            .cloned()
            .map(|(file, path)| {
                let (files, progress) = (self.clone(), progress.clone());
                async move { files.upload(&path, &file, &progress).await }
            })
            .collect();
        stream::iter(sent).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Fetches a file. It appears when all of it has come; an answer that breaks off is gone on with.
    ///
    /// # Errors
    /// There is no such file; it cannot be written; the server does not answer or refuses.
    pub async fn download(&self, path: &str, file: &Path, progress: &Progress) -> Result<()> {
        match &self.place {
            Place::Proxy { transport, root } => {
                fetch_file(transport, &address(&root.join(path)?), path, file, progress).await
            }
            Place::Store(store) => {
                store.download(path, file).await?;
                progress.tell(Step::Bytes(size_of(file).await?));
                Ok(())
            }
        }
    }

    /// Fetches all files into a folder, several at once, and gives what there was.
    ///
    /// # Errors
    /// As [`Files::download`]; a name that would leave the folder.
    pub async fn download_all(&self, folder: &Path, progress: &Progress) -> Result<Vec<RemoteFile>> {
        let files = self.list().await?;
        progress.tell(Step::Total(files.iter().map(|file| file.size).sum()));
        // A server could name files as it likes.
        let targets: Vec<PathBuf> = files
            .iter()
            .map(|file| ArtifactPath::parse(&file.path).map(|path| folder.join(path.as_str())))
            .collect::<Result<_>>()?;
        let fetched: Vec<_> = files
            .iter()
            .cloned()
            .zip(targets)
            .map(|(file, target)| {
                let (files, progress) = (self.clone(), progress.clone());
                async move { files.download(&file.path, &target, &progress).await }
            })
            .collect();
        stream::iter(fetched).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(files)
    }
}

fn address(path: &ArtifactPath) -> String {
    format!("{PROXY}/{}", encoded(path.as_str()))
}

async fn listing(transport: &Transport, folder: &ArtifactPath) -> Result<Vec<Listed>> {
    let answer: Listing = transport.json(Ask::get(PROXY, &[("path", folder.as_str())])).await?;
    Ok(answer.files)
}

async fn list_proxy(transport: &Transport, root: &ArtifactPath) -> Result<Vec<RemoteFile>> {
    let mut found = Vec::new();
    let mut folders = vec![(root.clone(), String::new())];
    while let Some((folder, below)) = folders.pop() {
        for Listed { path, is_dir, file_size } in listing(transport, &folder).await? {
            let path = if below.is_empty() { path } else { format!("{below}/{path}") };
            if is_dir {
                folders.push((root.join(&path)?, path));
                continue;
            }
            // A number, or a text as protobuf writes large ones.
            let size = file_size.and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok())).unwrap_or(0);
            found.push(RemoteFile { path, size });
        }
    }
    Ok(found)
}

async fn list_store(store: &Arc<dyn ObjectStore>) -> Result<Vec<RemoteFile>> {
    let objects: Vec<_> = store.list("").try_collect().await?;
    Ok(objects.into_iter().map(|object| RemoteFile { path: object.key, size: object.size }).collect())
}

async fn send_file(transport: &Transport, ask: Ask, file: &Path, progress: &Progress) -> Result<()> {
    let mut tried = 1;
    loop {
        let (bytes, size) = pieces(file, progress).await?;
        let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let counted = bytes.inspect_ok(move |piece| {
            counter.fetch_add(piece.len() as u64, std::sync::atomic::Ordering::Relaxed);
        });
        match transport.send(ask.clone(), counted.boxed(), size).await {
            Ok(_) => return Ok(()),
            Err((again, error)) if !again || tried >= TRIES => return Err(error),
            Err(_) => {}
        }
        progress.tell(Step::Again(sent.load(std::sync::atomic::Ordering::Relaxed)));
        pause(tried).await;
        tried += 1;
    }
}

async fn pieces(file: &Path, progress: &Progress) -> Result<(BoxStream<'static, std::io::Result<Bytes>>, u64)> {
    let failed = |source| Error::Io { doing: "read", path: file.display().to_string(), source };
    let opened = tokio::fs::File::open(file).await.map_err(failed)?;
    let size = opened.metadata().await.map_err(failed)?.len();
    let progress = progress.clone();
    let bytes = ReaderStream::with_capacity(opened, PIECE)
        .inspect_ok(move |piece| progress.tell(Step::Bytes(piece.len() as u64)));
    Ok((bytes.boxed(), size))
}

/// What has come of a file.
struct Fetched {
    file: tokio::fs::File,
    /// The ETag of the first answer: what comes later must be of the same file.
    tag: Option<String>,
    written: u64,
    size: Option<u64>,
}

async fn fetch_file(
    transport: &Transport,
    address: &str,
    name: &str,
    target: &Path,
    progress: &Progress,
) -> Result<()> {
    let failed = |source| Error::Io { doing: "write", path: target.display().to_string(), source };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    let temporary = tempfile::Builder::new()
        .prefix(object_store::TEMPORARY_PREFIX)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed)?;
    let mut file = tokio::fs::File::from_std(temporary.reopen().map_err(failed)?);
    file.set_max_buf_size(PIECE);
    let mut fetched = Fetched { file, tag: None, written: 0, size: None };
    let mut tried = 1;
    loop {
        let reason =
            match fetch_more(transport, address, &mut fetched, progress).await.map_err(|failure| match failure {
                Failure::Answer(error) => error,
                Failure::File(source) => failed(source),
            })? {
                None => break,
                Some(reason) => reason,
            };
        if tried >= TRIES {
            return Err(broke_off(transport, name, &reason));
        }
        pause(tried).await;
        tried += 1;
    }
    fetched.file.flush().await.map_err(failed)?;
    drop(fetched.file);
    temporary.persist(target).map_err(|failure| failed(failure.error))?;
    Ok(())
}

enum Failure {
    Answer(Error),
    File(std::io::Error),
}

/// Asks for what has not come yet: `None` when all is there, or why the answer broke off.
async fn fetch_more(
    transport: &Transport,
    address: &str,
    fetched: &mut Fetched,
    progress: &Progress,
) -> std::result::Result<Option<String>, Failure> {
    let mut ask = Ask::new(Method::GET, address);
    if let Some(tag) = fetched.tag.as_deref().filter(|_| fetched.written > 0) {
        ask = ask.header(header::RANGE, &format!("bytes={}-", fetched.written)).header(header::IF_RANGE, tag);
    }
    let mut answer = transport.ask(ask).await.map_err(Failure::Answer)?;
    let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if answer.status != StatusCode::PARTIAL_CONTENT {
        // The whole file: the first answer, or one of a server that knows no ranges, or of a file that was replaced.
        progress.tell(Step::Again(fetched.written));
        fetched.written = 0;
        fetched.size = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        fetched.tag = text(header::ETAG).filter(|tag| !tag.starts_with("W/"));
        fetched.file.seek(SeekFrom::Start(0)).await.map_err(Failure::File)?;
        fetched.file.set_len(0).await.map_err(Failure::File)?;
    }
    while let Some(piece) = answer.bytes.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(reason) => return Ok(Some(reason)),
        };
        fetched.file.write_all(&piece).await.map_err(Failure::File)?;
        fetched.written += piece.len() as u64;
        progress.tell(Step::Bytes(piece.len() as u64));
    }
    match fetched.size.filter(|size| *size != fetched.written) {
        Some(size) => Ok(Some(format!("{} bytes of {size} came", fetched.written))),
        None => Ok(None),
    }
}

async fn size_of(file: &Path) -> Result<u64> {
    let metadata = tokio::fs::metadata(file).await;
    let failed = |source| Error::Io { doing: "read", path: file.display().to_string(), source };
    metadata.map(|metadata| metadata.len()).map_err(failed)
}

fn broke_off(transport: &Transport, name: &str, reason: &str) -> Error {
    transport.failed(format!("its answer with {name} broke off ({reason}); try again"))
}
