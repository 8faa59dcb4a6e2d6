//! The file of an image: an OCI image layout, with the list that `docker load` reads beside it.
//!
//! Every layer is made twice: once to learn its digest, which its name in the archive needs, and once to be written. So
//! nothing lies on the disk twice, and nothing large is in memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::base::{Base, BaseLayer};
use crate::error::io as failed;
use crate::{Error, ImageName, Layer, Result, USER};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// No moment in particular, so that equal images are equal.
const CREATED: &str = "1970-01-01T00:00:00Z";
const BLOCK: usize = 512;
/// Unfinished files: nobody takes them for an image.
const TEMPORARY_PREFIX: &str = ".safari-tmp-";

/// What an image is made of, what it is called and how it is run. It runs as [`USER`].
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What `docker load` calls it.
    pub name: ImageName,
    /// What made it, for people who read its history.
    pub made_by: String,
    /// The image that it stands on. Its variables hold where `variables` say nothing else.
    pub base: Option<Base>,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
    /// Annotations, such as `org.opencontainers.image.version`.
    pub labels: Vec<(String, String)>,
    /// Variables, `NAME=value`.
    pub variables: Vec<String>,
    /// The program that is started, with arguments that it always has.
    pub entrypoint: Vec<String>,
    /// Arguments where none are given.
    pub arguments: Vec<String>,
    /// Where the program starts, such as `/data`.
    pub folder: String,
    /// TCP ports that it answers at.
    pub ports: Vec<u16>,
    /// Whether layers are compressed: smaller, and slower to make.
    pub gzip: bool,
}

/// An image in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// The digest of its manifest, `sha256:…`: what the image is known by.
    pub digest: String,
    /// The name that `docker load` gives it.
    pub tag: String,
    /// Its blobs: layers, configuration, and the manifest at the end.
    #[serde(skip)]
    pub(crate) blobs: Vec<Blob>,
    /// Bytes of the file.
    pub size: u64,
}

/// Bytes with a digest, and where they lie in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) media_type: String,
    /// `sha256:…`
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) offset: u64,
}

/// Writes an image. The file appears when it is whole.
///
/// # Errors
/// A file of a layer cannot be read or changes meanwhile; the file cannot be written.
pub fn write(recipe: &Recipe, target: &Path) -> Result<Image> {
    let mut measured: Vec<Measured> = recipe.base.iter().flat_map(|base| &base.layers).map(Measured::of_base).collect();
    let below = measured.len();
    for layer in &recipe.layers {
        measured.push(measure(layer, recipe.gzip)?);
    }
    let config = text(&config(recipe, &measured));
    let manifest = text(&manifest(recipe, &config, &measured));
    let index = text(&index(&manifest, &recipe.name));
    let docker = text(&docker_list(&config, &measured, &recipe.name));

    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(failed("write", target))?;
    let file = temporary.reopen().map_err(failed("write", target))?;
    let mut archive = Archive { out: BufWriter::with_capacity(1 << 20, file), at: 0, target };

    archive.folder("blobs/")?;
    archive.folder("blobs/sha256/")?;
    let mut blobs = Vec::new();
    if let Some(base) = &recipe.base {
        for layer in &base.layers {
            blobs.push(archive.base(base, layer)?);
        }
    }
    for (layer, measured) in recipe.layers.iter().zip(&measured[below..]) {
        blobs.push(archive.layer(layer, measured, recipe.gzip)?);
    }
    blobs.push(archive.blob(CONFIG_TYPE, &config)?);
    blobs.push(archive.blob(MANIFEST_TYPE, &manifest)?);
    archive.file("index.json", &index)?;
    archive.file("manifest.json", &docker)?;
    archive.file("oci-layout", &text(&json!({ "imageLayoutVersion": "1.0.0" })))?;
    let size = archive.finish()?;
    temporary.as_file().sync_all().map_err(failed("write", target))?;
    temporary.persist(target).map_err(|failure| failed("write", target)(failure.error))?;
    Ok(Image { path: target.to_owned(), digest: digest(&manifest), tag: recipe.name.to_string(), blobs, size })
}

/// What a layer is, before it is written.
struct Measured {
    /// Of the bytes as they are stored.
    digest: String,
    size: u64,
    /// Of the archive without compression.
    diff_id: String,
    media_type: String,
}

impl Measured {
    fn of_base(layer: &BaseLayer) -> Self {
        let BaseLayer { media_type, digest, size, diff_id, .. } = layer.clone();
        Self { digest, size, diff_id, media_type }
    }
}

fn measure(layer: &Layer, gzip: bool) -> Result<Measured> {
    let mut plain = Hashing::new(io::sink());
    layer.write(&mut plain)?;
    let (diff_id, size) = plain.end();
    if !gzip {
        return Ok(Measured { digest: diff_id.clone(), size, diff_id, media_type: LAYER_TYPE.to_owned() });
    }
    let mut compressed = Hashing::new(io::sink());
    layer.write_gzip(&mut compressed)?;
    let (digest, size) = compressed.end();
    Ok(Measured { digest, size, diff_id, media_type: format!("{LAYER_TYPE}+gzip") })
}

/// How the image is run.
fn config(recipe: &Recipe, measured: &[Measured]) -> Value {
    let diff_ids: Vec<&str> = measured.iter().map(|layer| layer.diff_id.as_str()).collect();
    let own = recipe
        .layers
        .iter()
        .map(|layer| json!({ "created": CREATED, "created_by": format!("{}: {}", recipe.made_by, layer.title()) }));
    let history: Vec<Value> = recipe.base.iter().flat_map(|base| base.history.clone()).chain(own).collect();
    let ports: Map<String, Value> = recipe.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
    json!({
        "created": CREATED,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": variables(recipe),
            "Entrypoint": recipe.entrypoint,
            "Cmd": recipe.arguments,
            "ExposedPorts": ports,
            "WorkingDir": recipe.folder,
            "Labels": labels(recipe),
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    })
}

