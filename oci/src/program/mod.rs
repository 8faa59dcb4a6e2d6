//! Images of Safari itself, as `k8s/images/Dockerfile` has them: the same paths, user and variables.
//!
//! | image | the program | more |
//! |---|---|---|
//! | `control-plane` | without libtorch: schedulers, API, registry, migrations, backups | PostgreSQL's client programs |
//! | `cpu` | with libtorch | PostgreSQL's client programs, ffmpeg, the shipped model |
//! | `cuda` | the same | libtorch's libraries for CUDA as well |

mod others;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Base, Error, Image, ImageName, Layer, Libraries, Recipe, Result};

pub use others::Other;

/// Where the program and others lie in the image.
const PROGRAM_FOLDER: &str = "usr/local/bin";
/// Where libraries lie in the image.
const LIBRARY_FOLDER: &str = "usr/local/lib/safari";
/// Where the DAG files lie in the image.
const DAG_FOLDER: &str = "usr/local/share/safari/dags";
/// Where the program looks for the shipped model.
const MODEL_FOLDER: &str = "usr/local/share/safari/model/wildlife";
/// The home: a volume is mounted there.
const HOME: &str = "var/lib/safari";
/// Where libtorch for CUDA lies in the image, laid out as in a folder of Python's packages: its libraries look for one another
/// beside them.
const CUDA_FOLDER: &str = "opt/torch";

/// What programs with networks are linked with.
const TORCH: &str = "libtorch_cpu.so";
/// What a program with networks opens to use a GPU.
const TORCH_CUDA: &str = "libtorch_cuda.so";
/// Parts of the C library: an image that stands on another one has those of the other.
const C_LIBRARY: [&str; 9] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "libanl.so.1",
    "libmvec.so.1",
];

/// Which of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without networks.
    ControlPlane,
    /// With networks, on processors.
    Cpu,
    /// With networks, on GPUs of NVIDIA too.
    Cuda,
}

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct ProgramOptions {
    /// Which image.
    pub kind: Kind,
    /// The program, such as this one itself.
    pub program: PathBuf,
    /// The version of the program.
    pub version: String,
    /// What `docker load` calls the image.
    pub name: ImageName,
    /// Names of other programs of this machine that the image has as well, such as `pg_dump`; none means [`Kind::others`].
    pub others: Option<Vec<String>>,
    /// DAG files.
    pub dags: Vec<PathBuf>,
    /// The model that the image has where the program looks for the shipped one; not of the control plane.
    pub model: Option<PathBuf>,
    /// The folder of `libtorch_cuda.so`, for [`Kind::Cuda`].
    pub cuda: Option<PathBuf>,
    /// The image that it stands on, a Linux whose C library is no older than this machine's.
    pub base: Option<Base>,
    /// Whether layers are compressed: smaller, and slower to make.
    pub gzip: bool,
}

/// An image, and which programs of this machine are in it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// The other programs.
    pub others: Vec<Other>,
}

