//! The alias of a rollout: moved by compare-and-set, with the rollout's name in the audit.

use model_registry::VersionNumber;
use model_registry::client::Client;
use model_registry::promotion::{Expected, Move, Outcome, PromotionRequest};
use tracing::info;

use crate::store::Rollout;
use crate::{Error, Result, RolloutId};

/// How often an alias that moves at the same moment is looked at again.
const TRIES: u32 = 3;

/// What became of the alias.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Moved {
    /// It names what it should.
    Names(VersionNumber),
    /// Somebody else has moved it: what it names now, and who moved it, for people.
    Elsewhere(Option<VersionNumber>, String),
}

/// What the alias names.
pub(crate) async fn names(client: &Client, model: &str, alias: &str) -> Result<Option<VersionNumber>> {
    Ok(client.version_by_alias(model, alias).await?.map(|version| version.version))
}

/// Whether the alias names the stable version still.
pub(crate) async fn look(client: &Client, rollout: &Rollout) -> Result<Moved> {
    match names(client, &rollout.model, &rollout.alias).await? {
        Some(version) if version == rollout.stable => Ok(Moved::Names(version)),
        now => Ok(Moved::Elsewhere(now, last_mover(client, rollout).await?)),
    }
}

/// Moves the alias to the candidate if it names the stable version still. May be called again.
pub(crate) async fn promote(client: &Client, rollout: &Rollout) -> Result<Moved> {
    let reason = format!("{}: version {} has passed all steps", mark(rollout.id), rollout.candidate);
    bring(client, rollout, Move::Promote, rollout.stable, rollout.candidate, &reason).await
}

/// Moves the alias back to the stable version if this rollout moved it. May be called again.
pub(crate) async fn undo(client: &Client, rollout: &Rollout, why: &str) -> Result<Moved> {
    let now = names(client, &rollout.model, &rollout.alias).await?;
    if now == Some(rollout.candidate) && !is_ours(client, rollout).await? {
        let who = last_mover(client, rollout).await?;
        return Ok(Moved::Elsewhere(now, who));
    }
    let reason = format!("{}: undone: {why}", mark(rollout.id));
    bring(client, rollout, Move::Rollback, rollout.candidate, rollout.stable, &reason).await
}

async fn bring(
    client: &Client,
    rollout: &Rollout,
    kind: Move,
    from: VersionNumber,
    to: VersionNumber,
    reason: &str,
) -> Result<Moved> {
    let client = client.clone().acting_as(&rollout.actor, &[]);
    let mut tries = 0;
    loop {
        let now = names(&client, &rollout.model, &rollout.alias).await?;
        if now == Some(to) {
            return Ok(Moved::Names(to));
        }
        if now != Some(from) {
            return Ok(Moved::Elsewhere(now, last_mover(&client, rollout).await?));
        }
        let request = PromotionRequest {
            alias: rollout.alias.clone(),
            version: to,
            expected: Expected::Is(Some(from)),
            reason: reason.to_owned(),
            gates: Vec::new(),
            required: Vec::new(),
            kind,
        };
        match client.promote(&rollout.model, &request).await {
            Ok(moved) => {
                info!(model = %rollout.model, alias = %rollout.alias, version = %to, audit = moved.id, "the alias is moved");
                return Ok(Moved::Names(to));
            }
            // Somebody was faster, perhaps this rollout's own request, whose answer was lost: look again.
            Err(error) if error.code() == model_registry::ErrorCode::ResourceConflict && tries < TRIES => tries += 1,
            Err(error) => return Err(Error::from(error)),
        }
    }
}

/// Whether the last move of the alias is this rollout's.
pub(crate) async fn is_ours(client: &Client, rollout: &Rollout) -> Result<bool> {
    let moves = client.promotions(&rollout.model, Some(&rollout.alias), 20).await?;
    let last = moves.into_iter().find(|one| one.outcome == Outcome::Moved);
    Ok(last.is_some_and(|last| last.reason.starts_with(&mark(rollout.id))))
}

/// Who moved the alias last, for people.
async fn last_mover(client: &Client, rollout: &Rollout) -> Result<String> {
    let moves = client.promotions(&rollout.model, Some(&rollout.alias), 20).await?;
    let last = moves.into_iter().find(|one| one.outcome == Outcome::Moved);
    Ok(last.map_or_else(|| "somebody".to_owned(), |last| last.actor))
}

/// What the reasons of a rollout's moves begin with.
fn mark(id: RolloutId) -> String {
    format!("rollout {id}")
}
