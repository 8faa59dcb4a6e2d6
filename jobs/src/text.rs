//! Texts for messages.

use std::time::Duration;

/// Several lines as one: white space between words becomes one space, line breaks become ` | `, terminal colours and
/// other control characters go.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let readable = without_escapes(line);
        readable.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

/// The beginning of a text, at most `most` bytes, cut between characters.
pub(crate) fn head(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A length of time for people: `850 ms`, `12.3 s`, `1h 5m`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Without ANSI escape sequences (`ESC [ … letter`) and other control characters.
fn without_escapes(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' && letters.next_if_eq(&'[').is_some() {
            while letters.next().is_some_and(|inside| !inside.is_ascii_alphabetic()) {}
        } else if letter == '\t' || !letter.is_control() {
            kept.push(letter);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_one() {
        assert_eq!(one_line("\n a\t b \n\n\u{1b}[1;31mred\u{1b}[0m\u{7}\nc\n"), "a b | red | c");
        assert_eq!(one_line(" \n"), "");
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(head("äöü", 3), "ä");
        assert_eq!(head("abc", 9), "abc");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(duration(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(duration(Duration::from_secs(3_900)), "1h 5m");
        assert_eq!(duration(Duration::from_secs(90_000)), "1d 1h");
    }
}
