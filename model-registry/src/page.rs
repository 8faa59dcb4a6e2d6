//! Page tokens: base64 of `{"offset": N}`, as MLflow's are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Deserialize, Serialize)]
struct Offset {
    offset: u64,
}

/// Where the page begins that a token names; 0 without one.
pub(crate) fn offset(token: Option<&str>) -> Result<i64> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(0) };
    let read = STANDARD.decode(token).ok().and_then(|bytes| serde_json::from_slice::<Offset>(&bytes).ok());
    let offset = read.and_then(|read| i64::try_from(read.offset).ok());
    offset.ok_or_else(|| Error::invalid("Invalid page token, could not base64-decode"))
}

/// The token of the page that begins at `offset`.
pub(crate) fn token(offset: i64) -> String {
    STANDARD.encode(format!("{{\"offset\": {offset}}}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_are_mlflows() {
        assert_eq!(token(1), "eyJvZmZzZXQiOiAxfQ==");
        assert_eq!(offset(Some(&token(37))).unwrap(), 37);
        assert_eq!(offset(None).unwrap(), 0);
        assert!(offset(Some("nonsense")).is_err());
        assert!(offset(Some(&STANDARD.encode("{\"offset\": -1}"))).is_err());
    }
}
