//! Files in the format of age, for keys of the kind X25519: <https://age-encryption.org/v1>. The program `age` reads what
//! this writes and the other way round (`backup/tests/it/age.rs`).
//!
//! A file has a key of its own, which the header holds once for each recipient, and a MAC of the header under it. The
//! content follows in chunks of 64 KiB, each sealed with its number and whether it is the last.

use std::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::{Bech32, Hrp};

const VERSION: &str = "age-encryption.org/v1";
const STANZA: &str = "X25519";
const STANZA_INFO: &[u8] = b"age-encryption.org/v1/X25519";

const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
const FILE_KEY: usize = 16;
const NONCE: usize = 16;

/// No header that is worth reading is longer.
const LONGEST_HEADER: usize = 64 << 10;

/// Why a file does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It was encrypted for other keys.
    NoKey,
    /// It is not as it was written; with what is wrong.
    Damaged(&'static str),
}

/// Who can read: the public half of a key, `age1…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipient([u8; 32]);

/// The secret half of a key, `AGE-SECRET-KEY-1…`.
pub(crate) struct Identity {
    private: PrivateKey,
    public: [u8; 32],
}

impl Recipient {
    /// Reads `age1…`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(decode(text, "age")?))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse("age").map_err(|_| fmt::Error)?;
        formatter.write_str(&bech32::encode::<Bech32>(hrp, &self.0).map_err(|_| fmt::Error)?)
    }
}

impl Identity {
    /// Reads the keys of a file: one a line, beside comments.
    pub(crate) fn parse_file(text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let secret = decode(text, "age-secret-key-")?;
        Self::from_bytes(&secret).map_err(|_| "a line is no key".to_owned())
    }

    fn from_bytes(secret: &[u8; 32]) -> Result<Self, Unspecified> {
        let private = PrivateKey::from_private_key(&X25519, secret).map_err(|_| Unspecified)?;
        let public = public_of(&private)?;
        Ok(Self { private, public })
    }

    /// The public half.
    pub(crate) fn recipient(&self) -> Recipient {
        Recipient(self.public)
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public", &self.recipient().to_string()).finish_non_exhaustive()
    }
}

/// Encrypts for all of the recipients.
pub(crate) fn encrypt(recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let mut file_key = [0; FILE_KEY];
    rand::fill(&mut file_key)?;
    let mut sealed = Vec::with_capacity(plain.len() + (plain.len() / CHUNK + 1) * TAG + 256 * (recipients.len() + 1));
    sealed.extend_from_slice(VERSION.as_bytes());
    for recipient in recipients {
        let ephemeral = PrivateKey::generate(&X25519)?;
        let share = public_of(&ephemeral)?;
        let mut body = file_key.to_vec();
        let key = wrap_key(&ephemeral, &recipient.0, &share, &recipient.0)?;
        key.seal_in_place_append_tag(zero_nonce(), Aad::empty(), &mut body)?;
        let (share, body) = (STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(body));
        sealed.extend_from_slice(format!("\n-> {STANZA} {share}\n{body}").as_bytes());
    }
    sealed.extend_from_slice(b"\n---");
    let mac = hmac::sign(&header_key(&file_key)?, &sealed);
    sealed.extend_from_slice(format!(" {}\n", STANDARD_NO_PAD.encode(mac)).as_bytes());

    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce)?;
    sealed.extend_from_slice(&nonce);
    let key = payload_key(&file_key, &nonce)?;
    let chunks = plain.len().div_ceil(CHUNK).max(1);
    for number in 0..chunks {
        let start = sealed.len();
        sealed.extend_from_slice(&plain[number * CHUNK..plain.len().min((number + 1) * CHUNK)]);
        let nonce = chunk_nonce(number as u64, number + 1 == chunks);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut sealed[start..])?;
        sealed.extend_from_slice(tag.as_ref());
    }
    Ok(sealed)
}

