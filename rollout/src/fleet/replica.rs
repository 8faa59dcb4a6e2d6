//! One server of `safari serve`: the part of its API that a rollout needs (`serving/src/models/api.rs`).

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{Behind, Cause, Counted, exposition};

/// How long a replica may take to answer what costs it nothing.
const QUICK: Duration = Duration::from_secs(5);
/// How long it may take to fetch a model, load it and look at its first pictures.
const LOADING: Duration = Duration::from_secs(300);
/// A candidate that is not asked for again within this time goes away by itself.
pub(super) const STAYS: Duration = Duration::from_secs(60);
/// The most bytes of an answer that are read.
const MOST: usize = 16 * 1024 * 1024;

/// How the models of a replica stand: `GET /v1/model`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Status {
    pub(super) current: Option<Model>,
    pub(super) previous: Option<Model>,
    pub(super) candidate: Option<CandidateStatus>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Model {
    /// Name and content: the label of its counters.
    pub(super) version: String,
    /// `models:/NAME/VERSION`.
    pub(super) source: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct CandidateStatus {
    pub(super) model: Model,
    pub(super) mode: String,
    pub(super) percent: u8,
}

/// A way to one replica.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    client: Client,
    base: Url,
    token: Option<String>,
}

/// Problem details, as far as they are for people.
#[derive(Deserialize)]
struct Problem {
    detail: Option<String>,
}

impl Replica {
    pub(super) fn new(client: Client, base: Url, token: Option<String>) -> Self {
        Self { client, base, token }
    }

    /// Its address for people.
    pub(super) fn name(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    pub(super) async fn status(&self) -> Result<Status, Behind> {
        self.json(self.ask(Method::GET, "v1/model").timeout(QUICK)).await
    }

    /// Loads the candidate, unless it is there, and gives it its share; it stays for [`STAYS`].
    pub(super) async fn set_candidate(&self, source: &str, percent: u8) -> Result<Status, Behind> {
        let body = json!({"model": source, "mode": "canary", "percent": percent, "for_seconds": STAYS.as_secs()});
        self.json(
            self.ask(Method::PUT, "v1/model/candidate")
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string())
                .timeout(LOADING),
        )
        .await
    }

    pub(super) async fn remove_candidate(&self) -> Result<Status, Behind> {
        self.json(self.ask(Method::DELETE, "v1/model/candidate").timeout(QUICK)).await
    }

    /// Looks at what the alias names.
    pub(super) async fn refresh(&self) -> Result<Status, Behind> {
        self.json(self.ask(Method::POST, "v1/model/refresh").timeout(LOADING)).await
    }

    /// Lets the candidate answer everything.
    pub(super) async fn promote(&self) -> Result<Status, Behind> {
        self.json(self.ask(Method::POST, "v1/model/promote").timeout(QUICK)).await
    }

    /// Its counters in Prometheus' text format.
    async fn metrics(&self) -> Result<String, Behind> {
        let bytes = self.bytes(self.ask(Method::GET, "metrics").timeout(QUICK)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What it has counted of two versions.
    pub(super) async fn counted(&self, stable: &str, candidate: &str) -> Result<Counted, Behind> {
        let status = self.status().await?;
        let text = self.metrics().await?;
        let of =
            |source: &str| status.label(source).map(|label| exposition::counters(&text, label)).unwrap_or_default();
        Ok(Counted { replica: self.name(), stable: of(stable), candidate: of(candidate) })
    }

    /// Something about this replica.
    pub(super) fn behind(&self, cause: Cause, reason: impl Into<String>) -> Behind {
        Behind { replica: self.name(), reason: reason.into(), cause }
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        // Joining a path that the program knows cannot fail; if it did, the root would answer that there is no such thing.
        let url = self.base.join(path).unwrap_or_else(|_| self.base.clone());
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn json<T: for<'de> Deserialize<'de>>(&self, request: RequestBuilder) -> Result<T, Behind> {
        let bytes = self.bytes(request).await?;
        serde_json::from_slice(&bytes).map_err(|_| {
            self.behind(Cause::NotYet, "it answered something else than this version's API; is it `safari serve`")
        })
    }

    async fn bytes(&self, request: RequestBuilder) -> Result<Vec<u8>, Behind> {
        let away = |error: reqwest::Error| {
            let reason = platform::error::root_cause(&error.without_url());
            self.behind(Cause::Away, format!("it does not answer: {reason}"))
        };
        let mut answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(more) = answer.chunk().await.map_err(away)? {
            if bytes.len() + more.len() > MOST {
                return Err(self.behind(Cause::NotYet, format!("its answer has more than {MOST} bytes")));
            }
            bytes.extend_from_slice(&more);
        }
        if status.is_success() {
            return Ok(bytes);
        }
        let detail = serde_json::from_slice::<Problem>(&bytes).ok().and_then(|problem| problem.detail);
        let reason = detail.unwrap_or_else(|| format!("it answered {status}"));
        Err(self.behind(cause(status), reason))
    }
}

/// What a status means for a rollout.
fn cause(status: StatusCode) -> Cause {
    match status {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST => Cause::Refused,
        StatusCode::SERVICE_UNAVAILABLE => Cause::Away,
        _ => Cause::NotYet,
    }
}

impl Status {
    /// The label of the counters of what is named so, if it is in memory.
    pub(super) fn label(&self, source: &str) -> Option<&str> {
        let candidate = self.candidate.as_ref().map(|candidate| &candidate.model);
        let models = [self.current.as_ref(), candidate, self.previous.as_ref()];
        models.into_iter().flatten().find(|model| model.source == source).map(|model| model.version.as_str())
    }

    /// Whether `source` answers everything alone.
    pub(super) fn serves_alone(&self, source: &str) -> bool {
        self.candidate.is_none() && self.current.as_ref().is_some_and(|current| current.source == source)
    }
}
