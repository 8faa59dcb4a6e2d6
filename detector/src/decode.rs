//! Photographs to pixels, bounded in pixels and memory, upright, and no larger than the networks need.

use std::cell::RefCell;
use std::io::Cursor;

use image::{DynamicImage, ImageReader, Limits};
use turbojpeg::{Decompressor, PixelFormat, ScalingFactor};

use crate::exif::Orientation;
use crate::media::MediaType;
use crate::{Error, Result};

/// Progressive JPEGs with more scans than this are made to burn time.
const JPEG_SCAN_LIMIT: u32 = 500;

/// What a decoded file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Pixels that a picture may state in its header.
    pub max_pixels: u64,
    /// Bytes that a file may have.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_bytes: 268_435_456 }
    }
}

/// Pixels of one upright picture: RGB, 8 bit, rows from the top without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// `width * height * 3` bytes.
    pub pixels: Vec<u8>,
    /// Width in decoded pixels.
    pub width: u32,
    /// Height in decoded pixels.
    pub height: u32,
    /// Width of the file's own picture after orientation, in pixels.
    pub source_width: u32,
    /// Height of the file's own picture after orientation, in pixels.
    pub source_height: u32,
}

/// Decodes a photograph and turns it upright.
///
/// A JPEG is decoded at the smallest DCT scale (eighths) at which the shorter side keeps at least `min_side` pixels;
/// other formats, and every format with `min_side` = `u32::MAX`, at full size.
pub fn decode(
    bytes: &[u8],
    media_type: MediaType,
    orientation: Orientation,
    min_side: u32,
    limits: &DecodeLimits,
) -> Result<Picture> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    if bytes.len() as u64 > limits.max_bytes {
        return Err(Error::TooManyBytes { size: bytes.len() as u64, limit: limits.max_bytes });
    }
    let picture = match media_type {
        MediaType::Jpeg => decode_jpeg(bytes, min_side, limits)?,
        _ => decode_other(bytes, media_type, limits)?,
    };
    Ok(turn_upright(picture, orientation))
}

fn decode_jpeg(bytes: &[u8], min_side: u32, limits: &DecodeLimits) -> Result<Picture> {
    thread_local! {
        // A decompressor keeps its tables and buffers between pictures.
        static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(new_decompressor()?),
        };
        decode_jpeg_with(decompressor, bytes, min_side, limits)
    })
}

fn new_decompressor() -> Result<Decompressor> {
    let mut decompressor = Decompressor::new().map_err(damaged_jpeg)?;
    decompressor.set_scan_limit(JPEG_SCAN_LIMIT).map_err(damaged_jpeg)?;
    Ok(decompressor)
}

fn decode_jpeg_with(
    decompressor: &mut Decompressor,
    bytes: &[u8],
    min_side: u32,
    limits: &DecodeLimits,
) -> Result<Picture> {
    let header = decompressor.read_header(bytes).map_err(damaged_jpeg)?;
    check_pixels(header.width as u64, header.height as u64, limits)?;
    let scale = if header.is_lossless {
        ScalingFactor::ONE
    } else {
        smallest_scale(header.width, header.height, min_side as usize)
    };
    decompressor.set_scaling_factor(scale).map_err(damaged_jpeg)?;
    let scaled = header.scaled(scale);
    let mut image = turbojpeg::Image {
        pixels: vec![0; scaled.width * scaled.height * 3],
        width: scaled.width,
        pitch: scaled.width * 3,
        height: scaled.height,
        format: PixelFormat::RGB,
    };
    match decompressor.decompress(bytes, image.as_deref_mut()) {
        Ok(()) => {}
        // Bytes between two markers are what some cameras write; the picture is whole.
        Err(error) if error.to_string().contains("extraneous bytes before marker") => {}
        Err(error) => return Err(damaged_jpeg(error)),
    }
    Ok(Picture {
        pixels: image.pixels,
        width: scaled.width as u32,
        height: scaled.height as u32,
        source_width: header.width as u32,
        source_height: header.height as u32,
    })
}

/// The smallest of 1/8 … 8/8 that keeps the shorter side at `min_side` or more.
fn smallest_scale(width: usize, height: usize, min_side: usize) -> ScalingFactor {
    (1..=8)
        .map(|eighths| ScalingFactor::new(eighths, 8))
        .find(|scale| scale.scale(width.min(height)) >= min_side)
        .unwrap_or(ScalingFactor::ONE)
}