impl Kind {
    /// As commands and manifests name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The other programs that the image has unless said otherwise: backups need PostgreSQL's, videos ffmpeg's.
    pub fn others(self) -> &'static [&'static str] {
        match self {
            Self::ControlPlane => &["pg_dump", "pg_restore", "psql"],
            Self::Cpu | Self::Cuda => &["pg_dump", "pg_restore", "psql", "ffmpeg", "ffprobe"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes an image. The file appears when it is whole.
///
/// # Errors
/// The program is not of this kind ([`Error::WrongProgram`]); another program is not on this machine ([`Error::NoProgram`]);
/// something cannot be read; the file cannot be written.
pub fn build(options: &ProgramOptions, target: &Path) -> Result<Built> {
    let mut libraries = Libraries::of(&options.program)?;
    check(options, &libraries)?;
    let names = match &options.others {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => options.kind.others().to_vec(),
    };
    let others = others::find(&names)?;
    for other in &others {
        libraries.add(&other.from)?;
    }
    let cuda = match options.kind {
        Kind::Cuda => Some(cuda(options, &mut libraries)?),
        Kind::ControlPlane | Kind::Cpu => None,
    };
    let mut layers = vec![system(options, &libraries), others_layer(&others)];
    layers.extend(cuda);
    layers.push(program(options)?);
    if let (Some(folder), Kind::Cpu | Kind::Cuda) = (&options.model, options.kind) {
        let mut layer = Layer::new("model");
        layer.tree(MODEL_FOLDER, folder, 0o644)?;
        layers.push(layer);
    }
    let recipe = Recipe {
        name: options.name.clone(),
        made_by: format!("safari image {}", options.kind),
        base: options.base.clone(),
        layers,
        labels: vec![
            ("org.opencontainers.image.title".to_owned(), format!("safari-{}", options.kind)),
            ("org.opencontainers.image.version".to_owned(), options.version.clone()),
        ],
        variables: variables(options.kind),
        entrypoint: vec![format!("/{PROGRAM_FOLDER}/safari")],
        arguments: Vec::new(),
        folder: format!("/{HOME}"),
        ports: Vec::new(),
        gzip: options.gzip,
    };
    Ok(Built { image: crate::write(&recipe, target)?, others })
}

/// That the program is of the image's kind.
fn check(options: &ProgramOptions, libraries: &Libraries) -> Result<()> {
    let wrong = |reason: &str| {
        let (kind, program) = (options.kind.as_str(), options.program.clone());
        Err(Error::WrongProgram { kind, program, reason: reason.to_owned() })
    };
    match (options.kind, libraries.has(TORCH)) {
        (Kind::ControlPlane, true) => wrong(
            "it is linked with libtorch, which a control plane does without; `make control-plane` builds one that is not: \
             name it with --program",
        ),
        (Kind::Cpu | Kind::Cuda, false) => wrong(
            "it was built without libtorch and can run no networks; name one that was built with it with --program, or make \
             the image `control-plane`",
        ),
        (Kind::Cuda, true) if !options.cuda.as_ref().is_some_and(|folder| folder.join(TORCH_CUDA).is_file()) => wrong(
            "libtorch_cuda.so is not there; name the folder of libtorch's libraries for CUDA with --cuda (`torch/lib` of the \
             Python package torch)",
        ),
        _ => Ok(()),
    }
}

fn variables(kind: Kind) -> Vec<String> {
    let library_path = match kind {
        // The libtorch with CUDA goes before the one that the program was linked with.
        Kind::Cuda => format!("/{CUDA_FOLDER}/torch/lib:/{LIBRARY_FOLDER}"),
        Kind::ControlPlane | Kind::Cpu => format!("/{LIBRARY_FOLDER}"),
    };
    let mut variables = vec![
        format!("PATH=/{PROGRAM_FOLDER}"),
        format!("LD_LIBRARY_PATH={library_path}"),
        format!("SAFARI_HOME=/{HOME}"),
        "HOME=/tmp".to_owned(),
    ];
    if kind == Kind::Cuda {
        variables.push(format!("SAFARI_DETECTOR_CUDA_DIR=/{CUDA_FOLDER}/torch/lib"));
        variables.push("NVIDIA_VISIBLE_DEVICES=all".to_owned());
        variables.push("NVIDIA_DRIVER_CAPABILITIES=compute,utility".to_owned());
    }
    variables
}

fn system(options: &ProgramOptions, libraries: &Libraries) -> Layer {
    let mut layer = match options.base {
        None => Layer::of_system(libraries, LIBRARY_FOLDER),
        // Two C libraries in one process would not do, and the base has its own users and certificates.
        Some(_) => {
            let mut layer = Layer::new("shared libraries");
            for (name, from) in libraries.files.iter().filter(|(name, _)| !C_LIBRARY.contains(&name.as_str())) {
                layer.file(&format!("{LIBRARY_FOLDER}/{name}"), from, 0o755);
            }
            layer
        }
    };
    layer.folder(DAG_FOLDER, 0o755);
    layer.folder_of_user(HOME);
    layer
}

fn others_layer(others: &[Other]) -> Layer {
    let mut layer = Layer::new("client programs");
    for other in others {
        layer.file(&format!("{PROGRAM_FOLDER}/{}", other.name), &other.from, 0o755);
    }
    layer
}

fn program(options: &ProgramOptions) -> Result<Layer> {
    let mut layer = Layer::new("program");
    layer.file(&format!("{PROGRAM_FOLDER}/safari"), &options.program, 0o755);
    for dag in &options.dags {
        let Some(name) = dag.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::Unusable { path: dag.clone(), reason: "it has no name of a file".to_owned() });
        };
        layer.file(&format!("{DAG_FOLDER}/{name}"), dag, 0o644);
    }
    Ok(layer)
}

/// The libraries of libtorch and of NVIDIA, and those of the system that they need.
fn cuda(options: &ProgramOptions, libraries: &mut Libraries) -> Result<Layer> {
    let mut layer = Layer::new("libtorch with CUDA");
    let Some(folder) = &options.cuda else { return Ok(layer) };
    // Links are followed, so that paths of the loader can be compared.
    let folder = folder.canonicalize().map_err(crate::error::io("read", folder))?;
    layer.tree(&format!("{CUDA_FOLDER}/torch/lib"), &folder, 0o755)?;
    // In Python's packages `nvidia` lies beside `torch`.
    let packages = folder.parent().and_then(Path::parent);
    if let Some(nvidia) = packages.map(|packages| packages.join("nvidia")).filter(|nvidia| nvidia.is_dir()) {
        layer.tree(&format!("{CUDA_FOLDER}/nvidia"), &nvidia, 0o755)?;
    }
    let mut needed = Libraries::default();
    needed.add(&folder.join(TORCH_CUDA))?;
    let is_of_cuda = |path: &Path| {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        path.starts_with(&folder) || packages.is_some_and(|packages| path.starts_with(packages.join("nvidia")))
    };
    for (name, path) in needed.files.into_iter().filter(|(_, path)| !is_of_cuda(path)) {
        libraries.files.entry(name).or_insert(path);
    }
    // What libtorch with CUDA brings itself is not there twice.
    libraries.files.retain(|name, _| !folder.join(name).is_file());
    Ok(layer)
}
