//! Seals secrets, so that who reads the database or a backup of it does not know them.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Bytes of a key.
const KEY_LEN: usize = 32;

/// What a sealed text begins with: the way in which it is sealed.
const SEALED: &str = "v1:";

/// Seals and opens: AES-256-GCM, each text with a nonce of its own, and bound to what it belongs to.
#[derive(Clone)]
pub struct SecretKey(LessSafeKey);

impl SecretKey {
    /// The key that an environment variable holds, or else that of a file, which is made when it is not there.
    ///
    /// # Errors
    /// When the variable holds no key, or the file cannot be read or made.
    pub fn open(variable: &str, file: &Path) -> Result<Self> {
        match std::env::var(variable) {
            Ok(text) => Self::from_text(&text),
            Err(_) => Self::from_file(file),
        }
    }

    /// The key that a text of 16 or more characters stands for: 32 bytes in base64 are the key, of another text it is the
    /// SHA-256.
    ///
    /// # Errors
    /// When the text is shorter.
    pub fn from_text(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() < 16 {
            return Err(Error::SealingKey("it has fewer than 16 characters".to_owned()));
        }
        let decoded = STANDARD.decode(text).ok().and_then(|bytes| <[u8; KEY_LEN]>::try_from(bytes).ok());
        Self::from_bytes(decoded.unwrap_or_else(|| Sha256::digest(text.as_bytes()).into()))
    }

    /// The key in a file, which is made, readable for its owner alone, when it is not there.
    ///
    /// # Errors
    /// When the file cannot be read or made, or holds something else.
    pub fn from_file(file: &Path) -> Result<Self> {
        let failed = |action| move |error| Error::from_io(action, file, &error);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(failed("write"))?;
        }
        let text = STANDARD.encode(rand::random::<[u8; KEY_LEN]>());
        // Written whole under another name first: another process may be just as far.
        let draft = file.with_extension(format!("draft-{}", uuid::Uuid::new_v4().simple()));
        if !file.exists() {
            let mut made = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)
                .map_err(failed("write"))?;
            let written = made.write_all(text.as_bytes()).and_then(|()| made.sync_all());
            let linked = written.and_then(|()| match std::fs::hard_link(&draft, file) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            });
            let _it_is_only_a_draft = std::fs::remove_file(&draft);
            linked.map_err(failed("write"))?;
        }
        let text = std::fs::read_to_string(file).map_err(failed("read"))?;
        Self::from_text(&text)
    }

    /// Seals a secret of what `owner` names.
    ///
    /// # Errors
    /// The secret is longer than the cipher takes.
    pub fn seal(&self, owner: &str, secret: &str) -> Result<String> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut bytes = secret.as_bytes().to_vec();
        let sealed = self.0.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(owner.as_bytes()),
            &mut bytes,
        );
        sealed.map_err(|_| Error::SealingKey("what it is to seal is too long".to_owned()))?;
        let whole = [&nonce[..], &bytes].concat();
        Ok(format!("{SEALED}{}", STANDARD.encode(whole)))
    }

    /// Opens what [`SecretKey::seal`] made.
    ///
    /// # Errors
    /// [`Error::Sealed`]: it was sealed by another key, or for another owner.
    pub fn unseal(&self, owner: &str, sealed: &str) -> Result<String> {
        let unreadable = || Error::Sealed { owner: owner.to_owned() };
        let bytes = sealed.strip_prefix(SEALED).and_then(|text| STANDARD.decode(text).ok()).ok_or_else(unreadable)?;
        let (nonce, bytes) = bytes.split_at_checked(NONCE_LEN).ok_or_else(unreadable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unreadable())?;
        let mut bytes = bytes.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(owner.as_bytes()), &mut bytes);
        let opened = opened.map_err(|_| unreadable())?;
        String::from_utf8(opened.to_vec()).map_err(|_| unreadable())
    }

    fn from_bytes(bytes: [u8; KEY_LEN]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &bytes);
        key.map(|key| Self(LessSafeKey::new(key))).map_err(|_| Error::SealingKey("it is no key".to_owned()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_the_key_and_for_its_owner() {
        let key = SecretKey::from_text("correct horse battery staple").unwrap();
        let sealed = key.seal("hook", "s3cret").unwrap();
        assert!(!sealed.contains("s3cret"));
        assert_ne!(sealed, key.seal("hook", "s3cret").unwrap(), "each has a nonce of its own");
        assert_eq!(key.unseal("hook", &sealed).unwrap(), "s3cret");
        key.unseal("other", &sealed).unwrap_err();
        SecretKey::from_text("another key of many letters").unwrap().unseal("hook", &sealed).unwrap_err();
        for bad in ["", "v1:", "v1:AAAA", "s3cret"] {
            key.unseal("hook", bad).unwrap_err();
        }
        SecretKey::from_text("short").unwrap_err();
    }

    #[test]
    fn a_key_file_is_made_once_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("home/some.key");
        let sealed = SecretKey::from_file(&file).unwrap().seal("hook", "s3cret").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SecretKey::from_file(&file).unwrap().unseal("hook", &sealed).unwrap(), "s3cret");
        assert_eq!(std::fs::read_dir(folder.path().join("home")).unwrap().count(), 1, "no draft is left");
    }
}
