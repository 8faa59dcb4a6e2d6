//! Sightings as the tables have them.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use crate::collections::person::PersonId;
use crate::collections::place::Place;
use crate::collections::{Handle, Moment, SightingId};
use crate::{Error, Result};

/// The columns that [`Seen::read`] takes, of `s`, a sighting, and `c`, its collector.
pub(super) const COLUMNS: &str =
    "s.no, s.id, s.person, c.handle, c.name, s.key, s.digest, s.species, s.source, s.confidence,
    s.model, s.detection, s.picture, s.seen_at, s.sorted_at, s.sorted_day, s.latitude, s.longitude, s.accuracy_m,
    s.created_at, s.updated_at, s.deleted_at";

/// How it is known what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// A detection that was answered before.
    Detection,
    /// A photograph that was shown to the detector.
    Photograph,
    /// The person says so.
    Named,
}

/// A sighting and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// Grows from one to the next.
    pub(crate) no: i64,
    pub(crate) id: SightingId,
    pub(crate) person: PersonId,
    pub(crate) handle: Handle,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) digest: String,
    pub(crate) species: String,
    pub(crate) source: Source,
    pub(crate) confidence: Option<f64>,
    pub(crate) model: Option<String>,
    pub(crate) detection: Option<String>,
    /// sha256 of the photograph.
    pub(crate) picture: Option<String>,
    pub(crate) seen_at: Option<Moment>,
    pub(crate) sorted_at: Moment,
    pub(crate) sorted_day: i64,
    pub(crate) place: Option<Place>,
    pub(crate) created_at: Moment,
    pub(crate) updated_at: Moment,
    pub(crate) is_deleted: bool,
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Detection => "detection",
            Self::Photograph => "photograph",
            Self::Named => "named",
        }
    }

    fn read(text: &str) -> Result<Self> {
        let all = [Self::Detection, Self::Photograph, Self::Named];
        let unreadable = || Error::Unreadable { what: "a sighting's source", found: text.to_owned() };
        all.into_iter().find(|source| source.name() == text).ok_or_else(unreadable)
    }
}

impl Seen {
    pub(super) fn read(row: &AnyRow) -> Result<Self> {
        Self::columns(row).map_err(Error::database("reading a sighting"))?
    }

    fn columns(row: &AnyRow) -> sqlx::Result<Result<Self>> {
        let text = |column: &str| row.try_get::<String, _>(column);
        let maybe = |column: &str| row.try_get::<Option<String>, _>(column);
        let number = |column: &str| row.try_get::<i64, _>(column);
        let maybe_number = |column: &str| row.try_get::<Option<i64>, _>(column);
        let float = |column: &str| row.try_get::<Option<f64>, _>(column);
        let (id, handle, source) = (text("id")?, text("handle")?, text("source")?);
        let place = float("latitude")?.zip(float("longitude")?);
        let accuracy_m = float("accuracy_m")?;
        let parsed = || Ok((id.parse()?, handle.parse()?, Source::read(&source)?));
        let (id, handle, source) = match parsed() {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Self {
            no: number("no")?,
            id,
            person: PersonId::new(text("person")?),
            handle,
            name: text("name")?,
            key: text("key")?,
            digest: text("digest")?,
            species: text("species")?,
            source,
            confidence: float("confidence")?,
            model: maybe("model")?,
            detection: maybe("detection")?,
            picture: maybe("picture")?,
            seen_at: maybe_number("seen_at")?.map(Moment::from_millis),
            sorted_at: Moment::from_millis(number("sorted_at")?),
            sorted_day: number("sorted_day")?,
            place: place.map(|(latitude, longitude)| Place { latitude, longitude, accuracy_m }),
            created_at: Moment::from_millis(number("created_at")?),
            updated_at: Moment::from_millis(number("updated_at")?),
            is_deleted: maybe_number("deleted_at")?.is_some(),
        }))
    }
}
