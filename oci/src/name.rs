//! Names of images.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

const MOST_OF_TAG: usize = 128;

/// `NAME[:TAG]`, where the name may begin with a registry: what `docker load` calls an image. Without a tag it is `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    name: String,
    tag: String,
}

impl ImageName {
    /// A name of texts of people: letters that no image may have become dashes.
    pub fn of(name: &str, tag: &str) -> Self {
        let name = name.split('/').map(plain).collect::<Vec<_>>().join("/");
        Self { name, tag: plain(tag).chars().take(MOST_OF_TAG).collect() }
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |reason| Error::Name { text: text.to_owned(), what: "name of an image", reason };
        // A colon before a slash is a registry's port.
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        // A registry's name may have a port.
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("", name),
        };
        let is_registry = registry.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-:[]".contains(letter));
        if !is_registry || !is_path(path) {
            return Err(refused("write NAME:TAG; names have small letters, digits, `.`, `_`, `-` and `/` only"));
        }
        if !is_tag(tag) {
            return Err(refused("tags have letters, digits, `.`, `_` and `-` only, 128 at most"));
        }
        Ok(Self { name: name.to_owned(), tag: tag.to_owned() })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// Whether it may be the name of an image in a registry.
pub(crate) fn is_path(text: &str) -> bool {
    let may = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-".contains(letter);
    text.split('/').all(|part| !part.is_empty() && part.chars().all(may))
}

/// Whether it may be a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    let may = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    (1..=MOST_OF_TAG).contains(&text.len()) && text.chars().all(may)
}

fn plain(text: &str) -> String {
    let text = text.to_lowercase();
    let kept = |letter: char| if letter.is_ascii_alphanumeric() || ".-_".contains(letter) { letter } else { '-' };
    let kept: String = text.chars().map(kept).collect();
    let kept = kept.trim_matches(['.', '-', '_']);
    if kept.is_empty() { "image".to_owned() } else { kept.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read() {
        for (text, shown, tag) in [
            ("safari", "safari:latest", "latest"),
            ("registry.example/safari-cpu:0.1.0", "registry.example/safari-cpu:0.1.0", "0.1.0"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest", "latest"),
            ("localhost:5000/a/b:C", "localhost:5000/a/b:C", "C"),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.tag()), (shown, tag));
        }
        for text in ["", ":", "Safari", "a b", "a:", "a:b c", "a//b", "a:b:c", "http://a/b"] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
        assert_eq!(ImageName::of("safari/Wild life", "3").to_string(), "safari/wild-life:3");
        assert_eq!(ImageName::of("safari/**", "Ä").to_string(), "safari/image:image");
    }
}
