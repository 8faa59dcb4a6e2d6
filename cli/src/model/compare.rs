//! `safari model compare`: two versions side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::Args;
use model_registry::client::{Client, Source};
use model_registry::folder::{MANIFEST_FILE, MLMODEL_FILE, Manifest, Mlmodel};
use model_registry::registered::ModelVersion;
use platform::config::Config;
use serde_json::json;

use super::register::OWN_TAGS;
use super::table::{Table, moment, short};
use super::{Format, open, print_json, source};
use crate::error::Result;
use crate::runs::print;

/// Characters of a cell.
const CELL: usize = 60;

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// One version, such as wildlife@champion
    #[arg(value_name = "A", value_parser = source)]
    one: Source,
    /// The other, such as wildlife/7
    #[arg(value_name = "B", value_parser = source)]
    other: Source,
    /// Also what is the same
    #[arg(long)]
    all: bool,
    /// How it is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is known of a version, by section and name.
type Facts = BTreeMap<(&'static str, String), String>;

pub(crate) async fn compare(args: CompareArgs, config: &Config) -> Result<ExitCode> {
    let client = open(config, None, &[]).await?;
    let (one, other) = (client.find_version(&args.one).await?, client.find_version(&args.other).await?);
    let (left, right) = (facts(&client, &one).await?, facts(&client, &other).await?);
    let names: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let title = |version: &ModelVersion| format!("{}/{}", version.name, version.version);
    if args.format == Format::Json {
        let rows: Vec<_> = names
            .iter()
            .map(|name| json!({ "section": name.0, "name": name.1, "a": left.get(*name), "b": right.get(*name) }))
            .collect();
        return print_json(&json!({ "a": title(&one), "b": title(&other), "facts": rows }));
    }
    let mut table = Table::new(&["", "", &title(&one), &title(&other), ""]);
    let mut same = 0;
    for name in names {
        let (a, b) = (left.get(name), right.get(name));
        if a == b && !args.all {
            same += 1;
            continue;
        }
        let cell = |value: Option<&String>| value.map_or_else(|| "-".to_owned(), |value| short(value, CELL));
        table.row(vec![name.0.to_owned(), name.1.clone(), cell(a), cell(b), difference(a, b)]);
    }
    print(&table.text())?;
    if same > 0 {
        return print(&format!("{same} more are the same; --all shows them"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn facts(client: &Client, version: &ModelVersion) -> Result<Facts> {
    let mut facts = Facts::new();
    facts.insert(("version", "made".to_owned()), moment(version.creation_timestamp));
    for (name, value) in [("description", &version.description), ("run", &version.run_id)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            facts.insert(("version", name.to_owned()), value.clone());
        }
    }
    for tag in version.tags.iter().filter(|tag| !OWN_TAGS.contains(&tag.key.as_str())) {
        facts.insert(("tag", tag.key.clone()), tag.value.clone());
    }
    let run = match version.run_id.as_deref().filter(|run| !run.is_empty()) {
        Some(run) => client.run(run).await?,
        None => None,
    };
    if let Some(run) = run {
        for metric in &run.data.metrics {
            facts.insert(("metric", metric.key.clone()), metric.value.to_string());
        }
        for param in &run.data.params {
            facts.insert(("param", param.key.clone()), param.value.clone());
        }
    }
    let uri = client.version_uri(&version.name, version.version).await?;
    let files = client.files(&uri).await?;
    let listed = files.list().await?;
    let has = |path: &str| listed.iter().any(|file| file.path == path);
    if has(MLMODEL_FILE)
        && let Ok(description) = Mlmodel::parse(&String::from_utf8_lossy(&files.read(MLMODEL_FILE).await?))
    {
        let signature = description.signature.unwrap_or_default();
        for (name, value) in [("inputs", signature.inputs), ("outputs", signature.outputs)] {
            facts.insert(("signature", name.to_owned()), value.unwrap_or_else(|| "not said".to_owned()));
        }
        let flavors: Vec<String> = description.flavors.into_keys().collect();
        facts.insert(("model", "flavors".to_owned()), flavors.join(", "));
    }
    let checksums = match has(MANIFEST_FILE) {
        true => Manifest::parse(&files.read(MANIFEST_FILE).await?).unwrap_or_default(),
        false => Manifest::default(),
    };
    for file in listed.iter().filter(|file| file.path != MANIFEST_FILE) {
        let known = checksums.files.get(&file.path).map(|entry| format!(", sha256 {}", short(&entry.sha256, 13)));
        facts.insert(("file", file.path.clone()), format!("{} bytes{}", file.size, known.unwrap_or_default()));
    }
    Ok(facts)
}

/// How much more the second is, of numbers.
fn difference(one: Option<&String>, other: Option<&String>) -> String {
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<f64>().ok());
    match (number(one), number(other)) {
        (Some(one), Some(other)) if one.is_finite() && other.is_finite() && one != other => {
            format!("{:+.6}", other - one).trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_of_numbers() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(difference(text("0.8").as_ref(), text("0.85").as_ref()), "+0.05");
        assert_eq!(difference(text("3").as_ref(), text("1").as_ref()), "-2");
        assert_eq!(difference(text("a").as_ref(), text("1").as_ref()), "");
        assert_eq!(difference(None, text("1").as_ref()), "");
    }
}
