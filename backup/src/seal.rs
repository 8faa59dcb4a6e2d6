//! How bytes are stored: compressed, and encrypted with age when keys are given.
//!
//! A stored object is one byte that says how the rest is compressed, and the rest; encrypted, all of it is one file in the
//! format of age (<https://age-encryption.org/v1>).

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::age::{self, Fault, Identity, Recipient};
use crate::{Error, Result};

/// zstd's fastest level but one: photographs and Parquet do not get smaller, and databases do at once.
const LEVEL: i32 = 1;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// The keys of a place of backups: for whom new ones are encrypted, and with what old ones are read.
pub struct Keys {
    recipients: Vec<Recipient>,
    identities: Vec<Identity>,
    /// Of the names of encrypted objects, so that they do not tell what is in them.
    naming: Option<[u8; 32]>,
}

impl Keys {
    /// Reads public keys (`age1…`) and the file of secret ones.
    ///
    /// # Errors
    /// [`Error::Recipient`] and [`Error::IdentityFile`], which never show a secret key.
    pub fn new(recipients: &[String], identity_file: Option<&Path>) -> Result<Self> {
        let read = |key: &String| Recipient::parse(key).map_err(|reason| Error::Recipient { key: key.clone(), reason });
        let mut sorted: Vec<&String> = recipients.iter().collect();
        sorted.sort();
        let naming = (!sorted.is_empty()).then(|| {
            let mut hash = Sha256::new_with_prefix(b"names of safari's backups");
            sorted.iter().for_each(|key| hash.update(key.as_bytes()));
            hash.finalize().into()
        });
        let identities = identity_file.map_or(Ok(Vec::new()), identities)?;
        Ok(Self { recipients: recipients.iter().map(read).collect::<Result<_>>()?, identities, naming })
    }

    /// Whether new backups are encrypted.
    pub fn encrypt(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// Whether encrypted backups can be read.
    pub fn decrypt(&self) -> bool {
        !self.identities.is_empty()
    }

    /// The name of an object with this content: its SHA-256, or a MAC of it where objects are encrypted.
    pub(crate) fn name(&self, sha256: &[u8; 32]) -> String {
        match self.naming.as_ref().map(|key| Hmac::<Sha256>::new_from_slice(key)) {
            Some(Ok(mac)) => hex::encode(mac.chain_update(sha256).finalize().into_bytes()),
            // A MAC takes keys of any length.
            Some(Err(_)) | None => hex::encode(sha256),
        }
    }

    /// Packs bytes as new objects are stored.
    pub(crate) fn seal(&self, what: &str, plain: &[u8]) -> Result<Bytes> {
        let failed = |reason: String| Error::Unpackable { what: what.to_owned(), reason };
        let packed = compress(plain).map_err(|error| failed(error.to_string()))?;
        if self.recipients.is_empty() {
            return Ok(packed.into());
        }
        let sealed = age::encrypt(&self.recipients, &packed);
        sealed.map(Bytes::from).map_err(|_| failed("its encryption failed".to_owned()))
    }

    /// Unpacks what was stored. `most` is how many bytes it may become.
    ///
    /// # Errors
    /// [`Error::Undecipherable`] without its key, [`Error::Damaged`] when it is not as it was written.
    pub(crate) fn open(&self, what: &str, stored: &[u8], encrypted: bool, most: usize) -> Result<Bytes> {
        if !encrypted {
            return decompress(what, stored, most);
        }
        let packed = age::decrypt(&self.identities, stored).map_err(|fault| match fault {
            Fault::NoKey => Error::Undecipherable { what: what.to_owned() },
            Fault::Damaged(reason) => Error::damaged(what, reason),
        })?;
        decompress(what, &packed, most)
    }
}

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("recipients", &self.recipients.len())
            .field("identities", &self.identities.len())
            .finish_non_exhaustive()
    }
}

fn identities(file: &Path) -> Result<Vec<Identity>> {
    let failed = |reason: String| Error::IdentityFile { path: file.to_owned(), reason };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let found = Identity::parse_file(&text).map_err(failed)?;
    if found.is_empty() { Err(failed("it holds no key".to_owned())) } else { Ok(found) }
}

