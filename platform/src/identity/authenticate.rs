//! Finds out who asks, from the header `Authorization`.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::known::{FRESH, Key};
use super::lockout::Guess;
use super::principal::{How, Principal};
use super::refusal::Refusal;
use super::roles::Roles;
use super::store::{ApiToken, AuditAction, User, now_millis};
use super::{AccessClaims, Identity};

/// What every API token begins with.
use super::store::TOKEN_PREFIX;

const BAD_TOKEN: &str = "the token is not valid, or no longer; log in again or ask for another";
const BAD_PASSWORD: &str = "the name or the password is wrong";

/// The part of a token that says whose it is, before anything of it is verified.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

impl Identity {
    /// Who sends these headers from this address.
    ///
    /// # Errors
    /// Why nobody is let in.
    pub async fn authenticate(&self, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Principal, Refusal> {
        let found = self.find_out(headers, address).await;
        let key = match &found {
            Ok(principal) => principal.id.to_string(),
            Err(_) => address.map_or_else(|| "nobody".to_owned(), |address| format!("address {address}")),
        };
        self.0.limits.count(&key)?;
        found
    }

    /// Counts a request of somebody who need not say who they are.
    pub(super) fn count_anonymous(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        self.0.limits.count(&address.map_or_else(|| "nobody".to_owned(), |address| format!("address {address}")))
    }

    async fn find_out(&self, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Principal, Refusal> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Err(Refusal::unauthenticated()) };
        if values.next().is_some() {
            return Err(Refusal::bad("the header Authorization is there twice"));
        }
        let key = self.0.known.key(value.as_bytes());
        if let Some(principal) = self.0.known.principal(key) {
            return Ok(principal);
        }
        let text = value.to_str().map_err(|_| Refusal::bad(BAD_TOKEN))?;
        let Some((scheme, given)) = text.split_once(' ') else { return Err(Refusal::unauthenticated()) };
        let given = given.trim();
        let (principal, ends_in) = match scheme.to_ascii_lowercase().as_str() {
            "bearer" if given.starts_with(TOKEN_PREFIX) => self.api_token(given).await?,
            "bearer" => self.signed_token(given).await?,
            "basic" => (self.basic(given, key, address).await?, FRESH),
            _ => return Err(Refusal::unauthenticated()),
        };
        self.0.known.keep(key, &principal, ends_in);
        Ok(principal)
    }

    async fn api_token(&self, text: &str) -> Result<(Principal, Duration), Refusal> {
        let now = now_millis();
        let token = self.0.store.token(text).await?.filter(|token| token.is_valid(now));
        let token = token.ok_or_else(|| Refusal::bad(BAD_TOKEN))?;
        let ends_in = Duration::from_millis(u64::try_from(token.expires_at - now).unwrap_or(0));
        Ok((of_token(&token, How::ApiToken), ends_in))
    }

    async fn signed_token(&self, text: &str) -> Result<(Principal, Duration), Refusal> {
        let issuer = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let issuer = issuer.and_then(|part| serde_json::from_slice::<Issuer>(&part).ok());
        let Some(Issuer { iss }) = issuer else { return Err(Refusal::bad(BAD_TOKEN)) };
        let refused = |reason: String| {
            tracing::debug!(%reason, "an access token is refused");
            Refusal::bad(BAD_TOKEN)
        };
        if let Some(external) = self.0.external.as_ref().filter(|external| external.issuer() == iss) {
            let (principal, exp) = external.verify(text).await?.map_err(refused)?;
            return Ok((principal, until(exp)));
        }
        let claims = self.0.keys.verify(text).await?.map_err(refused)?;
        let principal = self.of_claims(&claims).await?.ok_or_else(|| refused("its session has ended".to_owned()))?;
        Ok((principal, until(claims.exp)))
    }

