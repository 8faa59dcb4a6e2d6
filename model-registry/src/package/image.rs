//! The file of an image: an OCI image layout, with the list that `docker load` reads beside it.
//!
//! Every layer is made twice: once to learn its digest, which its name in the archive needs, and once to be written. So
//! nothing lies on the disk twice, and nothing large is in memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::layer::{LIBRARY_PATH, Layer, PROGRAM_PATH, USER};
use super::{DATA_PATH, Image, MODEL_PATH, PackageOptions, io as failed};
use crate::{Error, Result};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// No moment in particular, so that equal images are equal.
const CREATED: &str = "1970-01-01T00:00:00Z";
const BLOCK: usize = 512;
/// Where `safari serve` listens in the image, on all addresses; without identity it refuses to.
const SERVE_PORT: u16 = 8080;

/// Bytes with a digest, and where they lie in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) media_type: String,
    /// `sha256:…`
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) offset: u64,
}

/// Writes the file.
pub(super) fn write(options: &PackageOptions, layers: &[Layer], target: &Path) -> Result<Image> {
    let mut measured = Vec::new();
    for layer in layers {
        measured.push(measure(layer, options.gzip)?);
    }
    let config = text(&config(options, layers, &measured));
    let tag = tag(options);
    let manifest = text(&manifest(options, &config, &measured));
    let index = text(&index(&manifest, &tag));
    let docker = text(&docker_list(&config, &measured, &tag));

    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
    let temporary = tempfile::Builder::new()
        .prefix(platform::object_store::TEMPORARY_PREFIX)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(failed("write", target))?;
    let file = temporary.reopen().map_err(failed("write", target))?;
    let mut archive = Archive { out: BufWriter::with_capacity(1 << 20, file), at: 0, target };

    archive.folder("blobs/")?;
    archive.folder("blobs/sha256/")?;
    let mut blobs = Vec::new();
    for (layer, measured) in layers.iter().zip(&measured) {
        blobs.push(archive.layer(layer, measured, options.gzip)?);
    }
    blobs.push(archive.blob(CONFIG_TYPE, &config)?);
    blobs.push(archive.blob(MANIFEST_TYPE, &manifest)?);
    archive.file("index.json", &index)?;
    archive.file("manifest.json", &docker)?;
    archive.file("oci-layout", &text(&json!({ "imageLayoutVersion": "1.0.0" })))?;
    let size = archive.finish()?;
    temporary.as_file().sync_all().map_err(failed("write", target))?;
    temporary.persist(target).map_err(|failure| failed("write", target)(failure.error))?;
    Ok(Image { path: target.to_owned(), digest: digest(&manifest), tag, blobs, size })
}

/// What a layer is, before it is written.
struct Measured {
    /// Of the bytes as they are stored.
    digest: String,
    size: u64,
    /// Of the archive without compression.
    diff_id: String,
}

fn measure(layer: &Layer, gzip: bool) -> Result<Measured> {
    let mut plain = Hashing::new(io::sink());
    layer.write(&mut plain)?;
    let (diff_id, size) = plain.end();
    if !gzip {
        return Ok(Measured { digest: diff_id.clone(), size, diff_id });
    }
    let mut compressed = Hashing::new(io::sink());
    layer.write_gzip(&mut compressed)?;
    let (digest, size) = compressed.end();
    Ok(Measured { digest, size, diff_id })
}

/// How the image is run: `safari serve` with the model, unless another command is given.
fn config(options: &PackageOptions, layers: &[Layer], measured: &[Measured]) -> Value {
    let diff_ids: Vec<&str> = measured.iter().map(|layer| layer.diff_id.as_str()).collect();
    let history: Vec<Value> = layers
        .iter()
        .map(|layer| json!({ "created": CREATED, "created_by": format!("safari model package: {}", layer.title) }))
        .collect();
    json!({
        "created": CREATED,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": [
                "PATH=/usr/bin",
                format!("LD_LIBRARY_PATH=/{LIBRARY_PATH}"),
                format!("SAFARI_MODEL=/{MODEL_PATH}"),
                "SAFARI_HOME=/tmp/safari-home",
                format!("SAFARI_SERVE_LISTEN=0.0.0.0:{SERVE_PORT}"),
                "HOME=/tmp",
            ],
            "Entrypoint": [format!("/{PROGRAM_PATH}")],
            "Cmd": ["serve"],
            "ExposedPorts": { format!("{SERVE_PORT}/tcp"): {} },
            "WorkingDir": format!("/{DATA_PATH}"),
            "Labels": labels(options),
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    })
}

fn manifest(options: &PackageOptions, config: &[u8], measured: &[Measured]) -> Value {
    let kind = if options.gzip { format!("{LAYER_TYPE}+gzip") } else { LAYER_TYPE.to_owned() };
    let layers: Vec<Value> =
        measured.iter().map(|layer| json!({ "mediaType": kind, "digest": layer.digest, "size": layer.size })).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": { "mediaType": CONFIG_TYPE, "digest": digest(config), "size": config.len() },
        "layers": layers,
        "annotations": labels(options),
    })
}

fn index(manifest: &[u8], tag: &str) -> Value {
    let reference = tag.rsplit(':').next().unwrap_or_default();
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": MANIFEST_TYPE,
            "digest": digest(manifest),
            "size": manifest.len(),
            "platform": { "architecture": architecture(), "os": "linux" },
            "annotations": { "org.opencontainers.image.ref.name": reference, "io.containerd.image.name": tag },
        }],
    })
}

fn docker_list(config: &[u8], measured: &[Measured], tag: &str) -> Value {
    let layers: Vec<String> = measured.iter().map(|layer| path_of(&layer.digest)).collect();
    json!([{ "Config": path_of(&digest(config)), "RepoTags": [tag], "Layers": layers }])
}

fn labels(options: &PackageOptions) -> Value {
    json!({
        "org.opencontainers.image.title": options.name,
        "org.opencontainers.image.version": options.version,
    })
}

/// Names of images have small letters.
fn tag(options: &PackageOptions) -> String {
    let plain = |text: &str| -> String {
        let text = text.to_lowercase();
        let kept = |letter: char| if letter.is_ascii_alphanumeric() || ".-_".contains(letter) { letter } else { '-' };
        let kept: String = text.chars().map(kept).collect();
        let kept = kept.trim_matches(['.', '-', '_']).to_owned();
        if kept.is_empty() { "model".to_owned() } else { kept }
    };
    format!("safari/{}:{}", plain(&options.name), plain(&options.version))
}

/// As OCI names it.
fn architecture() -> &'static str {
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
            let source = io::Error::other(format!("a file of its {} has changed meanwhile; try again", layer.title));
            return Err(failed("make", self.target)(source));
        }
        self.at += size;
        self.pad(size)?;
        let media_type = if gzip { format!("{LAYER_TYPE}+gzip") } else { LAYER_TYPE.to_owned() };
        Ok(Blob { media_type, digest, size, offset })
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

/// Nothing that is not in the image is asked for.
pub(super) fn manifest_of(image: &Image) -> Result<&Blob> {
    image.blobs.last().ok_or_else(|| Error::Model {
        folder: image.path.display().to_string(),
        reason: "the image has no manifest".to_owned(),
    })
}