fn compress(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = vec![ZSTD];
    let mut body = vec![0; zstd::zstd_safe::compress_bound(plain.len())];
    let size = zstd::bulk::compress_to_buffer(plain, &mut body, LEVEL)?;
    if size < plain.len() {
        packed.extend_from_slice(&body[..size]);
    } else {
        packed[0] = PLAIN;
        packed.extend_from_slice(plain);
    }
    Ok(packed)
}

fn decompress(what: &str, packed: &[u8], most: usize) -> Result<Bytes> {
    match packed.split_first() {
        Some((&PLAIN, body)) if body.len() <= most => Ok(Bytes::copy_from_slice(body)),
        Some((&ZSTD, body)) => {
            let plain = zstd::bulk::decompress(body, most);
            plain.map(Bytes::from).map_err(|error| Error::damaged(what, error.to_string()))
        }
        Some(_) => Err(Error::damaged(what, "it does not begin as it should")),
        None => Err(Error::damaged(what, "it is empty")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A key that was made for this test: its public half and the text of its file.
    fn key() -> (String, tempfile::NamedTempFile) {
        let (secret, public) = age::generate();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), secret).unwrap();
        (public, file)
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_alone() {
        let (public, file) = key();
        let (_, other) = key();
        let plain = b"a waterhole at dusk ".repeat(1000);
        let sealing = Keys::new(std::slice::from_ref(&public), None).unwrap();
        let sealed = sealing.seal("x", &plain).unwrap();
        assert!(sealed.starts_with(b"age-encryption.org/v1") && sealed.len() < plain.len());
        let opening = Keys::new(&[], Some(file.path())).unwrap();
        assert_eq!(opening.open("x", &sealed, true, plain.len()).unwrap(), plain);
        let error = sealing.open("x", &sealed, true, plain.len()).unwrap_err();
        assert!(matches!(error, Error::Undecipherable { .. }), "{error}");
        let wrong = Keys::new(&[], Some(other.path())).unwrap();
        assert!(matches!(wrong.open("x", &sealed, true, plain.len()), Err(Error::Undecipherable { .. })));
        for index in [sealed.len() - 1, sealed.len() / 2] {
            let mut broken = sealed.to_vec();
            broken[index] ^= 1;
            opening.open("x", &broken, true, plain.len()).unwrap_err();
            opening.open("x", &sealed[..index], true, plain.len()).unwrap_err();
        }
    }

    #[test]
    fn names_of_encrypted_objects_do_not_tell_their_content() {
        let (public, _file) = key();
        let sha256: [u8; 32] = Sha256::digest(b"x").into();
        let plain = Keys::new(&[], None).unwrap().name(&sha256);
        let named = Keys::new(&[public], None).unwrap().name(&sha256);
        assert_eq!(plain, hex::encode(sha256));
        assert!(named.len() == 64 && named != plain);
    }

    #[test]
    fn bytes_come_back_whether_they_get_smaller_or_not() {
        let keys = Keys::new(&[], None).unwrap();
        let noise: Vec<u8> = (0..9999_u64).flat_map(|n| Sha256::digest(n.to_le_bytes()).to_vec()).collect();
        for plain in [Vec::new(), vec![7], vec![0; 100_000], noise] {
            let sealed = keys.seal("x", &plain).unwrap();
            assert!(sealed.len() <= plain.len() + 1);
            assert_eq!(keys.open("x", &sealed, false, plain.len()).unwrap(), plain);
        }
        keys.open("x", &[], false, 10).unwrap_err();
        keys.open("x", &[9, 9], false, 10).unwrap_err();
        let bomb = keys.seal("x", &vec![0; 100_000]).unwrap();
        keys.open("x", &bomb, false, 10).unwrap_err();
    }

    #[test]
    fn keys_that_are_none_are_told_without_showing_secrets() {
        let text = Keys::new(&["age1nonsense".to_owned()], None).unwrap_err().to_string();
        assert!(text.contains("age1nonsense"), "{text}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "AGE-SECRET-KEY-1NONSENSE\n").unwrap();
        let text = Keys::new(&[], Some(file.path())).unwrap_err().to_string();
        assert!(text.contains("cannot be used") && !text.contains("NONSENSE"), "{text}");
    }
}
