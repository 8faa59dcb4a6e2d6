//! What the gates of a promotion need: the tables of the lake, and the detector for a smoke inference.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Float64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use async_trait::async_trait;
use detector::engine::{Engine, MediaContent};
use detector::identify::{BurstFrame, identify};
use detector::model;
use futures::TryStreamExt;
use lake::Table;
use model_registry::VersionNumber;
use model_registry::client::Client;
use model_registry::promotion::{BoundSql, Candidate, GateRow, GateRunner};

use crate::Error;
use crate::evaluate::judge::{start, stop};
use crate::models;
use crate::register::MODEL_VERSION_TAG;
use crate::services::Services;

/// What cannot be a number or a flag is a mistake, not nothing.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// Columns of `evaluation` that the gates' view fills in.
const FILLED_IN: [&str; 2] = ["model", "version"];

/// Asks the lake and runs the detector for the gates of one promotion.
///
/// In the SQL of gates, `evaluation` has the number of the challenger and the champion in `version` also where they were
/// judged before they were registered: rows are found by the content of the model.
#[derive(Debug)]
pub struct LakeGates {
    services: Arc<Services>,
    /// The view in the place of the table.
    evaluation: String,
}

impl LakeGates {
    /// For a promotion of `candidate`; asks the registry for the contents of both versions.
    ///
    /// # Errors
    /// The registry cannot be asked, or has no such version.
    pub async fn new(services: Arc<Services>, client: &Client, candidate: &Candidate) -> crate::Result<Self> {
        let mut numbered = Vec::new();
        for version in [Some(candidate.challenger), candidate.champion].into_iter().flatten() {
            let Some(known) = client.version(&candidate.model, version).await? else {
                let model = format!("models:/{}/{version}", candidate.model);
                return Err(Error::Model { model, reason: "there is no such version".to_owned() });
            };
            let content = known.tags.iter().find(|tag| tag.key == MODEL_VERSION_TAG);
            numbered.extend(content.map(|content| (version, content.value.clone())));
        }
        Ok(Self { services, evaluation: view(&candidate.model, &numbered) })
    }

    async fn row(&self, sql: &str) -> Result<GateRow, String> {
        let lake = self.services.lake().await.map_err(|error| error.to_string())?;
        let views = [(Table::Evaluation.name(), self.evaluation.as_str())];
        let rows = lake.sql_with_views(sql, &views).await.map_err(|error| error.to_string())?;
        let batches: Vec<RecordBatch> = rows.try_collect().await.map_err(|error| error.to_string())?;
        read(&batches)
    }

    async fn try_out(&self, candidate: &Candidate) -> crate::Result<()> {
        let reference = format!("models:/{}/{}", candidate.model, candidate.challenger);
        let fetched = models::fetch(&self.services, Some(&reference)).await?;
        let Some(example) = model::input_example(&fetched.folder)? else {
            let reason = "it has no input example; train it with `safari`'s job `train`, or log it with one".to_owned();
            return Err(Error::Model { model: reference, reason });
        };
        show(&self.services, &reference, &fetched.folder, example).await
    }
}

#[async_trait]
impl GateRunner for LakeGates {
    async fn query(&self, sql: &BoundSql) -> Result<GateRow, String> {
        self.row(&sql.literal()).await
    }

    async fn smoke(&self, candidate: &Candidate) -> Result<(), String> {
        self.try_out(candidate).await.map_err(|error| error.to_string())
    }
}

/// Shows an example to the model in `folder`, whose answer must be numbers. `reference` names it in errors.
pub(crate) async fn show(services: &Services, reference: &str, folder: &Path, example: Vec<u8>) -> crate::Result<()> {
    let engine = start(services, folder).await?;
    let threshold = services.config().rollup.threshold;
    let answer = look(&engine, example, threshold).await;
    stop(engine).await;
    answer.map_err(|reason| Error::Model { model: reference.to_owned(), reason })
}

/// Shows the example to all networks, and twice in a second to the one that judges bursts.
async fn look(engine: &Engine, example: Vec<u8>, threshold: f32) -> Result<(), String> {
    let analysis = engine.analyse(MediaContent::Bytes(example)).await.map_err(|error| error.to_string())?;
    if let Some(failure) = analysis.failure {
        return Err(failure);
    }
    let frames: Vec<BurstFrame<'_>> = analysis
        .frames
        .iter()
        .flat_map(|frame| [0.0, 1.0].map(|after| (frame, frame.seconds + after)))
        .map(|(frame, seconds)| BurstFrame { sightings: &frame.sightings, seconds })
        .collect();
    let named = identify(engine.model(), &frames, threshold).map_err(|error| error.to_string())?;
    for detection in named.iter().flatten() {
        let name = detection.identification.as_ref().map_or(0.0, |name| name.confidence);
        if !detection.confidence.is_finite() || !name.is_finite() {
            return Err("its answer to the input example is no number".to_owned());
        }
    }
    Ok(())
}

