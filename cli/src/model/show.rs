//! `safari model list` and `show`.

use std::process::ExitCode;

use clap::Args;
use model_registry::client::{Client, Source, quoted};
use model_registry::registered::{ModelVersion, RegisteredModel};
use platform::config::Config;
use serde_json::json;

use super::table::{Table, moment, short};
use super::{Format, open, print_json, source};
use crate::error::Result;
use crate::runs::print;

/// Versions of a model that are listed.
const VERSIONS: u32 = 50;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A filter of MLflow, such as "name LIKE 'wild%' AND tags.team = 'north'"
    #[arg(long, value_name = "FILTER", default_value = "")]
    filter: String,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// NAME for a model with its versions, NAME@ALIAS or NAME/VERSION for one version
    #[arg(value_name = "MODEL", value_parser = source)]
    target: Source,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) async fn list(args: ListArgs, config: &Config) -> Result<ExitCode> {
    let models = open(config, None, &[]).await?.all_models(&args.filter).await?;
    if args.format == Format::Json {
        return print_json(&models);
    }
    let mut table = Table::new(&["NAME", "VERSIONS", "ALIASES", "UPDATED", "DESCRIPTION"]);
    for model in &models {
        let newest = model.latest_versions.iter().map(|version| version.version.0).max();
        table.row(vec![
            model.name.clone(),
            newest.map_or_else(String::new, |newest| newest.to_string()),
            aliases(model),
            moment(model.last_updated_timestamp),
            short(model.description.as_deref().unwrap_or_default(), 60),
        ]);
    }
    print(&table.text())
}

pub(crate) async fn show(args: ShowArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, None, &[]).await?;
    match &args.target {
        Source::Latest(name) => show_model(&client, name, args.format).await,
        other => {
            let version = client.find_version(other).await?;
            show_version(&client, &version, args.format).await
        }
    }
}

async fn show_model(client: &Client, name: &str, format: Format) -> Result<ExitCode> {
    let model = client.model(name).await?;
    let missing = || model_registry::Error::missing(format!("there is no registered model {name}"));
    let model = model.ok_or_else(missing)?;
    let page = client.search_versions(&format!("name = {}", quoted(name)), VERSIONS, None).await?;
    let mut versions = page.items;
    versions.sort_by_key(|version| std::cmp::Reverse(version.version));
    if format == Format::Json {
        return print_json(&json!({ "model": model, "versions": versions }));
    }
    print(&model.name)?;
    if let Some(description) = &model.description {
        print(description)?;
    }
    for tag in &model.tags {
        print(&format!("{} = {}", tag.key, tag.value))?;
    }
    let mut table = Table::new(&["VERSION", "ALIASES", "MADE", "BY", "RUN", "STATUS"]);
    for version in &versions {
        let names: Vec<&str> = model
            .aliases
            .iter()
            .filter(|alias| alias.version == version.version)
            .map(|alias| alias.alias.as_str())
            .collect();
        table.row(vec![
            version.version.to_string(),
            names.join(", "),
            moment(version.creation_timestamp),
            version.user_id.clone().unwrap_or_default(),
            version.run_id.clone().unwrap_or_default(),
            version.status.clone(),
        ]);
    }
    print(&table.text())?;
    if page.next.is_some() {
        return print(&format!("… and older ones; `safari model show {name}/VERSION` shows each"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_version(client: &Client, version: &ModelVersion, format: Format) -> Result<ExitCode> {
    let uri = client.version_uri(&version.name, version.version).await?;
    let files = client.files(&uri).await?.list().await?;
    if format == Format::Json {
        let files: Vec<_> = files.iter().map(|file| json!({ "path": file.path, "size": file.size })).collect();
        return print_json(&json!({ "version": version, "artifact_uri": uri, "files": files }));
    }
    let mut table = Table::new(&["models:/", &format!("{}/{}", version.name, version.version)]);
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            table.row(vec![name.to_owned(), value.to_owned()]);
        }
    };
    row("made", &moment(version.creation_timestamp));
    row("by", version.user_id.as_deref().unwrap_or_default());
    row("run", version.run_id.as_deref().unwrap_or_default());
    row("status", &version.status);
    row("aliases", &version.aliases.join(", "));
    row("description", version.description.as_deref().unwrap_or_default());
    row("source", &version.source);
    row("files at", &uri);
    for tag in &version.tags {
        row(&tag.key, &tag.value);
    }
    print(&table.text())?;
    let mut table = Table::new(&["FILE", "BYTES"]);
    for file in files {
        table.row(vec![file.path, file.size.to_string()]);
    }
    print(&table.text())
}

fn aliases(model: &RegisteredModel) -> String {
    let shown: Vec<String> = model.aliases.iter().map(|alias| format!("{}={}", alias.alias, alias.version)).collect();
    shown.join(", ")
}
