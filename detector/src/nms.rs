//! Boxes from the scores of all anchors: best class by category, then non-maximum suppression.

use serde::{Deserialize, Serialize};

/// COCO ids whose detections mean an animal.
pub const ANIMAL_COCO: std::ops::RangeInclusive<usize> = 16..=25;

/// Number of COCO scores an anchor has; index 0 is background.
pub const COCO_CLASSES: usize = 91;

const PERSON_COCO: [usize; 1] = [1];
/// Bicycle, car, motorcycle, bus, truck, boat.
const VEHICLE_COCO: [usize; 6] = [2, 3, 4, 6, 8, 9];

/// A box as shares of the picture's sides, origin at the top left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BoundingBox {
    /// Top.
    pub ymin: f32,
    /// Left.
    pub xmin: f32,
    /// Bottom.
    pub ymax: f32,
    /// Right.
    pub xmax: f32,
}

impl BoundingBox {
    /// The whole picture.
    pub const WHOLE: Self = Self { ymin: 0.0, xmin: 0.0, ymax: 1.0, xmax: 1.0 };

    /// Width as a share of the picture's width.
    pub fn width(&self) -> f32 {
        self.xmax - self.xmin
    }

    /// Height as a share of the picture's height.
    pub fn height(&self) -> f32 {
        self.ymax - self.ymin
    }

    /// Share of the picture that the box covers.
    pub fn area(&self) -> f32 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// Intersection over union with another box, 0 to 1.
    pub fn iou(&self, other: &Self) -> f32 {
        let height = self.ymax.min(other.ymax) - self.ymin.max(other.ymin);
        let width = self.xmax.min(other.xmax) - self.xmin.max(other.xmin);
        let intersection = height.max(0.0) * width.max(0.0);
        intersection / (self.area() + other.area() - intersection + 1e-9)
    }

    fn clamped(raw: [f32; 4]) -> Self {
        // A network that returns NaN must not spread it: NaN clamps to the picture's edge.
        let [ymin, xmin, ymax, xmax] = raw.map(|v| if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) });
        Self { ymin, xmin, ymax, xmax }
    }
}

/// What a box shows, as camera-trap people sort pictures; a picture without boxes is blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Any animal.
    Animal,
    /// A human.
    Person,
    /// Bicycle, car, motorcycle, bus, truck or boat.
    Vehicle,
}

impl Category {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Animal => "animal",
            Self::Person => "person",
            Self::Vehicle => "vehicle",
        }
    }
}

/// When boxes are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NmsOptions {
    /// Lowest score of a kept box, 0 to 1.
    pub threshold: f32,
    /// Boxes of one category that overlap by this much are one.
    pub iou: f32,
    /// Boxes of different categories that overlap by this much are one.
    pub iou_across: f32,
    /// Most boxes of one category in a picture.
    pub limit: usize,
}

impl Default for NmsOptions {
    fn default() -> Self {
        Self { threshold: 0.3, iou: 0.5, iou_across: 0.85, limit: 10 }
    }
}

/// A kept box.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredBox {
    /// Where.
    pub bounds: BoundingBox,
    /// What.
    pub category: Category,
    /// Score of the category's best class, 0 to 1.
    pub score: f32,
    /// That class, as a COCO id.
    pub coco: usize,
    /// Scores of the animal classes, COCO id 16 first.
    pub animal_scores: [f32; 10],
}

