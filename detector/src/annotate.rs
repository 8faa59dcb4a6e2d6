//! Boxes and names drawn on a picture, and pictures as JPEG.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

use crate::decode::Picture;
use crate::identify::Detection;
use crate::nms::{BoundingBox, Category};
use crate::{Error, Result};

/// DejaVu Sans Bold, reduced to Latin letters; its licence is beside it.
const FONT: &[u8] = include_bytes!("../assets/DejaVuSans-Bold-latin.ttf");

/// A box to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Where.
    pub bounds: BoundingBox,
    /// The words on it.
    pub text: String,
    /// Red, green, blue.
    pub colour: [u8; 3],
}

impl Label {
    /// The usual label of a detection: name and how sure the name is.
    pub fn of(detection: &Detection) -> Self {
        let text = match &detection.identification {
            Some(identification) => {
                let name = identification.common_name.as_deref().unwrap_or("animal");
                format!("{name} {:.0} %", identification.confidence * 100.0)
            }
            None => format!("{} {:.0} %", detection.category.name(), detection.confidence * 100.0),
        };
        Self { bounds: detection.bounds, text, colour: category_colour(detection.category) }
    }
}

/// The colour in which a category is drawn.
pub fn category_colour(category: Category) -> [u8; 3] {
    match category {
        Category::Animal => [255, 176, 32],
        Category::Person => [64, 156, 255],
        Category::Vehicle => [200, 120, 255],
    }
}

/// Draws all labels; line width and letters grow with the picture.
pub fn draw(picture: &mut Picture, labels: &[Label]) {
    let line = (picture.width.min(picture.height) / 200).max(2);
    for label in labels {
        draw_box(picture, label, line);
    }
    // Names come last, so that no box hides one.
    for label in labels {
        draw_name(picture, label, line);
    }
}

/// The picture as a JPEG of the given quality (1 to 100).
pub fn to_jpeg(picture: &Picture, quality: i32) -> Result<Vec<u8>> {
    let image = turbojpeg::Image {
        pixels: picture.pixels.as_slice(),
        width: picture.width as usize,
        pitch: picture.width as usize * 3,
        height: picture.height as usize,
        format: turbojpeg::PixelFormat::RGB,
    };
    let jpeg = turbojpeg::compress(image, quality, turbojpeg::Subsamp::Sub2x2);
    jpeg.map(|buffer| buffer.to_vec()).map_err(|error| Error::Damaged { format: "jpeg", reason: error.to_string() })
}

/// The picture reduced so that its longer side has at most `side` pixels.
pub fn thumbnail(picture: &Picture, side: u32) -> Picture {
    let longer = picture.width.max(picture.height).max(1);
    if longer <= side {
        return picture.clone();
    }
    let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longer)).max(1) as u32;
    let (width, height) = (scaled(picture.width), scaled(picture.height));
    let pixels = crate::preprocess::Preprocessor::new().stretch(picture, width, height);
    Picture { pixels, width, height, source_width: picture.source_width, source_height: picture.source_height }
}

fn draw_box(picture: &mut Picture, label: &Label, line: u32) {
    let (left, top, right, bottom) = corners(picture, &label.bounds);
    for y in top..bottom {
        for x in left..right {
            let inside = x >= left + line && x + line < right && y >= top + line && y + line < bottom;
            if !inside {
                blend(picture, x, y, label.colour, 1.0);
            }
        }
    }
}

fn draw_name(picture: &mut Picture, label: &Label, line: u32) {
    let Ok(font) = FontRef::try_from_slice(FONT) else { return };
    let height = (picture.height as f32 / 32.0).clamp(13.0, 40.0);
    let font = font.as_scaled(PxScale::from(height));
    let width: f32 = label.text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum();
    let (left, top, _, _) = corners(picture, &label.bounds);
    let (plate_width, plate_height) = (width.ceil() as u32 + 8, height.ceil() as u32 + 4);
    // The plate stands on the box, or inside where there is no room above; it never leaves the picture.
    let plate_top = if top >= plate_height { top - plate_height } else { top + line };
    let plate_left = left.min(picture.width.saturating_sub(plate_width));
    for y in plate_top..(plate_top + plate_height).min(picture.height) {
        for x in plate_left..(plate_left + plate_width).min(picture.width) {
            blend(picture, x, y, label.colour, 0.92);
        }
    }
    let mut pen = plate_left as f32 + 4.0;
    let baseline = plate_top as f32 + 2.0 + font.ascent();
    for character in label.text.chars() {
        let glyph = font.glyph_id(character).with_scale_and_position(PxScale::from(height), point(pen, baseline));
        pen += font.h_advance(font.glyph_id(character));
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let origin = outline.px_bounds().min;
        outline.draw(|x, y, cover| {
            let (x, y) = (x as i64 + origin.x as i64, y as i64 + origin.y as i64);
            if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) {
                blend(picture, x, y, [16, 16, 16], cover);
            }
        });
    }
}

fn corners(picture: &Picture, bounds: &BoundingBox) -> (u32, u32, u32, u32) {
    let place = |share: f32, length: u32| ((share.clamp(0.0, 1.0) * length as f32).round() as u32).min(length);
    (
        place(bounds.xmin, picture.width),
        place(bounds.ymin, picture.height),
        place(bounds.xmax, picture.width),
        place(bounds.ymax, picture.height),
    )
}

fn blend(picture: &mut Picture, x: u32, y: u32, colour: [u8; 3], cover: f32) {
    if x >= picture.width || y >= picture.height {
        return;
    }
    let start = (y as usize * picture.width as usize + x as usize) * 3;
    for (value, colour) in picture.pixels[start..start + 3].iter_mut().zip(colour) {
        *value = (f32::from(*value) * (1.0 - cover) + f32::from(colour) * cover).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grey(width: u32, height: u32) -> Picture {
        let pixels = vec![100; (width * height * 3) as usize];
        Picture { pixels, width, height, source_width: width, source_height: height }
    }

    #[test]
    fn a_box_and_its_name_are_drawn_inside_the_picture() {
        let mut picture = grey(200, 100);
        let bounds = BoundingBox { ymin: 0.0, xmin: 0.9, ymax: 1.0, xmax: 1.0 };
        draw(&mut picture, &[Label { bounds, text: "Komodo dragon 86 %".into(), colour: [255, 0, 0] }]);
        let pixel = |x: usize, y: usize| &picture.pixels[(y * 200 + x) * 3..(y * 200 + x) * 3 + 3];
        assert_eq!(pixel(180, 99), [255, 0, 0]);
        assert_eq!(pixel(20, 80), [100, 100, 100]);
        assert!(picture.pixels.chunks_exact(3).any(|p| p[0] < 60), "letters are dark");
        let back = crate::decode::decode(
            &to_jpeg(&picture, 90).unwrap(),
            crate::media::MediaType::Jpeg,
            crate::exif::Orientation::Upright,
            1,
            &crate::decode::DecodeLimits::default(),
        );
        assert_eq!(back.unwrap().source_width, 200);
    }

    #[test]
    fn a_thumbnail_keeps_its_shape() {
        let small = thumbnail(&grey(400, 100), 100);
        assert_eq!((small.width, small.height), (100, 25));
    }
}
