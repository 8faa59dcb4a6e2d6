//! What a model version may be made of: no file of the server, nothing that leaves its place, and a run or logged model
//! that it really comes from. The rules and the words are MLflow's (`server/handlers.py` of mlflow 3.17.2).

use serde_json::Value;
use serde_json::ser::Formatter;
use sqlx::AssertSqlSafe;

use super::version_rows::no_version;
use super::{Store, Write};
use crate::names;
use crate::source::{self, ModelUri, Uri};
use crate::{Error, ErrorCode, Result, VersionNumber};

/// The tag of a logged model that lists its versions.
const VERSIONS_TAG: &str = "mlflow.modelVersions";
/// The sources of prompts, which have no files.
const PROMPT_SOURCES: [&str; 2] = ["dummy-source", "prompt-template"];

/// What a request says about a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) source: &'a str,
    pub(super) run_id: Option<&'a str>,
    pub(super) model_id: Option<&'a str>,
    pub(super) is_prompt: bool,
}

/// What is written down.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) source: String,
    pub(super) storage_location: String,
    pub(super) run_id: Option<String>,
    pub(super) model_id: Option<String>,
}

struct LoggedModel {
    artifact_location: String,
    source_run_id: Option<String>,
}

impl Store {
    /// Checks a source and finds where its files are. The run or logged model stays locked until the end of the change, so
    /// that it is not collected meanwhile.
    pub(super) async fn resolve_source(&self, write: &mut Write, asked: Asked<'_>) -> Result<Resolved> {
        let (run_id, model_id) = (asked.run_id.unwrap_or_default(), asked.model_id.unwrap_or_default());
        if asked.is_prompt {
            if !PROMPT_SOURCES.contains(&asked.source) {
                return Err(Error::invalid(format!(
                    "Invalid prompt source: '{}'. Prompt sources must use an MLflow placeholder.",
                    asked.source
                )));
            }
            return Ok(Resolved {
                source: asked.source.to_owned(),
                storage_location: asked.source.to_owned(),
                run_id: Some(run_id.to_owned()),
                model_id: Some(model_id.to_owned()),
            });
        }
        source::check_host(asked.source)?;
        let uri = Uri::parse(asked.source);
        let version_source =
            if uri.scheme == "models" { Self::version_source(write, &uri, asked).await? } else { None };
        if let Some(resolved) = version_source {
            return Ok(resolved);
        }
        if model_id.is_empty() {
            self.check_source_of_run(write, &uri, asked.source, run_id).await?;
        } else {
            self.check_source_of_model(write, &uri, asked.source, model_id).await?;
        }
        let mut resolved = Resolved {
            source: asked.source.to_owned(),
            storage_location: asked.source.to_owned(),
            run_id: Some(run_id.to_owned()),
            model_id: Some(model_id.to_owned()),
        };
        if model_id.is_empty() {
            return Ok(resolved);
        }
        let logged = self.lock_logged_model(write, model_id).await?;
        let logged = logged.ok_or_else(|| Error::missing(format!("Logged model with ID '{model_id}' not found.")))?;
        if uri.scheme == "models" {
            resolved.storage_location = logged.artifact_location;
        }
        if run_id.is_empty() {
            resolved.run_id = logged.source_run_id;
        }
        Ok(resolved)
    }

