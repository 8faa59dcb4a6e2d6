//! Changes of registered models.

use sqlx::AssertSqlSafe;

use super::model_rows::{model_on, no_model};
use super::{Store, Write};
use crate::clock::now_millis;
use crate::names;
use crate::promotion::Principal;
use crate::registered::{IS_PROMPT, RegisteredModel, Tag};
use crate::webhooks::Change;
use crate::{Error, Result};

/// A model under its lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockedModel {
    pub(super) no: i64,
    /// The number of the version that is made next.
    pub(super) next_version: i64,
    pub(super) is_prompt: bool,
}

impl Store {
    /// Makes a model.
    pub(crate) async fn create_registered_model(
        &self,
        name: &str,
        tags: &[Tag],
        description: &str,
    ) -> Result<RegisteredModel> {
        names::check_first_name(name)?;
        tags.iter().try_for_each(names::check_tag)?;
        let tags = names::last_of_each(tags);
        let (now, is_prompt) = (now_millis(), has_prompt_tag(&tags));
        let mut write = self.write().await?;
        let no: Option<i64> = sqlx::query_scalar(
            "INSERT INTO registered_model (name, description, next_version, created_at, updated_at)
             VALUES ($1, $2, 1, $3, $3) ON CONFLICT (name) DO NOTHING RETURNING no",
        )
        .bind(name)
        .bind(description)
        .bind(now)
        .fetch_optional(write.connection())
        .await
        .map_err(Error::database("making a registered model"))?;
        let Some(no) = no else {
            drop(write);
            return Err(self.name_taken(name, is_prompt).await?);
        };
        for tag in &tags {
            write.set_model_tag(no, tag).await?;
        }
        self.tell(&mut write, &Change::model_created(name, &tags, description)).await?;
        write.commit().await?;
        Ok(RegisteredModel {
            name: name.to_owned(),
            creation_timestamp: now,
            last_updated_timestamp: now,
            description: Some(description.to_owned()).filter(|text| !text.is_empty()),
            latest_versions: Vec::new(),
            tags,
            aliases: Vec::new(),
        })
    }

    /// Gives a model another description.
    pub(crate) async fn update_registered_model(&self, name: &str, description: &str) -> Result<RegisteredModel> {
        names::check_model(name)?;
        let mut write = self.write().await?;
        let changed = sqlx::query("UPDATE registered_model SET description = $2, updated_at = $3 WHERE name = $1")
            .bind(name)
            .bind(description)
            .bind(now_millis())
            .execute(write.connection())
            .await
            .map_err(Error::database("changing a registered model"))?;
        if changed.rows_affected() == 0 {
            return Err(no_model(name));
        }
        self.committed_model(write, name).await
    }

