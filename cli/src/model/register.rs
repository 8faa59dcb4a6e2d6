//! `safari model register`, `download` and `delete`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use model_registry::client::{Source, quoted};
use model_registry::folder::{Lineage, StageOptions};
use model_registry::register::{self, Registration, delete_files, fetch, register_folder, register_logged};
use model_registry::registered::Tag;
use platform::config::Config;
use serde_json::json;

use super::{Bar, Format, open, print_json, source};
use crate::args::name_and_value;
use crate::error::{Error, Result};
use crate::runs::print;

const REGISTER_NOTES: &str = "All files are sent first and the version is made last, so a version always has its files. To \
register the same files again gives the version that they have already.";

#[derive(Debug, Args)]
#[command(after_help = REGISTER_NOTES)]
pub(crate) struct RegisterArgs {
    /// A model folder, or what a run has logged, as runs:/RUN/PATH or models:/m-…
    #[arg(value_name = "PATH|URI")]
    target: String,
    /// The registered model; made if it is not there [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Let this alias name the version, without gates; may be given several times
    #[arg(long, value_name = "ALIAS")]
    alias: Vec<String>,
    /// A tag of the version; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    /// What the version is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The experiment that the files are kept under
    #[arg(long, value_name = "NAME", default_value = "Default")]
    experiment: String,
    /// The run that made the model
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// A file that can be shown to the model, if the folder has none
    #[arg(long, value_name = "FILE")]
    input_example: Option<PathBuf>,
    /// The run of a DAG that made the model
    #[arg(long, value_name = "ID")]
    dag_run: Option<String>,
    /// The table that it was trained on and that table's version
    #[arg(long, value_name = "URL@VERSION")]
    trained_on: Option<String>,
    /// The commit of the code that trained it
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    /// The version
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// A folder that does not exist yet
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// NAME/VERSION, or NAME for the model with all its versions
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// Do it: needed for a model with all its versions
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn register(args: RegisterArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, None, &[]).await?;
    let folder = PathBuf::from(&args.target);
    let logged =
        args.target.parse::<Source>().ok().filter(|source| matches!(source, Source::Run(..) | Source::Logged(_)));
    let name = match (&args.name, &logged) {
        (Some(name), _) => name.clone(),
        (None, None) => folder_name(&folder)?,
        (None, Some(source)) => return Err(Error::NoModelName(source.to_string())),
    };
    let tags = args.tag.iter().map(|tag| name_and_value(tag).map(|(key, value)| Tag { key, value }));
    let registration = Registration {
        name,
        experiment: args.experiment.clone(),
        run_id: args.run.clone(),
        description: args.description.clone(),
        tags: tags.collect::<Result<_>>()?,
        aliases: args.alias.clone(),
        key: None,
        stage: StageOptions {
            name: String::new(),
            lineage: lineage(&args)?,
            input_example: args.input_example.clone(),
        },
    };
    let bar = Bar::new("register");
    let registered = match &logged {
        Some(source) => register_logged(&client, source, &registration).await?,
        None => register_folder(&client, &folder, &registration, &bar.progress()).await?,
    };
    drop(bar);
    let version = &registered.version;
    if args.format == Format::Json {
        return print_json(&json!({
            "name": version.name, "version": version.version, "is_new": registered.is_new, "source": version.source,
            "missing": registered.missing,
        }));
    }
    if !registered.missing.is_empty() {
        eprintln!("the model has not: {}", registered.missing.join(", "));
    }
    let what = if registered.is_new { "registered" } else { "registered before" };
    print(&format!("models:/{}/{} {what}", version.name, version.version))
}

pub(crate) async fn download(args: DownloadArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, None, &[]).await?;
    let bar = Bar::new("download");
    let checked = fetch(&client, &args.target, &args.folder, &bar.progress()).await?;
    drop(bar);
    let how = if checked { "its files are what they were" } else { "it has no checksums to look at" };
    print(&format!("{} is in {}; {how}", args.target, args.folder.display()))
}

pub(crate) async fn delete(args: DeleteArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, None, &[]).await?;
    match &args.target {
        Source::Latest(name) => {
            if !args.yes {
                return Err(Error::NotSure(name.clone()));
            }
            let versions = client.all_versions(&format!("name = {}", quoted(name))).await?;
            client.delete_model(name).await?;
            let files = files_told(delete_files(&client, &versions).await?, versions.len());
            print(&format!("model {name} is removed with all its versions; {files}"))
        }
        other => {
            let version = client.find_version(other).await?;
            client.delete_version(&version.name, version.version).await?;
            let files = files_told(delete_files(&client, std::slice::from_ref(&version)).await?, 1);
            print(&format!("models:/{}/{} is removed; {files}", version.name, version.version))
        }
    }
}

/// What becomes of the files of removed versions.
fn files_told(going: usize, versions: usize) -> &'static str {
    match going {
        0 => "its files stay where they were logged",
        _ if going == versions => "`safari registry gc` removes its files when the grace period is over",
        _ => "`safari registry gc` removes the files that were sent for it; those that runs logged stay",
    }
}

fn lineage(args: &RegisterArgs) -> Result<Lineage> {
    let (table, version) = match args.trained_on.as_deref() {
        None => (None, None),
        Some(text) => match text.rsplit_once('@').and_then(|(url, version)| Some((url, version.parse().ok()?))) {
            Some((url, version)) => (Some(url.to_owned()), Some(version)),
            None => return Err(Error::TrainedOn(text.to_owned())),
        },
    };
    Ok(Lineage {
        dag_run: args.dag_run.clone(),
        training_table: table,
        training_table_version: version,
        code_commit: args.commit.clone(),
        ..Lineage::default()
    })
}

fn folder_name(folder: &std::path::Path) -> Result<String> {
    let whole = folder.canonicalize().map_err(|_| Error::MissingPath(folder.to_owned()))?;
    let name = whole.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name.ok_or_else(|| Error::NoModelName(folder.display().to_string()))
}

/// Tags that say what other columns say.
pub(super) const OWN_TAGS: [&str; 2] = [register::IDEMPOTENCY_TAG, register::DIGEST_TAG];
