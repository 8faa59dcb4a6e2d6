//! Who has seen most.

use super::Store;
use crate::collections::Handle;
use crate::collections::person::PersonId;
use crate::{Error, Result};

/// Which collectors are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standings {
    /// Only what was seen from this day on, in days since 1970-01-01 UTC: a moment would tell the times of blurred sightings.
    pub(crate) since_day: Option<i64>,
    pub(crate) offset: i64,
    pub(crate) limit: i64,
}

/// A collector among others.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// From 1 on; equal collectors have the same.
    pub(crate) rank: i64,
    pub(crate) handle: Handle,
    pub(crate) name: String,
    pub(crate) is_me: bool,
    /// Taxa of the vocabulary; wider names count for nothing.
    pub(crate) species: i64,
    pub(crate) sightings: i64,
}

impl Store {
    /// Collectors by species, then by sightings. Those who are hidden are shown to themselves only.
    pub(crate) async fn leaderboard(&self, viewer: &PersonId, standings: Standings) -> Result<Vec<Standing>> {
        let rows: Vec<(i64, String, String, i64, i64, i64)> = sqlx::query_as(
            "SELECT CAST(RANK() OVER (ORDER BY t.species DESC, t.sightings DESC) AS BIGINT), c.handle, c.name,
               CAST(CASE WHEN c.person = $1 THEN 1 ELSE 0 END AS BIGINT), t.species, t.sightings
             FROM (SELECT person, CAST(COUNT(DISTINCT CASE WHEN is_leaf = 1 THEN species END) AS BIGINT) AS species,
                     CAST(COUNT(*) AS BIGINT) AS sightings
                   FROM sighting WHERE deleted_at IS NULL AND sorted_day >= $2 GROUP BY person) t
             JOIN collector c ON c.person = t.person
             WHERE c.hidden = 0 OR c.person = $1
             ORDER BY t.species DESC, t.sightings DESC, c.handle LIMIT $3 OFFSET $4",
        )
        .bind(viewer.as_str())
        .bind(standings.since_day.unwrap_or(i64::MIN))
        .bind(standings.limit)
        .bind(standings.offset)
        .fetch_all(self.pool())
        .await
        .map_err(Error::database("reading the leaderboard"))?;
        let standing = |(rank, handle, name, is_me, species, sightings): (i64, String, String, i64, i64, i64)| {
            let handle = handle.parse()?;
            Ok(Standing { rank, handle, name, is_me: is_me != 0, species, sightings })
        };
        rows.into_iter().map(standing).collect()
    }
}
