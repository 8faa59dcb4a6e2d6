//! What a request brings.

use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Reads JSON, whatever the content type says; an empty body is an empty object.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is not as it should be: {error}")))
}
