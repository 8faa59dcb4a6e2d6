//! Pixels as the networks take them: cut out, resized with an antialiased bilinear filter, RGB bytes in rows.

use resize::{Part, PictureResizer};

use crate::decode::Picture;
use crate::nms::BoundingBox;

/// Side of the boxes network's input, in pixels.
pub const DETECTOR_SIDE: u32 = 300;

/// Side of the crop embedder's input, in pixels.
pub const EMBEDDER_SIDE: u32 = 224;

/// Share of its own width and height by which a box grows on each side before it is cut out.
pub const CROP_MARGIN: f32 = 0.1;

/// Resizes pictures and crops to the networks' inputs; keeps its buffers between calls.
#[derive(Default)]
pub struct Preprocessor {
    resizer: PictureResizer,
}

impl Preprocessor {
    /// A preprocessor with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole picture stretched to `side` x `side`: `side * side * 3` bytes, RGB, rows from the top.
    pub fn whole(&mut self, picture: &Picture, side: u32) -> Vec<u8> {
        self.stretch(picture, side, side)
    }

    /// The whole picture stretched to `width` x `height`: RGB bytes, rows from the top.
    pub fn stretch(&mut self, picture: &Picture, width: u32, height: u32) -> Vec<u8> {
        let all = PixelCrop { left: 0, top: 0, width: picture.width, height: picture.height };
        self.resize(picture, all, width, height)
    }

    /// The box grown by [`CROP_MARGIN`] on each side, clipped to the picture, and stretched to `side` x `side`.
    pub fn crop(&mut self, picture: &Picture, bounds: &BoundingBox, side: u32) -> Vec<u8> {
        self.resize(picture, pixel_crop(picture, bounds), side, side)
    }

    fn resize(&mut self, picture: &Picture, crop: PixelCrop, width: u32, height: u32) -> Vec<u8> {
        let part = Part {
            left: f64::from(crop.left),
            top: f64::from(crop.top),
            width: f64::from(crop.width),
            height: f64::from(crop.height),
        };
        self.resizer.rgb(&picture.pixels, (picture.width, picture.height), part, (width, height))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PixelCrop {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

/// Whole pixels that cover the grown box, at least one in each direction.
fn pixel_crop(picture: &Picture, bounds: &BoundingBox) -> PixelCrop {
    let (width, height) = (bounds.xmax - bounds.xmin, bounds.ymax - bounds.ymin);
    let side = |low: f32, high: f32, length: f32, pixels: u32| {
        let low = (low - length * CROP_MARGIN).clamp(0.0, 1.0);
        let high = (high + length * CROP_MARGIN).clamp(0.0, 1.0);
        let first = ((low * pixels as f32) as u32).min(pixels.saturating_sub(1));
        let end = ((high * pixels as f32 + 0.5) as u32).clamp(first + 1, pixels.max(first + 1));
        (first, end - first)
    };
    let (left, crop_width) = side(bounds.xmin, bounds.xmax, width, picture.width);
    let (top, crop_height) = side(bounds.ymin, bounds.ymax, height, picture.height);
    PixelCrop { left, top, width: crop_width, height: crop_height }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        let pixels = (0..width * height).flat_map(|i| [i as u8, (i / 2) as u8, 7]).collect();
        Picture { pixels, width, height, source_width: width, source_height: height }
    }

    #[test]
    fn a_crop_grows_and_stays_inside() {
        let bounds = BoundingBox { ymin: 0.5, xmin: 0.0, ymax: 1.0, xmax: 0.5 };
        let crop = pixel_crop(&picture(100, 100), &bounds);
        assert_eq!(crop, PixelCrop { left: 0, top: 45, width: 55, height: 55 });
    }

    #[test]
    fn a_box_without_area_still_gives_a_pixel() {
        let bounds = BoundingBox { ymin: 1.0, xmin: 1.0, ymax: 1.0, xmax: 1.0 };
        let bytes = Preprocessor::new().crop(&picture(10, 10), &bounds, EMBEDDER_SIDE);
        assert_eq!(bytes.len(), 224 * 224 * 3);
    }
}
