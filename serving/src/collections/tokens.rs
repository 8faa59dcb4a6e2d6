//! Detections that were answered, as texts that prove themselves: what the model said, signed with a key that all replicas
//! share through the database. Nothing is remembered for them, so they hold after a restart, on every replica, and for a
//! device that was offline for weeks; they say what a model said of a photograph, which is true for ever.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::detections::Found;
use crate::{Error, Result};

/// Characters of the longest that is looked at.
const LONGEST: usize = 2000;

/// Makes and reads tokens. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Tokens {
    mac: Hmac<Sha256>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The detection, as in the answer.
    pub(crate) id: String,
    /// sha256 of the photograph, in hex.
    pub(crate) sha256: String,
    /// Scientific name that the model gave.
    pub(crate) scientific_name: String,
    /// The English one: it tells two taxa of one scientific name apart.
    pub(crate) common_name: Option<String>,
    /// How sure the name is, 0 to 1.
    pub(crate) confidence: f64,
    /// Name and content of the model, such as `wildlife-3f2a9c01d4e8`.
    pub(crate) model: String,
}

impl Tokens {
    /// With a key.
    ///
    /// # Errors
    /// [`Error::Setup`] for a key that cannot be one.
    pub(crate) fn new(key: &str) -> Result<Self> {
        let mac = Hmac::new_from_slice(key.as_bytes());
        let mac = mac.map_err(|_| Error::Setup("the key of detections in the database is none".to_owned()))?;
        Ok(Self { mac })
    }

    /// The token of a detection; none for one without a name, of which no sighting can be made.
    pub(crate) fn of(&self, found: &Found, sha256: &str, model: &str) -> Option<String> {
        let told = Told {
            id: found.id.clone(),
            sha256: sha256.to_owned(),
            scientific_name: found.scientific_name.clone()?,
            common_name: found.species.clone(),
            confidence: f64::from(found.species_confidence?),
            model: model.to_owned(),
        };
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&told).ok()?);
        let mac = self.mac.clone().chain_update(text.as_bytes()).finalize().into_bytes();
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac)))
    }

    /// What a token says.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no server with this key has answered it.
    pub(crate) fn read(&self, token: &str) -> Result<Told> {
        let unknown = || {
            Error::NotFound(
                "`detection` is no token that this server has answered: give one of /v1/detections, or send the photograph"
                    .to_owned(),
            )
        };
        let (text, mac) = Some(token)
            .filter(|token| token.len() <= LONGEST)
            .and_then(|token| token.split_once('.'))
            .ok_or_else(unknown)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| unknown())?;
        self.mac.clone().chain_update(text.as_bytes()).verify_slice(&mac).map_err(|_| unknown())?;
        let told = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        told.ok_or_else(unknown)
    }
}

/// Without the key.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found() -> Found {
        Found {
            id: "0123456789abcdef01234567/0".to_owned(),
            category: "animal".to_owned(),
            confidence: 0.9,
            bbox: [0.1, 0.1, 0.5, 0.5],
            track: None,
            species: Some("red fox".to_owned()),
            scientific_name: Some("Vulpes vulpes".to_owned()),
            rank: Some("species".to_owned()),
            taxonomy: None,
            species_confidence: Some(0.75),
            top5: Vec::new(),
            token: None,
        }
    }

    #[test]
    fn what_was_answered_is_read_again_and_nothing_else() {
        let tokens = Tokens::new("a key").unwrap();
        let token = tokens.of(&found(), "5f", "wildlife-1").unwrap();
        let told = tokens.read(&token).unwrap();
        assert_eq!(
            (told.scientific_name.as_str(), told.confidence, told.model.as_str()),
            ("Vulpes vulpes", 0.75, "wildlife-1")
        );
        assert_eq!(token, tokens.of(&found(), "5f", "wildlife-1").unwrap(), "the same for the same");
        let (text, mac) = token.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Told { confidence: 1.0, ..told }).unwrap());
        let long = "x".repeat(10_000);
        for bad in
            ["", ".", text, &format!("{text}."), &format!("{forged}.{mac}"), &format!(".{mac}"), &token[1..], &long]
        {
            assert!(matches!(tokens.read(bad), Err(Error::NotFound(_))), "{bad}");
        }
        Tokens::new("another").unwrap().read(&token).unwrap_err();
    }

    #[test]
    fn what_has_no_name_has_no_token() {
        let tokens = Tokens::new("a key").unwrap();
        assert_eq!(tokens.of(&Found { scientific_name: None, ..found() }, "5f", "wildlife-1"), None);
    }
}
