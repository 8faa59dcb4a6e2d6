//! Access tokens of another issuer: OpenID Connect's discovery document, its keys, and the roles that its claims stand for.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use url::{Host, Url};

use super::principal::{How, Principal};
use super::roles::{Role, Roles};
use crate::error::root_cause;
use crate::{Error, Result};

/// How much clocks may differ.
const LEEWAY_SECONDS: u64 = 30;
/// How often keys are fetched although all are known.
const REFRESH_EVERY: Duration = Duration::from_secs(3600);
/// How often they are fetched because one is not known, or because the issuer did not answer.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long the issuer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MOST_BYTES: usize = 1 << 20;

/// Another issuer, and what its tokens mean here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalOptions {
    /// Its URL, as in `iss`.
    pub issuer: String,
    /// What `aud` must name.
    pub audience: String,
    /// Where a token says who somebody is to the issuer: a claim, or a path through claims, such as `realm_access.roles`.
    pub roles_claim: String,
    /// Its words for our roles; `*` stands for everybody. Without any, its words are ours.
    pub mapping: Vec<(String, Role)>,
}

/// Another issuer, with its keys.
#[derive(Debug)]
pub(super) struct External {
    options: ExternalOptions,
    client: reqwest::Client,
    fetched: RwLock<Fetched>,
    fetching: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Fetched {
    keys: Arc<Vec<Jwk>>,
    /// When it was tried last.
    at: Option<Instant>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    preferred_username: Option<String>,
    email: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl External {
    pub(super) fn new(options: ExternalOptions) -> Result<Self> {
        let failed = |reason: String| Error::Issuer { issuer: options.issuer.clone(), reason };
        checked_url(&options.issuer).map_err(failed)?;
        let client = reqwest::Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build();
        let client = client.map_err(|error| failed(root_cause(&error)))?;
        Ok(Self { options, client, fetched: RwLock::default(), fetching: Mutex::new(()) })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.options.issuer
    }

    /// Who a token names and until when, in seconds since 1970-01-01 UTC; else why not, for the log.
    pub(super) async fn verify(&self, token: &str) -> Result<std::result::Result<(Principal, u64), String>> {
        let header = match jsonwebtoken::decode_header(token) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if !is_asymmetric(header.alg) {
            return Ok(Err("an algorithm with a shared secret".to_owned()));
        }
        let kid = header.kid.as_deref();
        let mut keys = self.keys(REFRESH_EVERY).await?;
        if !keys.iter().any(|key| fits(key, kid, header.alg)) {
            keys = self.keys(LOOK_EVERY).await?;
        }
        let Some(key) = keys.iter().find(|key| fits(key, kid, header.alg)) else {
            return Ok(Err("no key of the issuer fits".to_owned()));
        };
        let verified = DecodingKey::from_jwk(key)
            .and_then(|key| jsonwebtoken::decode::<Claims>(token, &key, &self.validation(header.alg)));
        let claims = match verified {
            Ok(data) => data.claims,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let roles = self.roles(&claims.others);
        let name = claims.preferred_username.or(claims.email).unwrap_or_else(|| claims.sub.clone());
        let name: String = name.chars().filter(|character| !character.is_control()).take(200).collect();
        let id = format!("oidc:{}", claims.sub);
        let principal = Principal { id: id.into(), name: name.into(), roles, how: How::External, session: None };
        Ok(Ok((principal, claims.exp)))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[&self.options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }

    fn roles(&self, claims: &serde_json::Map<String, Value>) -> Roles {
        let mut path = self.options.roles_claim.split('.');
        let first = path.next().and_then(|name| claims.get(name));
        let found = path.try_fold(first, |value, name| Some(value.and_then(|value| value.get(name)))).flatten();
        let words: Vec<&str> = match found {
            Some(Value::String(text)) => text.split([' ', ',']).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if self.options.mapping.is_empty() {
            return Roles::known(words);
        }
        let stands_for = |(word, _): &&(String, Role)| word == "*" || words.contains(&word.as_str());
        self.options.mapping.iter().filter(stands_for).map(|(_, role)| *role).collect()
    }

    /// The issuer's keys, as they were fetched at most so long ago.
    async fn keys(&self, oldest: Duration) -> Result<Arc<Vec<Jwk>>> {
        if let Some(keys) = self.fetched(oldest) {
            return Ok(keys);
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(keys) = self.fetched(oldest) {
            return Ok(keys);
        }
        let answer = self.fetch().await;
        let mut fetched = self.fetched.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = Arc::clone(&fetched.keys);
        match answer {
            Ok(keys) => *fetched = Fetched { keys: Arc::new(keys), at: Some(Instant::now()) },
            // Its keys change seldom: those that are known go on while it does not answer.
            Err(error) if !known.is_empty() => {
                tracing::warn!(%error, "the issuer of tokens does not answer; its known keys are used");
                let soon = Instant::now().checked_sub(REFRESH_EVERY.saturating_sub(LOOK_EVERY));
                fetched.at = soon.or(fetched.at);
            }
            Err(error) => return Err(error),
        }
        Ok(Arc::clone(&fetched.keys))
    }

    fn fetched(&self, oldest: Duration) -> Option<Arc<Vec<Jwk>>> {
        let fetched = self.fetched.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        fetched.at.filter(|at| at.elapsed() < oldest).map(|_| Arc::clone(&fetched.keys))
    }

    async fn fetch(&self) -> Result<Vec<Jwk>> {
        let issuer = &self.options.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let discovery: Discovery = self.get(&url).await?;
        if discovery.issuer != *issuer {
            return Err(self.failed(format!("it calls itself {}", discovery.issuer)));
        }
        checked_url(&discovery.jwks_uri).map_err(|reason| self.failed(reason))?;
        let set: JwkSet = self.get(&discovery.jwks_uri).await?;
        Ok(set.keys)
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T> {
        let answer = self.client.get(url).send().await.map_err(|error| self.failed(root_cause(&error)))?;
        let mut answer = answer.error_for_status().map_err(|error| self.failed(error.to_string()))?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.failed(root_cause(&error)))? {
            body.extend_from_slice(&piece);
            if body.len() > MOST_BYTES {
                return Err(self.failed("its answer is too long".to_owned()));
            }
        }
        serde_json::from_slice(&body).map_err(|error| self.failed(format!("{url} is not as it should be: {error}")))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Issuer { issuer: self.options.issuer.clone(), reason }
    }
}

/// Keys come by https, or from this machine.
fn checked_url(text: &str) -> std::result::Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("{text} is no URL: {error}"))?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_local => Ok(()),
        _ => Err(format!("{text} is not https://")),
    }
}

fn is_asymmetric(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

/// Whether a key is of the algorithm's kind, and the one that is named.
fn fits(key: &Jwk, kid: Option<&str>, algorithm: Algorithm) -> bool {
    use Algorithm as A;
    let named = kid.is_none() || key.common.key_id.as_deref() == kid;
    let declared = key.common.key_algorithm.is_none_or(|declared| declared.to_string() == format!("{algorithm:?}"));
    let kind = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512) => true,
        (AlgorithmParameters::EllipticCurve(curve), A::ES256) => curve.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(curve), A::ES384) => curve.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(_), A::EdDSA) => true,
        _ => false,
    };
    named && declared && kind
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn roles(claim: &str, mapping: &[(&str, Role)], claims: Value) -> String {
        let mapping = mapping.iter().map(|(word, role)| ((*word).to_owned(), *role)).collect();
        let options = ExternalOptions {
            issuer: "https://id.example".to_owned(),
            audience: "safari".to_owned(),
            roles_claim: claim.to_owned(),
            mapping,
        };
        External::new(options).unwrap().roles(claims.as_object().unwrap()).to_string()
    }

    #[test]
    fn claims_become_roles() {
        assert_eq!(roles("roles", &[], json!({ "roles": ["ranger", "root"] })), "ranger");
        assert_eq!(roles("scope", &[], json!({ "scope": "openid viewer" })), "viewer");
        assert_eq!(roles("roles", &[], json!({ "roles": 7 })), "");
        let mapping = [("wildlife-admins", Role::Admin), ("*", Role::Viewer)];
        assert_eq!(
            roles("realm.roles", &mapping, json!({ "realm": { "roles": ["wildlife-admins"] } })),
            "viewer,admin"
        );
        assert_eq!(roles("realm.roles", &mapping, json!({ "realm": { "roles": ["admin"] } })), "viewer");
        assert_eq!(roles("realm.roles", &mapping, json!({})), "viewer");
    }

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for good in ["https://id.example/x", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:1"] {
            checked_url(good).unwrap();
        }
        for bad in ["http://id.example", "file:///etc/passwd", "nothing", "http://127.0.0.1.example"] {
            checked_url(bad).unwrap_err();
        }
    }
}
