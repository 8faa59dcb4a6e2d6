//! Pieces of SQL with which the database answers a question as one JSON text: a row each costs the driver a change of
//! threads on SQLite, and reading it its time on both.
//!
//! They are put together once, of texts of the program's own.

use platform::database::Engine;
use serde::de::DeserializeOwned;
use sqlx::error::BoxDynError;

/// The functions for JSON of a kind of database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json(pub(super) Engine);

impl Json {
    /// An object of names and values, such as `'key', t.key`.
    pub(super) fn object(self, fields: &str) -> String {
        match self.0 {
            Engine::Sqlite => format!("json_object({fields})"),
            Engine::Postgres => format!("json_build_object({fields})"),
        }
    }

    /// A pair of values.
    pub(super) fn pair(self, values: &str) -> String {
        match self.0 {
            Engine::Sqlite => format!("json_array({values})"),
            Engine::Postgres => format!("json_build_array({values})"),
        }
    }

    /// A list with an item for each row of a SELECT; an empty one for none.
    pub(super) fn list(self, item: &str) -> String {
        match self.0 {
            Engine::Sqlite => format!("json_group_array({item})"),
            Engine::Postgres => format!("COALESCE(json_agg({item}), '[]')"),
        }
    }

    /// What a SELECT gives, as a value within another.
    pub(super) fn nested(self, select: &str) -> String {
        match self.0 {
            Engine::Sqlite => format!("json(({select}))"),
            Engine::Postgres => format!("({select})"),
        }
    }
}

/// Reads such an answer.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> sqlx::Result<T> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(BoxDynError::from(error)))
}
