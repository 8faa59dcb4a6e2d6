//! Changes of model versions.

use platform::database::Engine;

use super::model_rows::no_model;
use super::registered_models::has_prompt_tag;
use super::sources::{Asked, Resolved};
use super::version_rows::{no_version, version_on};
use super::{Store, Write};
use crate::clock::now_millis;
use crate::names::{self, Stage};
use crate::promotion::Principal;
use crate::register::IDEMPOTENCY_TAG;
use crate::registered::{ModelVersion, Tag};
use crate::webhooks::Change;
use crate::{Error, ErrorCode, Result, VersionNumber};

/// A version that is to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewVersion {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) run_id: Option<String>,
    pub(crate) model_id: Option<String>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) run_link: String,
    pub(crate) description: String,
}

impl Store {
    /// Makes the next version of a model. Numbers are counted in the row of the model: no gap, no repeat. A version with the
    /// same tag [`IDEMPOTENCY_TAG`] is given back as it is, so that whoever asks twice gets one.
    pub(crate) async fn create_model_version(&self, new: &NewVersion) -> Result<ModelVersion> {
        let is_prompt = has_prompt_tag(&names::last_of_each(&new.tags));
        let mut write = self.write().await?;
        let asked =
            Asked { source: &new.source, run_id: new.run_id.as_deref(), model_id: new.model_id.as_deref(), is_prompt };
        let resolved = self.resolve_source(&mut write, asked).await?;
        names::check_model(&new.name)?;
        new.tags.iter().try_for_each(names::check_tag)?;
        let tags = names::last_of_each(&new.tags);
        let model = self.lock_model(&mut write, &new.name).await?;
        if let Some(made) = made_before(self.engine(), &mut write, model.no, &new.name, &tags).await? {
            return Ok(made);
        }
        let (version, now) = (VersionNumber(model.next_version), now_millis());
        sqlx::query("UPDATE registered_model SET next_version = next_version + 1, updated_at = $2 WHERE no = $1")
            .bind(model.no)
            .bind(now)
            .execute(write.connection())
            .await
            .map_err(Error::database("counting a version"))?;
        insert_version(&mut write, model.no, version, new, &resolved, now).await?;
        for tag in &tags {
            write.set_version_tag(model.no, version, tag).await?;
        }
        if let Some(model_id) = resolved.model_id.as_deref().filter(|id| !id.is_empty() && !is_prompt) {
            self.note_version_on_logged_model(&mut write, model_id, &new.name, version).await?;
        }
        let made = ModelVersion {
            name: new.name.clone(),
            version,
            creation_timestamp: now,
            last_updated_timestamp: now,
            user_id: None,
            current_stage: Stage::None.to_string(),
            description: Some(new.description.clone()),
            source: resolved.source,
            run_id: resolved.run_id,
            status: READY.to_owned(),
            status_message: None,
            tags,
            run_link: Some(new.run_link.clone()),
            aliases: Vec::new(),
        };
        self.tell(&mut write, &Change::version_created(&made, is_prompt)).await?;
        write.commit().await?;
        Ok(made)
    }

