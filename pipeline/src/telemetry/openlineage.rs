//! Runs and their tasks as OpenLineage run events (specification 2-0-2): jobs are DAGs and tasks, datasets are assets.

use serde_json::{Map, Value, json};
use url::Url;

use crate::clock::Timestamp;
use crate::dag::{Dag, DagSchedule};
use crate::state::{InstanceFacts, RunCause, RunRecord, RunState, TaskState};

const EVENT_SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const FACETS: &str = "https://openlineage.io/spec/facets";

/// Who makes the events, as a URI.
const PRODUCER: &str = concat!("urn:safari:pipeline:", env!("CARGO_PKG_VERSION"));

/// A run has begun.
pub(super) fn run_started(namespace: &str, run: &RunRecord, dag: &Dag, at: Timestamp) -> Value {
    of_run(namespace, run, dag, "START", at, None)
}

/// A run has ended.
pub(super) fn run_ended(namespace: &str, run: &RunRecord, dag: &Dag, at: Timestamp) -> Value {
    let event = match run.state {
        RunState::Failed => "FAIL",
        RunState::Cancelled => "ABORT",
        _ => "COMPLETE",
    };
    of_run(namespace, run, dag, event, at, run.error.as_deref())
}

/// The start and the end of a task instance. Its run's id is the instance's own.
pub(super) fn of_instance(namespace: &str, run: &RunRecord, dag: &Dag, instance: &InstanceFacts) -> [Value; 2] {
    let ended = match instance.state {
        TaskState::Succeeded => "COMPLETE",
        TaskState::Cancelled => "ABORT",
        _ => "FAIL",
    };
    let job = json!({
        "namespace": namespace,
        "name": format!("{}.{}", run.dag, instance.task),
        "facets": {"jobType": job_type("TASK")},
    });
    let produced = dag.task(&instance.task).map(|task| task.produces.as_slice()).unwrap_or_default();
    [("START", instance.started_at), (ended, instance.finished_at)].map(|(event, at)| {
        let mut facets = Map::new();
        let parent = json!({"run": {"runId": run.id}, "job": {"namespace": namespace, "name": run.dag}});
        facets.insert("parent".to_owned(), facet("1-0-1/ParentRunFacet", parent));
        if let (false, Some(error)) = (event == "START", &instance.error) {
            facets.insert("errorMessage".to_owned(), error_message(error));
        }
        let outputs = if event == "COMPLETE" { produced } else { &[] };
        json!({
            "eventType": event,
            "eventTime": at,
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "run": {"runId": instance.id, "facets": facets},
            "job": job,
            "inputs": [],
            "outputs": datasets(namespace, outputs),
        })
    })
}

fn of_run(namespace: &str, run: &RunRecord, dag: &Dag, event: &str, at: Timestamp, error: Option<&str>) -> Value {
    let mut facets = Map::new();
    let engine = json!({"name": "safari", "version": env!("CARGO_PKG_VERSION")});
    facets.insert("processing_engine".to_owned(), facet("1-1-1/ProcessingEngineRunFacet", engine));
    if let Some(interval) = &run.interval {
        let (start, end) = (Timestamp::from(interval.start), Timestamp::from(interval.end));
        let nominal = json!({"nominalStartTime": start, "nominalEndTime": end});
        facets.insert("nominalTime".to_owned(), facet("1-0-1/NominalTimeRunFacet", nominal));
    }
    if let Some(error) = error {
        facets.insert("errorMessage".to_owned(), error_message(error));
    }
    let inputs = match &dag.schedule {
        DagSchedule::AllAssets(assets) | DagSchedule::AnyAsset(assets) if run.cause == RunCause::Asset => assets,
        _ => &Vec::new(),
    };
    json!({
        "eventType": event,
        "eventTime": at,
        "producer": PRODUCER,
        "schemaURL": EVENT_SCHEMA,
        "run": {"runId": run.id, "facets": facets},
        "job": {"namespace": namespace, "name": run.dag, "facets": {"jobType": job_type("DAG")}},
        "inputs": datasets(namespace, inputs),
        "outputs": [],
    })
}

/// Assets as datasets: an asset that is a URL keeps its own namespace, as the naming of OpenLineage has it.
fn datasets(namespace: &str, assets: &[String]) -> Vec<Value> {
    let dataset = |asset: &String| match Url::parse(asset) {
        Ok(url) if url.has_host() => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let place = format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default());
            json!({"namespace": place, "name": url.path().trim_start_matches('/')})
        }
        _ => json!({"namespace": namespace, "name": asset}),
    };
    assets.iter().map(dataset).collect()
}

fn job_type(kind: &str) -> Value {
    let fields = json!({"processingType": "BATCH", "integration": "SAFARI", "jobType": kind});
    facet("2-0-3/JobTypeJobFacet", fields)
}

fn error_message(error: &str) -> Value {
    facet("1-0-1/ErrorMessageRunFacet", json!({"message": error, "programmingLanguage": "YAML"}))
}

/// Fields with what every facet has: who made it, and its schema.
fn facet(schema: &str, mut fields: Value) -> Value {
    let (version, name) = schema.split_once('/').unwrap_or((schema, ""));
    fields["_producer"] = PRODUCER.into();
    fields["_schemaURL"] = format!("{FACETS}/{version}/{name}.json#/$defs/{name}").into();
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_that_are_urls_keep_their_place() {
        let assets = ["s3://bucket/tables/detections".to_owned(), "detections".to_owned()];
        let expected = [
            json!({"namespace": "s3://bucket", "name": "tables/detections"}),
            json!({"namespace": "safari", "name": "detections"}),
        ];
        assert_eq!(datasets("safari", &assets), expected);
    }
}
