//! Making, finding, changing and deleting sightings.

use platform::database::Statement;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use super::pictures::Upload;
use super::rows::{COLUMNS, Seen, Source};
use super::{Store, Write};
use crate::collections::person::{Person, PersonId};
use crate::collections::place::{Place, squared_chord};
use crate::collections::{Handle, Key, Moment, SightingId};
use crate::{Error, Result};

/// A statement that values are being bound to.
type Question<'q> = Query<'q, Any, AnyArguments>;

/// A sighting to be made.
#[derive(Debug)]
pub(crate) struct NewSighting {
    pub(crate) key: Key,
    /// sha256 of what the request said.
    pub(crate) digest: String,
    pub(crate) species: String,
    pub(crate) is_leaf: bool,
    pub(crate) source: Source,
    pub(crate) confidence: Option<f64>,
    pub(crate) model: Option<String>,
    pub(crate) detection: Option<String>,
    pub(crate) picture: Option<Upload>,
    pub(crate) seen_at: Option<Moment>,
    pub(crate) place: Option<Place>,
}

/// What came of a sighting that was to be made.
#[derive(Debug)]
pub(crate) enum Added {
    /// It was made.
    New(Seen),
    /// The person has one with this key; whether it is the same is for the caller to say.
    Known(Seen),
}

/// What is changed of a sighting; what is none stays.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Its id and whether it is a leaf: named by the person from now on.
    pub(crate) species: Option<(String, bool)>,
    pub(crate) seen_at: Option<Option<Moment>>,
    pub(crate) place: Option<Option<Place>>,
}

/// Whose sightings are listed.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    /// One's own.
    Mine,
    /// Those of one collector, if they are not hidden.
    Of(Handle),
    /// All that may be seen.
    Anybodys,
}

/// Within a distance of a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near {
    pub(crate) place: Place,
    pub(crate) metres: f64,
}

/// Where in the order a row is: its time or day, and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) sorted: i64,
    pub(crate) id: SightingId,
}

/// Which sightings are listed, the latest first.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    pub(crate) whose: Whose,
    pub(crate) species: Option<&'a str>,
    pub(crate) near: Option<Near>,
    /// Species whose exact places others may know; all others by their cells only.
    pub(crate) open: &'a [&'a str],
    /// Only rows behind this one.
    pub(crate) after: Option<Order>,
    pub(crate) limit: i64,
}

impl Whose {
    /// One's own have the order of their times; with those of others only days are told, and so is the order.
    pub(crate) fn order_of(&self, seen: &Seen) -> Order {
        let sorted = match self {
            Self::Mine => seen.sorted_at.millis(),
            Self::Of(_) | Self::Anybodys => seen.sorted_day,
        };
        Order { sorted, id: seen.id }
    }
}

