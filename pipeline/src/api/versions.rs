//! Versions of DAGs: list them, show one with its text.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Limit, Path, Query, id, next};
use super::problem::{Problem, Problems};
use super::views::{DagVersionView, DagVersionWithText, DagVersions};
use crate::state::{Store, Version};

/// Which versions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// How many; 100 when not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Only versions seen before this one: the `next` of the page before.
    #[param(value_type = Option<String>, format = "uuid")]
    before: Option<String>,
}

/// Lists the versions of a DAG, the newest first: texts that its runs have had or that a server has read.
#[utoipa::path(
    get, path = "/api/v1/dags/{name}/versions", operation_id = "listDagVersions",
    params(("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the DAG"), Page),
    responses((status = 200, description = "A page of versions.", body = DagVersions), Problems)
)]
pub(super) async fn list(
    State(store): State<Store>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<DagVersions>, Problem> {
    let limit = Limit::of(page.limit);
    let before = page.before.map(|before| id(&before, "version of a DAG")).transpose()?;
    let versions = store.dag_versions_before(&name, limit, before).await?;
    let next = next(&versions, limit, |version| version.id);
    Ok(Json(DagVersions { versions: versions.into_iter().map(DagVersionView::from).collect(), next }))
}

/// Shows a version of a DAG with its text.
#[utoipa::path(
    get, path = "/api/v1/dags/{name}/versions/{version}", operation_id = "showDagVersion",
    params(
        ("name" = String, Path, pattern = r"^[^\u0000]*$", description = "name of the DAG"),
        (
            "version" = String, Path, pattern = r"^[^\u0000]*$",
            description = "`current`, `previous` (the one before it), or the beginning of its SHA-256"
        )
    ),
    responses((status = 200, description = "The version.", body = DagVersionWithText), Problems)
)]
pub(super) async fn show(
    State(store): State<Store>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<DagVersionWithText>, Problem> {
    Ok(Json(store.dag_version_text(&name, &Version::named(&version)).await?.into()))
}
