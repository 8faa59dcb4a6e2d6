//! Another image, on whose layers an image may stand.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::io as failed;
use crate::layout::architecture;
use crate::{Error, Result};

/// Indexes may name indexes, but not for ever.
const DEEPEST: usize = 3;
/// Descriptions are small; what is larger is none.
const MOST_OF_TEXT: u64 = 4 << 20;

/// The layers and variables of an image in a file, an OCI archive as `skopeo copy docker://IMAGE oci-archive:FILE` makes it.
#[derive(Clone, Debug)]
pub struct Base {
    path: PathBuf,
    /// Of its manifest.
    pub(crate) digest: String,
    pub(crate) layers: Vec<BaseLayer>,
    /// `NAME=value`
    pub(crate) variables: Vec<String>,
    /// How it was made, as it tells it.
    pub(crate) history: Vec<Value>,
}

/// A layer as it is stored in the file.
#[derive(Clone, Debug)]
pub(crate) struct BaseLayer {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) diff_id: String,
    offset: u64,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Config {
    architecture: String,
    #[serde(default)]
    config: Run,
    rootfs: Rootfs,
    #[serde(default)]
    history: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct Run {
    #[serde(rename = "Env", default)]
    variables: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

impl Base {
    /// Reads what is in the file.
    ///
    /// # Errors
    /// It is no OCI archive, or has no image for this machine's processor.
    pub fn open(path: &Path) -> Result<Self> {
        let mut archive = Contents::of(path)?;
        let index = archive.json::<Index>("index.json")?;
        let (digest, manifest) = archive.manifest(&index, DEEPEST)?;
        let config: Config = archive.json(&path_of(&manifest.config.digest))?;
        let wanted = architecture();
        if config.architecture != wanted {
            let reason = format!("it is an image for {}, and this machine is {wanted}", config.architecture);
            return Err(archive.unusable(reason));
        }
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(
                archive.unusable("its configuration and its manifest have different numbers of layers".to_owned())
            );
        }
        let mut layers = Vec::new();
        for (layer, diff_id) in manifest.layers.iter().zip(config.rootfs.diff_ids) {
            let (offset, size) = archive.place(&path_of(&layer.digest))?;
            let (media_type, digest) = (of_oci(&layer.media_type), layer.digest.clone());
            layers.push(BaseLayer { media_type, digest, size, diff_id, offset });
        }
        let (variables, history) = (config.config.variables.unwrap_or_default(), config.history);
        Ok(Self { path: path.to_owned(), digest, layers, variables, history })
    }

    /// Copies a layer as it is stored.
    pub(crate) fn copy(&self, layer: &BaseLayer, out: &mut dyn Write) -> Result<()> {
        let mut file = File::open(&self.path).map_err(failed("read", &self.path))?;
        file.seek(SeekFrom::Start(layer.offset)).map_err(failed("read", &self.path))?;
        io::copy(&mut file.take(layer.size), out).map(drop).map_err(failed("read", &self.path))
    }
}

/// What lies where in the file.
struct Contents<'a> {
    path: &'a Path,
    file: File,
    places: HashMap<String, (u64, u64)>,
}

impl<'a> Contents<'a> {
    fn of(path: &'a Path) -> Result<Self> {
        let mut archive = tar::Archive::new(File::open(path).map_err(failed("read", path))?);
        let mut places = HashMap::new();
        for entry in archive.entries_with_seek().map_err(failed("read", path))? {
            let entry = entry.map_err(failed("read", path))?;
            let name = entry.path().map_err(failed("read", path))?.to_string_lossy().into_owned();
            places.insert(name.trim_start_matches("./").to_owned(), (entry.raw_file_position(), entry.size()));
        }
        Ok(Self { path, file: File::open(path).map_err(failed("read", path))?, places })
    }

    fn place(&self, name: &str) -> Result<(u64, u64)> {
        self.places.get(name).copied().ok_or_else(|| {
            self.unusable(format!(
                "{name} is not in it; `skopeo copy docker://IMAGE oci-archive:FILE` makes a whole one"
            ))
        })
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let (offset, size) = self.place(name)?;
        if size > MOST_OF_TEXT {
            return Err(self.unusable(format!("{name} is too large")));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(offset)).map_err(failed("read", self.path))?;
        (&self.file).take(size).read_to_end(&mut bytes).map_err(failed("read", self.path))?;
        let wanted = name.strip_prefix("blobs/sha256/");
        if wanted.is_some_and(|wanted| wanted != hex::encode(Sha256::digest(&bytes))) {
            return Err(self.unusable(format!("{name} is damaged")));
        }
        Ok(bytes)
    }

    fn json<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Result<T> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|error| self.unusable(format!("{name} is not understood: {error}")))
    }

    /// The manifest for this machine, and its digest.
    fn manifest(&mut self, index: &Index, depth: usize) -> Result<(String, Manifest)> {
        let fits = |one: &&Descriptor| match &one.platform {
            Some(platform) => platform.os == "linux" && platform.architecture == architecture(),
            None => true,
        };
        let Some(chosen) = index.manifests.iter().find(fits).filter(|_| depth > 0).cloned() else {
            return Err(self.unusable(format!("it has no image for Linux on {}", architecture())));
        };
        let name = path_of(&chosen.digest);
        if chosen.media_type.ends_with("index.v1+json") || chosen.media_type.ends_with("manifest.list.v2+json") {
            let inner = self.json::<Index>(&name)?;
            return self.manifest(&inner, depth - 1);
        }
        Ok((chosen.digest, self.json(&name)?))
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Unusable { path: self.path.to_owned(), reason }
    }
}

fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Docker's names of layers in OCI's words.
fn of_oci(media_type: &str) -> String {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar".to_owned(),
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        other => other.to_owned(),
    }
}