    /// Of a source `models:/name/version`, `models:/name@alias`, …: the version that is copied. Nothing for
    /// `models:/m-…`, which is checked as other sources are.
    async fn version_source(write: &mut Write, uri: &Uri, asked: Asked<'_>) -> Result<Option<Resolved>> {
        if !uri.authority.is_empty() {
            return Err(Error::invalid(format!(
                "Invalid model version source: '{}'. Registered model sources must use the active model registry.",
                asked.source
            )));
        }
        let parsed = ModelUri::parse(&uri.path).ok_or_else(|| not_contained(asked.source, "model_id"))?;
        let (name, version) = match parsed {
            ModelUri::LoggedModel => return Ok(None),
            ModelUri::Version { name, version } => (name, names::version(&version)?),
            ModelUri::Alias { name, alias } => {
                let model = write.read_model(&name, "").await?;
                let version = write.alias(model.no, &alias).await?;
                let missing = || Error::invalid(format!("Registered model alias {alias} not found."));
                (name, version.ok_or_else(missing)?)
            }
            ModelUri::Latest { name, stage } => {
                let version = write.latest_of(&name, stage.as_deref()).await?;
                (name, version)
            }
        };
        // Not locked: another change may copy in the other direction.
        let model = write.read_model(&name, "").await?;
        if model.is_prompt {
            return Err(Error::invalid(format!(
                "Invalid model version source: '{}'. Prompt versions cannot be used as model version sources.",
                asked.source
            )));
        }
        let found: Option<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT source, storage_location, run_id FROM model_version WHERE model_no = $1 AND version = $2",
        )
        .bind(model.no)
        .bind(version.0)
        .fetch_optional(write.connection())
        .await
        .map_err(Error::database("reading a model version"))?;
        let (source, location, run_id) = found.ok_or_else(|| no_version(&name, version))?;
        let other_run = asked.run_id.is_some_and(|asked| asked != run_id.as_deref().unwrap_or_default());
        // MLflow does not keep the logged model of a version.
        if other_run || asked.model_id.is_some_and(|asked| !asked.is_empty()) {
            return Err(Error::invalid(format!(
                "Invalid model version source: '{}'. The run_id and model_id request parameters must match the \
                 referenced model version.",
                asked.source
            )));
        }
        Ok(Some(Resolved {
            source: format!("models:/{name}/{version}"),
            storage_location: if location.is_empty() { source } else { location },
            run_id: asked.run_id.map(str::to_owned).or(run_id),
            model_id: None,
        }))
    }

    async fn check_source_of_run(&self, write: &mut Write, uri: &Uri, source: &str, run_id: &str) -> Result<()> {
        if uri.is_local()? {
            let root = if run_id.is_empty() { None } else { self.lock_run(write, run_id).await? };
            if !run_id.is_empty() && root.is_none() {
                return Err(not_contained(source, "run_id"));
            }
            if root.is_some_and(|root| uri.is_file_within(&Uri::parse(&root))) {
                return Ok(());
            }
            return Err(local_source(source, "run_id"));
        }
        source::check_path(source)?;
        match uri.scheme.as_str() {
            "runs" => {
                let of_run = uri.authority.is_empty() && !run_id.is_empty() && uri.first_part() == run_id;
                if of_run { Ok(()) } else { Err(not_contained(source, "run_id")) }
            }
            "models" => Err(not_contained(source, "model_id")),
            _ if uri.is_proxied_artifact() => {
                let root = if run_id.is_empty() { None } else { self.lock_run(write, run_id).await? };
                let within = root.is_some_and(|root| uri.is_within(&Uri::parse(&root)));
                if within { Ok(()) } else { Err(not_contained(source, "run_id")) }
            }
            _ => Ok(()),
        }
    }

    async fn check_source_of_model(&self, write: &mut Write, uri: &Uri, source: &str, model_id: &str) -> Result<()> {
        let location = async |write: &mut Write| {
            let model = self.lock_logged_model(write, model_id).await?;
            model.map(|model| model.artifact_location).ok_or_else(|| not_contained(source, "model_id"))
        };
        if uri.is_local()? {
            let root = location(write).await?;
            if uri.is_file_within(&Uri::parse(&root)) {
                return Ok(());
            }
            return Err(local_source(source, "model_id"));
        }
        source::check_path(source)?;
        match uri.scheme.as_str() {
            "runs" => Err(not_contained(source, "model_id")),
            "models" => {
                let of_model = uri.authority.is_empty() && uri.path.trim_start_matches('/') == model_id;
                if of_model { Ok(()) } else { Err(not_contained(source, "model_id")) }
            }
            _ if uri.is_proxied_artifact() => {
                let root = location(write).await?;
                if uri.is_within(&Uri::parse(&root)) { Ok(()) } else { Err(not_contained(source, "model_id")) }
            }
            _ => Ok(()),
        }
    }

    /// Where the files of a run are.
    async fn lock_run(&self, write: &mut Write, run_id: &str) -> Result<Option<String>> {
        let sql = format!("SELECT artifact_uri FROM run WHERE id = $1{}", self.for_update());
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(run_id).fetch_optional(write.connection()).await;
        found.map_err(Error::database("reading a run"))
    }

    async fn lock_logged_model(&self, write: &mut Write, id: &str) -> Result<Option<LoggedModel>> {
        let sql = format!(
            "SELECT artifact_location, source_run_id FROM logged_model WHERE id = $1 AND lifecycle = 'active'{}",
            self.for_update()
        );
        let found: Option<(String, Option<String>)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("reading a logged model"))?;
        Ok(found.map(|(artifact_location, source_run_id)| LoggedModel { artifact_location, source_run_id }))
    }

    /// Adds a version to the list in a tag of the logged model that it was made of.
    pub(super) async fn note_version_on_logged_model(
        &self,
        write: &mut Write,
        model_id: &str,
        name: &str,
        version: VersionNumber,
    ) -> Result<()> {
        let found: Option<(i64, Option<String>)> = sqlx::query_as(
            "SELECT m.no, (SELECT t.value FROM logged_model_tag t WHERE t.model_no = m.no AND t.key = $2)
             FROM logged_model m WHERE m.id = $1",
        )
        .bind(model_id)
        .bind(VERSIONS_TAG)
        .fetch_optional(write.connection())
        .await
        .map_err(Error::database("reading a logged model"))?;
        let Some((model, listed)) = found else { return Ok(()) };
        let listed = listed.and_then(|text| serde_json::from_str::<Vec<Value>>(&text).ok());
        let mut list = listed.unwrap_or_default();
        let own = serde_json::json!({ "name": name, "version": version.0 });
        if !list.contains(&own) {
            list.push(own);
        }
        sqlx::query(
            "INSERT INTO logged_model_tag (model_no, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (model_no, key) DO UPDATE SET value = excluded.value",
        )
        .bind(model)
        .bind(VERSIONS_TAG)
        .bind(spaced_json(&Value::from(list)))
        .execute(write.connection())
        .await
        .map_err(Error::database("setting a tag"))?;
        Ok(())
    }
}

