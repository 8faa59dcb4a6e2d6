//! Aliases as MLflow's own calls set and delete them: without gates, with an audit.

use super::promotions::Row;
use super::{Store, Write};
use crate::clock::now_millis;
use crate::names;
use crate::promotion::{MoveKind, Outcome, Principal};
use crate::webhooks::Change;
use crate::{Error, Result, VersionNumber};

impl Store {
    /// Lets an alias name a version.
    pub(crate) async fn set_alias(&self, name: &str, alias: &str, version: &str, who: &Principal) -> Result<()> {
        names::check_model(name)?;
        names::check_alias(alias)?;
        names::check_not_reserved(alias)?;
        let number = names::version(version)?;
        let mut write = self.write().await?;
        let (model, is_prompt) = self.lock_version(&mut write, name, number).await?;
        let before = write.alias(model, alias).await?;
        write.put_alias(model, alias, number).await?;
        let row = Row { to: Some(number), ..Row::new(model, name, alias, MoveKind::Set, before, who) };
        write.note_move(&row).await?;
        self.tell(&mut write, &Change::alias_set(name, alias, number, is_prompt)).await?;
        write.commit().await
    }

    /// Removes an alias. One that is not there is no error.
    pub(crate) async fn delete_alias(&self, name: &str, alias: &str, who: &Principal) -> Result<()> {
        names::check_model(name)?;
        names::check_alias(alias)?;
        let mut write = self.write().await?;
        let model = self.lock_model(&mut write, name).await?;
        if let Some(before) = write.alias(model.no, alias).await? {
            sqlx::query("DELETE FROM model_alias WHERE model_no = $1 AND name = $2")
                .bind(model.no)
                .bind(alias)
                .execute(write.connection())
                .await
                .map_err(Error::database("deleting an alias"))?;
            write.note_move(&Row::new(model.no, name, alias, MoveKind::Delete, Some(before), who)).await?;
        }
        self.tell(&mut write, &Change::alias_deleted(name, alias, model.is_prompt)).await?;
        write.commit().await
    }
}

impl Write {
    /// What an alias names.
    pub(super) async fn alias(&mut self, model: i64, alias: &str) -> Result<Option<VersionNumber>> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT version FROM model_alias WHERE model_no = $1 AND name = $2")
                .bind(model)
                .bind(alias)
                .fetch_optional(self.connection())
                .await
                .map_err(Error::database("reading an alias"))?;
        Ok(found.map(VersionNumber))
    }

    /// Lets an alias name a version. The model is locked, the version is there.
    pub(super) async fn put_alias(&mut self, model: i64, alias: &str, version: VersionNumber) -> Result<()> {
        sqlx::query(
            "INSERT INTO model_alias (model_no, name, version) VALUES ($1, $2, $3)
             ON CONFLICT (model_no, name) DO UPDATE SET version = excluded.version",
        )
        .bind(model)
        .bind(alias)
        .bind(version.0)
        .execute(self.connection())
        .await
        .map_err(Error::database("moving an alias"))?;
        Ok(())
    }

    /// Notes in the audit that aliases go with their version, or with the model.
    pub(super) async fn note_lost_aliases(
        &mut self,
        model: i64,
        name: &str,
        version: Option<VersionNumber>,
        who: &Principal,
        reason: &str,
    ) -> Result<()> {
        let statement = "INSERT INTO promotion
               (model_no, model, alias, kind, from_version, to_version, actor, reason, gates, outcome, at)
             SELECT model_no, CAST($3 AS TEXT), name, 'delete', version, NULL, CAST($4 AS TEXT), CAST($5 AS TEXT), '[]',
               'moved', CAST($6 AS BIGINT)
             FROM model_alias WHERE model_no = $1 AND ($2 = 0 OR version = $2)";
        sqlx::query(statement)
            .bind(model)
            .bind(version.map_or(0, |version| version.0))
            .bind(name)
            .bind(&who.name)
            .bind(reason)
            .bind(now_millis())
            .execute(self.connection())
            .await
            .map_err(Error::database("writing the audit"))?;
        Ok(())
    }
}

impl Row<'_> {
    /// A move that is done.
    pub(super) fn new<'a>(
        model_no: i64,
        model: &'a str,
        alias: &'a str,
        kind: MoveKind,
        from: Option<VersionNumber>,
        who: &'a Principal,
    ) -> Row<'a> {
        let (outcome, reason, gates) = (Outcome::Moved, "", &[][..]);
        Row { model_no, model, alias, kind, from, to: None, actor: &who.name, reason, gates, outcome, at: now_millis() }
    }
}
