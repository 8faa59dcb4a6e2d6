//! What the networks saw in one box of one frame, before a burst is judged as a whole.

use serde::{Deserialize, Serialize};

use crate::nms::ScoredBox;
use crate::taxonomy::Evidence;

/// How well a crop can be seen, from its pixels at the embedder's size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CropQuality {
    /// Mean luma, 0 to 1.
    pub brightness: f32,
    /// Standard deviation of luma, 0 to 0.5.
    pub contrast: f32,
    /// Standard deviation of the luma's Laplacian, 0 (flat or blurred) upwards; around 0.1 for a sharp photograph.
    pub sharpness: f32,
    /// Mean difference between the largest and the smallest channel, 0 (infrared grey) to 1.
    pub colourfulness: f32,
}

impl CropQuality {
    /// Measures `side * side * 3` RGB bytes.
    pub fn measure(rgb: &[u8], side: usize) -> Self {
        let luma: Vec<f32> = rgb
            .chunks_exact(3)
            .map(|p| (0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])) / 255.0)
            .collect();
        let colour: f32 =
            rgb.chunks_exact(3).map(|p| f32::from(p[0].max(p[1]).max(p[2]) - p[0].min(p[1]).min(p[2])) / 255.0).sum();
        let count = luma.len().max(1) as f32;
        let brightness = luma.iter().sum::<f32>() / count;
        let contrast = (luma.iter().map(|l| (l - brightness).powi(2)).sum::<f32>() / count).sqrt();
        Self { brightness, contrast, sharpness: sharpness(&luma, side), colourfulness: colour / count }
    }
}

/// One box of one frame with all that was read from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Where, what and how sure the boxes network is.
    pub scored: ScoredBox,
    /// What the crop says about the species.
    pub evidence: Evidence,
    /// The embedder's features, 1280 values.
    pub embedding: Vec<f32>,
    /// How well the crop can be seen.
    pub quality: CropQuality,
}

fn sharpness(luma: &[f32], side: usize) -> f32 {
    if side < 3 || luma.len() < side * side {
        return 0.0;
    }
    let mut sum = 0.0;
    let mut squares = 0.0;
    for y in 1..side - 1 {
        let row = y * side;
        for x in row + 1..row + side - 1 {
            let laplacian = luma[x - 1] + luma[x + 1] + luma[x - side] + luma[x + side] - 4.0 * luma[x];
            sum += laplacian;
            squares += laplacian * laplacian;
        }
    }
    let count = ((side - 2) * (side - 2)) as f32;
    (squares / count - (sum / count).powi(2)).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkerboard_is_sharper_than_a_ramp() {
        let side = 16;
        let grey = |value: u8| [value, value, value];
        let board: Vec<u8> =
            (0..side * side).flat_map(|i| grey(if (i % side + i / side) % 2 == 0 { 255 } else { 0 })).collect();
        let ramp: Vec<u8> = (0..side * side).flat_map(|i| grey((i % side * 16) as u8)).collect();
        let (board, ramp) = (CropQuality::measure(&board, side), CropQuality::measure(&ramp, side));
        assert!(board.sharpness > 10.0 * ramp.sharpness);
        assert!((board.brightness - 0.5).abs() < 0.01);
        assert_eq!(board.colourfulness, 0.0);
    }
}