impl Write {
    /// The latest version of a model, or of a stage.
    async fn latest_of(&mut self, name: &str, stage: Option<&str>) -> Result<VersionNumber> {
        let model = self.read_model(name, "").await?;
        let stage = stage.map(names::Stage::parse).transpose()?;
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT version FROM model_version WHERE model_no = $1 AND ($2 = '' OR stage = $2)
             ORDER BY version DESC LIMIT 1",
        )
        .bind(model.no)
        .bind(stage.map_or("", names::Stage::as_str))
        .fetch_optional(self.connection())
        .await
        .map_err(Error::database("reading the latest model version"))?;
        let of_stage = stage.map(|stage| format!(" and stage '{stage}'")).unwrap_or_default();
        let none = || {
            let message = format!("No versions of model with name '{name}'{of_stage} found");
            Error::refused(ErrorCode::InternalError, message)
        };
        found.map(VersionNumber).ok_or_else(none)
    }
}

fn local_source(source: &str, parameter: &str) -> Error {
    Error::invalid(format!(
        "Invalid model version source: '{source}'. To use a local path as a model version source, the {parameter} request \
         parameter has to be specified and the local path has to be contained within the artifact directory of the \
         run specified by the {parameter}."
    ))
}

fn not_contained(source: &str, parameter: &str) -> Error {
    Error::invalid(format!(
        "Invalid model version source: '{source}'. The {parameter} request parameter must identify the resource that \
         contains the source."
    ))
}

/// JSON with a space after commas and colons, as Python writes it: clients compare such texts.
fn spaced_json(value: &Value) -> String {
    struct Spaced;
    impl Formatter for Spaced {
        fn begin_array_value<W: ?Sized + std::io::Write>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }

        fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }

        fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    match serde::Serialize::serialize(value, &mut serializer) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
        Err(_) => value.to_string(),
    }
}
