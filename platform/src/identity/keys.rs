//! Signs access tokens with Ed25519, and verifies them.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::store::{Store, StoredKey, now_millis};
use crate::sealing::SecretKey;
use crate::{Error, Result};

/// The type of access tokens: <https://www.rfc-editor.org/rfc/rfc9068>.
const TOKEN_TYPE: &str = "at+jwt";

/// What an Ed25519 key of 32 bytes begins with in PKCS #8: <https://www.rfc-editor.org/rfc/rfc8410#section-7>.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// How much clocks may differ.
const LEEWAY_SECONDS: u64 = 5;
/// How long a key that signs no more is still published: longer than any access token lasts.
const PUBLISHED_AFTER: i64 = 24 * 3600 * 1000;
/// How often it is looked whether another process signs with a new key.
const RELOAD_EVERY: Duration = Duration::from_secs(60);
/// How often a key that is not known is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an access token says: <https://www.rfc-editor.org/rfc/rfc7519#section-4.1>, and the roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Who says it.
    pub iss: String,
    /// To whom.
    pub aud: String,
    /// Of whom: the id of a user or token.
    pub sub: String,
    /// Names of roles.
    pub roles: Vec<String>,
    /// Names this token.
    pub jti: String,
    /// The session that it belongs to; none for a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The service's token that it was given for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Seconds since 1970-01-01 UTC, as both that follow: since when it is.
    pub iat: u64,
    /// Not before.
    pub nbf: u64,
    /// Not after.
    pub exp: u64,
}

/// The keys of this issuer. The newest signs; those before verify as long as tokens of theirs may be about.
#[derive(Debug)]
pub struct Keys {
    store: Store,
    sealing: SecretKey,
    validation: Validation,
    loaded: RwLock<Arc<Loaded>>,
    loading: Mutex<()>,
}

struct Loaded {
    kid: String,
    signing: EncodingKey,
    verifying: HashMap<String, DecodingKey>,
    published: Value,
    at: Instant,
}

impl Keys {
    /// The keys in the tables; one is made if there is none.
    ///
    /// # Errors
    /// The database's; [`Error::Sealed`] if the private key was sealed by another secret.
    pub(super) async fn open(store: Store, sealing: SecretKey, issuer: &str, audience: &str) -> Result<Self> {
        if store.keys().await?.iter().all(|key| key.retired_at.is_some()) {
            make(&store, &sealing).await?;
        }
        let loaded = RwLock::new(Arc::new(load(&store, &sealing).await?));
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        Ok(Self { store, sealing, validation, loaded, loading: Mutex::new(()) })
    }

    /// A new key signs from now on.
    ///
    /// # Errors
    /// The database's.
    pub async fn rotate(&self) -> Result<String> {
        let kid = make(&self.store, &self.sealing).await?;
        self.reload(Duration::ZERO).await?;
        Ok(kid)
    }

    /// The public keys as a JWK set: <https://www.rfc-editor.org/rfc/rfc7517>.
    ///
    /// # Errors
    /// The database's.
    pub async fn published(&self) -> Result<Value> {
        Ok(self.reload(RELOAD_EVERY).await?.published.clone())
    }

    /// An access token that says so.
    ///
    /// # Errors
    /// The database's, and [`Error::Signing`].
    pub async fn sign(&self, claims: &AccessClaims) -> Result<String> {
        let loaded = self.reload(RELOAD_EVERY).await?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(loaded.kid.clone());
        jsonwebtoken::encode(&header, claims, &loaded.signing).map_err(|error| Error::Signing(error.to_string()))
    }

    /// What a token says, if it was signed by one of these keys and holds here and now; else why not, for the log.
    ///
    /// # Errors
    /// The database's.
    pub async fn verify(&self, token: &str) -> Result<std::result::Result<AccessClaims, String>> {
        let header = match jsonwebtoken::decode_header(token) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TOKEN_TYPE) {
            return Ok(Err("another algorithm or type".to_owned()));
        }
        let Some(kid) = header.kid else { return Ok(Err("no key is named".to_owned())) };
        let mut loaded = self.reload(RELOAD_EVERY).await?;
        if !loaded.verifying.contains_key(&kid) {
            loaded = self.reload(LOOK_EVERY).await?;
        }
        let Some(key) = loaded.verifying.get(&kid) else { return Ok(Err("an unknown key".to_owned())) };
        let verified = jsonwebtoken::decode::<AccessClaims>(token, key, &self.validation);
        Ok(verified.map(|data| data.claims).map_err(|error| error.to_string()))
    }

    /// The keys as they were read at most so long ago.
    async fn reload(&self, oldest: Duration) -> Result<Arc<Loaded>> {
        let current = self.current();
        if current.at.elapsed() < oldest {
            return Ok(current);
        }
        let _one_at_a_time = self.loading.lock().await;
        let current = self.current();
        if current.at.elapsed() < oldest {
            return Ok(current);
        }
        let fresh = Arc::new(load(&self.store, &self.sealing).await?);
        *self.loaded.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(fresh)
    }

    fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Without keys.
impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Makes a key; gives its name, the thumbprint of its public part: <https://www.rfc-editor.org/rfc/rfc7638>.
async fn make(store: &Store, sealing: &SecretKey) -> Result<String> {
    let seed: [u8; 32] = rand::random();
    let failed = |error: jsonwebtoken::errors::Error| Error::Signing(format!("no key can be made: {error}"));
    let jwk = Jwk::from_encoding_key(&encoding(&seed), Algorithm::EdDSA).map_err(failed)?;
    let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(failed)?;
    let AlgorithmParameters::OctetKeyPair(public) = &jwk.algorithm else {
        return Err(Error::Signing("no key can be made: it is of another kind".to_owned()));
    };
    store.add_key(&kid, &public.x, &sealing.seal(&owner(&kid), &STANDARD.encode(seed))?).await?;
    Ok(kid)
}

async fn load(store: &Store, sealing: &SecretKey) -> Result<Loaded> {
    let keys = store.keys().await?;
    let newest = keys.first().ok_or_else(|| Error::Signing("there is no key".to_owned()))?;
    let unusable = || Error::Sealed { owner: owner(&newest.kid) };
    let opened = sealing.unseal(&owner(&newest.kid), &newest.sealed_key)?;
    let seed = STANDARD.decode(opened).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(unusable)?;
    let now = now_millis();
    let about: Vec<&StoredKey> =
        keys.iter().filter(|key| key.retired_at.is_none_or(|at| now < at + PUBLISHED_AFTER)).collect();
    let verifying = about.iter().filter_map(|key| {
        let public = URL_SAFE_NO_PAD.decode(&key.public_key).ok()?;
        Some((key.kid.clone(), DecodingKey::from_ed_der(&public)))
    });
    let published = about.iter().map(|key| {
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.kid, "x": key.public_key })
    });
    Ok(Loaded {
        kid: newest.kid.clone(),
        signing: encoding(&seed),
        verifying: verifying.collect(),
        published: json!({ "keys": published.collect::<Vec<_>>() }),
        at: Instant::now(),
    })
}

fn encoding(seed: &[u8; 32]) -> EncodingKey {
    EncodingKey::from_ed_der(&[&PKCS8_PREFIX[..], seed].concat())
}

fn owner(kid: &str) -> String {
    format!("signing key {kid}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::database::Address;

    fn claims() -> AccessClaims {
        let now = jsonwebtoken::get_current_timestamp();
        AccessClaims {
            iss: "safari".to_owned(),
            aud: "safari".to_owned(),
            sub: "somebody".to_owned(),
            roles: vec!["ranger".to_owned()],
            jti: "one".to_owned(),
            sid: None,
            client_id: None,
            iat: now,
            nbf: now,
            exp: now + 60,
        }
    }

    async fn keys() -> (tempfile::TempDir, Store, Keys) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&Address::Sqlite(home.path().join("state.db"))).await.unwrap();
        let sealing = SecretKey::from_text("a key for tests, of no worth").unwrap();
        let keys = Keys::open(store.clone(), sealing, "safari", "safari").await.unwrap();
        (home, store, keys)
    }

    #[tokio::test]
    async fn what_was_signed_is_verified_and_nothing_else() {
        let (_home, _, keys) = keys().await;
        let good = claims();
        let token = keys.sign(&good).await.unwrap();
        assert_eq!(keys.verify(&token).await.unwrap().unwrap(), good);
        let now = good.iat;
        let bad = [
            AccessClaims { exp: now - 60, ..claims() },
            AccessClaims { nbf: now + 60, ..claims() },
            AccessClaims { iss: "other".to_owned(), ..claims() },
            AccessClaims { aud: "other".to_owned(), ..claims() },
        ];
        for claims in bad {
            let token = keys.sign(&claims).await.unwrap();
            assert!(keys.verify(&token).await.unwrap().is_err(), "{claims:?}");
        }
        let parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": TOKEN_TYPE }).to_string());
        let root = AccessClaims { roles: vec!["admin".to_owned()], ..claims() };
        let root = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&root).unwrap());
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{root}.{}", parts[0], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            String::new(),
        ] {
            assert!(keys.verify(&forged).await.unwrap().is_err(), "{forged}");
        }
        // The public key as the secret of a symmetric signature.
        let public = keys.published().await.unwrap()["keys"][0]["x"].as_str().unwrap().to_owned();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(keys.current().kid.clone());
        header.typ = Some(TOKEN_TYPE.to_owned());
        let secret = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(public).unwrap());
        let confused = jsonwebtoken::encode(&header, &good, &secret).unwrap();
        assert!(keys.verify(&confused).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_new_key_signs_and_the_old_one_still_verifies() {
        let (_home, store, keys) = keys().await;
        let old = keys.sign(&claims()).await.unwrap();
        let sealing = SecretKey::from_text("a key for tests, of no worth").unwrap();
        let elsewhere = Keys::open(store.clone(), sealing, "safari", "safari").await.unwrap();
        let kid = elsewhere.rotate().await.unwrap();
        let new = elsewhere.sign(&claims()).await.unwrap();
        assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid, Some(kid));
        elsewhere.verify(&old).await.unwrap().unwrap();
        assert_eq!(elsewhere.published().await.unwrap()["keys"].as_array().unwrap().len(), 2);
        // Another process learns of the key by the first token of its that it sees.
        let looked = keys.reload(Duration::ZERO).await.unwrap();
        assert_eq!(looked.verifying.len(), 2);
        keys.verify(&new).await.unwrap().unwrap();
        let row = &store.keys().await.unwrap()[0];
        assert!(row.sealed_key.starts_with("v1:"), "{}", row.sealed_key);
        let other = SecretKey::from_text("another key of many letters").unwrap();
        assert!(matches!(Keys::open(store, other, "safari", "safari").await, Err(Error::Sealed { .. })));
    }
}
