//! `safari backup drill`.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanBytes;
use jobs::drill::Inference;
use platform::config::Config;

use super::{Bar, WhatArg, services};
use crate::error::Result;
use crate::model::{Format, print_json};
use crate::runs::print;

#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// What is restored
    #[arg(value_enum, default_value = "all")]
    what: WhatArg,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn drill(args: DrillArgs, config: Config) -> Result<ExitCode> {
    let bar = Bar::new();
    let report = jobs::drill::drill(&services(&config), args.what.what(), &bar.progress()).await?;
    drop(bar);
    if args.format == Format::Json {
        return print_json(&report);
    }
    let restored = &report.restored;
    print(&format!(
        "backup {} is restored in {:.1} s: {} in {} files, {} rows",
        restored.id,
        restored.restore_seconds,
        HumanBytes(restored.bytes),
        restored.files,
        restored.rows,
    ))?;
    match &restored.query {
        Some(answer) => print(&format!("its tables answer: {answer}"))?,
        None => print("it has no tables: none were asked")?,
    };
    match &report.inference {
        Inference::Ran { model } => print(&format!("its model {model} works")),
        Inference::LeftOut { reason } => print(&format!("no inference was run: {reason}")),
    }
}
