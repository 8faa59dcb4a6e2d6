//! Cuts a template into text, expressions and statements, as far as is needed to tell whether it is one whole
//! expression, which filters and tests it names, and that it is small enough to be compiled safely.

use std::ops::Range;

/// The template compiler recurses along an expression; this many tokens are safe on a small stack and ample for people.
pub(super) const MAX_TOKENS: usize = 256;

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text that stays as it is.
    Text(Range<usize>),
    /// `{{ … }}`; the range of what stands between.
    Expression(Range<usize>),
    /// `{% … %}`; the range of what stands between.
    Statement(Range<usize>),
}

/// Why a template cannot be cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LexMistake {
    pub(super) message: String,
    pub(super) range: Range<usize>,
}

/// Whether the text has anything to render.
pub(super) fn has_code(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Cuts `source` into pieces; comments are left out.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, LexMistake> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let Some(open) = source[at..].find('{').map(|offset| at + offset) else { break };
        let marker = source.get(open..open + 2).unwrap_or_default();
        let close = match marker {
            "{{" => "}}",
            "{%" => "%}",
            "{#" => "#}",
            _ => {
                let end = open + 1;
                push_text(&mut pieces, at..end);
                at = end;
                continue;
            }
        };
        push_text(&mut pieces, at..open);
        let inside = open + 2;
        let end = if marker == "{#" {
            source[inside..].find(close).map(|n| inside + n)
        } else {
            code_end(source, inside, close)
        };
        let Some(end) = end else {
            let message = format!("`{marker}` is never closed by `{close}`");
            return Err(LexMistake { message, range: open..open + 2 });
        };
        at = end + 2;
        match marker {
            "{{" => pieces.push(Piece::Expression(trim_dashes(source, inside..end))),
            "{%" => {
                let range = trim_dashes(source, inside..end);
                let raw = source[range.clone()].trim() == "raw";
                pieces.push(Piece::Statement(range));
                if raw {
                    at = raw_end(source, at);
                }
            }
            _ => {}
        }
    }
    push_text(&mut pieces, at..source.len());
    Ok(pieces)
}

/// A word, a string, a number or a sign of an expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or keyword.
    Word(&'a str),
    /// Any other sign or literal.
    Sign(char),
}

/// The tokens of what stands between two markers, each with its start in `source`.
pub(super) fn tokens(source: &str, range: Range<usize>) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut at = range.start;
    while let Some(next) = source[at..range.end].chars().next() {
        let end = match next {
            c if c.is_whitespace() => at + c.len_utf8(),
            '"' | '\'' => {
                tokens.push((at, Token::Sign(next)));
                string_end(source, at).min(range.end)
            }
            c if c.is_alphanumeric() || c == '_' => {
                let rest = &source[at..range.end];
                let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                tokens.push((at, Token::Word(&rest[..len])));
                at + len
            }
            c => {
                tokens.push((at, Token::Sign(c)));
                at + c.len_utf8()
            }
        };
        at = end;
    }
    tokens
}

fn push_text(pieces: &mut Vec<Piece>, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    if let Some(Piece::Text(last)) = pieces.last_mut()
        && last.end == range.start
    {
        last.end = range.end;
        return;
    }
    pieces.push(Piece::Text(range));
}

/// Where the closing marker of code that starts at `from` stands; strings and brackets inside are skipped.
fn code_end(source: &str, from: usize, close: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    while let Some(next) = source[at..].chars().next() {
        if depth == 0 && source[at..].starts_with(close) {
            return Some(at);
        }
        at = match next {
            '"' | '\'' => string_end(source, at),
            '(' | '[' | '{' => {
                depth += 1;
                at + 1
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                at + 1
            }
            c => at + c.len_utf8(),
        };
    }
    None
}

/// The offset after the string that starts at `at`, or the end of the source.
fn string_end(source: &str, at: usize) -> usize {
    let mut chars = source[at..].char_indices();
    let quote = chars.next().map(|(_, quote)| quote);
    let mut escaped = false;
    for (offset, c) in chars {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if Some(c) == quote {
            return at + offset + c.len_utf8();
        }
    }
    source.len()
}

/// After `{% raw %}`: where `{% endraw %}` starts, or the end of the source.
fn raw_end(source: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(open) = source[at..].find("{%").map(|offset| at + offset) {
        let word = source[open + 2..].trim_start_matches(['-', '+']).trim_start();
        if word.starts_with("endraw") {
            return open;
        }
        at = open + 2;
    }
    source.len()
}

/// Without the whitespace signs of `{{- … -}}` and the blanks around.
fn trim_dashes(source: &str, range: Range<usize>) -> Range<usize> {
    let mut text = &source[range.clone()];
    let mut start = range.start;
    if let Some(rest) = text.strip_prefix(['-', '+']) {
        text = rest;
        start += 1;
    }
    let text = text.strip_suffix(['-', '+']).unwrap_or(text);
    let left = text.len() - text.trim_start().len();
    start + left..start + left + text.trim().len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cut(source: &str) -> Vec<(&'static str, &str)> {
        pieces(source)
            .unwrap()
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(range) => ("text", &source[range]),
                Piece::Expression(range) => ("expression", &source[range]),
                Piece::Statement(range) => ("statement", &source[range]),
            })
            .collect()
    }

    #[test]
    fn cuts_text_expressions_statements_and_comments() {
        assert_eq!(cut("plain { text }"), [("text", "plain { text }")]);
        assert_eq!(cut("{{ a.b }}"), [("expression", "a.b")]);
        assert_eq!(cut("{{- a -}} x"), [("expression", "a"), ("text", " x")]);
        assert_eq!(cut("s3://{{ a }}/{# note #}{{ b }}").len(), 4);
        assert_eq!(cut("{% if a %}x{% endif %}"), [("statement", "if a"), ("text", "x"), ("statement", "endif")]);
    }

    #[test]
    fn strings_and_brackets_hide_closing_marks() {
        assert_eq!(cut("{{ '}}' ~ \"\\\"}}\" }}"), [("expression", "'}}' ~ \"\\\"}}\"")]);
        assert_eq!(cut("{{ {'a': {'b': 1}} }}"), [("expression", "{'a': {'b': 1}}")]);
        assert_eq!(cut("{% raw %}{{ a }}{% endraw %}").len(), 2);
    }

    #[test]
    fn unclosed_code_is_told() {
        assert_eq!(pieces("a {{ b").unwrap_err().range, 2..4);
        assert!(pieces("{{ 'a }}").is_err());
        assert_eq!(cut("a {"), [("text", "a {")]);
    }
}