/// Decrypts with the first key that fits.
pub(crate) fn decrypt(identities: &[Identity], sealed: &[u8]) -> Result<Vec<u8>, Fault> {
    let header = Header::read(sealed)?;
    let file_key = header.file_key(identities).ok_or(Fault::NoKey)?;
    let broken = |_| Fault::Damaged("it cannot be decrypted");
    hmac::verify(&header_key(&file_key).map_err(broken)?, header.signed, &header.mac)
        .map_err(|_| Fault::Damaged("its header is another"))?;
    let (nonce, mut rest) = header.payload.split_at_checked(NONCE).ok_or(Fault::Damaged("it ends too early"))?;
    let key = payload_key(&file_key, nonce).map_err(broken)?;
    let mut plain = Vec::with_capacity(rest.len());
    let mut number = 0;
    loop {
        let is_last = rest.len() <= CHUNK + TAG;
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK + TAG));
        // Only an empty file has an empty chunk.
        if chunk.len() < TAG || (chunk.len() == TAG && number > 0) {
            return Err(Fault::Damaged("it ends too early"));
        }
        let start = plain.len();
        plain.extend_from_slice(chunk);
        let opened = key.open_in_place(chunk_nonce(number, is_last), Aad::empty(), &mut plain[start..]);
        let size = opened.map_err(|_| Fault::Damaged("a chunk is another"))?.len();
        plain.truncate(start + size);
        if is_last {
            return Ok(plain);
        }
        rest = after;
        number += 1;
    }
}

/// A header as it was read.
struct Header<'a> {
    /// Shares and wrapped keys.
    stanzas: Vec<([u8; 32], Vec<u8>)>,
    /// What the MAC is of.
    signed: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(sealed: &'a [u8]) -> Result<Self, Fault> {
        const BAD: Fault = Fault::Damaged("its header cannot be read");
        let mut stanzas = Vec::new();
        let mut pending: Option<([u8; 32], String)> = None;
        let mut at = 0;
        loop {
            let rest = &sealed[at..sealed.len().min(LONGEST_HEADER)];
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or(BAD)?;
            let line = std::str::from_utf8(&rest[..end]).map_err(|_| BAD)?;
            let next = at + end + 1;
            if at == 0 {
                if line != VERSION {
                    return Err(BAD);
                }
            } else if let Some((share, body)) = &mut pending {
                body.push_str(line);
                // A line that is not full ends the body.
                if line.len() < 64 {
                    stanzas.push((*share, STANDARD_NO_PAD.decode(body.as_bytes()).map_err(|_| BAD)?));
                    pending = None;
                }
            } else if let Some(mac) = line.strip_prefix("--- ") {
                let mac = STANDARD_NO_PAD.decode(mac).map_err(|_| BAD)?;
                return Ok(Self { stanzas, signed: &sealed[..at + 3], mac, payload: &sealed[next..] });
            } else {
                let stanza = line.strip_prefix("-> ").ok_or(BAD)?;
                // Other kinds of keys are read over.
                let share = stanza.strip_prefix("X25519 ").and_then(|share| STANDARD_NO_PAD.decode(share).ok());
                let share = share.and_then(|share| <[u8; 32]>::try_from(share).ok());
                pending = Some((share.unwrap_or_default(), String::new()));
            }
            at = next;
        }
    }

    fn file_key(&self, identities: &[Identity]) -> Option<[u8; FILE_KEY]> {
        for (share, body) in &self.stanzas {
            for identity in identities {
                let Ok(key) = wrap_key(&identity.private, share, share, &identity.public) else { continue };
                let mut body = body.clone();
                let opened = key.open_in_place(zero_nonce(), Aad::empty(), &mut body);
                if let Some(file_key) = opened.ok().and_then(|key| <[u8; FILE_KEY]>::try_from(&*key).ok()) {
                    return Some(file_key);
                }
            }
        }
        None
    }
}

/// The key that wraps a file's key: agreed between `mine` and `theirs`, and bound to the share and the recipient.
fn wrap_key(
    mine: &PrivateKey,
    theirs: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<LessSafeKey, Unspecified> {
    let salt = [share.as_slice(), recipient.as_slice()].concat();
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    agreement::agree(mine, theirs, Unspecified, |secret| sealing_key(&salt, secret, STANZA_INFO))
}

fn sealing_key(salt: &[u8], secret: &[u8], info: &[u8]) -> Result<LessSafeKey, Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &derived(salt, secret, info)?)?))
}

