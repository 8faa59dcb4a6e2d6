//! `safari image`: container images of this program, without Docker.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use oci::program::{self, Built, Kind, ProgramOptions};
use oci::{Base, Image, ImageName, Target};
use platform::config::Config;
use serde_json::json;

use crate::error::{Error, Result};
use crate::model::{Bar, Format, print_json};
use crate::runs::print;

const NOTES: &str = "The image holds the program, the shared libraries that it needs, certificates of authorities and the programs \
of --with, and runs as user 65532. The same files give the same digest. `docker load -i FILE` takes it; it is an OCI image layout \
as well. k8s/images/Dockerfile has the same images for Docker.

Examples:
  safari image cpu -o safari-cpu.tar
  safari image control-plane --program safari-control-plane --dag dags/backup.yaml --push registry.example/safari-control-plane:0.1.0
  safari image cuda --cuda /opt/torch/torch/lib -o safari-cuda.tar
  safari image cpu --base debian.tar -o safari-cpu.tar      # skopeo copy docker://debian:12-slim oci-archive:debian.tar";

/// What stands for no programs at all.
const NONE: &str = "none";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct ImageArgs {
    /// Which image
    #[arg(value_enum)]
    kind: KindArg,
    /// Write the image to this file
    #[arg(long, short, value_name = "FILE", required_unless_present = "push")]
    output: Option<PathBuf>,
    /// Send the image to a registry of images; what `docker login` noted is used
    #[arg(long, value_name = "HOST/NAME:TAG", value_parser = target)]
    push: Option<Target>,
    /// What `docker load` calls it [default: what --push says, else safari-KIND:VERSION]
    #[arg(long, value_name = "NAME:TAG", value_parser = name)]
    tag: Option<ImageName>,
    /// Stand on this image, an OCI archive of a Linux whose C library is no older than this machine's [default: on nothing]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Programs of this machine that the image has as well; `none` for none [default: pg_dump,pg_restore,psql; with networks
    /// ffmpeg,ffprobe too]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    with: Option<Vec<String>>,
    /// A DAG file that the image has; may be given again
    #[arg(long, value_name = "FILE")]
    dag: Vec<PathBuf>,
    /// The folder of libtorch_cuda.so, for `cuda` [default: `detector.cuda_dir`]
    #[arg(long, value_name = "DIR")]
    cuda: Option<PathBuf>,
    /// Compress the layers
    #[arg(long)]
    gzip: bool,
    /// The program to pack [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArg {
    /// Without libtorch: schedulers, the API, the registry, migrations, backups
    ControlPlane,
    /// With networks, on processors
    Cpu,
    /// With networks, on GPUs of NVIDIA too
    Cuda,
}

impl KindArg {
    fn kind(self) -> Kind {
        match self {
            Self::ControlPlane => Kind::ControlPlane,
            Self::Cpu => Kind::Cpu,
            Self::Cuda => Kind::Cuda,
        }
    }
}

pub(crate) async fn run(args: ImageArgs, config: &Config) -> Result<ExitCode> {
    let work = tempfile::tempdir().map_err(Error::write(std::env::temp_dir()))?;
    let file = args.output.clone().unwrap_or_else(|| work.path().join("image.tar"));
    let options = options(&args, config)?;
    let built = tokio::task::spawn_blocking(move || program::build(&options, &file));
    let built: Built = built.await.map_err(|error| Error::Runtime(std::io::Error::other(error)))??;
    if let Some(target) = &args.push {
        push(&built.image, target).await?;
    }
    tell(&args, &built)
}

/// Sends an image, and shows how far it is.
pub(crate) async fn push(image: &Image, target: &Target) -> Result<()> {
    let bar = Bar::new("push");
    let progress = bar.progress();
    progress.tell(model_registry::client::Step::Total(image.stored()));
    let sent: oci::Sent = Arc::new(move |bytes| progress.tell(model_registry::client::Step::Bytes(bytes)));
    Ok(oci::push(image, target, &sent).await?)
}

/// Where an image is to be sent, for clap.
pub(crate) fn target(text: &str) -> std::result::Result<Target, String> {
    text.parse().map_err(|error: oci::Error| error.to_string())
}

fn name(text: &str) -> std::result::Result<ImageName, String> {
    text.parse().map_err(|error: oci::Error| error.to_string())
}

fn options(args: &ImageArgs, config: &Config) -> Result<ProgramOptions> {
    let kind = args.kind.kind();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let pushed = || args.push.as_ref().map(|target| target.to_string().parse::<ImageName>()).transpose();
    let name = match &args.tag {
        Some(name) => name.clone(),
        None => pushed()?.unwrap_or_else(|| ImageName::of(&format!("safari-{kind}"), &version)),
    };
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(Error::Runtime)?,
    };
    let model = match kind {
        Kind::ControlPlane => None,
        Kind::Cpu | Kind::Cuda => Some(detector::model::locate(config.model.as_deref())?),
    };
    Ok(ProgramOptions {
        kind,
        program,
        version,
        name,
        others: args.with.as_ref().map(|names| names.iter().filter(|name| *name != NONE).cloned().collect()),
        dags: args.dag.clone(),
        model,
        cuda: args.cuda.clone().or_else(|| config.detector.cuda_dir.clone()),
        base: args.base.as_deref().map(Base::open).transpose()?,
        gzip: args.gzip,
    })
}

fn tell(args: &ImageArgs, built: &Built) -> Result<ExitCode> {
    let image = &built.image;
    let pushed = args.push.as_ref().map(Target::to_string);
    if args.format == Format::Json {
        let with: serde_json::Map<_, _> =
            built.others.iter().map(|other| (other.name.clone(), json!(other.from))).collect();
        return print_json(&json!({
            "kind": args.kind.kind().as_str(), "digest": image.digest, "tag": image.tag, "size": image.size, "with": with,
            "file": args.output, "pushed": pushed,
        }));
    }
    for other in &built.others {
        print(&format!("{} is {}", other.name, other.from.display()))?;
    }
    if let Some(output) = &args.output {
        print(&format!("{} is in {}, {} bytes, {}", image.tag, output.display(), image.size, image.digest))?;
    }
    match pushed {
        Some(pushed) => print(&format!("{pushed} is {}", image.digest)),
        None => Ok(ExitCode::SUCCESS),
    }
}
