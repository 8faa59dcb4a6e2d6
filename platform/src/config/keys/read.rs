//! Reads the texts of settings; nothing is what no setting may be.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::database::Address;
use crate::identity::Role;

/// The database that a URL names; an empty path for an empty text.
pub(in crate::config) fn state_address(url: &str) -> Option<Address> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let parsed = Url::parse(url).ok()?;
        return parsed.has_host().then(|| Address::Postgres(url.to_owned()));
    }
    if url.is_empty() {
        return Some(Address::Sqlite(PathBuf::new()));
    }
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    // `sqlite:///data/x.db` is the file /data/x.db.
    if rest.is_empty() || rest.contains(['?', '\0']) || rest == ":memory:" {
        return None;
    }
    Some(Address::Sqlite(PathBuf::from(rest)))
}

pub(in crate::config) fn is_http_url(text: &str) -> bool {
    let url = Url::parse(text);
    text.is_empty() || url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

pub(in crate::config) fn is_url_of(text: &str, schemes: &[&str]) -> bool {
    text.is_empty() || Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()))
}

/// Pairs such as `wildlife-admins=admin`, between commas.
pub(in crate::config) fn role_mapping(text: &str) -> Option<Vec<(String, Role)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (word, role) = pair.rsplit_once('=')?;
        Some((word.trim().to_owned(), Role::read(role.trim())?))
    });
    pairs.collect()
}

/// `NAME=PATH,NAME=PATH`.
pub(in crate::config) fn named_paths(text: &str) -> Option<Vec<(String, PathBuf)>> {
    let one = |part: &str| {
        let (name, file) = part.trim().split_once('=')?;
        Some((Some(name.trim().to_owned()).filter(|name| !name.is_empty())?, path(file.trim())?))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

/// Places that end with a slash, so that a prefix is a whole folder.
pub(in crate::config) fn fetch_prefixes(text: &str) -> Option<Vec<Url>> {
    let one = |part: &str| {
        let url = Url::parse(part.trim()).ok()?;
        let known = matches!(url.scheme(), "http" | "https" | "s3") && url.has_host();
        (known && url.path().ends_with('/')).then_some(url)
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

pub(in crate::config) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

pub(in crate::config) fn number<T: FromStr + PartialOrd>(text: &str, allowed: RangeInclusive<T>) -> Option<T> {
    text.trim().parse().ok().filter(|value| allowed.contains(value))
}

/// Whole numbers may have `_` between their digits, as in TOML.
pub(in crate::config) fn whole<T: FromStr + PartialOrd>(text: &str, allowed: RangeInclusive<T>) -> Option<T> {
    let text = text.trim();
    if text.starts_with(['_', '+']) || text.ends_with('_') {
        return None;
    }
    text.replace('_', "").parse().ok().filter(|value| allowed.contains(value))
}