fn payload_key(file_key: &[u8], nonce: &[u8]) -> Result<LessSafeKey, Unspecified> {
    sealing_key(nonce, file_key, b"payload")
}

fn header_key(file_key: &[u8]) -> Result<hmac::Key, Unspecified> {
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &derived(&[], file_key, b"header")?))
}

fn derived(salt: &[u8], secret: &[u8], info: &[u8]) -> Result<[u8; 32], Unspecified> {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, salt).extract(secret).expand(&[info], HKDF_SHA256)?.fill(&mut key)?;
    Ok(key)
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Eleven bytes of the number, the greatest first, and one that marks the last chunk.
fn chunk_nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

fn public_of(private: &PrivateKey) -> Result<[u8; 32], Unspecified> {
    private.compute_public_key()?.as_ref().try_into().map_err(|_| Unspecified)
}

fn decode(text: &str, prefix: &str) -> Result<[u8; 32], String> {
    let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(text);
    // The error could show the text, which may be a secret.
    let checked = checked.map_err(|_| "it is misspelt".to_owned())?;
    if !checked.hrp().to_lowercase().eq_ignore_ascii_case(prefix) {
        return Err(format!("it does not begin with {prefix}1"));
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map_err(|_| "it has another length".to_owned())
}

/// A new key: the text of its file, and its public half.
#[cfg(test)]
pub(crate) fn generate() -> (String, String) {
    let mut secret = [0; 32];
    rand::fill(&mut secret).unwrap_or_default();
    let hrp = Hrp::parse("age-secret-key-").map(|hrp| bech32::encode::<Bech32>(hrp, &secret).unwrap_or_default());
    let text = hrp.unwrap_or_default().to_uppercase();
    let public = Identity::from_bytes(&secret).map(|identity| identity.recipient().to_string());
    (text, public.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key() -> (Vec<Identity>, Recipient) {
        let (text, public) = generate();
        (Identity::parse_file(&format!("# a comment\n{text}\n")).unwrap(), Recipient::parse(&public).unwrap())
    }

    #[test]
    fn what_is_encrypted_opens_with_each_of_its_keys_and_no_other() {
        let ((one, for_one), (two, for_two), (other, _)) = (key(), key(), key());
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7] {
            let plain: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let sealed = encrypt(&[for_one.clone(), for_two.clone()], &plain).unwrap();
            assert_eq!(decrypt(&one, &sealed).unwrap(), plain, "{size}");
            assert_eq!(decrypt(&two, &sealed).unwrap(), plain, "{size}");
            assert_eq!(decrypt(&other, &sealed), Err(Fault::NoKey));
        }
    }

    #[test]
    fn every_changed_byte_and_every_missing_end_is_noticed() {
        let (identities, recipient) = key();
        let sealed = encrypt(&[recipient], b"a waterhole at dusk").unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            decrypt(&identities, &changed).unwrap_err();
            decrypt(&identities, &sealed[..index]).unwrap_err();
        }
        let mut longer = sealed.clone();
        longer.push(0);
        decrypt(&identities, &longer).unwrap_err();
    }

    #[test]
    fn a_file_that_ends_after_a_whole_chunk_is_noticed() {
        let (identities, recipient) = key();
        let sealed = encrypt(&[recipient], &vec![7; 2 * CHUNK]).unwrap();
        let cut = &sealed[..sealed.len() - CHUNK - TAG];
        assert_eq!(decrypt(&identities, cut), Err(Fault::Damaged("a chunk is another")));
    }

    #[test]
    fn keys_are_read_as_age_writes_them() {
        // The example of the format's own text.
        let public = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
        let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        assert_eq!(Identity::parse_file(secret).unwrap()[0].recipient().to_string(), public);
        assert_eq!(Recipient::parse(public).unwrap().to_string(), public);
        for bad in ["", "age1", &public[..60], &public.replace('z', "q"), secret] {
            Recipient::parse(bad).unwrap_err();
        }
        assert!(!Identity::parse_file("AGE-SECRET-KEY-1NONSENSE").unwrap_err().contains("NONSENSE"));
    }
}
