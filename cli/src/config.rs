//! `safari config`: the settings in force, and a documented file of all of them.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Subcommand;
use platform::config::Config;

use crate::error::{Error, Result};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every setting, its value, and where the value comes from
    Show,
    /// A safari.toml with every setting explained
    Sample,
}

/// Prints all settings in three columns.
pub(crate) fn show(config: &Config) -> Result<ExitCode> {
    let settings = config.settings();
    let width = |text: fn(&platform::config::Setting) -> usize| settings.iter().map(text).max().unwrap_or(0);
    let (keys, values) = (width(|s| s.key.len()), width(|s| shown(&s.value).len()));
    let mut out = stdout().lock();
    for setting in settings {
        let value = shown(&setting.value);
        writeln!(out, "{:keys$}  {value:values$}  {}", setting.key, setting.source).map_err(Error::write("stdout"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a documented configuration file.
pub(crate) fn sample() -> Result<ExitCode> {
    stdout().lock().write_all(Config::sample().as_bytes()).map_err(Error::write("stdout"))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}
