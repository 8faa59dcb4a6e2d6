//! The tables' rows of one source as polars frames, and what is counted in them.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Int64Type};
use futures::TryStreamExt;
use lake::Lake;
use platform::object_store::Location;
use polars::prelude::{Column, DataFrame, IntoLazy, NamedFrom, Series, SortMultipleOptions, col, len, lit};

use crate::{Error, Result};

/// Rows of the source's media (newest processing of each) and of their boxes.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    /// uri, deployment, category, failure, hour.
    pub(super) media: DataFrame,
    /// uri, deployment, category, species, scientific_name, rank, confidence, species_confidence, hour, x, y, width,
    /// height, frame, is_video.
    pub(super) detections: DataFrame,
}

/// How often a kind was seen.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct SpeciesCount {
    pub(super) species: String,
    pub(super) scientific_name: String,
    pub(super) rank: String,
    pub(super) count: u32,
}

/// How often a camera saw what.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct DeploymentCount {
    pub(super) deployment: String,
    pub(super) media: u32,
    pub(super) animals: u32,
    pub(super) species: u32,
}

/// What the page says in numbers.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Summary {
    pub(super) media: usize,
    pub(super) animals: usize,
    pub(super) persons: usize,
    pub(super) vehicles: usize,
    pub(super) blank: usize,
    pub(super) failed: usize,
    pub(super) species: Vec<SpeciesCount>,
    pub(super) deployments: Vec<DeploymentCount>,
    /// Boxes of animals by hour of the camera's day; empty if no medium has a time.
    pub(super) hours: Vec<u32>,
}

const MEDIA_COLUMNS: [(&str, Kind); 5] = [
    ("uri", Kind::Text),
    ("deployment", Kind::Text),
    ("category", Kind::Text),
    ("failure", Kind::Text),
    ("hour", Kind::Whole),
];

const DETECTION_COLUMNS: [(&str, Kind); 16] = [
    ("uri", Kind::Text),
    ("deployment", Kind::Text),
    ("category", Kind::Text),
    ("species", Kind::Text),
    ("scientific_name", Kind::Text),
    ("rank", Kind::Text),
    ("media_type", Kind::Text),
    ("captured", Kind::Text),
    ("hour", Kind::Whole),
    ("frame", Kind::Whole),
    ("confidence", Kind::Real),
    ("species_confidence", Kind::Real),
    ("x", Kind::Real),
    ("y", Kind::Real),
    ("width", Kind::Real),
    ("height", Kind::Real),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Real,
}

/// Reads what the tables hold of `source` for one model.
pub(super) async fn read(lake: &Lake, source: &Location, model_version: &str) -> Result<Tables> {
    // The hour is the camera's: seconds since 1970 moved by the offset it wrote (0 if it wrote none).
    let hour = "cast((cast(date_part('epoch', captured_at) as bigint) + 60 * coalesce(captured_offset_minutes, 0)) \
                / 3600 % 24 as int)";
    let newest = format!(
        "select * from (select *, row_number() over (partition by uri order by processed_at desc, run_id desc) as n \
         from media where model_version = {} and starts_with(uri, {})) where n = 1",
        quoted(model_version),
        quoted(&prefix(source)),
    );
    let media = format!("select uri, deployment, category, failure, {hour} as hour from ({newest}) order by uri");
    let detections = format!(
        "select d.uri, d.deployment, d.category, d.species, d.scientific_name, d.rank, m.media_type, \
         cast(d.captured_at as varchar) as captured, m.hour, d.frame, d.confidence, d.species_confidence, \
         d.x, d.y, d.width, d.height from detections d join (select *, {hour} as hour from ({newest})) m \
         on d.uri = m.uri and d.run_id = m.run_id and d.task = m.task order by d.uri, d.frame, d.confidence desc"
    );
    Ok(Tables {
        media: frame(lake, &media, &MEDIA_COLUMNS).await?,
        detections: frame(lake, &detections, &DETECTION_COLUMNS).await?,
    })
}

/// Counts for the page.
pub(super) fn summarise(tables: &Tables) -> Result<Summary> {
    let media = tables.media.clone().lazy();
    let animals = tables.detections.clone().lazy().filter(col("category").eq(lit("animal")));
    let count = |frame: polars::prelude::LazyFrame| frame.collect().map(|frame| frame.height()).map_err(polars_error);

    let species = animals
        .clone()
        .with_column(col("species").fill_null(lit("animal, kind unknown")))
        .group_by([col("species"), col("scientific_name").fill_null(lit("")), col("rank").fill_null(lit(""))])
        .agg([len().alias("count")])
        .sort(["count", "species"], SortMultipleOptions::default().with_order_descending_multi([true, false]))
        .collect()
        .map_err(polars_error)?;
    let sites = animals
        .clone()
        .group_by([col("deployment")])
        .agg([len().alias("animals"), col("species").drop_nulls().n_unique().alias("kinds")]);
    let deployments = media
        .clone()
        .group_by([col("deployment")])
        .agg([len().alias("media")])
        .left_join(sites, col("deployment"), col("deployment"))
        .with_columns([col("animals").fill_null(lit(0)), col("kinds").fill_null(lit(0))])
        .sort(["deployment"], SortMultipleOptions::default())
        .collect()
        .map_err(polars_error)?;
    let by_hour = animals
        .clone()
        .filter(col("hour").is_not_null())
        .group_by([col("hour")])
        .agg([len().alias("count")])
        .collect()
        .map_err(polars_error)?;

    let boxes = tables.detections.clone().lazy();
    Ok(Summary {
        media: tables.media.height(),
        animals: count(animals)?,
        persons: count(boxes.clone().filter(col("category").eq(lit("person"))))?,
        vehicles: count(boxes.filter(col("category").eq(lit("vehicle"))))?,
        blank: count(media.clone().filter(col("category").eq(lit("blank"))))?,
        failed: count(media.filter(col("failure").is_not_null()))?,
        species: species_counts(&species)?,
        deployments: deployment_counts(&deployments)?,
        hours: hour_counts(&by_hour)?,
    })
}