/// Suppresses overlapping boxes, category by category, then those of different categories on one object.
///
/// `boxes` holds `anchors` x 4 values (ymin, xmin, ymax, xmax), `scores` `anchors` x [`COCO_CLASSES`]. The result is
/// sorted by falling score.
pub fn suppress(boxes: &[f32], scores: &[f32], options: &NmsOptions) -> Vec<ScoredBox> {
    let anchors: Vec<([f32; 4], &[f32])> =
        boxes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).zip(scores.chunks_exact(COCO_CLASSES)).collect();
    let animal: Vec<usize> = ANIMAL_COCO.collect();
    let mut kept = Vec::new();
    for (category, classes) in [
        (Category::Animal, animal.as_slice()),
        (Category::Person, PERSON_COCO.as_slice()),
        (Category::Vehicle, VEHICLE_COCO.as_slice()),
    ] {
        kept.extend(suppress_category(&anchors, category, classes, options));
    }
    kept.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut result: Vec<ScoredBox> = Vec::with_capacity(kept.len());
    for candidate in kept {
        let doubled = result.iter().any(|other| {
            other.category != candidate.category && other.bounds.iou(&candidate.bounds) >= options.iou_across
        });
        if !doubled {
            result.push(candidate);
        }
    }
    result
}

fn suppress_category(
    anchors: &[([f32; 4], &[f32])],
    category: Category,
    classes: &[usize],
    options: &NmsOptions,
) -> Vec<ScoredBox> {
    let mut candidates: Vec<(f32, usize, usize)> = anchors
        .iter()
        .enumerate()
        .filter_map(|(anchor, (_, scores))| {
            let (coco, score) = best(scores, classes);
            (score >= options.threshold).then_some((score, coco, anchor))
        })
        .collect();
    // Ties are broken by the anchor's place, so that the answer never depends on the sort.
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
    let mut kept: Vec<ScoredBox> = Vec::new();
    for (score, coco, anchor) in candidates {
        if kept.len() == options.limit {
            break;
        }
        let (raw, scores) = anchors[anchor];
        let bounds = BoundingBox::clamped(raw);
        if bounds.area() <= 0.0 || kept.iter().any(|other| other.bounds.iou(&bounds) >= options.iou) {
            continue;
        }
        let mut animal_scores = [0.0; 10];
        animal_scores.copy_from_slice(&scores[ANIMAL_COCO]);
        kept.push(ScoredBox { bounds, category, score, coco, animal_scores });
    }
    kept
}

fn best(scores: &[f32], classes: &[usize]) -> (usize, f32) {
    classes.iter().fold((0, 0.0), |found, &class| if scores[class] > found.1 { (class, scores[class]) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(coco: usize, score: f32) -> [f32; COCO_CLASSES] {
        let mut scores = [0.0; COCO_CLASSES];
        scores[coco] = score;
        scores
    }

    #[test]
    fn the_better_of_two_overlapping_boxes_stays() {
        let boxes = [0.1, 0.1, 0.5, 0.5, 0.12, 0.1, 0.5, 0.5, 0.6, 0.6, 0.9, 0.9];
        let scores = [anchor(17, 0.6), anchor(21, 0.9), anchor(16, 0.4)].concat();
        let kept = suppress(&boxes, &scores, &NmsOptions::default());
        assert_eq!(kept.iter().map(|b| b.coco).collect::<Vec<_>>(), [21, 16]);
    }

    #[test]
    fn a_person_and_an_animal_side_by_side_both_stay() {
        let boxes = [0.1, 0.1, 0.5, 0.5, 0.1, 0.4, 0.5, 0.8];
        let scores = [anchor(1, 0.8), anchor(18, 0.7)].concat();
        let categories: Vec<_> =
            suppress(&boxes, &scores, &NmsOptions::default()).into_iter().map(|b| b.category).collect();
        assert_eq!(categories, [Category::Person, Category::Animal]);
    }

    #[test]
    fn one_object_is_not_both_animal_and_person() {
        let boxes = [0.1, 0.1, 0.5, 0.5, 0.1, 0.1, 0.5, 0.5];
        let scores = [anchor(1, 0.4), anchor(18, 0.7)].concat();
        assert_eq!(suppress(&boxes, &scores, &NmsOptions::default()).len(), 1);
    }

    #[test]
    fn nan_is_no_box() {
        let scores = [anchor(18, f32::NAN), anchor(18, 0.9)].concat();
        let kept = suppress(&[f32::NAN, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0], &scores, &NmsOptions::default());
        assert_eq!(kept.len(), 1);
    }
}
