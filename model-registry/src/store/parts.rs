//! What runs logged, read for a page of runs in one statement.

use std::collections::HashMap;

use platform::database::{Engine, Statement};
use sqlx::AnyConnection;

use super::Store;
use super::inputs::read_tags;
use super::runs::{Row, info};
use super::sets::{parts, push_one_of};
use crate::entities::{
    Dataset, DatasetInput, Metric, ModelInput, ModelOutput, Pair, Run, RunData, RunInputs, RunOutputs,
};
use crate::number::Stored;
use crate::{Error, Result};

/// Kind, run, key, text, real number, whole numbers a, b and c, and four texts of datasets.
type Part = (
    String,
    i64,
    String,
    Option<String>,
    Option<f64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// What each SELECT begins with, and the column that tells the run.
const SELECTS: [(&str, &str); 5] = [
    (
        "SELECT 'metric' AS kind, run_no, key, CAST(NULL AS TEXT) AS value, value AS number, step AS a, time AS b, \
         is_nan AS c, CAST(NULL AS TEXT) AS t1, CAST(NULL AS TEXT) AS t2, CAST(NULL AS TEXT) AS t3, \
         CAST(NULL AS TEXT) AS t4 FROM latest_metric WHERE ",
        "run_no",
    ),
    (
        " UNION ALL SELECT 'param', run_no, key, value, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM param WHERE ",
        "run_no",
    ),
    (
        " UNION ALL SELECT 'tag', run_no, key, value, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM run_tag WHERE ",
        "run_no",
    ),
    (
        " UNION ALL SELECT direction, run_no, model_id, NULL, NULL, step, NULL, NULL, NULL, NULL, NULL, NULL \
         FROM run_model WHERE ",
        "run_no",
    ),
    (
        " UNION ALL SELECT 'dataset', d.run_no, s.name, s.digest, NULL, NULL, NULL, NULL, d.tags, s.source_type, \
         s.source, s.schema FROM run_dataset d JOIN dataset s ON s.no = d.dataset_no WHERE ",
        "d.run_no",
    ),
];

/// Profiles of datasets may be large: they are asked for only when there are datasets.
const PROFILES: &str = "SELECT d.run_no, s.name, s.digest, s.profile FROM run_dataset d JOIN dataset s \
                        ON s.no = d.dataset_no WHERE s.profile IS NOT NULL AND ";

impl Store {
    /// The runs of these rows, in their order, with all that they logged.
    pub(super) async fn with_parts(&self, connection: &mut AnyConnection, rows: Vec<Row>) -> Result<Vec<Run>> {
        let numbers: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let places: HashMap<i64, usize> = numbers.iter().enumerate().map(|(place, no)| (*no, place)).collect();
        let mut runs = rows.into_iter().map(empty).collect::<Result<Vec<_>>>()?;
        if runs.is_empty() {
            return Ok(runs);
        }
        let mut has_datasets = false;
        for part in self.parts_of(connection, &numbers).await? {
            has_datasets |= part.0 == "dataset";
            if let Some(run) = places.get(&part.1).and_then(|&place| runs.get_mut(place)) {
                add(run, part)?;
            }
        }
        runs.iter_mut().for_each(sort);
        if has_datasets {
            self.add_profiles(connection, &numbers, &places, &mut runs).await?;
        }
        Ok(runs)
    }

    async fn parts_of(&self, connection: &mut AnyConnection, numbers: &[i64]) -> Result<Vec<Part>> {
        let mut statement = Statement::new("");
        for (select, column) in SELECTS {
            statement.push(select);
            push_runs(&mut statement, self.engine(), column, numbers);
        }
        statement.query_as().fetch_all(connection).await.map_err(Error::database("reading what runs logged"))
    }

    async fn add_profiles(
        &self,
        connection: &mut AnyConnection,
        numbers: &[i64],
        places: &HashMap<i64, usize>,
        runs: &mut [Run],
    ) -> Result<()> {
        let mut statement = Statement::new(PROFILES);
        push_runs(&mut statement, self.engine(), "d.run_no", numbers);
        let rows: Vec<(i64, String, String, String)> = statement
            .query_as()
            .fetch_all(connection)
            .await
            .map_err(Error::database("reading profiles of datasets"))?;
        for (run, name, digest, profile) in rows {
            let Some(run) = places.get(&run).and_then(|&place| runs.get_mut(place)) else { continue };
            let mut inputs = run.inputs.dataset_inputs.iter_mut();
            if let Some(input) = inputs.find(|input| input.dataset.name == name && input.dataset.digest == digest) {
                input.dataset.profile = Some(profile);
            }
        }
        Ok(())
    }
}

/// Selects rows of run, key and value, which are put behind it as `(VALUES …`, with what tags and params know of their run;
/// [`OF_RUN`] comes behind them.
pub(super) const WITH_RUN: &str = "SELECT v.column1, v.column2, v.column3, r.experiment_id, r.started_at FROM ";

/// See [`WITH_RUN`]. SQLite needs the condition to tell what follows from a join.
pub(super) const OF_RUN: &str = ") v JOIN run r ON r.no = v.column1 WHERE 1 = 1";

/// Sets tags of a run. Of a key that occurs twice, the last value is kept.
pub(super) async fn set_tags(connection: &mut AnyConnection, run: i64, tags: &[Pair]) -> Result<()> {
    let mut last: Vec<&Pair> = Vec::with_capacity(tags.len());
    for tag in tags {
        match last.iter_mut().find(|earlier| earlier.key == tag.key) {
            Some(earlier) => *earlier = tag,
            None => last.push(tag),
        }
    }
    for part in parts(&last) {
        let mut statement = Statement::new("INSERT INTO run_tag (run_no, key, value, experiment_id, started_at) ");
        statement.push(WITH_RUN).push("(VALUES ");
        for tag in part {
            statement.row().number(run).text(&tag.key).text(&tag.value).end_row();
        }
        statement.push(OF_RUN).push(" ON CONFLICT (run_no, key) DO UPDATE SET value = excluded.value");
        statement.query().execute(&mut *connection).await.map_err(Error::database("setting tags of a run"))?;
    }
    Ok(())
}

/// One run is the most frequent question, and the simplest.
fn push_runs(statement: &mut Statement, engine: Engine, column: &'static str, numbers: &[i64]) {
    match numbers {
        [one] => {
            statement.push(column).push(" = ").number(*one);
        }
        many => push_one_of(statement, engine, column, many),
    }
}

fn empty(row: Row) -> Result<Run> {
    let info = info(row)?;
    Ok(Run { info, data: RunData::default(), inputs: RunInputs::default(), outputs: Some(RunOutputs::default()) })
}

/// By key, in which SQLite gives them anyway.
fn sort(run: &mut Run) {
    run.data.metrics.sort_by(|a, b| a.key.cmp(&b.key));
    run.data.params.sort_by(|a, b| a.key.cmp(&b.key));
    run.data.tags.sort_by(|a, b| a.key.cmp(&b.key));
}

fn add(run: &mut Run, part: Part) -> Result<()> {
    let (kind, _, key, text, number, a, b, c, t1, t2, t3, t4) = part;
    let text = text.unwrap_or_default();
    match kind.as_str() {
        "metric" => {
            let stored = Stored { value: number.unwrap_or_default(), is_nan: c.unwrap_or_default() };
            run.data.metrics.push(Metric {
                key,
                value: stored.value(),
                timestamp: b.unwrap_or_default(),
                step: a.unwrap_or_default(),
                dataset_name: None,
                dataset_digest: None,
                model_id: None,
                run_id: None,
            });
        }
        "param" => run.data.params.push(Pair { key, value: text }),
        "tag" => run.data.tags.push(Pair { key, value: text }),
        "input" => run.inputs.model_inputs.push(ModelInput { model_id: key }),
        "output" => {
            let outputs = run.outputs.get_or_insert_default();
            outputs.model_outputs.push(ModelOutput { model_id: key, step: a.unwrap_or_default() });
        }
        "dataset" => run.inputs.dataset_inputs.push(DatasetInput {
            tags: read_tags(&t1.unwrap_or_default())?,
            dataset: Dataset {
                name: key,
                digest: text,
                source_type: t2.unwrap_or_default(),
                source: t3.unwrap_or_default(),
                schema: t4,
                profile: None,
            },
        }),
        other => return Err(Error::Unreadable { what: "a part of a run", found: other.to_owned() }),
    }
    Ok(())
}
