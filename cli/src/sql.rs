//! `safari sql`: a question to the tables.

use std::io::{BufWriter, Write, stdout};
use std::process::ExitCode;

use clap::Args;
use lake::{Lake, OutputFormat};
use platform::config::Config;

use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// A reading statement, such as "select * from observations limit 5"
    query: String,
    /// table, csv, json (one object a line) or arrow (an IPC stream)
    #[arg(long, short, default_value = "table", value_parser = parse_format)]
    format: OutputFormat,
}

/// Runs the query and writes its rows to standard output.
pub(crate) async fn sql(args: SqlArgs, config: &Config) -> Result<ExitCode> {
    let lake = Lake::open(&config.lake_url()).await?;
    let rows = lake.sql(&args.query).await?;
    let mut out = BufWriter::new(stdout());
    lake::format::write(rows, args.format, &mut out).await?;
    out.flush().map_err(Error::write("stdout"))?;
    Ok(ExitCode::SUCCESS)
}

fn parse_format(word: &str) -> std::result::Result<OutputFormat, String> {
    word.parse().map_err(|error: lake::UnknownWord| error.to_string())
}