    /// Gives a model another name. Its versions, aliases, approvals and history go with it.
    pub(crate) async fn rename_registered_model(&self, name: &str, new_name: &str) -> Result<RegisteredModel> {
        names::check_new_model(new_name)?;
        names::check_model(name)?;
        let mut write = self.write().await?;
        let model = self.lock_model(&mut write, name).await?;
        let renamed = sqlx::query("UPDATE registered_model SET name = $2, updated_at = $3 WHERE no = $1")
            .bind(model.no)
            .bind(new_name)
            .bind(now_millis())
            .execute(write.connection())
            .await;
        match renamed {
            Ok(_) => {}
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(Error::exists(format!("Registered Model (name={new_name}) already exists.")));
            }
            Err(error) => return Err(Error::database("renaming a registered model")(error)),
        }
        for statement in [
            "UPDATE model_version SET updated_at = (SELECT updated_at FROM registered_model WHERE no = $1)
             WHERE model_no = $1",
            "UPDATE promotion SET model = (SELECT name FROM registered_model WHERE no = $1) WHERE model_no = $1",
        ] {
            let done = sqlx::query(statement).bind(model.no).execute(write.connection()).await;
            done.map_err(Error::database("renaming a registered model"))?;
        }
        self.committed_model(write, new_name).await
    }

    /// Deletes a model with its versions. Files that belong to nothing else are left to the garbage collector.
    pub(crate) async fn delete_registered_model(&self, name: &str, who: &Principal) -> Result<()> {
        names::check_model(name)?;
        let mut write = self.write().await?;
        let model = self.lock_model(&mut write, name).await?;
        self.note_own_files(&mut write, model.no, None).await?;
        write.note_lost_aliases(model.no, name, None, who, "the model was deleted").await?;
        sqlx::query("DELETE FROM registered_model WHERE no = $1")
            .bind(model.no)
            .execute(write.connection())
            .await
            .map_err(Error::database("deleting a registered model"))?;
        write.commit().await
    }

    /// Sets a tag of a model.
    pub(crate) async fn set_registered_model_tag(&self, name: &str, tag: &Tag) -> Result<()> {
        names::check_model(name)?;
        names::check_tag(tag)?;
        let mut write = self.write().await?;
        let model = self.lock_model(&mut write, name).await?;
        write.set_model_tag(model.no, tag).await?;
        // MLflow tells of tags of prompts, not of those of models.
        if model.is_prompt || (tag.key == IS_PROMPT && is_true(&tag.value)) {
            self.tell(&mut write, &Change::prompt_tag_set(name, tag)).await?;
        }
        write.commit().await
    }

    /// Removes a tag of a model. One that is not there is no error.
    pub(crate) async fn delete_registered_model_tag(&self, name: &str, key: &str) -> Result<()> {
        names::check_model(name)?;
        names::check_tag_key(key)?;
        let mut write = self.write().await?;
        let model = self.lock_model(&mut write, name).await?;
        sqlx::query("DELETE FROM registered_model_tag WHERE model_no = $1 AND key = $2")
            .bind(model.no)
            .bind(key)
            .execute(write.connection())
            .await
            .map_err(Error::database("removing a tag"))?;
        if model.is_prompt && key != IS_PROMPT {
            self.tell(&mut write, &Change::prompt_tag_deleted(name, key)).await?;
        }
        write.commit().await
    }

    /// Reads a model and locks it until the end of the change.
    pub(super) async fn lock_model(&self, write: &mut Write, name: &str) -> Result<LockedModel> {
        write.read_model(name, self.for_update()).await
    }

    /// The model as it is after the change, which is committed.
    async fn committed_model(&self, mut write: Write, name: &str) -> Result<RegisteredModel> {
        let model = model_on(self.engine(), write.connection(), name).await?.ok_or_else(|| no_model(name))?;
        write.commit().await?;
        Ok(model)
    }

    /// Why a model of this name cannot be made.
    async fn name_taken(&self, name: &str, is_prompt: bool) -> Result<Error> {
        let existing = model_on(self.engine(), self.pool(), name).await?;
        let was_prompt = existing.is_some_and(|model| has_prompt_tag(&model.tags));
        let word = |prompt| if prompt { "Prompt" } else { "Registered Model" };
        if was_prompt != is_prompt {
            return Ok(Error::exists(format!(
                "Tried to create a {} with name '{name}', but the name is already taken by a {}. MLflow does not allow \
                 creating a model and a prompt with the same name.",
                word(is_prompt).to_lowercase(),
                word(was_prompt).to_lowercase(),
            )));
        }
        Ok(Error::exists(format!("{} (name={name}) already exists.", word(is_prompt))))
    }

    /// Notes the files of versions, so that the garbage collector looks whether anything else needs them.
    pub(super) async fn note_own_files(&self, write: &mut Write, model: i64, version: Option<i64>) -> Result<()> {
        sqlx::query(
            "INSERT INTO orphan (uri, reason, since)
             SELECT DISTINCT storage_location, 'version', CAST($4 AS BIGINT) FROM model_version
             WHERE model_no = $1 AND ($2 = 0 OR version = $2) AND substr(storage_location, 1, length($3)) = $3",
        )
        .bind(model)
        .bind(version.unwrap_or(0))
        .bind(format!("{}/", self.artifact_root()))
        .bind(now_millis())
        .execute(write.connection())
        .await
        .map_err(Error::database("noting files of deleted versions"))?;
        Ok(())
    }
}

impl Write {
    /// Reads a model as the change sees it; `lock` is the end of the statement.
    pub(super) async fn read_model(&mut self, name: &str, lock: &'static str) -> Result<LockedModel> {
        let sql = format!(
            "SELECT m.no, m.next_version,
               (SELECT t.value FROM registered_model_tag t WHERE t.model_no = m.no AND t.key = $2)
             FROM registered_model m WHERE m.name = $1{lock}"
        );
        let found: Option<(i64, i64, Option<String>)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(name)
            .bind(IS_PROMPT)
            .fetch_optional(self.connection())
            .await
            .map_err(Error::database("reading a registered model"))?;
        let (no, next_version, prompt) = found.ok_or_else(|| no_model(name))?;
        Ok(LockedModel { no, next_version, is_prompt: prompt.is_some_and(|value| is_true(&value)) })
    }

    async fn set_model_tag(&mut self, model: i64, tag: &Tag) -> Result<()> {
        sqlx::query(
            "INSERT INTO registered_model_tag (model_no, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (model_no, key) DO UPDATE SET value = excluded.value",
        )
        .bind(model)
        .bind(&tag.key)
        .bind(&tag.value)
        .execute(self.connection())
        .await
        .map_err(Error::database("setting a tag"))?;
        Ok(())
    }
}

/// Whether tags make a prompt.
pub(super) fn has_prompt_tag(tags: &[Tag]) -> bool {
    tags.iter().any(|tag| tag.key == IS_PROMPT && is_true(&tag.value))
}

fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}
