//! Which texts are keys.

use super::Location;
use crate::{Error, Result};

/// Files whose name starts so are unfinished writes of a folder store: never listed, read or written by name.
pub const TEMPORARY_PREFIX: &str = ".safari-tmp-";

/// Refuses keys that name nothing or leave the root. S3 allows empty parts (`a//b`), folders do not.
pub(super) fn check(location: &Location, key: &str) -> Result<()> {
    let refused = |reason: &str| Error::InvalidKey {
        key: key.to_owned(),
        location: location.to_string(),
        reason: reason.to_owned(),
    };
    if key.is_empty() {
        return Err(refused("it is empty"));
    }
    if key.starts_with('/') {
        return Err(refused("it starts with /, while keys are relative"));
    }
    if key.ends_with('/') {
        return Err(refused("it ends with /, while objects are no folders"));
    }
    if key.contains('\0') {
        return Err(refused("it contains a NUL character"));
    }
    for part in key.split('/') {
        if part == ".." || part == "." {
            return Err(refused("`.` and `..` are no parts of a key"));
        }
        if part.is_empty() && location.is_local() {
            return Err(refused("it has an empty part"));
        }
        if part.starts_with(TEMPORARY_PREFIX) {
            return Err(refused("names that start with .safari-tmp- are unfinished writes"));
        }
    }
    Ok(())
}

/// The prefix of a listing without slashes at its ends; refuses those that leave the root.
pub(super) fn check_prefix<'a>(location: &Location, prefix: &'a str) -> Result<&'a str> {
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() {
        check(location, prefix)?;
    }
    Ok(prefix)
}
