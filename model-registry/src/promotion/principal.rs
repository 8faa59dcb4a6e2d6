//! Who asks.
//!
//! Where identity is on, the guard has found it out. Where it is off the server listens on loopback, where it is open to the
//! local user, and takes the word of whoever asks: a proxy that knows its users sets the headers, and drops those that come
//! from outside.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use platform::identity::{self, How};

/// The header with the name of who asks.
pub const ACTOR: &str = "safari-actor";
/// The header with the roles of who asks, separated by commas.
pub const ROLES: &str = "safari-roles";

/// The name of nobody in particular.
const UNKNOWN: &str = "unknown";
/// Longer names are cut: they go into the audit.
const LONGEST: usize = 200;

/// Who asks, and in which roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `unknown` when nobody says.
    pub name: String,
    /// Such as `scientist`.
    pub roles: Vec<String>,
}

impl Principal {
    /// Reads the headers: [`ACTOR`] and [`ROLES`], and without the former the user name of basic authentication, which
    /// `MLFLOW_TRACKING_USERNAME` sets.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let named = text(ACTOR).map(str::to_owned).or_else(|| basic_user(headers)).map(|name| cut(&name));
        let name = named.filter(|name| !name.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned());
        let roles = text(ROLES).unwrap_or_default().split(',').map(cut).filter(|role| !role.is_empty());
        Self { name, roles: roles.collect() }
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(match parts.extensions.get::<identity::Principal>() {
            Some(known) if known.how != How::Local => Self { name: known.name.to_string(), roles: known.roles.names() },
            _ => Self::of(&parts.headers),
        })
    }
}

fn basic_user(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(user, _)| user.to_owned())
}

fn cut(text: &str) -> String {
    text.trim().chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Principal {
        let pairs = headers.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), value.parse::<axum::http::HeaderValue>().unwrap())
        });
        Principal::of(&pairs.collect())
    }

    #[test]
    fn reads_headers_and_basic_user_names() {
        let ada = of(&[("safari-actor", "ada"), ("safari-roles", "scientist, ranger,,")]);
        assert_eq!((ada.name.as_str(), ada.roles), ("ada", vec!["scientist".to_owned(), "ranger".to_owned()]));
        let basic = format!("Basic {}", STANDARD.encode("grace:s3cret"));
        assert_eq!(of(&[("authorization", &basic)]), Principal { name: "grace".to_owned(), roles: Vec::new() });
        assert_eq!(of(&[("authorization", "Basic ???")]).name, "unknown");
        assert_eq!(of(&[("safari-actor", " ")]).name, "unknown");
    }
}