    /// Gives a version another description, or none.
    pub(crate) async fn update_model_version(
        &self,
        name: &str,
        version: &str,
        description: Option<&str>,
    ) -> Result<ModelVersion> {
        names::check_model(name)?;
        let version = names::version(version)?;
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE model_version SET description = $3, updated_at = $4
             WHERE model_no = (SELECT no FROM registered_model WHERE name = $1) AND version = $2",
        )
        .bind(name)
        .bind(version.0)
        .bind(description)
        .bind(now_millis())
        .execute(write.connection())
        .await
        .map_err(Error::database("changing a model version"))?;
        self.committed_version(write, name, version).await
    }

    /// Brings a version into a stage; the others of this stage may be archived.
    pub(crate) async fn transition_stage(
        &self,
        name: &str,
        version: &str,
        stage_text: &str,
        archive_others: bool,
    ) -> Result<ModelVersion> {
        let stage = Stage::parse(stage_text)?;
        if archive_others && !stage.is_active() {
            return Err(Error::refused(
                ErrorCode::InternalError,
                format!(
                    "Model version transition cannot archive existing model versions because '{stage_text}' is not an \
                     Active stage. Valid stages are ['Staging', 'Production']"
                ),
            ));
        }
        names::check_model(name)?;
        let version = names::version(version)?;
        let mut write = self.write().await?;
        let (model, _) = self.lock_version(&mut write, name, version).await?;
        let now = now_millis();
        if archive_others {
            sqlx::query(
                "UPDATE model_version SET stage = 'Archived', updated_at = $4
                 WHERE model_no = $1 AND stage = $2 AND version <> $3",
            )
            .bind(model)
            .bind(stage.as_str())
            .bind(version.0)
            .bind(now)
            .execute(write.connection())
            .await
            .map_err(Error::database("archiving model versions"))?;
        }
        sqlx::query("UPDATE model_version SET stage = $3, updated_at = $4 WHERE model_no = $1 AND version = $2")
            .bind(model)
            .bind(version.0)
            .bind(stage.as_str())
            .bind(now)
            .execute(write.connection())
            .await
            .map_err(Error::database("changing the stage of a model version"))?;
        write.touch_model(model, now).await?;
        self.committed_version(write, name, version).await
    }

    /// Deletes a version with the aliases that name it. Its number is not given again. Its files are left to the garbage
    /// collector.
    pub(crate) async fn delete_model_version(&self, name: &str, version: &str, who: &Principal) -> Result<()> {
        let version = names::version(version)?;
        names::check_model(name)?;
        let mut write = self.write().await?;
        let (model, _) = self.lock_version(&mut write, name, version).await?;
        self.note_own_files(&mut write, model, Some(version.0)).await?;
        let reason = format!("version {version} was deleted");
        write.note_lost_aliases(model, name, Some(version), who, &reason).await?;
        sqlx::query("DELETE FROM model_alias WHERE model_no = $1 AND version = $2")
            .bind(model)
            .bind(version.0)
            .execute(write.connection())
            .await
            .map_err(Error::database("deleting aliases"))?;
        sqlx::query("DELETE FROM model_version WHERE model_no = $1 AND version = $2")
            .bind(model)
            .bind(version.0)
            .execute(write.connection())
            .await
            .map_err(Error::database("deleting a model version"))?;
        write.touch_model(model, now_millis()).await?;
        write.commit().await
    }

    /// Sets a tag of a version.
    pub(crate) async fn set_model_version_tag(&self, name: &str, version: &str, tag: &Tag) -> Result<()> {
        names::check_model(name)?;
        let number = names::version(version)?;
        names::check_tag(tag)?;
        let mut write = self.write().await?;
        let (model, is_prompt) = self.lock_version(&mut write, name, number).await?;
        write.set_version_tag(model, number, tag).await?;
        self.tell(&mut write, &Change::version_tag_set(name, number, tag, is_prompt)).await?;
        write.commit().await
    }

    /// Removes a tag of a version. One that is not there is no error.
    pub(crate) async fn delete_model_version_tag(&self, name: &str, version: &str, key: &str) -> Result<()> {
        names::check_model(name)?;
        let number = names::version(version)?;
        names::check_tag_key(key)?;
        let mut write = self.write().await?;
        let (model, is_prompt) = self.lock_version(&mut write, name, number).await?;
        sqlx::query("DELETE FROM model_version_tag WHERE model_no = $1 AND version = $2 AND key = $3")
            .bind(model)
            .bind(number.0)
            .bind(key)
            .execute(write.connection())
            .await
            .map_err(Error::database("removing a tag"))?;
        self.tell(&mut write, &Change::version_tag_deleted(name, number, key, is_prompt)).await?;
        write.commit().await
    }

    /// Locks a model that has this version; gives its number and whether it is a prompt.
    pub(super) async fn lock_version(
        &self,
        write: &mut Write,
        name: &str,
        version: VersionNumber,
    ) -> Result<(i64, bool)> {
        let model = match self.lock_model(write, name).await {
            Ok(model) => model,
            Err(error) if error.code() == no_model(name).code() => return Err(no_version(name, version)),
            Err(error) => return Err(error),
        };
        let found = sqlx::query("SELECT version FROM model_version WHERE model_no = $1 AND version = $2")
            .bind(model.no)
            .bind(version.0)
            .fetch_optional(write.connection())
            .await
            .map_err(Error::database("reading a model version"))?;
        found.map(|_| (model.no, model.is_prompt)).ok_or_else(|| no_version(name, version))
    }

    /// The version as it is after the change, which is committed.
    async fn committed_version(&self, mut write: Write, name: &str, version: VersionNumber) -> Result<ModelVersion> {
        let found = version_on(self.engine(), write.connection(), name, version).await?;
        let found = found.ok_or_else(|| no_version(name, version))?;
        write.commit().await?;
        Ok(found)
    }
}

