//! Moves of aliases by compare-and-set, their audit, and approvals.

use std::collections::BTreeMap;

use super::model_rows::no_model;
use super::version_rows::no_version;
use super::{Store, Write};
use crate::clock::now_millis;
use crate::promotion::{
    Approval, ApprovalRequest, Expected, GateKind, GateResult, Measure, MoveKind, Outcome, Principal, Promotion,
    PromotionRequest, Required, RollbackRequest,
};
use crate::webhooks::Change;
use crate::{Error, ErrorCode, Result, VersionNumber, names};

/// Gates of one promotion.
const MOST_GATES: usize = 200;
/// Characters of a reason or comment.
const LONGEST_REASON: usize = 5000;

/// A row of the audit that is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) model_no: i64,
    pub(super) model: &'a str,
    pub(super) alias: &'a str,
    pub(super) kind: MoveKind,
    pub(super) from: Option<VersionNumber>,
    pub(super) to: Option<VersionNumber>,
    pub(super) actor: &'a str,
    pub(super) reason: &'a str,
    pub(super) gates: &'a [GateResult],
    pub(super) outcome: Outcome,
    pub(super) at: i64,
}

/// What history is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryQuery<'a> {
    pub(crate) alias: Option<&'a str>,
    pub(crate) before: Option<i64>,
    pub(crate) limit: i64,
}

type Columns = (i64, String, String, String, Option<i64>, Option<i64>, String, String, String, String, i64);

const COLUMNS: &str = "no, model, alias, kind, from_version, to_version, actor, reason, gates, outcome, at";

impl Store {
    /// Moves an alias when it names what is expected and all gates let the version pass. Either way the audit has a row.
    ///
    /// # Errors
    /// [`Error::Promotion`] when a gate refused or the alias names something else.
    pub(crate) async fn promote(&self, name: &str, asked: &PromotionRequest, who: &Principal) -> Result<Promotion> {
        check(name, &asked.alias, &asked.reason)?;
        names::check_not_reserved(&asked.alias)?;
        let count = asked.gates.len() + asked.required.len();
        if count > MOST_GATES {
            return Err(Error::invalid(format!("{count} gates are more than the {MOST_GATES} allowed")));
        }
        let expected = self.expected(name, &asked.alias, asked.expected).await?;
        let mut write = self.write().await?;
        let (model, is_prompt) = self.lock_version(&mut write, name, asked.version).await?;
        let mut gates = asked.gates.clone();
        gates.extend(write.look_at(model, &asked.alias, asked.version, &asked.required).await?);
        let row = Row {
            to: Some(asked.version),
            reason: &asked.reason,
            gates: &gates,
            ..Row::new(model, name, &asked.alias, asked.kind.into(), None, who)
        };
        self.move_alias(write, row, expected, is_prompt).await
    }