impl Store {
    /// The sighting of a person that a key names, deleted or not.
    pub(crate) async fn sighting_of_key(&self, person: &PersonId, key: &Key) -> Result<Option<Seen>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sighting s JOIN collector c ON c.person = s.person
            WHERE s.person = $1 AND s.key = $2"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(person.as_str()).bind(key.as_str()).fetch_optional(self.pool());
        let row = row.await.map_err(Error::database("looking for a key"))?;
        row.as_ref().map(Seen::read).transpose()
    }

    /// A sighting that a person may see: their own, or one of a collector who is not hidden.
    pub(crate) async fn sighting(&self, person: &PersonId, id: SightingId) -> Result<Option<Seen>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sighting s JOIN collector c ON c.person = s.person
            WHERE s.id = $1 AND s.deleted_at IS NULL AND (s.person = $2 OR c.hidden = 0)"
        );
        let row =
            sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).bind(person.as_str()).fetch_optional(self.pool());
        let row = row.await.map_err(Error::database("looking for a sighting"))?;
        row.as_ref().map(Seen::read).transpose()
    }

    /// Makes a sighting with its photograph, unless the person has one with the same key.
    pub(crate) async fn add_sighting(&self, person: &Person, new: NewSighting) -> Result<Added> {
        let (upload, added) = match self.try_add(person, &new).await {
            Ok((taken, added)) => (new.picture.as_ref().filter(|_| !taken), Ok(added)),
            Err(error) => (new.picture.as_ref(), Err(error)),
        };
        if let Some(upload) = upload
            && let Err(error) = self.forget(upload).await
        {
            // It is noted, and removed later.
            tracing::warn!(%error, "a photograph that is not needed stays for a while");
        }
        added
    }

    /// Whether the upload's object is now a picture's, and what came of the sighting.
    async fn try_add(&self, person: &Person, new: &NewSighting) -> Result<(bool, Added)> {
        let now = Moment::now();
        let mut write = self.write().await?;
        write.ensure_collector(person).await?;
        let taken = match &new.picture {
            Some(upload) => write.take_picture(upload).await?,
            None => false,
        };
        let id = SightingId::random();
        let sorted_at = new.seen_at.unwrap_or(now);
        let made = sqlx::query(
            "INSERT INTO sighting (id, person, key, digest, species, is_leaf, source, confidence, model, detection, picture,
               seen_at, sorted_at, sorted_day, latitude, longitude, accuracy_m, x, y, z, cell_x, cell_y, cell_z,
               created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, NULLIF($8, 'NaN'), $9, $10, $11, $12, $13, $14, NULLIF($15, 'NaN'),
               NULLIF($16, 'NaN'), NULLIF($17, 'NaN'), NULLIF($18, 'NaN'), NULLIF($19, 'NaN'), NULLIF($20, 'NaN'),
               NULLIF($21, 'NaN'), NULLIF($22, 'NaN'), NULLIF($23, 'NaN'), $24, $24)
             ON CONFLICT (person, key) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(person.id.as_str())
        .bind(new.key.as_str())
        .bind(&new.digest)
        .bind(&new.species)
        .bind(i64::from(new.is_leaf))
        .bind(new.source.name())
        .bind(double(new.confidence))
        .bind(new.model.as_deref())
        .bind(new.detection.as_deref())
        .bind(new.picture.as_ref().map(|upload| upload.picture.sha256.as_str()))
        .bind(new.seen_at.map(Moment::millis))
        .bind(sorted_at.millis())
        .bind(sorted_at.day());
        let made = bind_place(made, new.place)
            .bind(now.millis())
            .execute(write.connection())
            .await
            .map_err(Error::database("recording a sighting"))?;
        if made.rows_affected() == 0 {
            // Nothing of this request stays, not even the row of its photograph.
            drop(write);
            let known = self.sighting_of_key(&person.id, &new.key).await?;
            let gone = || Error::Gone("all sightings were deleted at the same moment: send it again".to_owned());
            return Ok((false, Added::Known(known.ok_or_else(gone)?)));
        }
        let seen = write.own_sighting(&person.id, id, "").await?;
        write.commit().await?;
        let vanished = || Error::Unreadable { what: "a sighting", found: "nothing".to_owned() };
        Ok((taken, Added::New(seen.ok_or_else(vanished)?)))
    }

    /// Changes one's own sighting; none if there is no such.
    pub(crate) async fn change_sighting(
        &self,
        person: &PersonId,
        id: SightingId,
        changes: &Changes,
    ) -> Result<Option<Seen>> {
        let mut write = self.write().await?;
        let Some(seen) = write.own_sighting(person, id, self.for_update_of_sighting()).await? else { return Ok(None) };
        let seen_at = changes.seen_at.unwrap_or(seen.seen_at);
        let sorted_at = seen_at.unwrap_or(seen.created_at);
        let place = changes.place.unwrap_or(seen.place);
        let change = sqlx::query(
            "UPDATE sighting SET seen_at = $2, sorted_at = $3, sorted_day = $4, latitude = NULLIF($5, 'NaN'),
               longitude = NULLIF($6, 'NaN'), accuracy_m = NULLIF($7, 'NaN'), x = NULLIF($8, 'NaN'),
               y = NULLIF($9, 'NaN'), z = NULLIF($10, 'NaN'), cell_x = NULLIF($11, 'NaN'), cell_y = NULLIF($12, 'NaN'),
               cell_z = NULLIF($13, 'NaN'), updated_at = $14
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(seen_at.map(Moment::millis))
        .bind(sorted_at.millis())
        .bind(sorted_at.day());
        bind_place(change, place)
            .bind(Moment::now().millis())
            .execute(write.connection())
            .await
            .map_err(Error::database("changing a sighting"))?;
        if let Some((species, is_leaf)) = changes.species.as_ref().filter(|(species, _)| *species != seen.species) {
            sqlx::query(
                "UPDATE sighting SET species = $2, is_leaf = $3, source = 'named', confidence = NULL, model = NULL
                 WHERE id = $1",
            )
            .bind(id.to_string())
            .bind(species)
            .bind(i64::from(*is_leaf))
            .execute(write.connection())
            .await
            .map_err(Error::database("changing a sighting's species"))?;
        }
        let changed = write.own_sighting(person, id, "").await?;
        write.commit().await?;
        Ok(changed)
    }

    /// Deletes one's own sighting, and its photograph if nobody else's sighting shows it. Of the row only the key stays.
    /// Gives whether there was one.
    pub(crate) async fn delete_sighting(&self, person: &PersonId, id: SightingId) -> Result<bool> {
        let mut write = self.write().await?;
        let Some(seen) = write.own_sighting(person, id, self.for_update_of_sighting()).await? else { return Ok(false) };
        let now = Moment::now();
        sqlx::query(
            "UPDATE sighting SET species = '', is_leaf = 0, source = 'named', confidence = NULL, model = NULL,
               detection = NULL, picture = NULL, seen_at = NULL, sorted_at = 0, sorted_day = 0, latitude = NULL,
               longitude = NULL, accuracy_m = NULL, x = NULL, y = NULL, z = NULL, cell_x = NULL, cell_y = NULL,
               cell_z = NULL, updated_at = $2, deleted_at = $2
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(now.millis())
        .execute(write.connection())
        .await
        .map_err(Error::database("deleting a sighting"))?;
        let doomed = match &seen.picture {
            Some(sha256) => write.drop_picture(sha256, self.for_update()).await?,
            None => None,
        };
        write.commit().await?;
        if let Some(object) = doomed
            && let Err(error) = self.remove_objects(vec![object]).await
        {
            tracing::warn!(%error, "a deleted photograph stays for a while");
        }
        Ok(true)
    }

    /// Lists sightings that `viewer` may see. Exact places decide only where the viewer may see them.
    pub(crate) async fn sightings(&self, viewer: &Person, filter: &Filter<'_>) -> Result<Vec<Seen>> {
        let mut statement = Statement::new("SELECT ");
        statement
            .push(COLUMNS)
            .push(" FROM sighting s JOIN collector c ON c.person = s.person WHERE s.deleted_at IS NULL");
        let sorted = match &filter.whose {
            Whose::Mine => {
                statement.push(" AND s.person = ").text(viewer.id.as_str());
                "s.sorted_at"
            }
            Whose::Of(handle) => {
                statement.push(" AND c.handle = ").text(handle.to_string());
                statement.push(" AND (c.hidden = 0 OR s.person = ").text(viewer.id.as_str()).push(")");
                "s.sorted_day"
            }
            Whose::Anybodys => {
                statement.push(" AND (c.hidden = 0 OR s.person = ").text(viewer.id.as_str()).push(")");
                "s.sorted_day"
            }
        };
        if let Some(species) = filter.species {
            statement.push(" AND s.species = ").text(species);
        }
        if let Some(near) = filter.near {
            push_near(&mut statement, viewer, near, filter.open);
        }
        if let Some(after) = &filter.after {
            statement.push(" AND (").push(sorted).push(" < ").number(after.sorted);
            statement.push(" OR (").push(sorted).push(" = ").number(after.sorted);
            statement.push(" AND s.id < ").text(after.id.to_string()).push("))");
        }
        statement.push(" ORDER BY ").push(sorted).push(" DESC, s.id DESC LIMIT ").number(filter.limit);
        let rows = statement.query().fetch_all(self.pool()).await.map_err(Error::database("listing sightings"))?;
        rows.iter().map(Seen::read).collect()
    }

    /// As [`Store::for_update`], for a sighting beside its collector.
    fn for_update_of_sighting(&self) -> &'static str {
        if self.for_update().is_empty() { "" } else { " FOR UPDATE OF s" }
    }
}