    /// Who an access token of ours names; nobody if it was revoked, with its session, its service or its user. Roles that
    /// somebody has no more are none of the token's.
    async fn of_claims(&self, claims: &AccessClaims) -> Result<Option<Principal>, Refusal> {
        let store = &self.0.store;
        let given = Roles::known(claims.roles.iter().map(String::as_str));
        if let Some(client) = &claims.client_id {
            let token = store.token_by_id(client).await?.filter(|token| token.is_valid(now_millis()));
            let Some(token) = token else { return Ok(None) };
            if store.is_revoked(&claims.jti).await? {
                return Ok(None);
            }
            let principal = of_token(&token, How::AccessToken);
            return Ok(Some(Principal { roles: principal.roles.and(given), ..principal }));
        }
        let Some(session) = &claims.sid else { return Ok(None) };
        let state = store.session(session, Some(&claims.jti)).await?;
        let Some(state) = state.filter(|state| state.goes_on && state.user_id == claims.sub) else { return Ok(None) };
        Ok(Some(Principal {
            id: state.user_id.into(),
            name: state.user_name.into(),
            roles: state.roles.and(given),
            how: How::AccessToken,
            session: Some(session.as_str().into()),
        }))
    }

    async fn basic(&self, given: &str, key: Key, address: Option<IpAddr>) -> Result<Principal, Refusal> {
        let (name, password) = basic_pair(given).ok_or_else(|| Refusal::bad(BAD_PASSWORD))?;
        let known = self.0.store.user(&name).await?;
        let user = match known {
            Some(user) if user.disabled_at.is_none() && self.0.known.fitted(key, &user.password_hash) => user,
            _ => {
                let user = self.check_password(&name, &password, address).await?;
                self.0.known.keep_fitting(key, &user.password_hash);
                user
            }
        };
        Ok(of_user(&user, How::Password))
    }

    /// The user of a name and a password. Wrong ones are counted, and after some there is a wait.
    pub(super) async fn check_password(
        &self,
        name: &str,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<User, Refusal> {
        let guess = Guess::new(name, address);
        let _turn = self.0.lockout.turn(&guess).await;
        self.0.lockout.check(&guess).await?;
        let user = self.0.store.user(name).await?;
        let is_known = user.is_some();
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let fits = self.0.passwords.fits(password, hash).await?;
        if let Some(user) = user.filter(|user| fits && user.disabled_at.is_none()) {
            self.0.lockout.succeeded(&guess).await?;
            return Ok(user);
        }
        self.0.lockout.failed(&guess).await?;
        // A name that does not exist may be a password in the wrong field.
        let subject = if is_known { name } else { "an unknown name" };
        self.0.store.audit(AuditAction::LoginRefused, "", subject, &shown(address), "").await?;
        Err(Refusal::bad(BAD_PASSWORD))
    }
}

/// A user as who asks.
pub(super) fn of_user(user: &User, how: How) -> Principal {
    Principal { id: user.id.as_str().into(), name: user.name.as_str().into(), roles: user.roles, how, session: None }
}

/// A token as who asks: its user, or the service that it is of.
pub(super) fn of_token(token: &ApiToken, how: How) -> Principal {
    let (id, name) = match &token.owner {
        Some(owner) => (&owner.id, &owner.name),
        None => (&token.id, &token.name),
    };
    Principal { id: id.as_str().into(), name: name.as_str().into(), roles: token.effective_roles(), how, session: None }
}

/// Name and password of basic authentication: <https://www.rfc-editor.org/rfc/rfc7617>.
pub(super) fn basic_pair(given: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(given).ok()?).ok()?;
    // PostgreSQL takes no text with a NUL, and nobody is called so.
    let (name, password) = decoded.split_once(':').filter(|(name, _)| !name.contains('\0'))?;
    Some((name.to_owned(), password.to_owned()))
}

/// An address for the audit.
pub(super) fn shown(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn until(exp: u64) -> Duration {
    Duration::from_secs(exp.saturating_sub(jsonwebtoken::get_current_timestamp()))
}
