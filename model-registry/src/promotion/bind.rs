//! The SQL of a gate: `{{ model }}`, `{{ challenger }}` and `{{ champion }}` become parameters, so that no name of a
//! model can change what is asked.

use std::fmt;

use super::Candidate;

/// A question with places for values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlTemplate {
    /// The text with `$1`, `$2`, … in the places.
    text: String,
    /// What belongs to `$1`, `$2`, ….
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Model,
    Challenger,
    Champion,
}

/// A question and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSql {
    /// With `$1`, `$2`, …, each used once.
    pub text: String,
    /// In the order of their numbers.
    pub values: Vec<SqlValue>,
}

/// A value of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlValue {
    /// The name of a model.
    Text(String),
    /// The number of a version.
    Number(i64),
}

const KNOWN: [(&str, Place); 3] =
    [("model", Place::Model), ("challenger", Place::Challenger), ("champion", Place::Champion)];

impl SqlTemplate {
    /// Reads a question.
    ///
    /// # Errors
    /// What is wrong with a place and what to do.
    pub fn parse(sql: &str) -> Result<Self, String> {
        if sql.trim().is_empty() {
            return Err("`sql` is empty; ask for one row with `found` and `wanted`, or with `passed`".to_owned());
        }
        let (mut text, mut places) = (String::with_capacity(sql.len()), Vec::new());
        let mut rest = sql;
        while let Some(begin) = rest.find("{{") {
            let (before, after) = (&rest[..begin], &rest[begin + 2..]);
            text.push_str(before);
            let Some(end) = after.find("}}") else {
                return Err("a `{{` has no `}}`".to_owned());
            };
            let name = after[..end].trim();
            let Some((_, place)) = KNOWN.iter().find(|(known, _)| *known == name) else {
                let known = "{{ model }}, {{ challenger }} and {{ champion }}";
                return Err(format!("there is no value `{name}`; a gate's SQL may use {known}"));
            };
            // The other numbers were put in outside of quotes.
            if in_quotes(&text) {
                return Err(format!("{{{{ {name} }}}} stands in quotes; leave them out, values are bound as they are"));
            }
            places.push(*place);
            text.push_str(&format!("${}", places.len()));
            rest = &after[end + 2..];
        }
        text.push_str(rest);
        Ok(Self { text, places })
    }

    /// Whether it compares with the version that the alias names now.
    pub fn needs_champion(&self) -> bool {
        self.places.contains(&Place::Champion)
    }

    /// Puts the values in; nothing when it needs a champion and there is none.
    pub fn bind(&self, candidate: &Candidate) -> Option<BoundSql> {
        let value = |place: &Place| match place {
            Place::Model => Some(SqlValue::Text(candidate.model.clone())),
            Place::Challenger => Some(SqlValue::Number(candidate.challenger.0)),
            Place::Champion => candidate.champion.map(|version| SqlValue::Number(version.0)),
        };
        let values: Option<Vec<SqlValue>> = self.places.iter().map(value).collect();
        Some(BoundSql { text: self.text.clone(), values: values? })
    }
}

impl BoundSql {
    /// The question with its values written out as literals, for an engine that binds none.
    pub fn literal(&self) -> String {
        let mut text = self.text.clone();
        // From the last on: `$1` is the beginning of `$10`.
        for (index, value) in self.values.iter().enumerate().rev() {
            let place = format!("${}", index + 1);
            if let Some(at) = text.rfind(&place) {
                text.replace_range(at..at + place.len(), &value.to_string());
            }
        }
        text
    }
}

impl fmt::Display for SqlValue {
    /// As an SQL literal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Whether the end of the text lies in a string or a quoted name. A doubled quote ends and begins one again.
fn in_quotes(text: &str) -> bool {
    let mut open = None;
    for character in text.chars() {
        match open {
            None if character == '\'' || character == '"' => open = Some(character),
            Some(quote) if quote == character => open = None,
            _ => {}
        }
    }
    open.is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::VersionNumber;

    fn candidate(champion: Option<i64>) -> Candidate {
        Candidate {
            model: "o'wl".to_owned(),
            alias: "champion".to_owned(),
            challenger: VersionNumber(7),
            champion: champion.map(VersionNumber),
        }
    }

    #[test]
    fn values_are_bound_and_never_read_as_sql() {
        let template =
            SqlTemplate::parse("SELECT a FROM t WHERE m = {{ model }} AND v IN ({{challenger}}, {{ champion }})")
                .unwrap();
        let bound = template.bind(&candidate(Some(6))).unwrap();
        assert_eq!(bound.text, "SELECT a FROM t WHERE m = $1 AND v IN ($2, $3)");
        assert_eq!(bound.values, [SqlValue::Text("o'wl".to_owned()), SqlValue::Number(7), SqlValue::Number(6)]);
        assert_eq!(bound.literal(), "SELECT a FROM t WHERE m = 'o''wl' AND v IN (7, 6)");
        assert_eq!(template.bind(&candidate(None)), None, "there is no champion to compare with");
    }

    #[test]
    fn places_that_are_none_are_refused() {
        for (sql, part) in [
            ("SELECT '{{ model }}'", "leave them out"),
            ("SELECT \"{{ model }}\"", "leave them out"),
            ("SELECT {{ secret }}", "no value `secret`"),
            ("SELECT {{ model", "no `}}`"),
            ("  ", "empty"),
        ] {
            let message = SqlTemplate::parse(sql).unwrap_err();
            assert!(message.contains(part), "{sql}: {message}");
        }
        SqlTemplate::parse("SELECT 'it''s', {{ model }}").unwrap();
    }
}
