//! Who asks, and what they may: accounts with passwords, API tokens, access tokens of our own and of another issuer, and the
//! guard that every server puts before its routes.
//!
//! Where identity is off a server listens on loopback only, and whoever reaches it may do everything ([`Guard::Open`]).
//! Where it is on, each route names the [`Permission`] that it needs ([`Guarded`]), and [`roles`] says who has it.

mod authenticate;
mod external;
mod guard;
mod keys;
mod known;
mod limits;
mod lockout;
mod manage;
mod password;
mod principal;
mod refusal;
pub mod roles;
mod routes;
mod secret;
mod session;
pub mod store;

use std::path::Path;
use std::sync::Arc;

pub use external::ExternalOptions;
pub use guard::{Door, Guard, Guarded, Route};
pub use keys::{AccessClaims, Keys};
pub use manage::Manager;
pub use principal::{How, PeerAddress, Principal};
pub use refusal::{Refusal, RefusalKind};
pub use roles::{Permission, Role, Roles};
pub use routes::routes;
pub use secret::Secret;
pub use session::Tokens;

use crate::Result;
use crate::config::Config;
use crate::sealing::SecretKey;
use external::External;
use known::Known;
use limits::Limits;
use lockout::Lockout;
use password::Passwords;
use store::Store;

/// The environment variable with the key that seals private keys.
pub const SECRET_KEY_VARIABLE: &str = "SAFARI_IDENTITY_SECRET_KEY";

/// The environment variable with the token that our own clients send.
pub const TOKEN_VARIABLE: &str = "SAFARI_TOKEN";

/// The file of that key in a home, where the variable is not set.
const SECRET_KEY_FILE: &str = "identity.key";

/// How long an access token lasts.
const ACCESS_SECONDS: u64 = 15 * 60;
/// How long a session lasts.
const SESSION_SECONDS: u64 = 30 * 24 * 3600;

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityOptions {
    /// `iss` of our access tokens.
    pub issuer: String,
    /// `aud` of our access tokens.
    pub audience: String,
    /// Requests a second of one identity; 0 for no limit.
    pub requests_per_second: u32,
    /// Another issuer whose tokens are taken too.
    pub external: Option<ExternalOptions>,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        Self { issuer: "safari".to_owned(), audience: "safari".to_owned(), requests_per_second: 500, external: None }
    }
}

/// Knows people and tokens. Cheap to clone; clones share all.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    keys: Keys,
    passwords: Passwords,
    known: Known,
    lockout: Lockout,
    limits: Limits,
    external: Option<External>,
    options: IdentityOptions,
}

impl Identity {
    /// Identity of the settings for a server; none where it is off. SQLite's tables are brought up to date; those of a
    /// PostgreSQL server only by `safari migrate`.
    ///
    /// # Errors
    /// What is wrong with the database or the key that seals, and what to do.
    pub async fn open(config: &Config) -> Result<Option<Self>> {
        if !config.identity.enabled {
            return Ok(None);
        }
        let store = Store::open_current(&config.identity_address()).await?;
        Ok(Some(Self::new(store, sealing_key(&config.home)?, config.identity_options()).await?))
    }

    /// Identity of the settings for who manages it, whether servers ask for it or not.
    ///
    /// # Errors
    /// As [`Identity::open`].
    pub async fn manage(config: &Config) -> Result<Self> {
        let store = Store::open_current(&config.identity_address()).await?;
        Self::new(store, sealing_key(&config.home)?, config.identity_options()).await
    }

    /// Identity on tables that are open; a signing key is made if there is none.
    ///
    /// # Errors
    /// The database's, and those of the keys.
    pub async fn new(store: Store, sealing: SecretKey, options: IdentityOptions) -> Result<Self> {
        let keys = Keys::open(store.clone(), sealing, &options.issuer, &options.audience).await?;
        store.tidy().await?;
        Ok(Self(Arc::new(Inner {
            keys,
            passwords: Passwords::new(),
            known: Known::new(),
            lockout: Lockout::new(store.clone()),
            limits: Limits::new(options.requests_per_second),
            external: options.external.clone().map(External::new).transpose()?,
            store,
            options,
        })))
    }

    /// The tables.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// What signs access tokens.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }
}

fn sealing_key(home: &Path) -> Result<SecretKey> {
    SecretKey::open(SECRET_KEY_VARIABLE, &home.join(SECRET_KEY_FILE))
}
