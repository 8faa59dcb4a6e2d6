//! Antialiased bilinear resizing of RGB and RGBA bytes.
//!
//! A crate of its own because the resizing library is all generic code: whoever calls it compiles it, for every pixel
//! type that might be meant. Here that happens once, for two.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8x3, U8x4};
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

/// A part of a picture, in pixels; it may begin and end between two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Part {
    /// All of a picture of this size.
    pub fn all(size: (u32, u32)) -> Self {
        Self { left: 0.0, top: 0.0, width: f64::from(size.0), height: f64::from(size.1) }
    }
}

/// Resizes pictures and keeps its buffers between calls.
#[derive(Debug, Default)]
pub struct PictureResizer {
    resizer: Resizer,
}

impl PictureResizer {
    /// `part` of the RGB picture `pixels` of `size` (width, height), stretched to `target`: RGB bytes in rows.
    ///
    /// Black if the part or the sizes do not fit the pixels.
    pub fn rgb(&mut self, pixels: &[u8], size: (u32, u32), part: Part, target: (u32, u32)) -> Vec<u8> {
        let mut bytes = vec![0; target.0 as usize * target.1 as usize * 3];
        let source = TypedImageRef::<U8x3>::from_buffer(size.0, size.1, pixels);
        let destination = TypedImage::<U8x3>::from_buffer(target.0, target.1, &mut bytes);
        if let (Ok(source), Ok(mut destination)) = (source, destination) {
            let resized = self.resizer.resize_typed(&source, &mut destination, &options(part));
            debug_assert!(resized.is_ok(), "{resized:?}");
        }
        bytes
    }

    /// The same for RGBA bytes; colours are weighed by their alpha.
    pub fn rgba(&mut self, pixels: &[u8], size: (u32, u32), part: Part, target: (u32, u32)) -> Vec<u8> {
        let mut bytes = vec![0; target.0 as usize * target.1 as usize * 4];
        let source = TypedImageRef::<U8x4>::from_buffer(size.0, size.1, pixels);
        let destination = TypedImage::<U8x4>::from_buffer(target.0, target.1, &mut bytes);
        if let (Ok(source), Ok(mut destination)) = (source, destination) {
            let resized = self.resizer.resize_typed(&source, &mut destination, &options(part));
            debug_assert!(resized.is_ok(), "{resized:?}");
        }
        bytes
    }
}

fn options(part: Part) -> ResizeOptions {
    let algorithm = ResizeAlg::Convolution(FilterType::Bilinear);
    ResizeOptions::new().resize_alg(algorithm).crop(part.left, part.top, part.width, part.height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_means_and_parts_are_cut() {
        let pixels: Vec<u8> = [0, 100, 200, 40].iter().flat_map(|&v| [v, v, v]).collect();
        let mut resizer = PictureResizer::default();
        let whole = resizer.rgb(&pixels, (4, 1), Part::all((4, 1)), (4, 1));
        assert_eq!(whole, pixels);
        let right = Part { left: 2.0, top: 0.0, width: 2.0, height: 1.0 };
        assert_eq!(resizer.rgb(&pixels, (4, 1), right, (2, 1)), pixels[6..]);
        let small = resizer.rgb(&pixels, (4, 1), right, (1, 1));
        assert!((115..=125).contains(&small[0]), "{small:?}");
    }

    #[test]
    fn transparent_colours_do_not_bleed() {
        let pixels = [255, 255, 255, 0, 10, 20, 30, 255];
        let small = PictureResizer::default().rgba(&pixels, (2, 1), Part::all((2, 1)), (1, 1));
        assert!(small[0] <= 12 && small[2] <= 32, "{small:?}");
    }
}
