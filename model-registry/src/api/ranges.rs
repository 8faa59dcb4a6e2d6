//! Which part of a file a request wants (RFC 9110, 13 and 14).

use std::ops::Range;

use axum::http::{HeaderMap, header};

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Everything,
    Part(Range<u64>),
    /// A range that lies outside.
    Nothing,
    /// The client has it already.
    NotModified,
}

/// Whether the size and version of the file matter for the answer.
pub(super) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(header::RANGE) || headers.contains_key(header::IF_NONE_MATCH)
}

/// `tag` is the file's ETag. Several ranges at once are answered with everything, as the RFC allows.
pub(super) fn wanted(headers: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(known) = text(header::IF_NONE_MATCH) {
        let strong = |one: &str| one.trim().trim_start_matches("W/") == tag;
        if known.trim() == "*" || known.split(',').any(strong) {
            return Wanted::NotModified;
        }
    }
    let Some(range) = text(header::RANGE).and_then(|range| range.trim().strip_prefix("bytes=")) else {
        return Wanted::Everything;
    };
    // A range of another version would not fit to what the client has.
    if text(header::IF_RANGE).is_some_and(|known| known.trim() != tag) {
        return Wanted::Everything;
    }
    let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else {
        return Wanted::Everything;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (start, end) = match (first.trim().is_empty(), last.trim().is_empty()) {
        (true, true) => return Wanted::Everything,
        (true, false) => match number(last) {
            Some(0) => return Wanted::Nothing,
            Some(length) => (size.saturating_sub(length), size),
            None => return Wanted::Everything,
        },
        (false, true) => match number(first) {
            Some(start) => (start, size),
            None => return Wanted::Everything,
        },
        (false, false) => match (number(first), number(last)) {
            (Some(start), Some(last)) if last >= start => (start, last.saturating_add(1).min(size)),
            _ => return Wanted::Everything,
        },
    };
    if start >= size { Wanted::Nothing } else { Wanted::Part(start..end) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(fields: &[(header::HeaderName, &str)]) -> Wanted {
        let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        wanted(&headers, "\"a-1\"", 10)
    }

    #[test]
    fn ranges_are_read() {
        for (range, expected) in [
            ("bytes=0-3", Wanted::Part(0..4)),
            ("bytes=4-", Wanted::Part(4..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=8-99999999999999", Wanted::Part(8..10)),
            ("bytes=8-18446744073709551615", Wanted::Part(8..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=3-2", Wanted::Everything),
            ("bytes=0-1,4-5", Wanted::Everything),
            ("bytes=x-", Wanted::Everything),
            ("bytes=-", Wanted::Everything),
            ("lines=1-2", Wanted::Everything),
        ] {
            assert_eq!(asked(&[(header::RANGE, range)]), expected, "{range}");
        }
    }

    #[test]
    fn conditions_are_read() {
        let part = (header::RANGE, "bytes=1-2");
        assert_eq!(asked(&[part.clone(), (header::IF_RANGE, "\"a-1\"")]), Wanted::Part(1..3));
        assert_eq!(asked(&[part.clone(), (header::IF_RANGE, "\"a-2\"")]), Wanted::Everything);
        assert_eq!(asked(&[(header::IF_NONE_MATCH, "\"x\", \"a-1\"")]), Wanted::NotModified);
        assert_eq!(asked(&[(header::IF_NONE_MATCH, "\"x\"")]), Wanted::Everything);
        assert_eq!(asked(&[part, (header::IF_NONE_MATCH, "*")]), Wanted::NotModified);
    }
}
