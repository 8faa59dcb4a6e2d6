//! Counters of replicas as a Prometheus server has them, where replicas are not asked themselves: its HTTP API
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>).
//!
//! It is asked for the counters as they are, not for rates: what has come since the last look is found as with replicas, so
//! that nothing is extrapolated, and a counter that begins anew is noticed.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Client;
use reqwest::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::analysis::Counters;
use crate::fleet::{Counted, Gathered, Versions, client};
use crate::{Error, Result};
use answer::Series;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer that are read.
const MOST: usize = 16 * 1024 * 1024;
/// 1 for each model in memory, by `version` (the label of the counters) and `source` (`serving/src/metrics.rs`).
const MODELS: &str = "safari_serving_model";
/// Labels that do not tell replicas apart.
const NOT_OF_REPLICAS: [&str; 5] = ["__name__", "version", "outcome", "of", "le"];

/// Where counters come from. In a plan's file: `prometheus`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSource {
    /// The server, such as `http://prometheus.monitoring:9090`; a path before `/api/v1` may follow.
    pub url: Url,
    /// Matchers that all series must fit, such as `namespace="safari"`: more than one installation may be scraped.
    #[serde(default, rename = "match", skip_serializing_if = "String::is_empty")]
    pub matchers: String,
}

/// A way to one server.
pub(crate) struct Prometheus {
    client: Client,
    source: PrometheusSource,
    /// The header `Authorization`.
    authorization: Option<String>,
}

impl PrometheusSource {
    /// A server without matchers.
    ///
    /// # Errors
    /// [`Error::Plan`]: the text is no URL of one, or holds a password, which would be written down with the plan.
    pub fn new(url: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Plan(format!("prometheus: {reason}"));
        let url: Url = url.parse().map_err(|_| wrong("it is no URL; write http://HOST:PORT"))?;
        let source = Self { url, matchers: String::new() };
        source.check().map_err(|reason| wrong(&reason))?;
        Ok(source)
    }

    /// Says in words what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !matches!(self.url.scheme(), "http" | "https") || self.url.host().is_none() {
            return Err("write its URL as http://HOST:PORT or https://HOST".to_owned());
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return Err(
                "its URL may hold no password: it would be kept with the plan; set rollout.prometheus_authorization"
                    .to_owned(),
            );
        }
        if self.url.query().is_some() || self.url.fragment().is_some() {
            return Err("its URL has no query".to_owned());
        }
        if self.matchers.contains(['{', '}']) {
            return Err("`match` is written without braces, as namespace=\"safari\"".to_owned());
        }
        Ok(())
    }
}

impl Prometheus {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// There can be no client for it.
    pub(crate) fn new(source: &PrometheusSource, authorization: Option<String>) -> Result<Self> {
        Ok(Self { client: client()?, source: source.clone(), authorization })
    }

    /// What every replica has counted, as of the last time that it was scraped.
    ///
    /// # Errors
    /// The server cannot be asked, or knows neither version.
    pub(crate) async fn counted(&self, versions: &Versions) -> Result<Vec<Counted>> {
        let (stable, candidate) = (versions.source(versions.stable), versions.source(versions.candidate));
        let known = self.query(&self.of_models(&[&stable, &candidate])).await?;
        let label = |source: &str| {
            let mut series = known.iter().filter(|series| series.value > 0.0);
            let found = series.find(|series| series.labels.get("source").is_some_and(|named| named == source));
            found.and_then(|series| series.labels.get("version").cloned())
        };
        let (stable_label, candidate_label) = (label(&stable), label(&candidate));
        let labels: BTreeSet<&String> = [&stable_label, &candidate_label].into_iter().flatten().collect();
        if labels.is_empty() {
            let reason = format!("has no {MODELS} of {stable} and {candidate}; does it scrape the replicas");
            return Err(self.failed(&reason));
        }
        if stable_label == candidate_label {
            let reason = format!("cannot tell {candidate} from {stable}: their content is the same");
            return Err(self.failed(&reason));
        }
        let buckets = self.query(&self.of_buckets(&labels)).await?;
        let stable_label = stable_label.as_deref();
        Ok(by_replica(buckets, stable_label, candidate_label.as_deref()))
    }

    fn of_models(&self, sources: &[&str]) -> String {
        let one = |source: &&str| format!("{MODELS}{{{}source=\"{}\"}}", self.matchers(), quoted(source));
        sources.iter().map(one).collect::<Vec<_>>().join(" or ")
    }

