//! The trace that an attempt belongs to.

use pipeline::JobContext;

/// The variable that carries a W3C trace context from one program to the next.
pub(crate) const TRACEPARENT: &str = "TRACEPARENT";

/// The trace context that an attempt hands on: the one that this process was given, if it has the W3C form, so that
/// `safari run` is part of whatever called it; else the attempt's own.
pub(crate) fn traceparent(context: &JobContext) -> String {
    let given = std::env::var(TRACEPARENT).ok().filter(|text| is_traceparent(text));
    given.unwrap_or_else(|| context.traceparent.clone())
}

/// `00-<32 digits>-<16 digits>-<2 digits>`; later versions may append more.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    [2, 32, 16, 2].into_iter().all(|length| {
        parts.next().is_some_and(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_form() {
        assert!(is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        for wrong in ["", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "x\r\ny", "00-1-2-3"] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }
}
