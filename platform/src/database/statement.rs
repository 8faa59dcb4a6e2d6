//! Statements whose number of values is known only when they are made.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{Any, Arguments, AssertSqlSafe, FromRow};

/// A growing statement. Values become `$1`, `$2`, …, which SQLite and PostgreSQL both take (sqlx's own builder writes `?`
/// for a database that is chosen at run time).
///
/// Text that is pushed must come from the program, never from people: only values are safe from injection.
pub struct Statement {
    text: String,
    arguments: AnyArguments,
    /// In a list in parentheses.
    listing: Listing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    No,
    First,
    More,
}

impl Statement {
    /// Begins with a text.
    pub fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), arguments: AnyArguments::default(), listing: Listing::No }
    }

    /// Adds a text.
    pub fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Begins a list of values in parentheses; after an earlier list with a comma.
    pub fn row(&mut self) -> &mut Self {
        if self.text.ends_with(')') {
            self.text.push_str(", ");
        }
        self.text.push('(');
        self.listing = Listing::First;
        self
    }

    /// Ends a list of values.
    pub fn end_row(&mut self) -> &mut Self {
        self.text.push(')');
        self.listing = Listing::No;
        self
    }

    /// Adds a text value.
    pub fn text(&mut self, value: impl Into<String>) -> &mut Self {
        let added = self.arguments.add(value.into());
        self.placeholder(added.is_ok())
    }

    /// Adds a text value or NULL.
    pub fn maybe_text(&mut self, value: Option<&str>) -> &mut Self {
        let added = self.arguments.add(value.map(str::to_owned));
        self.placeholder(added.is_ok())
    }

    /// Adds a number.
    pub fn number(&mut self, value: i64) -> &mut Self {
        let added = self.arguments.add(value);
        self.placeholder(added.is_ok())
    }

    /// Adds a number or NULL.
    pub fn maybe_number(&mut self, value: Option<i64>) -> &mut Self {
        let added = self.arguments.add(value);
        self.placeholder(added.is_ok())
    }

    /// Adds a floating-point number, which must not be NaN: SQLite would store NULL. The text tells it from a whole number:
    /// sqlx keeps prepared statements by their text, and PostgreSQL would read its bytes as those of a whole number where one
    /// was given the first time.
    pub fn float(&mut self, value: f64) -> &mut Self {
        let added = self.arguments.add(value);
        self.separator();
        self.text.push_str(&format!("CAST(${} AS DOUBLE PRECISION)", self.arguments.len()));
        debug_assert!(added.is_ok(), "a value was not taken");
        self
    }

    /// Adds a word of the program's own as a part of the text. Where a value decides how a question is best answered,
    /// PostgreSQL would plan anew each time that it is asked.
    pub fn word(&mut self, word: &'static str) -> &mut Self {
        debug_assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "`{word}` is no word");
        self.text.push_str(&format!("'{word}'"));
        self
    }

    /// Adds a number as a part of the text, for the same reason.
    pub fn literal(&mut self, number: impl Into<i64>) -> &mut Self {
        self.text.push_str(&number.into().to_string());
        self
    }

    /// The statement, to be executed.
    pub fn query(self) -> Query<'static, Any, AnyArguments> {
        sqlx::query_with(AssertSqlSafe(self.text), self.arguments)
    }

    /// The statement, its rows to be read as `T`.
    pub fn query_as<T: for<'r> FromRow<'r, AnyRow>>(self) -> QueryAs<'static, Any, T, AnyArguments> {
        sqlx::query_as_with(AssertSqlSafe(self.text), self.arguments)
    }

    /// Encoding text and numbers cannot fail; if it ever did, the statement would be refused for its missing value.
    fn placeholder(&mut self, added: bool) -> &mut Self {
        debug_assert!(added, "a value was not taken");
        self.separator();
        self.text.push_str(&format!("${}", self.arguments.len()));
        self
    }

    /// A comma before every value of a list but the first.
    fn separator(&mut self) {
        if self.listing == Listing::More {
            self.text.push_str(", ");
        }
        if self.listing == Listing::First {
            self.listing = Listing::More;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_its_values_and_separates_lists() {
        let mut insert = Statement::new("INSERT INTO t (a, b) VALUES ");
        insert.row().text("x").number(1).end_row();
        insert.row().text("y").float(2.5).end_row();
        insert.push(" RETURNING a");
        let text = "INSERT INTO t (a, b) VALUES ($1, $2), ($3, CAST($4 AS DOUBLE PRECISION)) RETURNING a";
        assert_eq!(insert.text, text);
        let mut select = Statement::new("SELECT a FROM t WHERE b = ");
        select.number(1).push(" AND b NOT IN ").row().number(2).number(3).end_row();
        assert_eq!(select.text, "SELECT a FROM t WHERE b = $1 AND b NOT IN ($2, $3)");
    }
}
