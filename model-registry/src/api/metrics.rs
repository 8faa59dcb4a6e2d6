//! `metrics/…`.

use axum::Json as Reply;
use axum::extract::{RawQuery, State};
use platform::identity::{Guarded, Permission};
use serde::{Deserialize, Serialize};

use super::{App, Query, wrong_type};
use crate::entities::Metric;
use crate::limits::{HISTORY_BULK, HISTORY_RUNS, HISTORY_SAMPLES};
use crate::store::experiments::Page;
use crate::validate::{missing, required};
use crate::{Error, Result};

pub(super) fn routes() -> Guarded<App> {
    Guarded::new()
        .get("/metrics/get-history", Permission::TrackingRead, history)
        .get("/metrics/get-history-bulk", Permission::TrackingRead, bulk)
        .get("/metrics/get-history-bulk-interval", Permission::TrackingRead, interval)
}

#[derive(Deserialize)]
struct History {
    run_id: Option<String>,
    run_uuid: Option<String>,
    metric_key: Option<String>,
    page_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Serialize)]
struct Values {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// An answer whose list is also there when it is empty.
#[derive(Serialize)]
struct Listed {
    metrics: Vec<Metric>,
}

async fn history(State(app): State<App>, Query(request): Query<History>) -> Result<Reply<Values>> {
    let run = required(request.run_id.filter(|id| !id.is_empty()).or(request.run_uuid), "run_id")?;
    let key = required(request.metric_key, "metric_key")?;
    if let Some(size) = request.max_results.filter(|size| *size <= 0) {
        return Err(Error::invalid(format!(
            "Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer."
        )));
    }
    // Without a size there are no pages.
    let page = Page::new(request.max_results.unwrap_or(i64::MAX), request.page_token.as_deref())?;
    let (metrics, next_page_token) = app.store.metric_history(&run, &key, &page).await?;
    Ok(Reply(Values { metrics, next_page_token }))
}

async fn bulk(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Reply<Listed>> {
    let query = Repeated::read(query)?;
    let runs = query.all("run_id");
    if runs.is_empty() {
        return Err(Error::invalid("GetMetricHistoryBulk request must specify at least one run_id."));
    }
    if runs.len() > HISTORY_RUNS {
        return Err(Error::invalid(format!(
            "GetMetricHistoryBulk request cannot specify more than {HISTORY_RUNS} run_ids. Received {} run_ids.",
            runs.len()
        )));
    }
    let Some(key) = query.first("metric_key") else {
        return Err(Error::invalid("GetMetricHistoryBulk request must specify a metric_key."));
    };
    let limit = query.number("max_results")?.unwrap_or(HISTORY_BULK).clamp(0, HISTORY_BULK);
    Ok(Reply(Listed { metrics: app.store.metric_histories(&runs, key, limit).await? }))
}

async fn interval(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Reply<Values>> {
    let query = Repeated::read(query)?;
    let runs = query.all("run_ids");
    if runs.is_empty() {
        return Err(missing("run_ids"));
    }
    let hint = "See the API docs for more information about request parameters.";
    if runs.len() > HISTORY_RUNS {
        return Err(Error::invalid(format!(
            "GetMetricHistoryBulkInterval request must specify at most {HISTORY_RUNS} run_ids. Received {} run_ids. {hint}",
            runs.len()
        )));
    }
    let key = query.first("metric_key").filter(|key| !key.is_empty()).ok_or_else(|| missing("metric_key"))?;
    let samples = query.number("max_results")?.unwrap_or(HISTORY_SAMPLES);
    if !(1..=HISTORY_SAMPLES).contains(&samples) {
        return Err(Error::invalid(format!("max_results must be between 1 and {HISTORY_SAMPLES}. {hint}")));
    }
    let steps = match (query.number("start_step")?, query.number("end_step")?) {
        (None, None) => None,
        (Some(from), Some(to)) if from <= to => Some((from, to)),
        (Some(from), Some(to)) => {
            return Err(Error::invalid(format!(
                "end_step must be greater than start_step. Found start_step={from} and end_step={to}."
            )));
        }
        _ => return Err(Error::invalid("If either start step or end step are specified, both must be specified.")),
    };
    let mut metrics = Vec::new();
    for run in &runs {
        metrics.extend(app.store.sampled_history(run, key, steps, samples).await?);
    }
    Ok(Reply(Values { metrics, next_page_token: None }))
}

/// A query whose fields may occur more than once.
pub(super) struct Repeated(Vec<(String, String)>);

impl Repeated {
    pub(super) fn read(query: Option<String>) -> Result<Self> {
        let query = query.unwrap_or_default();
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        if pairs.iter().any(|(key, value)| key.contains('\0') || value.contains('\0')) {
            return Err(Error::invalid("the address holds a NUL character; leave it out"));
        }
        Ok(Self(pairs))
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.first(name) else { return Ok(None) };
        let number = text.trim().parse().map(Some);
        number.map_err(|_| wrong_type(name, &text.into()))
    }
}