/// Those of the base that hold still, and the image's own. Paths of the base are looked at last.
fn variables(recipe: &Recipe) -> Vec<String> {
    let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let below: Vec<&String> = recipe.base.iter().flat_map(|base| &base.variables).collect();
    let own = recipe.variables.iter().map(|variable| {
        let name = name_of(variable);
        let old = below.iter().find(|old| name_of(old) == name).and_then(|old| old.split_once('='));
        match old {
            Some((_, paths)) if matches!(name.as_str(), "PATH" | "LD_LIBRARY_PATH") => format!("{variable}:{paths}"),
            _ => variable.clone(),
        }
    });
    let is_own = |old: &&String| recipe.variables.iter().any(|variable| name_of(variable) == name_of(old));
    below.iter().filter(|old| !is_own(old)).map(|old| (*old).clone()).chain(own).collect()
}

fn manifest(recipe: &Recipe, config: &[u8], measured: &[Measured]) -> Value {
    let layers: Vec<Value> = measured
        .iter()
        .map(|layer| json!({ "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size }))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": { "mediaType": CONFIG_TYPE, "digest": digest(config), "size": config.len() },
        "layers": layers,
        "annotations": labels(recipe),
    })
}

fn index(manifest: &[u8], name: &ImageName) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": MANIFEST_TYPE,
            "digest": digest(manifest),
            "size": manifest.len(),
            "platform": { "architecture": architecture(), "os": "linux" },
            "annotations": {
                "org.opencontainers.image.ref.name": name.tag(),
                "io.containerd.image.name": name.to_string(),
            },
        }],
    })
}

fn docker_list(config: &[u8], measured: &[Measured], name: &ImageName) -> Value {
    let layers: Vec<String> = measured.iter().map(|layer| path_of(&layer.digest)).collect();
    json!([{ "Config": path_of(&digest(config)), "RepoTags": [name.to_string()], "Layers": layers }])
}

fn labels(recipe: &Recipe) -> Value {
    let base = recipe.base.iter().map(|base| ("org.opencontainers.image.base.digest".to_owned(), json!(base.digest)));
    let own = recipe.labels.iter().map(|(name, value)| (name.clone(), json!(value)));
    Value::Object(own.chain(base).collect())
}

/// As OCI names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An archive of blobs.
struct Archive<'a> {
    out: BufWriter<File>,
    at: u64,
    target: &'a Path,
}

impl Image {
    /// Bytes of all that [`push`](crate::push()) sends.
    pub fn stored(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }

    /// The manifest; nothing that is not in the image is asked for.
    pub(crate) fn manifest(&self) -> Result<&Blob> {
        self.blobs
            .last()
            .ok_or_else(|| Error::Unusable { path: self.path.clone(), reason: "the image has no manifest".to_owned() })
    }
}

impl Archive<'_> {
    fn folder(&mut self, path: &str) -> Result<()> {
        self.header(path, EntryType::Directory, 0o755, 0)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.header(path, EntryType::Regular, 0o644, bytes.len() as u64)?;
        self.put(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Result<Blob> {
        let digest = digest(bytes);
        let offset = self.at + BLOCK as u64;
        self.file(&path_of(&digest), bytes)?;
        Ok(Blob { media_type: media_type.to_owned(), digest, size: bytes.len() as u64, offset })
    }

    fn layer(&mut self, layer: &Layer, measured: &Measured, gzip: bool) -> Result<Blob> {
        self.header(&path_of(&measured.digest), EntryType::Regular, 0o644, measured.size)?;
        let offset = self.at;
        let mut hashing = Hashing::new(&mut self.out);
        if gzip {
            layer.write_gzip(&mut hashing)?
        } else {
            layer.write(&mut hashing)?
        }
        let (digest, size) = hashing.end();
        if digest != measured.digest || size != measured.size {
            let source = io::Error::other(format!("a file of its {} has changed meanwhile; try again", layer.title()));
            return Err(failed("make", self.target)(source));
        }
        self.at += size;
        self.pad(size)?;
        Ok(Blob { media_type: measured.media_type.clone(), digest, size, offset })
    }

    /// A layer of the image below, as it is stored there.
    fn base(&mut self, base: &Base, layer: &BaseLayer) -> Result<Blob> {
        self.header(&path_of(&layer.digest), EntryType::Regular, 0o644, layer.size)?;
        let offset = self.at;
        let mut hashing = Hashing::new(&mut self.out);
        base.copy(layer, &mut hashing)?;
        let (digest, size) = hashing.end();
        if digest != layer.digest || size != layer.size {
            let source = io::Error::other(format!("the layer {} of the base is damaged", layer.digest));
            return Err(failed("make", self.target)(source));
        }
        self.at += size;
        self.pad(size)?;
        Ok(Blob { media_type: layer.media_type.clone(), digest, size, offset })
    }

    fn header(&mut self, path: &str, kind: EntryType, mode: u32, size: u64) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(path).map_err(failed("write", self.target))?;
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.put(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over > 0 { self.put(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(failed("write", self.target))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.put(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(failed("write", self.target))?;
        Ok(self.at)
    }
}

/// Counts and hashes what is written.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), size: 0 }
    }

    fn end(self) -> (String, u64) {
        (format!("sha256:{}", hex::encode(self.hash.finalize())), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}
