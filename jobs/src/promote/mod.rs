//! The job `promote`: moves an alias of a registered model to a version that passes its gates.

mod gates;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use model_registry::VersionNumber;
use model_registry::client::Client;
use model_registry::promotion::{Candidate, Expected, Gates, Move, Promotion, PromotionRequest};
use pipeline::{Job, JobContext, JobError, JobOutput};
use serde_json::{Value, json};

use crate::Result;
use crate::services::Services;
use crate::with::Templates;

pub use gates::LakeGates;
pub(crate) use gates::show;
use settings::Settings;

/// The job kind `promote`. Output: `{"name", "alias", "version", "from", "moved", "gates"}`.
#[derive(Debug)]
pub struct PromoteJob {
    services: Arc<Services>,
}

/// A move of an alias that is to be made.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// The version that it is to name.
    pub version: VersionNumber,
    /// What the version must show.
    pub gates: Gates,
    /// Why.
    pub reason: String,
}

/// Evaluates the gates with the tables and the detector of `services`, and asks the registry for the move, which has it only
/// if the alias still names what the gates compared with. Nothing is asked, and the answer is none, when the alias names the
/// version already.
///
/// # Errors
/// A gate that refuses, with its numbers, or somebody who was faster: [`model_registry::Error::Promotion`] within
/// [`crate::Error::Registry`], or the words of the server.
pub async fn promote(services: &Arc<Services>, client: &Client, wanted: &Wanted) -> Result<Option<Promotion>> {
    let champion = client.version_by_alias(&wanted.model, &wanted.alias).await?.map(|version| version.version);
    if champion == Some(wanted.version) {
        return Ok(None);
    }
    let candidate =
        Candidate { model: wanted.model.clone(), alias: wanted.alias.clone(), challenger: wanted.version, champion };
    let runner = LakeGates::new(Arc::clone(services), client, &candidate).await?;
    let evaluated = wanted.gates.evaluate(&candidate, &runner).await;
    // What refuses is sent, too: the audit has it.
    let request = PromotionRequest {
        alias: wanted.alias.clone(),
        version: wanted.version,
        expected: Expected::Is(champion),
        reason: wanted.reason.clone(),
        gates: evaluated.results,
        required: evaluated.required,
        kind: Move::Promote,
    };
    Ok(Some(client.promote(&wanted.model, &request).await?))
}

impl PromoteJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn move_alias(&self, context: &JobContext, settings: Settings) -> std::result::Result<JobOutput, JobError> {
        let gates = settings.gates.load().map_err(JobError::permanent)?;
        let actor = settings.actor.unwrap_or_else(|| format!("safari/{}", context.dag));
        let client = self.services.registry().await?.clone().acting_as(&actor, &settings.roles);
        let wanted = Wanted {
            model: settings.name,
            alias: settings.alias,
            version: settings.version,
            gates,
            reason: settings.reason,
        };
        context.progress(0, 0, "evaluating the gates");
        let moved = promote(&self.services, &client, &wanted).await?;
        let Wanted { model, alias, version, .. } = wanted;
        let from = moved.as_ref().and_then(|moved| moved.from);
        let how = if moved.is_some() { "names" } else { "named" };
        Ok(JobOutput {
            summary: format!("alias {alias} of {model} {how} version {version}"),
            value: json!({
                "name": model,
                "alias": alias,
                "version": version.0,
                "from": from.map(|version| version.0),
                "moved": moved.is_some(),
                "gates": moved.map(|moved| moved.gates).unwrap_or_default(),
            }),
            failures: 0,
        })
    }
}

#[async_trait]
impl Job for PromoteJob {
    fn kind(&self) -> &'static str {
        "promote"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let settings = Settings::read(&with, Templates::Rendered).map_err(JobError::permanent)?;
        tokio::select! {
            moved = self.move_alias(&context, settings) => moved,
            () = context.cancel.cancelled() => Err(JobError::interrupted()),
        }
    }
}
