//! Logins: access tokens that last a quarter of an hour, and refresh tokens that give the next one.

use std::net::IpAddr;

use serde::Serialize;
use uuid::Uuid;

use super::authenticate::{of_token, shown};
use super::principal::{How, Principal};
use super::refusal::Refusal;
use super::roles::Roles;
use super::secret::Secret;
use super::store::{AuditAction, Refreshed, now_millis};
use super::{ACCESS_SECONDS, AccessClaims, Identity, SESSION_SECONDS};

/// What a login gives: <https://www.rfc-editor.org/rfc/rfc6749#section-5.1>.
#[derive(Clone, Serialize)]
pub struct Tokens {
    /// To be sent as `Authorization: Bearer …`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds that the access token lasts.
    pub expires_in: u64,
    /// Gives the next tokens, once; a service has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The roles, between spaces.
    pub scope: String,
}

/// What an access token is given for.
enum Of {
    Session { id: String, refresh: Secret },
    Service { token: String },
}

/// Without tokens.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Identity {
    /// Begins a session by name and password.
    ///
    /// # Errors
    /// Why not.
    pub async fn log_in(&self, name: &str, password: &str, address: Option<IpAddr>) -> Result<Tokens, Refusal> {
        let user = self.check_password(name, password, address).await?;
        let ends = now_millis().saturating_add(i64::try_from(SESSION_SECONDS * 1000).unwrap_or(i64::MAX));
        let (session, refresh) = self.0.store.begin_session(&user.id, ends).await?;
        self.0.store.audit(AuditAction::Login, &user.name, &user.name, &shown(address), &session).await?;
        self.give(ACCESS_SECONDS, &user.id, user.roles, Of::Session { id: session, refresh }).await
    }

    /// Goes on with a session. A refresh token that comes twice ends its session.
    ///
    /// # Errors
    /// Why not.
    pub async fn refresh(&self, token: &str, address: Option<IpAddr>) -> Result<Tokens, Refusal> {
        let ended = || Refusal::bad("the refresh token is not valid, or no longer; log in again");
        match self.0.store.refresh(token).await? {
            Refreshed::Unknown => Err(ended()),
            Refreshed::Reused { session } => {
                tracing::warn!(session, "a refresh token came twice; its session is ended");
                self.0.known.forget();
                self.0.store.audit(AuditAction::RefreshReused, "", &session, &shown(address), "").await?;
                Err(ended())
            }
            Refreshed::Next { session, token } => {
                let state = self.0.store.session(&session, None).await?.ok_or_else(ended)?;
                let of = Of::Session { id: session, refresh: token };
                self.give(ACCESS_SECONDS, &state.user_id, state.roles, of).await
            }
        }
    }

    /// Ends the session of who asks.
    ///
    /// # Errors
    /// There is no session to end.
    pub async fn log_out(&self, who: &Principal, address: Option<IpAddr>) -> Result<(), Refusal> {
        let Some(session) = &who.session else {
            return Err(Refusal::malformed("there is no session to end: tokens are revoked, passwords are changed"));
        };
        self.0.store.end_session(session).await?;
        self.0.known.forget();
        Ok(self.0.store.audit(AuditAction::Logout, &who.name, &who.name, &shown(address), session).await?)
    }

    /// An access token for a service, by the id and the text of its API token.
    ///
    /// # Errors
    /// Why not.
    pub async fn client_credentials(&self, id: &str, secret: &str, address: Option<IpAddr>) -> Result<Tokens, Refusal> {
        let token = self.0.store.token(secret).await?;
        let token = token.filter(|token| token.id == id && token.is_valid(now_millis()));
        let token = token.ok_or_else(|| Refusal::bad("the client id or the client secret is wrong"))?;
        let who = of_token(&token, How::AccessToken);
        let left = u64::try_from((token.expires_at - now_millis()) / 1000).unwrap_or(0);
        self.0.store.audit(AuditAction::ClientCredentials, &who.name, id, &shown(address), "").await?;
        self.give(left.min(ACCESS_SECONDS), &who.id, who.roles, Of::Service { token: token.id }).await
    }

    async fn give(&self, seconds: u64, subject: &str, roles: Roles, of: Of) -> Result<Tokens, Refusal> {
        let (sid, client_id, refresh_token) = match of {
            Of::Session { id, refresh } => (Some(id), None, Some(refresh.expose().to_owned())),
            Of::Service { token } => (None, Some(token), None),
        };
        let now = jsonwebtoken::get_current_timestamp();
        let claims = AccessClaims {
            iss: self.0.options.issuer.clone(),
            aud: self.0.options.audience.clone(),
            sub: subject.to_owned(),
            roles: roles.names(),
            jti: Uuid::now_v7().to_string(),
            sid,
            client_id,
            iat: now,
            nbf: now,
            exp: now + seconds,
        };
        Ok(Tokens {
            access_token: self.0.keys.sign(&claims).await?,
            token_type: "Bearer",
            expires_in: seconds,
            refresh_token,
            scope: roles.names().join(" "),
        })
    }
}
