//! `safari export`: the tables in a format of the field.

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use lake::Lake;
use lake::export::{MegadetectorOptions, megadetector};
use platform::config::Config;
use platform::object_store::Location;

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    /// MegaDetector batch output, format 1.6
    Megadetector,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Format of the file
    #[arg(long)]
    format: ExportFormat,
    /// File to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write file names relative to this folder or s3:// URL
    #[arg(long, value_name = "SOURCE")]
    relative_to: Option<String>,
    /// Only rows of this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Writes the file; a file appears only when it is whole.
pub(crate) async fn export(args: ExportArgs, config: &Config) -> Result<ExitCode> {
    let ExportFormat::Megadetector = args.format;
    let lake = Lake::open(&config.lake_url()).await?;
    let relative_to = args.relative_to.map(|source| Location::parse(&source)).transpose()?;
    let options = MegadetectorOptions {
        relative_to: relative_to.map(|location| location.to_string()),
        run_id: args.run,
        ..MegadetectorOptions::default()
    };
    let Some(path) = args.output else {
        let mut out = BufWriter::new(stdout());
        megadetector(&lake, &options, &mut out).await?;
        out.flush().map_err(Error::write("stdout"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let partial = path.with_extension("partial");
    let file = File::create(&partial).map_err(Error::write(&partial))?;
    let mut out = BufWriter::new(file);
    let exported = match megadetector(&lake, &options, &mut out).await {
        Ok(exported) => exported,
        Err(error) => {
            // What could not be finished is of no use; the error says why.
            let _ = std::fs::remove_file(&partial);
            return Err(error.into());
        }
    };
    out.flush().and_then(|()| std::fs::rename(&partial, &path)).map_err(Error::write(&path))?;
    println!(
        "{}: {} files, {} detections, {} not readable",
        path.display(),
        exported.images,
        exported.detections,
        exported.failures
    );
    Ok(ExitCode::SUCCESS)
}
