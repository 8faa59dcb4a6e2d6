//! Preprocessing and suppression against an independent reading of the photographs with the original networks.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use detector::decode::{DecodeLimits, decode};
use detector::device::Device;
use detector::exif::Orientation;
use detector::look::{LookOptions, look_at};
use detector::media::MediaType;
use detector::model::{self, Model};
use detector::nms::Category;
use detector::preprocess::Preprocessor;
use detector::sighting::Sighting;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reading {
    #[serde(rename = "box")]
    bounds: [f32; 4],
    score: f32,
    coco: usize,
}

/// Stated in docs/networks.md: the networks' arithmetic is arranged anew, and scores near the limit are steep.
const TOLERANCE: f32 = 1e-2;

#[test]
fn boxes_and_scores_are_those_of_the_independent_reading() {
    let shared = Path::new(env!("WORKSPACE_ROOT")).join("../shared");
    let Ok(text) = fs::read(shared.join("models/reference.json")) else {
        eprintln!("SKIPPED: {} is not there", shared.join("models/reference.json").display());
        return;
    };
    let reference: BTreeMap<String, Vec<Reading>> = serde_json::from_slice(&text).unwrap();
    let model = Model::load(&model::locate(None).unwrap(), Device::Cpu).unwrap();
    let options = LookOptions { second_look: 2.0, ..LookOptions::default() };
    let mut worst = 0.0_f32;
    for (file, expected) in reference {
        let bytes = fs::read(shared.join("media").join(&file)).unwrap();
        let picture =
            decode(&bytes, MediaType::Jpeg, Orientation::Upright, u32::MAX, &DecodeLimits::default()).unwrap();
        let seen = look_at(&model.networks, &model.taxonomy, &mut Preprocessor::new(), &picture, &options).unwrap();
        let animals: Vec<_> = seen.iter().filter(|s| s.scored.category == Category::Animal).collect();
        let expected: Vec<_> = expected.iter().filter(|reading| reading.score > 0.0).collect();
        assert_eq!(animals.len(), expected.len(), "{file}");
        for theirs in expected {
            // Not by rank: two cows that are equally sure may change places.
            let apart = |ours: &&&Sighting| differences(ours, theirs).into_iter().fold(0.0, f32::max);
            let ours = animals.iter().min_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap();
            let differences = differences(ours, theirs);
            worst = differences.into_iter().fold(worst, f32::max);
            assert!(differences.iter().all(|&d| d < TOLERANCE), "{file}: {differences:?}");
            assert_eq!(ours.scored.coco, theirs.coco, "{file}");
        }
    }
    println!("largest difference of a box side or score: {worst:.5}");
}

/// Of the four sides and the score.
fn differences(ours: &Sighting, theirs: &Reading) -> [f32; 5] {
    let bounds = &ours.scored.bounds;
    let [ymin, xmin, ymax, xmax] = theirs.bounds;
    [
        (bounds.ymin - ymin).abs(),
        (bounds.xmin - xmin).abs(),
        (bounds.ymax - ymax).abs(),
        (bounds.xmax - xmax).abs(),
        (ours.scored.score - theirs.score).abs(),
    ]
}
