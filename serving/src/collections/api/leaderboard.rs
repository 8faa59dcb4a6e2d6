//! Who has seen most.

use axum::Json;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Asking, Limit, Query, bad_token, read_token, token};
use super::problems::Problems;
use super::views::{LeaderboardView, StandingView};
use crate::Result;
use crate::collections::Moment;
use crate::collections::store::Standings;

/// What counts.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Period {
    /// The last 7 days.
    Week,
    /// The last 30 days.
    Month,
    /// The last 365 days.
    Year,
    /// Everything.
    All,
}

/// Which collectors to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// What counts; `all` when not given.
    #[param(inline)]
    period: Option<Period>,
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Lists collectors by the number of their species, then of their sightings: those who are public, and oneself.
#[utoipa::path(
    get, path = "/v1/leaderboard", operation_id = "showLeaderboard", params(Wanted), tag = "collections",
    responses((status = 200, description = "A page of collectors.", body = LeaderboardView), Problems)
)]
pub(super) async fn show(asking: Asking, Query(wanted): Query<Wanted>) -> Result<Json<LeaderboardView>> {
    let days = match wanted.period.unwrap_or(Period::All) {
        Period::Week => Some(7),
        Period::Month => Some(30),
        Period::Year => Some(365),
        Period::All => None,
    };
    let offset = match wanted.page_token.as_deref() {
        Some(text) => read_token(text)?.parse::<u32>().map_err(|_| bad_token())?,
        None => 0,
    };
    let limit = Limit::of(wanted.limit);
    let standings = Standings {
        since_day: days.map(|days| Moment::now().day() - days),
        offset: i64::from(offset),
        limit: limit as i64 + 1,
    };
    let mut found = asking.collections.store.leaderboard(&asking.person.id, standings).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_page_token = more.then(|| token(&(u64::from(offset) + limit as u64).to_string()));
    Ok(Json(LeaderboardView { collectors: found.into_iter().map(StandingView::from).collect(), next_page_token }))
}