    /// Moves an alias to the version that it named before its last move.
    ///
    /// # Errors
    /// [`Error::Promotion`] when the alias names something else than expected; a refusal when there is nothing before.
    pub(crate) async fn roll_back(&self, name: &str, asked: &RollbackRequest, who: &Principal) -> Result<Promotion> {
        check(name, &asked.alias, &asked.reason)?;
        let expected = self.expected(name, &asked.alias, asked.expected).await?;
        let mut write = self.write().await?;
        let model = self.lock_model(&mut write, name).await?;
        let refused = |message: String| Error::refused(ErrorCode::InvalidParameterValue, message);
        let alias = &asked.alias;
        let Some(last) = write.last_move(model.no, alias).await? else {
            return Err(refused(format!("alias `{alias}` of {name} was never moved; there is nothing to go back to")));
        };
        let Some(target) = last.from else {
            return Err(refused(format!("alias `{alias}` of {name} named no version before its last move")));
        };
        let there = sqlx::query("SELECT version FROM model_version WHERE model_no = $1 AND version = $2")
            .bind(model.no)
            .bind(target.0)
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("reading a model version"))?;
        if there.is_none() {
            return Err(no_version(name, target));
        }
        let row = Row {
            to: Some(target),
            reason: &asked.reason,
            ..Row::new(model.no, name, alias, MoveKind::Rollback, None, who)
        };
        self.move_alias(write, row, expected, model.is_prompt).await
    }

    /// Says yes to a version for an alias, in a role of the caller; once more is no error.
    pub(crate) async fn approve(&self, name: &str, asked: &ApprovalRequest, who: &Principal) -> Result<Approval> {
        check(name, &asked.alias, &asked.comment)?;
        let role = asked.role.trim();
        if role.is_empty() || !who.roles.iter().any(|own| own == role) {
            let own = if who.roles.is_empty() { "none".to_owned() } else { who.roles.join(", ") };
            let message = format!("{} has not the role `{role}` (roles: {own}); approve in a role of yours", who.name);
            return Err(Error::refused(ErrorCode::PermissionDenied, message));
        }
        let now = now_millis();
        let mut write = self.write().await?;
        let (model, _) = self.lock_version(&mut write, name, asked.version).await?;
        sqlx::query(
            "INSERT INTO approval (model_no, version, alias, role, actor, comment, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (model_no, version, alias, role, actor) DO UPDATE SET comment = excluded.comment, at = excluded.at",
        )
        .bind(model)
        .bind(asked.version.0)
        .bind(&asked.alias)
        .bind(role)
        .bind(&who.name)
        .bind(&asked.comment)
        .bind(now)
        .execute(write.connection())
        .await
        .map_err(Error::database("writing an approval"))?;
        write.commit().await?;
        Ok(Approval {
            model: name.to_owned(),
            version: asked.version,
            alias: asked.alias.clone(),
            actor: who.name.clone(),
            role: role.to_owned(),
            comment: asked.comment.clone(),
            at: now,
        })
    }

    /// Approvals of a model's versions, the newest first.
    pub(crate) async fn approvals(&self, name: &str, version: Option<VersionNumber>) -> Result<Vec<Approval>> {
        names::check_model(name)?;
        let rows: Vec<(i64, String, String, String, String, i64)> = sqlx::query_as(
            "SELECT a.version, a.alias, a.actor, a.role, a.comment, a.at
             FROM registered_model m JOIN approval a ON a.model_no = m.no
             WHERE m.name = $1 AND ($2 = 0 OR a.version = $2) ORDER BY a.at DESC LIMIT 1000",
        )
        .bind(name)
        .bind(version.map_or(0, |version| version.0))
        .fetch_all(self.pool())
        .await
        .map_err(Error::database("reading approvals"))?;
        let read = |(version, alias, actor, role, comment, at)| Approval {
            model: name.to_owned(),
            version: VersionNumber(version),
            alias,
            actor,
            role,
            comment,
            at,
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// The audit of a model, the newest rows first; it stays when the model goes.
    pub(crate) async fn history(&self, name: &str, query: HistoryQuery<'_>) -> Result<Vec<Promotion>> {
        names::check_model(name)?;
        let sql = format!(
            "SELECT {COLUMNS} FROM promotion WHERE model = $1 AND ($2 = '' OR alias = $2) AND no < $3
             ORDER BY no DESC LIMIT $4"
        );
        let rows: Vec<Columns> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(name)
            .bind(query.alias.unwrap_or_default())
            .bind(query.before.unwrap_or(i64::MAX))
            .bind(query.limit)
            .fetch_all(self.pool())
            .await
            .map_err(Error::database("reading the audit"))?;
        if rows.is_empty() {
            let known = sqlx::query("SELECT no FROM registered_model WHERE name = $1").bind(name);
            let known = known.fetch_optional(self.pool()).await.map_err(Error::database("reading the audit"))?;
            known.map(drop).ok_or_else(|| no_model(name))?;
        }
        rows.into_iter().map(read).collect()
    }

    /// What the caller expects an alias to name: what it says, or what the alias names before the change begins.
    async fn expected(&self, name: &str, alias: &str, expected: Expected) -> Result<Option<VersionNumber>> {
        if let Expected::Is(version) = expected {
            return Ok(version);
        }
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT a.version FROM registered_model m JOIN model_alias a ON a.model_no = m.no
             WHERE m.name = $1 AND a.name = $2",
        )
        .bind(name)
        .bind(alias)
        .fetch_optional(self.pool())
        .await
        .map_err(Error::database("reading an alias"))?;
        Ok(found.map(VersionNumber))
    }

    /// Compares, and moves or not; the model is locked. The row has all but what the alias names and how it ended.
    async fn move_alias(
        &self,
        mut write: Write,
        mut row: Row<'_>,
        expected: Option<VersionNumber>,
        is_prompt: bool,
    ) -> Result<Promotion> {
        row.from = write.alias(row.model_no, row.alias).await?;
        let mut winner = None;
        row.outcome = if row.from != expected {
            winner = write.last_move(row.model_no, row.alias).await?.map(Box::new);
            Outcome::Lost
        } else if row.gates.iter().any(|gate| !gate.passed) {
            Outcome::Refused
        } else {
            Outcome::Moved
        };
        if let (Outcome::Moved, Some(to)) = (row.outcome, row.to) {
            write.put_alias(row.model_no, row.alias, to).await?;
            self.tell(&mut write, &Change::alias_set(row.model, row.alias, to, is_prompt)).await?;
        }
        let id = write.note_move(&row).await?;
        write.commit().await?;
        let promotion = Promotion {
            id,
            model: row.model.to_owned(),
            alias: row.alias.to_owned(),
            kind: row.kind,
            from: row.from,
            to: row.to,
            actor: row.actor.to_owned(),
            reason: row.reason.to_owned(),
            gates: row.gates.to_vec(),
            outcome: row.outcome,
            at: row.at,
            winner,
        };
        if promotion.outcome == Outcome::Moved { Ok(promotion) } else { Err(Error::Promotion(Box::new(promotion))) }
    }
}