/// A column of text; nulls are empty.
pub(super) fn texts(frame: &DataFrame, name: &str) -> Result<Vec<String>> {
    let column = frame.column(name).map_err(polars_error)?;
    let values = column.str().map_err(polars_error)?;
    Ok(values.iter().map(|value| value.unwrap_or_default().to_owned()).collect())
}

/// A column of numbers; nulls are none.
pub(super) fn numbers(frame: &DataFrame, name: &str) -> Result<Vec<Option<f64>>> {
    let column = frame.column(name).map_err(polars_error)?.cast(&polars::prelude::DataType::Float64);
    let column = column.map_err(polars_error)?;
    Ok(column.f64().map_err(polars_error)?.iter().collect())
}

fn species_counts(frame: &DataFrame) -> Result<Vec<SpeciesCount>> {
    let (species, scientific) = (texts(frame, "species")?, texts(frame, "scientific_name")?);
    let (ranks, counts) = (texts(frame, "rank")?, wholes(frame, "count")?);
    Ok(species
        .into_iter()
        .zip(scientific)
        .zip(ranks)
        .zip(counts)
        .map(|(((species, scientific_name), rank), count)| SpeciesCount { species, scientific_name, rank, count })
        .collect())
}

fn deployment_counts(frame: &DataFrame) -> Result<Vec<DeploymentCount>> {
    let names = texts(frame, "deployment")?;
    let (media, animals, kinds) = (wholes(frame, "media")?, wholes(frame, "animals")?, wholes(frame, "kinds")?);
    Ok(names
        .into_iter()
        .enumerate()
        .map(|(row, deployment)| DeploymentCount {
            deployment,
            media: media[row],
            animals: animals[row],
            species: kinds[row],
        })
        .collect())
}

fn hour_counts(frame: &DataFrame) -> Result<Vec<u32>> {
    if frame.height() == 0 {
        return Ok(Vec::new());
    }
    let mut hours = vec![0; 24];
    for (hour, count) in wholes(frame, "hour")?.into_iter().zip(wholes(frame, "count")?) {
        if let Some(slot) = hours.get_mut(hour as usize) {
            *slot += count;
        }
    }
    Ok(hours)
}

fn wholes(frame: &DataFrame, name: &str) -> Result<Vec<u32>> {
    Ok(numbers(frame, name)?.into_iter().map(|value| value.unwrap_or_default() as u32).collect())
}

/// What the uris of a source's media begin with.
fn prefix(source: &Location) -> String {
    let root = source.to_string();
    if root.ends_with('/') { root } else { format!("{root}/") }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn frame(lake: &Lake, query: &str, columns: &[(&str, Kind)]) -> Result<DataFrame> {
    let batches: Vec<RecordBatch> = lake.sql(query).await?.try_collect().await?;
    let height = batches.iter().map(RecordBatch::num_rows).sum();
    let columns = columns.iter().map(|(name, kind)| series(&batches, name, *kind)).collect::<Result<Vec<Column>>>()?;
    DataFrame::new(height, columns).map_err(polars_error)
}

fn series(batches: &[RecordBatch], name: &str, kind: Kind) -> Result<Column> {
    let mut texts: Vec<Option<String>> = Vec::new();
    let mut wholes: Vec<Option<i64>> = Vec::new();
    let mut reals: Vec<Option<f32>> = Vec::new();
    for batch in batches {
        let array = batch.column_by_name(name).ok_or_else(|| Error::Report(format!("the column {name} is missing")))?;
        // Partition columns and views come in several encodings; one plain type each keeps the rest simple.
        let plain = |to: &DataType| cast(array, to).map_err(|error| Error::Report(format!("column {name}: {error}")));
        match kind {
            Kind::Text => {
                let array = plain(&DataType::Utf8)?;
                texts.extend(array.as_string::<i32>().iter().map(|value| value.map(str::to_owned)));
            }
            Kind::Whole => {
                let array = plain(&DataType::Int64)?;
                wholes.extend(array.as_primitive::<Int64Type>().iter());
            }
            Kind::Real => {
                let array = plain(&DataType::Float32)?;
                reals.extend(array.as_primitive::<Float32Type>().iter());
            }
        }
    }
    let series = match kind {
        Kind::Text => Series::new(name.into(), texts),
        Kind::Whole => Series::new(name.into(), wholes),
        Kind::Real => Series::new(name.into(), reals),
    };
    Ok(series.into())
}

fn polars_error(error: polars::prelude::PolarsError) -> Error {
    Error::Report(error.to_string())
}
