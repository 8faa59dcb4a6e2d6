//! What was found out a moment ago about credentials, so that not every request asks the database, and hardly any hashes a
//! password.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::principal::Principal;

/// How long an answer of the database counts: what was revoked or disabled elsewhere is refused after this time.
pub(super) const FRESH: Duration = Duration::from_secs(2);
/// How long a password that fitted a hash is known to fit it.
const FITS: Duration = Duration::from_secs(600);
/// More than so many are not kept.
const MOST: usize = 10_000;

/// Names a credential without being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

#[derive(Debug)]
pub(super) struct Known {
    /// Random for each process: what is kept here helps nobody elsewhere.
    secret: [u8; 32],
    principals: Mutex<HashMap<Key, (Principal, Instant)>>,
    passwords: Mutex<HashMap<Key, (String, Instant)>>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { secret: rand::random(), principals: Mutex::default(), passwords: Mutex::default() }
    }

    /// The name of a value of the header `Authorization`.
    pub(super) fn key(&self, credential: &[u8]) -> Key {
        let mut digest = Sha256::new();
        digest.update(self.secret);
        digest.update(credential);
        Key(digest.finalize().into())
    }

    /// Who it was a moment ago.
    pub(super) fn principal(&self, key: Key) -> Option<Principal> {
        let principals = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        principals.get(&key).filter(|(_, until)| Instant::now() < *until).map(|(principal, _)| principal.clone())
    }

    /// Keeps who it is, for a moment, or less long if it ends before.
    pub(super) fn keep(&self, key: Key, principal: &Principal, ends_in: Duration) {
        let mut principals = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        if principals.len() >= MOST {
            let now = Instant::now();
            principals.retain(|_, (_, until)| now < *until);
        }
        if principals.len() < MOST {
            principals.insert(key, (principal.clone(), Instant::now() + FRESH.min(ends_in)));
        }
    }

    /// Whether the password of this credential fitted this hash before.
    pub(super) fn fitted(&self, key: Key, hash: &str) -> bool {
        let passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        passwords.get(&key).is_some_and(|(known, until)| known == hash && Instant::now() < *until)
    }

    /// Remembers that it does.
    pub(super) fn keep_fitting(&self, key: Key, hash: &str) {
        let mut passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        if passwords.len() >= MOST {
            let now = Instant::now();
            passwords.retain(|_, (_, until)| now < *until);
        }
        if passwords.len() < MOST {
            passwords.insert(key, (hash.to_owned(), Instant::now() + FITS));
        }
    }

    /// Forgets who anybody is: something was revoked here.
    pub(super) fn forget(&self) {
        self.principals.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
