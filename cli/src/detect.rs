//! `safari detect`: a quick look at files, without tables and state.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jobs::Services;
use jobs::quick::{self, QuickLook};
use platform::config::Config;

use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(crate) struct DetectArgs {
    /// Photographs, videos, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Draw boxes and names on copies of the photographs in this folder
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
    /// One JSON object a file
    #[arg(long)]
    json: bool,
}

/// Looks at all files and prints what it sees; exit code 1 if none could be read.
pub(crate) async fn detect(args: DetectArgs, config: Config) -> Result<ExitCode> {
    if let Some(missing) = args.paths.iter().find(|path| !path.exists()) {
        return Err(Error::MissingPath(missing.clone()));
    }
    let services = Arc::new(Services::new(config));
    let mut readable = false;
    for path in &args.paths {
        let looks = quick::look_at_path(&services, path).await?;
        for look in looks {
            readable |= look.failure.is_none();
            print(&look, args.json).map_err(Error::write("stdout"))?;
            if let Some(folder) = &args.annotate {
                annotate(&services, path, &look, folder)?;
            }
        }
    }
    if let Some(folder) = &args.annotate {
        eprintln!("annotated pictures are in {}", folder.display());
    }
    Ok(if readable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(look: &QuickLook, json: bool) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if json {
        return writeln!(out, "{}", serde_json::to_string(look).map_err(std::io::Error::other)?);
    }
    if let Some(failure) = &look.failure {
        return writeln!(out, "{}: not readable: {failure}", look.file);
    }
    if look.detections.is_empty() {
        return writeln!(out, "{}: blank", look.file);
    }
    writeln!(out, "{}:", look.file)?;
    for found in &look.detections {
        let name = found.species.as_deref().unwrap_or(found.category.as_str());
        let scientific = match (&found.scientific_name, &found.rank) {
            (Some(scientific), Some(rank)) => format!(" ({scientific}, {rank})"),
            _ => String::new(),
        };
        let sure = found.species_confidence.unwrap_or(found.confidence) * 100.0;
        let frame = if look.is_video { format!(" frame {}", found.frame) } else { String::new() };
        let [x, y, width, height] = found.bbox;
        writeln!(out, "  {name}{scientific} {sure:.0} %, box {x:.3} {y:.3} {width:.3} {height:.3}{frame}")?;
    }
    Ok(())
}

fn annotate(services: &Services, root: &Path, look: &QuickLook, folder: &Path) -> Result<()> {
    if look.failure.is_some() || look.is_video {
        return Ok(());
    }
    quick::annotate(services, root, look, folder)?;
    Ok(())
}
