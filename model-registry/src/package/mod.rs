//! An OCI image of a model and the program that runs it, made without Docker.
//!
//! The image stands on nothing else: it holds the program, the shared libraries that it needs, and the model. Everything
//! that could differ between two machines or moments is fixed (order, times, owners, modes), so that the same input gives
//! the same digest. The file is an OCI image layout
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>) and can be given to `docker load` as well.

mod image;
mod layer;
mod libraries;
mod push;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::folder::{ModelFolder, verify};
use crate::{Error, Result};

pub use push::{Target, push};

/// Where the model lies in the image.
pub const MODEL_PATH: &str = "model";
/// Where photographs are to be mounted.
pub const DATA_PATH: &str = "data";

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct PackageOptions {
    /// The program, such as this one itself.
    pub program: PathBuf,
    /// The model folder. Its checksums are looked at if it has them.
    pub model: PathBuf,
    /// The registered model and its version, such as `wildlife` and `3`.
    pub name: String,
    /// The version.
    pub version: String,
    /// More shared libraries and their folders, which the program opens by name.
    pub libraries: Vec<PathBuf>,
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
    blobs: Vec<image::Blob>,
    /// Bytes of the file.
    pub size: u64,
}

/// Makes an image. The file appears when it is whole.
///
/// # Errors
/// The program, a library or the model cannot be read; the model's files are not what they were; the file cannot be
/// written.
pub fn build(options: &PackageOptions, target: &Path) -> Result<Image> {
    ModelFolder::open(&options.model)?;
    verify(&options.model)?;
    let libraries = libraries::needed(&options.program, &options.libraries)?;
    let layers =
        [layer::of_libraries(&libraries), layer::of_program(&options.program), layer::of_model(&options.model)?];
    image::write(options, &layers, target)
}

/// An [`Error::Io`].
fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { doing, path, source }
}