impl Write {
    /// Writes a row of the audit; gives its number.
    pub(super) async fn note_move(&mut self, row: &Row<'_>) -> Result<i64> {
        let gates = serde_json::to_string(row.gates).unwrap_or_else(|_| "[]".to_owned());
        sqlx::query_scalar(
            "INSERT INTO promotion
               (model_no, model, alias, kind, from_version, to_version, actor, reason, gates, outcome, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING no",
        )
        .bind(row.model_no)
        .bind(row.model)
        .bind(row.alias)
        .bind(row.kind.as_str())
        .bind(row.from.map(|version| version.0))
        .bind(row.to.map(|version| version.0))
        .bind(row.actor)
        .bind(row.reason)
        .bind(gates)
        .bind(row.outcome.as_str())
        .bind(row.at)
        .fetch_one(self.connection())
        .await
        .map_err(Error::database("writing the audit"))
    }

    /// The last move of an alias that was done.
    async fn last_move(&mut self, model: i64, alias: &str) -> Result<Option<Promotion>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM promotion WHERE model_no = $1 AND alias = $2 AND outcome = 'moved'
             ORDER BY no DESC LIMIT 1"
        );
        let row: Option<Columns> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(model)
            .bind(alias)
            .fetch_optional(self.connection())
            .await
            .map_err(Error::database("reading the audit"))?;
        row.map(read).transpose()
    }

    /// Looks at the gates that are the server's.
    async fn look_at(
        &mut self,
        model: i64,
        alias: &str,
        version: VersionNumber,
        required: &[Required],
    ) -> Result<Vec<GateResult>> {
        if required.is_empty() {
            return Ok(Vec::new());
        }
        let tags: Vec<(String, String)> =
            sqlx::query_as("SELECT key, value FROM model_version_tag WHERE model_no = $1 AND version = $2")
                .bind(model)
                .bind(version.0)
                .fetch_all(self.connection())
                .await
                .map_err(Error::database("reading tags"))?;
        let counts: Vec<(String, i64)> = sqlx::query_as(
            "SELECT role, CAST(count(*) AS BIGINT) FROM approval
             WHERE model_no = $1 AND version = $2 AND alias = $3 GROUP BY role",
        )
        .bind(model)
        .bind(version.0)
        .bind(alias)
        .fetch_all(self.connection())
        .await
        .map_err(Error::database("counting approvals"))?;
        let (tags, counts) = (tags.into_iter().collect(), counts.into_iter().collect());
        let results = |gate| tags_wanted(gate, &tags).into_iter().chain(approvals_wanted(gate, &counts));
        Ok(required.iter().flat_map(results).collect())
    }
}

/// A result for each tag that a gate wants.
fn tags_wanted(gate: &Required, tags: &BTreeMap<String, String>) -> Vec<GateResult> {
    let result = |(key, wanted): (&String, &String)| GateResult {
        name: gate.name.clone(),
        kind: GateKind::Tags,
        wanted: Some(Measure::Text(wanted.clone())),
        found: tags.get(key).cloned().map(Measure::Text),
        passed: tags.get(key) == Some(wanted),
        note: Some(format!("tag {key}")),
    };
    gate.tags.iter().map(result).collect()
}

/// A result for each role whose approvals a gate wants.
fn approvals_wanted(gate: &Required, counts: &BTreeMap<String, i64>) -> Vec<GateResult> {
    let result = |(role, wanted): (&String, &u32)| {
        let found = u32::try_from(counts.get(role).copied().unwrap_or(0)).unwrap_or(u32::MAX);
        GateResult {
            name: gate.name.clone(),
            kind: GateKind::Approvals,
            wanted: Some(Measure::Number(f64::from(*wanted))),
            found: Some(Measure::Number(f64::from(found))),
            passed: found >= *wanted,
            note: Some(format!("approvals of {role}")),
        }
    };
    gate.approvals.iter().map(result).collect()
}

fn check(name: &str, alias: &str, reason: &str) -> Result<()> {
    names::check_model(name)?;
    names::check_alias(alias)?;
    if reason.chars().count() > LONGEST_REASON {
        return Err(Error::invalid(format!("the reason has more than the {LONGEST_REASON} characters allowed")));
    }
    Ok(())
}

fn read(columns: Columns) -> Result<Promotion> {
    let (id, model, alias, kind, from, to, actor, reason, gates, outcome, at) = columns;
    let unreadable = |what: &'static str, found: &str| Error::Unreadable { what, found: found.to_owned() };
    Ok(Promotion {
        id,
        model,
        alias,
        kind: MoveKind::stored(&kind).ok_or_else(|| unreadable("promotion.kind", &kind))?,
        from: from.map(VersionNumber),
        to: to.map(VersionNumber),
        actor,
        reason,
        gates: serde_json::from_str(&gates).map_err(|_| unreadable("promotion.gates", &gates))?,
        outcome: Outcome::stored(&outcome).ok_or_else(|| unreadable("promotion.outcome", &outcome))?,
        at,
        winner: None,
    })
}