    fn of_buckets(&self, labels: &BTreeSet<&String>) -> String {
        let metrics = Gathered::METRICS.join("|");
        let one =
            |label: &&String| format!("{{__name__=~\"{metrics}\",{}version=\"{}\"}}", self.matchers(), quoted(label));
        labels.iter().map(one).collect::<Vec<_>>().join(" or ")
    }

    /// The matchers, with a comma after them.
    fn matchers(&self) -> String {
        let given = self.source.matchers.trim().trim_end_matches(',');
        if given.is_empty() { String::new() } else { format!("{given},") }
    }

    async fn query(&self, query: &str) -> Result<Vec<Series>> {
        let mut url = self.source.url.clone();
        url.set_path(&format!("{}/api/v1/query", self.source.url.path().trim_end_matches('/')));
        url.query_pairs_mut().append_pair("query", query);
        let mut request = self.client.get(url).timeout(PATIENCE);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let away = |error: reqwest::Error| {
            let reason = platform::error::root_cause(&error.without_url());
            self.failed(&format!("does not answer: {reason}"))
        };
        let mut answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(more) = answer.chunk().await.map_err(away)? {
            if bytes.len() + more.len() > MOST {
                return Err(self.failed(&format!("answers with more than {MOST} bytes")));
            }
            bytes.extend_from_slice(&more);
        }
        answer::read(&bytes).map_err(|reason| {
            let reason = reason.unwrap_or_else(|| format!("answers {status}, and not as Prometheus does"));
            self.failed(&reason)
        })
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Prometheus { server: self.source.url.origin().ascii_serialization(), reason: reason.to_owned() }
    }
}

/// Buckets of all replicas, told apart by the labels that the scrape gave them.
fn by_replica(buckets: Vec<Series>, stable: Option<&str>, candidate: Option<&str>) -> Vec<Counted> {
    let mut replicas: BTreeMap<String, (Gathered, Gathered)> = BTreeMap::new();
    for Series { labels, value } in buckets {
        let own = labels.iter().filter(|(name, _)| !NOT_OF_REPLICAS.contains(&name.as_str()));
        let replica: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
        let gathered = replicas.entry(replica.join(",")).or_default();
        let version = labels.get("version").map(String::as_str);
        let Some(metric) = labels.get("__name__") else { continue };
        if version == stable {
            gathered.0.take(metric, &labels, value);
        } else if version == candidate {
            gathered.1.take(metric, &labels, value);
        }
    }
    let counted = |(replica, (stable, candidate)): (String, (Gathered, Gathered))| {
        let (stable, candidate): (Counters, Counters) = (stable.counters(), candidate.counters());
        Counted { replica, stable, candidate }
    };
    replicas.into_iter().map(counted).collect()
}

/// A text within the quotes of a query.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn prometheus(matchers: &str) -> Prometheus {
        let source = PrometheusSource::new("http://127.0.0.1:9090/prometheus").unwrap();
        Prometheus::new(&PrometheusSource { matchers: matchers.to_owned(), ..source }, None).unwrap()
    }

    #[test]
    fn queries_are_quoted_and_narrowed() {
        let text = prometheus("").of_models(&["models:/a\"b/1", "models:/c\\d/2"]);
        let expected =
            r#"safari_serving_model{source="models:/a\"b/1"} or safari_serving_model{source="models:/c\\d/2"}"#;
        assert_eq!(text, expected);
        let text = prometheus("namespace=\"safari\", ").of_buckets(&BTreeSet::from([&"wildlife-1".to_owned()]));
        let metrics = "safari_serving_answer_seconds_bucket|safari_serving_score_bucket";
        assert_eq!(text, format!(r#"{{__name__=~"{metrics}",namespace="safari",version="wildlife-1"}}"#));
    }

    #[test]
    fn urls_that_would_tell_a_password_are_refused() {
        let refused = |url: &str| PrometheusSource::new(url).unwrap_err().to_string();
        assert!(refused("http://ada:s3cret@127.0.0.1:9090").contains("rollout.prometheus_authorization"));
        assert!(!refused("http://ada:s3cret@127.0.0.1:9090").contains("s3cret"));
        assert!(refused("ftp://a").contains("http://HOST:PORT") && refused("nowhere").contains("no URL"));
        assert!(refused("http://a/?x=1").contains("query"));
    }
}