/// `evaluation` with the numbers of registered versions, found by the content of the model.
fn view(model: &str, numbered: &[(VersionNumber, String)]) -> String {
    let schema = Table::Evaluation.schema();
    let others: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| field.name())
        .filter(|name| !FILLED_IN.contains(&name.as_str()))
        .map(|name| format!("e.\"{name}\""))
        .collect();
    let others = others.join(", ");
    if numbered.is_empty() {
        return format!("select e.model, e.version, {others} from evaluation e");
    }
    let rows: Vec<String> = numbered
        .iter()
        .map(|(version, content)| format!("({version}, {}, {})", quoted(content), quoted(model)))
        .collect();
    format!(
        "select coalesce(v.model, e.model) as model, coalesce(cast(v.version as bigint), e.version) as version, {others} \
         from evaluation e left join (values {}) as v (version, model_version, model) \
         on e.model_version = v.model_version",
        rows.join(", ")
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The only row of an answer.
fn read(batches: &[RecordBatch]) -> Result<GateRow, String> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows > 1 {
        return Err(format!("its SQL gives {rows} rows; it must give one"));
    }
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() == 1) else { return Ok(GateRow::default()) };
    let row = GateRow { found: number(batch, "found")?, wanted: number(batch, "wanted")?, passed: flag(batch)? };
    let named = ["found", "wanted", "passed"].iter().any(|name| batch.column_by_name(name).is_some());
    if named { Ok(row) } else { Err("its SQL gives no column `found`, `wanted` or `passed`".to_owned()) }
}

fn number(batch: &RecordBatch, name: &str) -> Result<Option<f64>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    let column = cast_with_options(column, &DataType::Float64, &STRICT)
        .map_err(|_| format!("the column `{name}` holds no number"))?;
    let column: &Float64Array = column.as_primitive::<Float64Type>();
    Ok(column.is_valid(0).then(|| column.value(0)))
}

fn flag(batch: &RecordBatch) -> Result<Option<bool>, String> {
    let Some(column) = batch.column_by_name("passed") else { return Ok(None) };
    let column = cast_with_options(column, &DataType::Boolean, &STRICT)
        .map_err(|_| "the column `passed` is not true or false".to_owned())?;
    let column: &BooleanArray = column.as_boolean();
    Ok(column.is_valid(0).then(|| column.value(0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap()
    }

    #[test]
    fn a_row_of_numbers_or_a_verdict_is_read() {
        let numbers = batch(vec![
            ("found", Arc::new(Int64Array::from(vec![3])) as ArrayRef),
            ("wanted", Arc::new(Float64Array::from(vec![2.5]))),
        ]);
        assert_eq!(read(&[numbers]).unwrap(), GateRow { found: Some(3.0), wanted: Some(2.5), passed: None });
        let verdict = batch(vec![("passed", Arc::new(BooleanArray::from(vec![false])) as ArrayRef)]);
        assert_eq!(read(&[verdict]).unwrap().passed, Some(false));
        let nothing = batch(vec![("found", Arc::new(Float64Array::from(vec![None::<f64>])) as ArrayRef)]);
        assert_eq!(read(&[nothing]).unwrap(), GateRow::default());
        assert_eq!(read(&[]).unwrap(), GateRow::default());
    }

    #[test]
    fn other_answers_are_told() {
        let two = batch(vec![("found", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]);
        assert!(read(&[two]).unwrap_err().contains("2 rows"));
        let other = batch(vec![("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
        assert!(read(&[other]).unwrap_err().contains("no column"));
        let word = batch(vec![("passed", Arc::new(StringArray::from(vec!["perhaps"])) as ArrayRef)]);
        assert!(read(&[word]).unwrap_err().contains("`passed`"));
    }

    #[test]
    fn names_of_models_cannot_change_the_view() {
        let view = view("o'wl", &[(VersionNumber(3), "owl-1'2".to_owned())]);
        assert!(view.contains("(3, 'owl-1''2', 'o''wl')"), "{view}");
    }
}
