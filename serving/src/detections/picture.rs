//! The picture with boxes and names drawn on it.

use detector::annotate::{Label, category_colour, draw, to_jpeg};
use detector::decode::{DecodeLimits, decode};
use detector::exif;
use detector::nms::{BoundingBox, Category};

use super::engine::photograph;
use super::{Detections, Found};
use crate::{Error, Result};

const QUALITY: i32 = 90;

/// Pixels that the shorter side keeps: larger files are drawn reduced.
const SIDE: u32 = 1200;

/// A JPEG of the photograph `bytes` with what was found in it. It takes some ten milliseconds of a processor.
pub(super) fn annotated(bytes: &[u8], found: &Detections, limits: &DecodeLimits) -> Result<Vec<u8>> {
    let failed = |error: detector::Error| Error::from(&error);
    let media_type = photograph(bytes)?;
    let mut picture = decode(bytes, media_type, exif::read(bytes).orientation, SIDE, limits).map_err(failed)?;
    let labels: Vec<Label> = found.detections.iter().map(label).collect();
    draw(&mut picture, &labels);
    to_jpeg(&picture, QUALITY).map_err(failed)
}

fn label(found: &Found) -> Label {
    let [left, top, width, height] = found.bbox;
    let category = match found.category.as_str() {
        "person" => Category::Person,
        "vehicle" => Category::Vehicle,
        _ => Category::Animal,
    };
    let name = found.species.as_deref().unwrap_or(&found.category);
    let sure = found.species_confidence.unwrap_or(found.confidence) * 100.0;
    Label {
        bounds: BoundingBox { ymin: top, xmin: left, ymax: top + height, xmax: left + width },
        text: format!("{name} {sure:.0} %"),
        colour: category_colour(category),
    }
}