const READY: &str = "READY";

/// The version of a model that was made under the same key, if the tags have one.
async fn made_before(
    engine: Engine,
    write: &mut Write,
    model: i64,
    name: &str,
    tags: &[Tag],
) -> Result<Option<ModelVersion>> {
    let Some(key) = tags.iter().find(|tag| tag.key == IDEMPOTENCY_TAG) else { return Ok(None) };
    let found = sqlx::query_scalar(
        "SELECT version FROM model_version_tag
         WHERE key = $1 AND substr(value, 1, 100) = substr($2, 1, 100) AND value = $2 AND model_no = $3
         ORDER BY version LIMIT 1",
    )
    .bind(&key.key)
    .bind(&key.value)
    .bind(model)
    .fetch_optional(write.connection())
    .await
    .map_err(Error::database("looking for a model version"))?;
    match found {
        Some(version) => version_on(engine, write.connection(), name, VersionNumber(version)).await,
        None => Ok(None),
    }
}

async fn insert_version(
    write: &mut Write,
    model: i64,
    version: VersionNumber,
    new: &NewVersion,
    resolved: &Resolved,
    now: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO model_version (model_no, version, description, stage, source, storage_location, run_id, run_link,
           model_id, status, created_at, updated_at)
         VALUES ($1, $2, $3, 'None', $4, $5, $6, $7, $8, $9, $10, $10)",
    )
    .bind(model)
    .bind(version.0)
    .bind(&new.description)
    .bind(&resolved.source)
    .bind(&resolved.storage_location)
    .bind(resolved.run_id.as_deref())
    .bind(&new.run_link)
    .bind(resolved.model_id.as_deref())
    .bind(READY)
    .bind(now)
    .execute(write.connection())
    .await
    .map_err(Error::database("making a model version"))?;
    Ok(())
}

impl Write {
    async fn set_version_tag(&mut self, model: i64, version: VersionNumber, tag: &Tag) -> Result<()> {
        sqlx::query(
            "INSERT INTO model_version_tag (model_no, version, key, value) VALUES ($1, $2, $3, $4)
             ON CONFLICT (model_no, version, key) DO UPDATE SET value = excluded.value",
        )
        .bind(model)
        .bind(version.0)
        .bind(&tag.key)
        .bind(&tag.value)
        .execute(self.connection())
        .await
        .map_err(Error::database("setting a tag"))?;
        Ok(())
    }

    async fn touch_model(&mut self, model: i64, now: i64) -> Result<()> {
        sqlx::query("UPDATE registered_model SET updated_at = $2 WHERE no = $1")
            .bind(model)
            .bind(now)
            .execute(self.connection())
            .await
            .map_err(Error::database("changing a registered model"))?;
        Ok(())
    }
}
