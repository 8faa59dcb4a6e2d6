//! Statements about many rows, whose text does not depend on how many: the database keeps them prepared.

use platform::database::{Engine, Statement};

/// Adds ` column` is one of the numbers.
pub(crate) fn push_one_of(statement: &mut Statement, engine: Engine, column: &'static str, numbers: &[i64]) {
    let listed = || numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    match engine {
        Engine::Sqlite => {
            statement.push(column).push(" IN (SELECT value FROM json_each(").text(format!("[{}]", listed())).push("))");
        }
        Engine::Postgres => {
            statement.push(column).push(" = ANY(CAST(").text(format!("{{{}}}", listed())).push(" AS BIGINT[]))");
        }
    }
}

/// Rows in one INSERT, at most.
const ROWS: usize = 256;

/// Cuts rows into parts of 256, 128, 64, … rows, so that few texts of statements serve any number of rows.
pub(crate) fn parts<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        if rows.is_empty() {
            return None;
        }
        let size = if rows.len() >= ROWS { ROWS } else { 1 << rows.len().ilog2() };
        let (part, rest) = rows.split_at(size);
        rows = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_powers_of_two() {
        let rows = vec![0_u8; 1000];
        let sizes: Vec<_> = parts(&rows).map(<[u8]>::len).collect();
        assert_eq!(sizes, [256, 256, 256, 128, 64, 32, 8]);
        let sizes: Vec<_> = parts(&rows[..100]).map(<[u8]>::len).collect();
        assert_eq!(sizes, [64, 32, 4]);
        assert_eq!(parts::<u8>(&[]).count(), 0);
    }
}
