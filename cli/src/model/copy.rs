//! `safari model copy`: from one server to another.

use std::process::ExitCode;

use clap::Args;
use model_registry::client::{Client, Credentials, Source};
use model_registry::copy::copy_model;
use platform::config::Config;

use super::table::Table;
use super::{Bar, Format, open, print_json, source};
use crate::error::{Error, Result};
use crate::runs::print;

const NOTES: &str = "The servers may be Safari's or MLflow's own. A user and password in an address count for that server; \
else MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, count for both. What was copied \
before is not copied again.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct CopyArgs {
    /// The model: NAME for all versions, NAME/VERSION or NAME@ALIAS for one
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// Its name at the other server [default: the same]
    #[arg(value_name = "NEW_NAME")]
    new_name: Option<String>,
    /// The server that has it [default: the one that is asked]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The server that gets it [default: the one that is asked]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) async fn copy(args: CopyArgs, config: &Config) -> Result<ExitCode> {
    let (from, to) = (server(args.from.as_deref(), config).await?, server(args.to.as_deref(), config).await?);
    let (name, only) = match &args.target {
        Source::Latest(name) => (name.clone(), None),
        other => {
            let version = from.find_version(other).await?;
            (version.name, Some(version.version))
        }
    };
    let new_name = args.new_name.unwrap_or_else(|| name.clone());
    if from.server() == to.server() && new_name == name {
        return Err(Error::CopyOntoItself(name));
    }
    let bar = Bar::new("copy");
    let copied = copy_model(&from, &name, only, &to, &new_name, &bar.progress()).await?;
    drop(bar);
    if args.format == Format::Json {
        return print_json(&copied);
    }
    let mut table = Table::new(&["VERSION", "COPY", ""]);
    for version in &copied {
        let what = if version.is_new { format!("{} files", version.files) } else { "copied before".to_owned() };
        table.row(vec![version.from.to_string(), format!("{new_name}/{}", version.to), what]);
    }
    print(&table.text())
}

async fn server(url: Option<&str>, config: &Config) -> Result<Client> {
    match url {
        Some(url) => Ok(Client::connect(url, Credentials::from_environment())?),
        None => open(config, None, &[]).await,
    }
}