impl Write {
    /// One's own sighting that is not deleted; `lock` ends the statement.
    async fn own_sighting(&mut self, person: &PersonId, id: SightingId, lock: &'static str) -> Result<Option<Seen>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sighting s JOIN collector c ON c.person = s.person
            WHERE s.id = $1 AND s.person = $2 AND s.deleted_at IS NULL{lock}"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).bind(person.as_str());
        let row = query.fetch_optional(self.connection()).await.map_err(Error::database("looking for a sighting"))?;
        row.as_ref().map(Seen::read).transpose()
    }
}

/// A number, for a place in a statement that turns NaN into NULL: sqlx tells PostgreSQL that the NULL of a DOUBLE PRECISION is a
/// REAL, and then keeps the statement as one that takes no other.
fn double(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

/// Binds what the tables have of a place: itself, its point, and that of its cell's middle; nine numbers.
fn bind_place(mut query: Question<'_>, place: Option<Place>) -> Question<'_> {
    let numbers = place.map(|place| {
        let (at, [x, y, z], [cell_x, cell_y, cell_z]) = (place, place.point(), place.blurred().point());
        [at.latitude, at.longitude, double(at.accuracy_m), x, y, z, cell_x, cell_y, cell_z]
    });
    for number in numbers.unwrap_or([double(None); 9]) {
        query = query.bind(number);
    }
    query
}

/// The squared straight line from the place, or from the middle of its cell where the viewer is told no more.
fn push_near(statement: &mut Statement, viewer: &Person, near: Near, open: &[&str]) {
    statement.push(" AND s.x IS NOT NULL AND ((s.person <> ").text(viewer.id.as_str());
    push_species(statement.push(" AND s.species NOT IN "), open);
    push_within(statement.push(" AND "), near, ["s.cell_x", "s.cell_y", "s.cell_z"]);
    statement.push(") OR ((s.person = ").text(viewer.id.as_str());
    push_species(statement.push(" OR s.species IN "), open);
    push_within(statement.push(") AND "), near, ["s.x", "s.y", "s.z"]);
    statement.push("))");
}

fn push_species(statement: &mut Statement, species: &[&str]) {
    statement.row();
    // Lists may not be empty, and no species is called nothing.
    statement.text("");
    for id in species {
        statement.text(*id);
    }
    statement.end_row();
}

fn push_within(statement: &mut Statement, near: Near, columns: [&'static str; 3]) {
    for (index, (column, value)) in columns.into_iter().zip(near.place.point()).enumerate() {
        if index > 0 {
            statement.push(" + ");
        }
        statement.push("(").push(column).push(" - ").float(value).push(") * (").push(column).push(" - ").float(value);
        statement.push(")");
    }
    statement.push(" <= ").float(squared_chord(near.metres));
}
