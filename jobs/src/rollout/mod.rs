//! The job `rollout`: brings a version of a model to serving replicas step by step, and follows that to its end.

mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use pipeline::{Job, JobContext, JobError, JobOutput};
use rollout::{NewRollout, Phase, Rollout, Rollouts, Tokens};
use serde_json::{Value, json};

use crate::services::Services;
use crate::with::Templates;
use crate::{Error, Result};

use settings::Settings;

/// The job kind `rollout`. Output: `{"rollout", "name", "alias", "version", "from", "phase"}`. It fails unless the alias names
/// the version in the end.
///
/// The rollout has the key of the task instance: a later attempt follows the same. An attempt that is stopped leaves it as it
/// stands.
#[derive(Debug)]
pub struct RolloutJob {
    services: Arc<Services>,
}

impl RolloutJob {
    /// The job with the services of this process.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    async fn roll_out(&self, context: &JobContext, settings: Settings) -> Result<Rollout> {
        let rollouts = Rollouts::open(self.services.config(), Tokens::from_environment()).await?;
        let plan = settings.plan().map_err(rollout::Error::Plan)?;
        let fleet = settings.place(&plan).map_err(rollout::Error::Plan)?;
        let steps = plan.steps.len() as u64;
        let begun = rollouts
            .start(&NewRollout {
                model: settings.name,
                alias: settings.alias,
                candidate: settings.version,
                plan,
                fleet,
                actor: settings.actor.unwrap_or_else(|| format!("safari/{}", context.dag)),
                key: Some(context.idempotency_key.clone()),
            })
            .await?;
        let told = |event: &rollout::Event| {
            let done = if event.phase == Phase::Promoted { steps } else { event.step as u64 };
            context.progress(done, steps, &event.text);
        };
        Ok(rollouts.follow(begun.id, told).await?)
    }
}

#[async_trait]
impl Job for RolloutJob {
    fn kind(&self) -> &'static str {
        "rollout"
    }

    fn check(&self, with: &Value) -> std::result::Result<(), String> {
        Settings::read(with, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> std::result::Result<JobOutput, JobError> {
        let settings = Settings::read(&with, Templates::Rendered).map_err(JobError::permanent)?;
        let ended = tokio::select! {
            ended = self.roll_out(&context, settings) => ended.map_err(|error: Error| JobError::from(error))?,
            () = context.cancel.cancelled() => return Err(JobError::interrupted()),
        };
        let Rollout { id, model, alias, stable, candidate, phase, note, .. } = ended;
        if phase != Phase::Promoted {
            return Err(JobError::permanent(format!("rollout {id} of {model} {candidate} is {phase}: {note}")));
        }
        Ok(JobOutput {
            summary: format!("alias {alias} of {model} names version {candidate}, and its replicas answer with it"),
            value: json!({
                "rollout": id,
                "name": model,
                "alias": alias,
                "version": candidate.0,
                "from": stable.0,
                "phase": phase,
            }),
            failures: 0,
        })
    }
}
