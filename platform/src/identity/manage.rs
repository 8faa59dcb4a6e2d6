//! People and tokens, added and taken away.

use std::net::IpAddr;

use super::authenticate::shown;
use super::known::FRESH;
use super::secret::Secret;
use super::store::{ApiToken, AuditAction, NewToken, User};
use super::{Identity, Roles};
use crate::{Error, Result};

/// Who manages, and from where: for the audit.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The name.
    pub name: &'a str,
    /// None for a command on this machine.
    pub address: Option<IpAddr>,
}

impl Identity {
    /// How long another process may still let somebody in who was disabled, or whose token was revoked.
    pub const DELAY: std::time::Duration = FRESH;

    /// Adds somebody.
    ///
    /// # Errors
    /// [`Error::UserName`], [`Error::UserExists`], [`Error::PasswordLength`], or the database's.
    pub async fn add_user(&self, name: &str, password: &str, roles: Roles, by: Manager<'_>) -> Result<User> {
        let hash = self.0.passwords.hash(password).await?;
        let user = self.0.store.add_user(name, &hash, roles).await?;
        self.audit(AuditAction::UserAdded, &user.name, &roles.to_string(), by).await?;
        Ok(user)
    }

    /// Disables somebody, or enables them again. Sessions and tokens rest as long.
    ///
    /// # Errors
    /// [`Error::UserUnknown`], or the database's.
    pub async fn disable_user(&self, name: &str, disabled: bool, by: Manager<'_>) -> Result<()> {
        self.0.store.disable_user(name, disabled).await?;
        self.0.known.forget();
        let action = if disabled { AuditAction::UserDisabled } else { AuditAction::UserEnabled };
        self.audit(action, name, "", by).await
    }

    /// Gives somebody other roles.
    ///
    /// # Errors
    /// [`Error::UserUnknown`], or the database's.
    pub async fn set_roles(&self, name: &str, roles: Roles, by: Manager<'_>) -> Result<()> {
        self.0.store.set_roles(name, roles).await?;
        self.0.known.forget();
        self.audit(AuditAction::RolesChanged, name, &roles.to_string(), by).await
    }

    /// Changes a password, and ends all sessions of its user.
    ///
    /// # Errors
    /// [`Error::UserUnknown`], [`Error::PasswordLength`], or the database's.
    pub async fn set_password(&self, name: &str, password: &str, by: Manager<'_>) -> Result<()> {
        let hash = self.0.passwords.hash(password).await?;
        self.0.store.set_password_hash(name, &hash).await?;
        self.0.known.forget();
        self.audit(AuditAction::PasswordChanged, name, "", by).await
    }

    /// Makes an API token; gives its id and its text, which is shown once.
    ///
    /// # Errors
    /// The database's.
    pub async fn create_token(&self, token: &NewToken<'_>, by: Manager<'_>) -> Result<(String, Secret)> {
        let (id, secret) = self.0.store.create_token(token).await?;
        self.audit(AuditAction::TokenCreated, &id, &format!("{}: {}", token.name, token.roles), by).await?;
        Ok((id, secret))
    }

    /// Revokes an API token by id, one of a user's if one is named.
    ///
    /// # Errors
    /// [`Error::TokenUnknown`], or the database's.
    pub async fn revoke_token(&self, id: &str, user: Option<&str>, by: Manager<'_>) -> Result<()> {
        if !self.0.store.revoke_token(id, user).await? {
            return Err(Error::TokenUnknown(id.to_owned()));
        }
        self.0.known.forget();
        self.audit(AuditAction::TokenRevoked, id, "", by).await
    }

    /// Refuses a single access token by its `jti` from now on, for as long as it can last.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_access_token(&self, jti: &str, by: Manager<'_>) -> Result<()> {
        let ends = super::store::now_millis().saturating_add(i64::try_from(super::ACCESS_SECONDS * 2000).unwrap_or(0));
        self.0.store.revoke_jti(jti, ends).await?;
        self.0.known.forget();
        self.audit(AuditAction::TokenRevoked, jti, "access token", by).await
    }

    /// A new key signs access tokens from now on; those before verify as long as tokens of theirs last.
    ///
    /// # Errors
    /// The database's.
    pub async fn rotate_key(&self, by: Manager<'_>) -> Result<String> {
        let kid = self.0.keys.rotate().await?;
        self.audit(AuditAction::KeyRotated, &kid, "", by).await?;
        Ok(kid)
    }

    /// All tokens, or those of a user by id; the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn tokens(&self, user: Option<&str>) -> Result<Vec<ApiToken>> {
        self.0.store.tokens(user).await
    }

    async fn audit(&self, action: AuditAction, subject: &str, detail: &str, by: Manager<'_>) -> Result<()> {
        self.0.store.audit(action, by.name, subject, &shown(by.address), detail).await
    }
}
