//! `/api/v1/models/{name}/…`: promotions, rollbacks, approvals and their history. What MLflow's API does not have.

use axum::Json as Out;
use axum::extract::{Path, State};
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Serialize};

use super::{App, Json, Query};
use crate::promotion::{Approval, ApprovalRequest, Principal, Promotion, PromotionRequest, RollbackRequest};
use crate::store::HistoryQuery;
use crate::{Error, Result, VersionNumber};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .post("/models/{name}/promotions", Permission::ModelsPromote, promote)
        .post("/models/{name}/rollback", Permission::ModelsPromote, roll_back)
        .get("/models/{name}/approvals", Permission::ModelsRead, approvals)
        .post("/models/{name}/approvals", Permission::ModelsApprove, approve)
        .get("/models/{name}/history", Permission::ModelsRead, history)
}

#[derive(Serialize)]
struct History {
    promotions: Vec<Promotion>,
    /// For `before`, when there may be older rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<i64>,
}

#[derive(Serialize)]
struct Approvals {
    approvals: Vec<Approval>,
}

#[derive(Deserialize)]
struct HistoryFields {
    alias: Option<String>,
    before: Option<i64>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
struct ApprovalsQuery {
    version: Option<i64>,
}

async fn promote(
    State(app): State<App>,
    Path(name): Path<String>,
    who: Principal,
    Json(asked): Json<PromotionRequest>,
) -> Result<Out<Promotion>> {
    Ok(Out(app.store.promote(&name, &asked, &who).await?))
}

async fn roll_back(
    State(app): State<App>,
    Path(name): Path<String>,
    who: Principal,
    Json(asked): Json<RollbackRequest>,
) -> Result<Out<Promotion>> {
    Ok(Out(app.store.roll_back(&name, &asked, &who).await?))
}

async fn approve(
    State(app): State<App>,
    Path(name): Path<String>,
    who: Principal,
    Json(asked): Json<ApprovalRequest>,
) -> Result<Out<Approval>> {
    Ok(Out(app.store.approve(&name, &asked, &who).await?))
}

async fn approvals(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(asked): Query<ApprovalsQuery>,
) -> Result<Out<Approvals>> {
    let approvals = app.store.approvals(&name, asked.version.map(VersionNumber)).await?;
    Ok(Out(Approvals { approvals }))
}

async fn history(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(asked): Query<HistoryFields>,
) -> Result<Out<History>> {
    let limit = asked.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Error::invalid(format!("`limit` is {limit}; give a number from 1 to 1000")));
    }
    let query = HistoryQuery { alias: asked.alias.as_deref(), before: asked.before, limit };
    let promotions = app.store.history(&name, query).await?;
    let full = i64::try_from(promotions.len()).is_ok_and(|count| count == limit);
    let next_before = promotions.last().filter(|_| full).map(|last| last.id);
    Ok(Out(History { promotions, next_before }))
}
