//! An OCI image of a model and the program that runs it, made without Docker.
//!
//! The image stands on nothing else: it holds the program, the shared libraries that it needs, and the model. The same input
//! gives the same digest.

use std::path::{Path, PathBuf};

use oci::{Image, ImageName, Layer, Libraries, Recipe};

use crate::Result;
use crate::folder::{ModelFolder, file_paths, verify};

/// Where the model lies in the image.
pub const MODEL_PATH: &str = "model";
/// Where photographs are to be mounted.
pub const DATA_PATH: &str = "data";
/// Where libraries lie in the image.
const LIBRARY_PATH: &str = "usr/lib/safari";
/// Where the program lies in the image.
const PROGRAM_PATH: &str = "usr/bin/safari";
/// Where `safari serve` listens in the image, on all addresses; without identity it refuses to.
const SERVE_PORT: u16 = 8080;

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

/// Makes an image, which runs `safari serve` with the model unless another command is given. The file appears when it is whole.
///
/// # Errors
/// The program, a library or the model cannot be read; the model's files are not what they were; the file cannot be
/// written.
pub fn build(options: &PackageOptions, target: &Path) -> Result<Image> {
    ModelFolder::open(&options.model)?;
    verify(&options.model)?;
    let recipe = Recipe {
        name: ImageName::of(&format!("safari/{}", options.name.replace('/', "-")), &options.version),
        made_by: "safari model package".to_owned(),
        base: None,
        layers: vec![system(options)?, program(&options.program), model(&options.model)?],
        labels: vec![
            ("org.opencontainers.image.title".to_owned(), options.name.clone()),
            ("org.opencontainers.image.version".to_owned(), options.version.clone()),
        ],
        variables: vec![
            "PATH=/usr/bin".to_owned(),
            format!("LD_LIBRARY_PATH=/{LIBRARY_PATH}"),
            format!("SAFARI_MODEL=/{MODEL_PATH}"),
            "SAFARI_HOME=/tmp/safari-home".to_owned(),
            format!("SAFARI_SERVE_LISTEN=0.0.0.0:{SERVE_PORT}"),
            "HOME=/tmp".to_owned(),
        ],
        entrypoint: vec![format!("/{PROGRAM_PATH}")],
        arguments: vec!["serve".to_owned()],
        folder: format!("/{DATA_PATH}"),
        ports: vec![SERVE_PORT],
        gzip: options.gzip,
    };
    Ok(oci::write(&recipe, target)?)
}

fn system(options: &PackageOptions) -> Result<Layer> {
    let mut libraries = Libraries::of(&options.program)?;
    for file in &options.libraries {
        libraries.add(file)?;
        if let Some(name) = file.file_name().and_then(|name| name.to_str()) {
            libraries.files.insert(name.to_owned(), file.clone());
        }
    }
    let mut layer = Layer::of_system(&libraries, LIBRARY_PATH);
    layer.folder(DATA_PATH, 0o755);
    Ok(layer)
}

fn program(program: &Path) -> Layer {
    let mut layer = Layer::new("program");
    layer.file(PROGRAM_PATH, program, 0o755);
    layer
}

fn model(folder: &Path) -> Result<Layer> {
    let mut layer = Layer::new("model");
    for path in file_paths(folder)? {
        layer.file(&format!("{MODEL_PATH}/{path}"), &folder.join(&path), 0o644);
    }
    Ok(layer)
}