fn decode_other(bytes: &[u8], media_type: MediaType, limits: &DecodeLimits) -> Result<Picture> {
    let damaged = |error: image::ImageError| Error::Damaged { format: media_type.name(), reason: error.to_string() };
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.set_format(match media_type {
        MediaType::Png => image::ImageFormat::Png,
        MediaType::Webp => image::ImageFormat::WebP,
        MediaType::Tiff => image::ImageFormat::Tiff,
        MediaType::Jpeg => image::ImageFormat::Jpeg,
        MediaType::Mp4 | MediaType::Mov | MediaType::Avi => {
            return Err(Error::UnknownFormat { found: format!("a {media_type} video where a photograph is expected") });
        }
    });
    // Eight bytes a pixel hold 16-bit RGBA; the decoder may not allocate more, whatever the header says.
    let mut allowed = Limits::no_limits();
    allowed.max_alloc = Some(limits.max_pixels.saturating_mul(8));
    reader.limits(allowed);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = image::ImageDecoder::dimensions(&decoder);
    check_pixels(width.into(), height.into(), limits)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?.into_rgb8();
    Ok(Picture { pixels: picture.into_raw(), width, height, source_width: width, source_height: height })
}

fn check_pixels(width: u64, height: u64, limits: &DecodeLimits) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::Damaged { format: "picture", reason: "it states a width or height of zero".into() });
    }
    if width.saturating_mul(height) > limits.max_pixels {
        return Err(Error::TooManyPixels { width, height, limit: limits.max_pixels });
    }
    Ok(())
}

fn damaged_jpeg(error: turbojpeg::Error) -> Error {
    let reason = match error {
        turbojpeg::Error::TurboJpegError(text) => text,
        other => other.to_string(),
    };
    Error::Damaged { format: "jpeg", reason }
}

/// Applies the EXIF orientation. Costs one copy of the (reduced) picture, and nothing for upright ones.
fn turn_upright(picture: Picture, orientation: Orientation) -> Picture {
    if orientation == Orientation::Upright {
        return picture;
    }
    let Picture { pixels, width, height, source_width, source_height } = picture;
    let Some(buffer) = image::RgbImage::from_raw(width, height, pixels) else {
        unreachable!("a decoded picture has width * height * 3 bytes")
    };
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    let turned = match orientation {
        Orientation::Upright => buffer,
        Orientation::FlipHorizontal => flip_horizontal(&buffer),
        Orientation::Rotate180 => rotate180(&buffer),
        Orientation::FlipVertical => flip_vertical(&buffer),
        Orientation::Transpose => flip_horizontal(&rotate90(&buffer)),
        Orientation::Rotate90 => rotate90(&buffer),
        Orientation::Transverse => flip_horizontal(&rotate270(&buffer)),
        Orientation::Rotate270 => rotate270(&buffer),
    };
    let (source_width, source_height) =
        if orientation.swaps_sides() { (source_height, source_width) } else { (source_width, source_height) };
    Picture { width: turned.width(), height: turned.height(), pixels: turned.into_raw(), source_width, source_height }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 3) as u8, (y * 2) as u8, 90]));
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
        bytes
    }

    fn full(bytes: &[u8]) -> Result<Picture> {
        decode(bytes, MediaType::Jpeg, Orientation::Upright, u32::MAX, &DecodeLimits::default())
    }

    #[test]
    fn a_large_jpeg_is_decoded_reduced() {
        let bytes = jpeg(1600, 1200);
        let picture = decode(&bytes, MediaType::Jpeg, Orientation::Upright, 600, &DecodeLimits::default()).unwrap();
        assert_eq!((picture.width, picture.height), (800, 600));
        assert_eq!((picture.source_width, picture.source_height), (1600, 1200));
        assert_eq!(full(&bytes).unwrap().width, 1600);
    }

    #[test]
    fn a_truncated_jpeg_is_a_failure_in_words() {
        let bytes = jpeg(640, 480);
        let error = full(&bytes[..bytes.len() / 2]).unwrap_err();
        assert!(error.to_string().to_lowercase().contains("premature end"), "{error}");
        assert!(error.is_media_failure());
    }

    #[test]
    fn a_decompression_bomb_is_refused_by_its_header() {
        let limits = DecodeLimits { max_pixels: 1000, ..DecodeLimits::default() };
        let error = decode(&jpeg(64, 48), MediaType::Jpeg, Orientation::Upright, 1, &limits).unwrap_err();
        assert!(matches!(error, Error::TooManyPixels { width: 64, height: 48, .. }));
        let mut png = Vec::new();
        image::RgbImage::new(64, 48).write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
        let error = decode(&png, MediaType::Png, Orientation::Upright, 1, &limits).unwrap_err();
        assert!(matches!(error, Error::TooManyPixels { .. }), "{error}");
    }

    #[test]
    fn orientation_six_turns_clockwise() {
        let mut image = image::RgbImage::new(4, 2);
        image.put_pixel(0, 0, image::Rgb([255, 0, 0]));
        let mut png = Vec::new();
        image.write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
        let picture = decode(&png, MediaType::Png, Orientation::Rotate90, 1, &DecodeLimits::default()).unwrap();
        assert_eq!((picture.width, picture.height), (2, 4));
        // The stored top left corner is at the top right once turned.
        assert_eq!(&picture.pixels[3..6], &[255, 0, 0]);
    }
}
