//! `safari model package`: a container image of a version and this program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use model_registry::client::Source;
use model_registry::package::{self, PackageOptions};
use model_registry::register::fetch;
use oci::{Image, Target};
use platform::config::Config;
use serde_json::json;

use super::{Bar, Format, open, print_json, source};
use crate::error::{Error, Result};
use crate::image;
use crate::runs::print;

const NOTES: &str = "The image holds this program, the shared libraries that it needs and the model, and nothing else. It \
serves at port 8080 once identity is configured; `docker run --rm -v $PWD/photos:/data:ro IMAGE detect /data` looks at files. \
The same program and model give the same digest. `docker load -i FILE` takes the file; it is an OCI image layout as well.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct PackageArgs {
    /// The version
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// Write the image to this file
    #[arg(long, short, value_name = "FILE", required_unless_present = "push")]
    output: Option<PathBuf>,
    /// Send the image to a registry of images; what `docker login` noted is used
    #[arg(long, value_name = "HOST/NAME:TAG", value_parser = image::target)]
    push: Option<Target>,
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

pub(crate) async fn package(args: PackageArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, None, &[]).await?;
    let version = client.find_version(&args.target).await?;
    let work = tempfile::tempdir().map_err(Error::write(std::env::temp_dir()))?;
    let folder = work.path().join("model");
    let bar = Bar::new("download");
    fetch(&client, &Source::Version(version.name.clone(), version.version), &folder, &bar.progress()).await?;
    drop(bar);
    let program = match args.program {
        Some(program) => program,
        None => std::env::current_exe().map_err(Error::Runtime)?,
    };
    let options = PackageOptions {
        program,
        model: folder,
        name: version.name.clone(),
        version: version.version.to_string(),
        libraries: Vec::new(),
        gzip: args.gzip,
    };
    let file = args.output.clone().unwrap_or_else(|| work.path().join("image.tar"));
    let built = tokio::task::spawn_blocking(move || package::build(&options, &file));
    let image: Image = built.await.map_err(|error| Error::Runtime(std::io::Error::other(error)))??;
    if let Some(target) = &args.push {
        image::push(&image, target).await?;
    }
    let pushed = args.push.as_ref().map(Target::to_string);
    if args.format == Format::Json {
        return print_json(&json!({
            "model": version.name, "version": version.version, "digest": image.digest, "tag": image.tag,
            "size": image.size, "file": args.output, "pushed": pushed,
        }));
    }
    if let Some(output) = &args.output {
        print(&format!("{} is in {}, {} bytes, {}", image.tag, output.display(), image.size, image.digest))?;
    }
    match pushed {
        Some(pushed) => print(&format!("{pushed} is {}", image.digest)),
        None => Ok(ExitCode::SUCCESS),
    }
}
