//! Passwords: argon2id, on threads of its own, as many at a time as the machine bears.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{OnceCell, Semaphore};

use super::secret::Secret;
use crate::{Error, Result};

/// Characters of a password.
const SHORTEST: usize = 12;
const LONGEST: usize = 1000;

/// Hashes and compares passwords. Each takes 19 MiB of memory and some ten milliseconds.
#[derive(Debug)]
pub(super) struct Passwords {
    turns: Semaphore,
    /// The hash of a password that nobody has: comparing with it takes as long as with somebody's.
    decoy: OnceCell<String>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        // One core stays for all others.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { turns: Semaphore::new(cores.saturating_sub(1).max(1)), decoy: OnceCell::new() }
    }

    /// Whether a password is the one of a hash. Without a hash it takes as long, and it is not.
    pub(super) async fn fits(&self, password: &str, hash: Option<&str>) -> Result<bool> {
        if password.len() > LONGEST * 4 {
            return Ok(false);
        }
        let known = hash.is_some();
        let hash = match hash {
            Some(hash) => hash.to_owned(),
            None => self.decoy.get_or_try_init(|| hashed(Secret::random("").expose().to_owned())).await?.clone(),
        };
        let _turn = self.turns.acquire().await;
        let password = password.to_owned();
        let compared = tokio::task::spawn_blocking(move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        Ok(compared.await.unwrap_or(false) && known)
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// [`Error::PasswordLength`]
    pub(super) async fn hash(&self, password: &str) -> Result<String> {
        let length = password.chars().count();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(Error::PasswordLength(length));
        }
        let _turn = self.turns.acquire().await;
        hashed(password.to_owned()).await
    }
}

async fn hashed(password: String) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| Error::Signing(format!("the password cannot be hashed: {error}"));
    let work = tokio::task::spawn_blocking(move || {
        Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string())
    });
    work.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_fits() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse battery").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("correct horse battery").await.unwrap(), "each has a salt of its own");
        assert!(passwords.fits("correct horse battery", Some(&hash)).await.unwrap());
        for wrong in ["correct horse batter", "", "Correct horse battery", &"x".repeat(1_000_000)] {
            assert!(!passwords.fits(wrong, Some(&hash)).await.unwrap());
        }
        assert!(!passwords.fits("correct horse battery", None).await.unwrap());
        assert!(!passwords.fits("correct horse battery", Some("no hash")).await.unwrap());
        assert!(matches!(passwords.hash("short").await, Err(Error::PasswordLength(5))));
    }
}
