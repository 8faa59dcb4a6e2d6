//! The routes of identity itself, which every server has where it is on: logins, tokens of one's own, keys.

use std::net::IpAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::authenticate::basic_pair;
use super::guard::{Door, Guarded};
use super::principal::{How, PeerAddress, Principal};
use super::refusal::{Refusal, RefusalKind};
use super::roles::{Permission, Roles};
use super::session::Tokens;
use super::store::{ApiToken, NewToken, now_millis};
use super::{Guard, Identity};

/// The longest body: names, passwords and tokens.
const MOST_BYTES: usize = 16 * 1024;
/// Days that a token lasts at most.
const MOST_DAYS: u32 = 3660;
const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// The routes where identity is on; none where it is off.
pub fn routes<S: Clone + Send + Sync + 'static>(guard: &Guard) -> Guarded<S> {
    let Guard::Closed(identity) = guard else { return Guarded::new() };
    Guarded::new()
        .get("/.well-known/jwks.json", Door::Public, jwks)
        .post("/auth/login", Door::Public, login)
        .post("/auth/refresh", Door::Public, refresh)
        .post("/oauth/token", Door::Public, oauth_token)
        .post("/auth/logout", Permission::AccountOwn, logout)
        .get("/auth/me", Permission::AccountOwn, me)
        .post("/auth/password", Permission::AccountOwn, change_password)
        .get("/auth/tokens", Permission::AccountOwn, own_tokens)
        .post("/auth/tokens", Permission::AccountOwn, create_token)
        .delete("/auth/tokens/{id}", Permission::AccountOwn, revoke_token)
        .get("/auth/users", Permission::UsersManage, users)
        .get("/auth/audit", Permission::UsersManage, audit)
        .with_state(identity.clone())
}

