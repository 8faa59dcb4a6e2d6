//! What one has seen, counted.

use super::Store;
use crate::collections::Moment;
use crate::collections::person::PersonId;
use crate::{Error, Result};

/// The sightings of one taxon.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) species: String,
    pub(crate) first: Moment,
    pub(crate) last: Moment,
    pub(crate) count: i64,
}

/// The sighting whose photograph shows a taxon best.
#[derive(Clone, Debug)]
pub(crate) struct BestPicture {
    pub(crate) species: String,
    pub(crate) sighting: String,
    pub(crate) confidence: Option<f64>,
}

impl Store {
    /// By taxon: first, last, how often. A sighting without a time counts as of when it was recorded.
    pub(crate) async fn tallies(&self, person: &PersonId) -> Result<Vec<Tally>> {
        let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            "SELECT species, MIN(sorted_at), MAX(sorted_at), CAST(COUNT(*) AS BIGINT) FROM sighting
             WHERE person = $1 AND deleted_at IS NULL GROUP BY species ORDER BY species",
        )
        .bind(person.as_str())
        .fetch_all(self.pool())
        .await
        .map_err(Error::database("counting a collection"))?;
        let tally = |(species, first, last, count)| Tally {
            species,
            first: Moment::from_millis(first),
            last: Moment::from_millis(last),
            count,
        };
        Ok(rows.into_iter().map(tally).collect())
    }

    /// By taxon the photograph of the surest sighting; of two the later. What a person names has no confidence and comes last.
    pub(crate) async fn best_pictures(&self, person: &PersonId) -> Result<Vec<BestPicture>> {
        let rows: Vec<(String, String, Option<f64>)> = sqlx::query_as(
            "SELECT species, id, confidence FROM (
               SELECT species, id, confidence, ROW_NUMBER() OVER (
                 PARTITION BY species ORDER BY COALESCE(confidence, -1.0) DESC, sorted_at DESC, id) AS place
               FROM sighting WHERE person = $1 AND deleted_at IS NULL AND picture IS NOT NULL) ranked
             WHERE place = 1",
        )
        .bind(person.as_str())
        .fetch_all(self.pool())
        .await
        .map_err(Error::database("looking for the best photographs"))?;
        Ok(rows
            .into_iter()
            .map(|(species, sighting, confidence)| BestPicture { species, sighting, confidence })
            .collect())
    }
}
