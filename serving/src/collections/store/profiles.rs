//! Who has a collection, and what others are shown of them.

use super::{Store, Write};
use crate::collections::person::{Person, PersonId};
use crate::collections::{Handle, Moment};
use crate::{Error, Result};

/// What others are shown of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) handle: Handle,
    pub(crate) name: String,
    pub(crate) hidden: bool,
}

/// Characters of a name.
pub(crate) const LONGEST_NAME: usize = 80;

type Row = (String, String, i64);

impl Store {
    /// The profile of a person; none for one who has no collection.
    pub(crate) async fn profile(&self, person: &PersonId) -> Result<Option<Profile>> {
        let row: Option<Row> = sqlx::query_as("SELECT handle, name, hidden FROM collector WHERE person = $1")
            .bind(person.as_str())
            .fetch_optional(self.pool())
            .await
            .map_err(Error::database("reading a profile"))?;
        row.map(Profile::read).transpose()
    }

    /// Changes name and visibility, and makes the profile where there is none.
    pub(crate) async fn set_profile(&self, person: &Person, name: &str, hidden: bool) -> Result<Profile> {
        let mut write = self.write().await?;
        write.ensure_collector(person).await?;
        let row: Row = sqlx::query_as(
            "UPDATE collector SET name = $2, hidden = $3, updated_at = $4 WHERE person = $1 RETURNING handle, name, hidden",
        )
        .bind(person.id.as_str())
        .bind(name)
        .bind(i64::from(hidden))
        .bind(Moment::now().millis())
        .fetch_one(write.connection())
        .await
        .map_err(Error::database("changing a profile"))?;
        write.commit().await?;
        Profile::read(row)
    }
}

impl Write {
    /// Makes a collection for a person who has none, and holds it until the end of the change: a deletion of everything that
    /// belongs to the person comes before or after it.
    pub(crate) async fn ensure_collector(&mut self, person: &Person) -> Result<()> {
        sqlx::query(
            "INSERT INTO collector (person, handle, name, hidden, created_at, updated_at) VALUES ($1, $2, $3, 1, $4, $4)
             ON CONFLICT (person) DO UPDATE SET updated_at = excluded.updated_at",
        )
        .bind(person.id.as_str())
        .bind(Handle::random().to_string())
        .bind(first_name(&person.name))
        .bind(Moment::now().millis())
        .execute(self.connection())
        .await
        .map_err(Error::database("making a collection"))?;
        Ok(())
    }
}

impl Profile {
    fn read((handle, name, hidden): Row) -> Result<Self> {
        Ok(Self { handle: handle.parse()?, name, hidden: hidden != 0 })
    }
}

/// A name that can be shown, from whatever the identity says.
fn first_name(name: &str) -> String {
    let shown: String = name.chars().filter(|character| !character.is_control()).take(LONGEST_NAME).collect();
    if shown.trim().is_empty() { "somebody".to_owned() } else { shown }
}