type Answer<T> = Result<Json<T>, Refusal>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    current: String,
    new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedToken {
    name: String,
    days: u32,
    roles: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Me {
    id: String,
    name: String,
    roles: Vec<String>,
    permissions: Vec<Permission>,
}

async fn jwks(State(identity): State<Identity>) -> Result<Response, Refusal> {
    let keys = identity.keys().published().await?;
    Ok(([(header::CACHE_CONTROL, "public, max-age=300")], Json(keys)).into_response())
}

async fn login(State(identity): State<Identity>, Peer(address): Peer, body: Bytes) -> Result<Response, Refusal> {
    let Login { name, password } = read(&body)?;
    Ok(unstored(identity.log_in(&name, &password, address).await?))
}

async fn refresh(State(identity): State<Identity>, Peer(address): Peer, body: Bytes) -> Result<Response, Refusal> {
    let Refresh { refresh_token } = read(&body)?;
    Ok(unstored(identity.refresh(&refresh_token, address).await?))
}

async fn logout(State(identity): State<Identity>, who: Who, Peer(address): Peer) -> Result<StatusCode, Refusal> {
    identity.log_out(&who.0, address).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn me(Who(who): Who) -> Json<Me> {
    let permissions = Permission::ALL.into_iter().filter(|permission| who.roles.may(*permission)).collect();
    Json(Me { id: who.id.to_string(), name: who.name.to_string(), roles: who.roles.names(), permissions })
}

async fn change_password(
    State(identity): State<Identity>,
    Who(who): Who,
    Peer(address): Peer,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let ChangePassword { current, new } = read(&body)?;
    personal(&who)?;
    identity.check_password(&who.name, &current, address).await?;
    identity.set_password(&who.name, &new, who.manager(address)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn own_tokens(State(identity): State<Identity>, Who(who): Who) -> Answer<Value> {
    let tokens = identity.tokens(Some(&who.id)).await?;
    Ok(Json(json!({ "tokens": tokens.iter().map(shown).collect::<Vec<_>>() })))
}

async fn create_token(
    State(identity): State<Identity>,
    Who(who): Who,
    Peer(address): Peer,
    body: Bytes,
) -> Result<Response, Refusal> {
    let WantedToken { name, days, roles } = read(&body)?;
    personal(&who)?;
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(Refusal::malformed(format!("`days` is {days}; give a number from 1 to {MOST_DAYS}")));
    }
    if name.is_empty() || name.chars().count() > 200 {
        return Err(Refusal::malformed("`name` says what the token is for, in at most 200 characters"));
    }
    let roles = match roles {
        None => who.roles,
        Some(names) => Roles::parse(&names.join(","))
            .ok()
            .filter(|roles| !roles.is_empty() && roles.is_within(who.roles))
            .ok_or_else(|| Refusal::malformed("`roles` must be roles of your own"))?,
    };
    let expires_at = now_millis() + i64::from(days) * DAY_MILLIS;
    let new = NewToken { name: &name, user: Some(&who.id), roles, expires_at };
    let (id, secret) = identity.create_token(&new, who.manager(address)).await?;
    let body = json!({ "id": id, "token": secret.expose(), "roles": roles.names(), "expires_at": expires_at });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

async fn revoke_token(
    State(identity): State<Identity>,
    Who(who): Who,
    Peer(address): Peer,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    if id.contains('\0') {
        return Err(Refusal::malformed("the address holds a NUL character"));
    }
    identity.revoke_token(&id, Some(&who.id), who.manager(address)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn users(State(identity): State<Identity>) -> Answer<Value> {
    let users = identity.store().users().await?;
    let user = |user: &super::store::User| {
        json!({
            "id": user.id,
            "name": user.name,
            "roles": user.roles.names(),
            "created_at": user.created_at,
            "disabled_at": user.disabled_at,
        })
    };
    Ok(Json(json!({ "users": users.iter().map(user).collect::<Vec<_>>() })))
}

async fn audit(State(identity): State<Identity>) -> Answer<Value> {
    Ok(Json(json!({ "events": identity.store().audits(1000).await? })))
}

/// <https://www.rfc-editor.org/rfc/rfc6749#section-4.4>. Passwords are not taken here: they belong into `/auth/login`.
async fn oauth_token(
    State(identity): State<Identity>,
    Peer(address): Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form: Vec<(String, String)> =
        url::form_urlencoded::parse(&body[..body.len().min(MOST_BYTES)]).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match field("grant_type").as_deref() {
        Some("client_credentials") => {}
        Some(_) => return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type", "only client_credentials"),
        None => return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "`grant_type` is missing"),
    }
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = basic.and_then(|value| value.strip_prefix("Basic ")).and_then(|given| basic_pair(given.trim()));
    // https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1: both are encoded once more.
    let decoded = |text: &str| url::form_urlencoded::parse(text.as_bytes()).map(|(key, _)| key.into_owned()).next();
    let pair = match basic {
        Some((id, secret)) => decoded(&id).zip(decoded(&secret)),
        None => field("client_id").zip(field("client_secret")),
    };
    let Some((id, secret)) = pair else {
        return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", "give the id of a token and the token");
    };
    match identity.client_credentials(&id, &secret, address).await {
        Ok(tokens) => unstored(tokens),
        Err(refusal) if refusal.kind == RefusalKind::BadCredentials => {
            refusal.clone().decorate(oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", &refusal.detail))
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// <https://www.rfc-editor.org/rfc/rfc6749#section-5.2>
fn oauth_error(status: StatusCode, code: &str, description: &str) -> Response {
    let body = json!({ "error": code, "error_description": description });
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn unstored(tokens: Tokens) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response()
}

fn shown(token: &ApiToken) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "prefix": token.prefix,
        "roles": token.effective_roles().names(),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    })
}

/// A token makes no tokens, which would outlive it, and changes no password.
fn personal(who: &Principal) -> Result<(), Refusal> {
    let is_person = who.how == How::Password || (who.how == How::AccessToken && who.session.is_some());
    if is_person {
        return Ok(());
    }
    let detail = "only somebody who has logged in by name and password may do this; a token may not";
    Err(Refusal { kind: RefusalKind::Forbidden, detail: detail.to_owned() })
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    if body.len() > MOST_BYTES {
        return Err(Refusal::malformed("the body is too long"));
    }
    if body.windows(6).any(|bytes| bytes == b"\\u0000") {
        return Err(Refusal::malformed("the body holds a NUL character"));
    }
    // What is wrong is not said in full: it might repeat a password.
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        Refusal::malformed(format!("the body is not the JSON that it should be, at {place}"))
    })
}

/// Who asks, as the guard has found out.
struct Who(Principal);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Principal>().cloned().map(Self).ok_or_else(Refusal::unauthenticated)
    }
}

/// From where, if it is known.
struct Peer(Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<PeerAddress>().map(|PeerAddress(address)| *address)))
    }
}
