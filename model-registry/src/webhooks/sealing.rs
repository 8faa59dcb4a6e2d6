//! The key that seals the secrets of webhooks.

use std::path::Path;

pub use platform::sealing::SecretKey;

use crate::Result;

/// The environment variable with the key.
pub const SECRET_KEY_VARIABLE: &str = "SAFARI_REGISTRY_SECRET_KEY";

/// The key of a server: that of the environment variable [`SECRET_KEY_VARIABLE`], or else that of the file `registry.key` in
/// its home, which is made when it is not there.
///
/// # Errors
/// When the variable holds no key, or the file cannot be read or made.
pub fn open_key(home: &Path) -> Result<SecretKey> {
    Ok(SecretKey::open(SECRET_KEY_VARIABLE, &home.join("registry.key"))?)
}
