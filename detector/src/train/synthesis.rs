//! Bursts from photographs: what a camera might have taken had the photographed animal walked past it.

use std::path::Path;

use image::{DynamicImage, RgbImage, RgbaImage};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use resize::{Part, PictureResizer};

use super::plan::{FramePlan, Light, Plan, normal, plan};
use crate::decode::{DecodeLimits, Picture, decode};
use crate::exif::Orientation;
use crate::media::MediaType;
use crate::{Error, Result};

/// Width of a made frame in pixels.
pub const WIDTH: u32 = 640;

/// Height of a made frame in pixels.
pub const HEIGHT: u32 = 480;

/// Longest side of a photograph that is kept; the frames need no more.
const LONGEST: u32 = 1280;

/// Alpha below which the rim of a cut-out is trimmed.
const RIM: u8 = 40;

/// The animal of a burst.
#[derive(Debug)]
pub enum Subject {
    /// A photograph with its own surroundings, over which the camera's window moves.
    Photograph(RgbImage),
    /// An animal cut out of its photograph, which moves over a background.
    Cutout(RgbaImage),
}

/// A frame as a camera would have stored it.
#[derive(Debug, Clone)]
pub struct MadeFrame {
    /// Upright pixels, decoded from a JPEG.
    pub picture: Picture,
    /// Seconds since the first frame.
    pub seconds: f64,
    /// Whether the animal is in it.
    pub present: bool,
}

/// Opens a photograph in any supported format, no larger than the frames need.
pub fn open_photograph(path: &Path) -> Result<RgbImage> {
    let picture = open(path)?.into_rgb8();
    let longest = picture.width().max(picture.height());
    if longest <= LONGEST {
        return Ok(picture);
    }
    let scale = f64::from(LONGEST) / f64::from(longest);
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let size = ((width * scale).round() as u32, (height * scale).round() as u32);
    Ok(resize_rgb(&picture, (0.0, 0.0, width, height), size))
}

/// Opens a cut-out with its transparency and trims its empty rim.
pub fn open_cutout(path: &Path) -> Result<RgbaImage> {
    let picture = open(path)?.into_rgba8();
    let opaque = |(x, y, pixel): (u32, u32, &image::Rgba<u8>)| (pixel.0[3] > RIM).then_some((x, y));
    let mut bounds: Option<(u32, u32, u32, u32)> = None;
    for (x, y) in picture.enumerate_pixels().filter_map(opaque) {
        let (left, top, right, bottom) = bounds.unwrap_or((x, y, x, y));
        bounds = Some((left.min(x), top.min(y), right.max(x), bottom.max(y)));
    }
    let (left, top, right, bottom) =
        bounds.ok_or_else(|| Error::Training(format!("{} is transparent everywhere", path.display())))?;
    Ok(image::imageops::crop_imm(&picture, left, top, right - left + 1, bottom - top + 1).to_image())
}

/// Makes a burst; `cover` passes in front of the animal.
pub fn make_burst(
    rng: &mut ChaCha8Rng,
    subject: &Subject,
    background: &RgbImage,
    cover: &RgbaImage,
) -> Result<Vec<MadeFrame>> {
    let plan = plan(rng);
    let window = Window::over(rng, background);
    plan.frames
        .iter()
        .map(|frame| {
            let (mut canvas, animal) = stage(&plan, frame, subject, &window);
            if let Some(bounds) = animal
                && frame.cover > 0.05
            {
                draw_cover(&mut canvas, cover, bounds, frame);
            }
            if frame.defocus > 0.48 {
                canvas = image::imageops::fast_blur(&canvas, frame.defocus);
            }
            let exposed = expose(rng, &canvas, &plan, frame);
            let picture = through_jpeg(&exposed, plan.quality)?;
            Ok(MadeFrame { picture, seconds: frame.seconds, present: frame.present })
        })
        .collect()
}

/// The background that a fixed camera sees.
struct Window<'a> {
    background: &'a RgbImage,
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl<'a> Window<'a> {
    fn over(rng: &mut ChaCha8Rng, background: &'a RgbImage) -> Self {
        let (full_width, full_height) = (f64::from(background.width()), f64::from(background.height()));
        let fit = (f64::from(WIDTH) / full_width).max(f64::from(HEIGHT) / full_height);
        let scale = fit * rng.random_range(1.0..1.5);
        let (width, height) = (f64::from(WIDTH) / scale, f64::from(HEIGHT) / scale);
        let left = rng.random::<f64>() * (full_width - width).max(0.0);
        let top = rng.random::<f64>() * (full_height - height).max(0.0);
        Self { background, left, top, width, height }
    }

    fn shot(&self, shake: (f64, f64)) -> RgbImage {
        let clamp = |start: f64, length: f64, full: u32| start.clamp(0.0, (f64::from(full) - length).max(0.0));
        let left = clamp(self.left + shake.0 * self.width, self.width, self.background.width());
        let top = clamp(self.top + shake.1 * self.height, self.height, self.background.height());
        resize_rgb(self.background, (left, top, self.width, self.height), (WIDTH, HEIGHT))
    }
}

/// The scene before the lens, and where the animal is: left, top, right, bottom in pixels.
fn stage(plan: &Plan, frame: &FramePlan, subject: &Subject, window: &Window<'_>) -> (RgbImage, Option<[f64; 4]>) {
    if !frame.present {
        return (window.shot(frame.shake), None);
    }
    let (width, height) = (f64::from(WIDTH), f64::from(HEIGHT));
    match subject {
        Subject::Cutout(cutout) => {
            let mut canvas = window.shot(frame.shake);
            let bounds = draw_animal(&mut canvas, cutout, frame);
            (canvas, Some(bounds))
        }
        Subject::Photograph(photograph) => {
            let mut canvas = pan(photograph, plan, frame);
            if plan.mirrored {
                image::imageops::flip_horizontal_in_place(&mut canvas);
            }
            (canvas, Some([0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height]))
        }
    }
}

fn pan(photograph: &RgbImage, plan: &Plan, frame: &FramePlan) -> RgbImage {
    let (full_width, full_height) = (f64::from(photograph.width()), f64::from(photograph.height()));
    let aspect = f64::from(WIDTH) / f64::from(HEIGHT);
    let zoom = (plan.zoom / frame.growth).clamp(0.3, 1.0);
    let height = full_height.min(full_width / aspect) * zoom;
    let width = (height * aspect / frame.narrowing).min(full_width);
    let reach = 0.6 + (1.0 - zoom);
    let middle = (full_width * (0.5 + 0.25 * reach * frame.drift.0), full_height * (0.5 + 0.1 * reach * frame.drift.1));
    let left = (middle.0 - width / 2.0).clamp(0.0, (full_width - width).max(0.0));
    let top = (middle.1 - height / 2.0).clamp(0.0, (full_height - height).max(0.0));
    resize_rgb(photograph, (left, top, width, height), (WIDTH, HEIGHT))
}

fn draw_animal(canvas: &mut RgbImage, cutout: &RgbaImage, frame: &FramePlan) -> [f64; 4] {
    let (own_width, own_height) = (f64::from(cutout.width()), f64::from(cutout.height()));
    let mut scale = frame.size * f64::from(HEIGHT) / own_height;
    scale = scale.min(1.1 * f64::from(WIDTH) / own_width);
    if own_width > 2.0 * own_height {
        scale *= 0.8;
    }
    // A small cut-out blown up would be a blur of its own.
    scale = scale.min(2.2);
    let middle = (f64::from(WIDTH) * (0.5 + frame.place.0), f64::from(HEIGHT) * (0.55 + frame.place.1));
    let sprite = resize_rgba(cutout, (scale * frame.narrowing, scale));
    draw(canvas, &sprite, middle, frame.tilt, frame.turned)
}

fn draw_cover(canvas: &mut RgbImage, cover: &RgbaImage, animal: [f64; 4], frame: &FramePlan) {
    let [left, _, right, bottom] = animal;
    let (width, height) = (right - left, bottom - animal[1]);
    let tall = (height * (1.0 + frame.cover)).clamp(20.0, 1.6 * f64::from(HEIGHT));
    let cover_scale = tall / f64::from(cover.height());
    let sprite = resize_rgba(cover, (cover_scale, cover_scale));
    let across = (left + right) / 2.0 + 0.25 * frame.cover_place * width;
    // Little cover stands low before the animal; much of it stands as tall as the animal.
    let rise = if frame.cover > 0.3 { 0.0 } else { 0.3 * height };
    draw(canvas, &sprite, (across, bottom - 0.45 * tall + rise), 0.0, false);
}

/// Draws `sprite` with its middle at `middle`, turned by `tilt` degrees; returns where it lies.
fn draw(canvas: &mut RgbImage, sprite: &RgbaImage, middle: (f64, f64), tilt: f64, mirrored: bool) -> [f64; 4] {
    let (width, height) = (f64::from(sprite.width()), f64::from(sprite.height()));
    let (sin, cos) = tilt.to_radians().sin_cos();
    let half = ((width * cos.abs() + height * sin.abs()) / 2.0, (width * sin.abs() + height * cos.abs()) / 2.0);
    let bounds = [middle.0 - half.0, middle.1 - half.1, middle.0 + half.0, middle.1 + half.1];
    let columns = bounds[0].floor().max(0.0) as u32..bounds[2].ceil().clamp(0.0, f64::from(canvas.width())) as u32;
    let rows = bounds[1].floor().max(0.0) as u32..bounds[3].ceil().clamp(0.0, f64::from(canvas.height())) as u32;
    for y in rows {
        for x in columns.clone() {
            let (dx, dy) = (f64::from(x) + 0.5 - middle.0, f64::from(y) + 0.5 - middle.1);
            let across = cos * dx + sin * dy;
            let across = if mirrored { -across } else { across };
            let down = cos * dy - sin * dx;
            let Some([red, green, blue, alpha]) = sample(sprite, across + width / 2.0 - 0.5, down + height / 2.0 - 0.5)
            else {
                continue;
            };
            let under = canvas.get_pixel_mut(x, y);
            for (channel, over) in under.0.iter_mut().zip([red, green, blue]) {
                *channel = (over + f32::from(*channel) * (1.0 - alpha)).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    bounds
}

/// Colour times alpha, and alpha (0 to 1), between pixels; none outside.
fn sample(sprite: &RgbaImage, x: f64, y: f64) -> Option<[f32; 4]> {
    let (left, top) = (x.floor(), y.floor());
    if left < -1.0 || top < -1.0 || left >= f64::from(sprite.width()) || top >= f64::from(sprite.height()) {
        return None;
    }
    let (right_share, lower_share) = ((x - left) as f32, (y - top) as f32);
    let mut sum = [0.0; 4];
    for (dx, dy, share) in [
        (0, 0, (1.0 - right_share) * (1.0 - lower_share)),
        (1, 0, right_share * (1.0 - lower_share)),
        (0, 1, (1.0 - right_share) * lower_share),
        (1, 1, right_share * lower_share),
    ] {
        let (column, row) = (left as i64 + dx, top as i64 + dy);
        let inside = (0..i64::from(sprite.width())).contains(&column) && (0..i64::from(sprite.height())).contains(&row);
        if !inside {
            continue;
        }
        let [red, green, blue, alpha] = sprite.get_pixel(column as u32, row as u32).0;
        let alpha = share * f32::from(alpha) / 255.0;
        for (total, channel) in sum.iter_mut().zip([red, green, blue]) {
            *total += alpha * f32::from(channel);
        }
        sum[3] += alpha;
    }
    (sum[3] > 0.0).then_some(sum)
}

/// The sensor: motion blur, infrared, too little or too much light, noise.
fn expose(rng: &mut ChaCha8Rng, canvas: &RgbImage, plan: &Plan, frame: &FramePlan) -> RgbImage {
    let mut light = motion_blur(canvas, frame.blur, plan.angle);
    if plan.light == Light::Infrared {
        infrared(&mut light);
    }
    let gain = 2.0_f32.powf(frame.glare - frame.dark);
    // A dark frame is brightened by the camera, its noise with it.
    let amplify = 1.0 + 0.5 * (frame.dark - 0.8).max(0.0);
    let sigma = 0.6 * (2.0 + 7.0 * frame.dark.min(1.6));
    let table: Vec<f32> = (0..NOISE).map(|_| normal(rng) as f32 * sigma).collect();
    let grey = plan.light == Light::Infrared;
    let mut exposed = RgbImage::new(canvas.width(), canvas.height());
    let row_length = canvas.width() as usize * 3;
    for (row, target) in light.chunks_exact(row_length).zip(exposed.chunks_exact_mut(row_length)) {
        // Each row starts elsewhere in the table: cheap noise without visible repeats.
        let start: usize = rng.random_range(0..NOISE);
        for (i, (value, pixel)) in row.iter().zip(target).enumerate() {
            let noise = table[(start + if grey { i / 3 } else { i }) % NOISE];
            let value = value * gain + noise;
            *pixel = ((value - 8.0) * amplify + 8.0).clamp(0.0, 255.0) as u8;
        }
    }
    exposed
}

const NOISE: usize = 8191;

/// Mean of the canvas over a line of `length` pixels.
fn motion_blur(canvas: &RgbImage, length: f32, angle: f32) -> Vec<f32> {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    let source = canvas.as_raw();
    if length < 2.0 {
        return source.iter().map(|&value| f32::from(value)).collect();
    }
    let taps = (length as usize).clamp(3, 15);
    let mut sum = vec![0.0_f32; source.len()];
    for tap in 0..taps {
        let along = (tap as f32 / (taps - 1) as f32 - 0.5) * length;
        let (dx, dy) = ((along * angle.cos()).round() as i64, (along * angle.sin()).round() as i64);
        for y in 0..height {
            let row = ((y + dy).clamp(0, height - 1) * width * 3) as usize;
            let target = &mut sum[(y * width * 3) as usize..((y + 1) * width * 3) as usize];
            // The middle of the row is a plain shifted copy; only its ends are clamped.
            for x in 0..width {
                let from = row + ((x + dx).clamp(0, width - 1) * 3) as usize;
                let to = (x * 3) as usize;
                for channel in 0..3 {
                    target[to + channel] += f32::from(source[from + channel]);
                }
            }
        }
    }
    let share = 1.0 / taps as f32;
    sum.iter_mut().for_each(|value| *value *= share);
    sum
}

/// Grey, and darker away from the flash's middle.
fn infrared(light: &mut [f32]) {
    let half = (WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0);
    for (index, pixel) in light.chunks_exact_mut(3).enumerate() {
        let x = (index as u32 % WIDTH) as f32 / half.0 - 1.0;
        let y = (index as u32 / WIDTH) as f32 / half.1 - 1.0;
        let falloff = (1.15 - 0.55 * (x * x + y * y)).max(0.2);
        let grey = (0.35 * pixel[0] + 0.55 * pixel[1] + 0.1 * pixel[2]) * falloff;
        pixel.fill(grey);
    }
}

fn through_jpeg(frame: &RgbImage, quality: i32) -> Result<Picture> {
    let failed = |error: turbojpeg::Error| Error::Training(format!("a frame could not be stored as JPEG: {error}"));
    let image = turbojpeg::Image {
        pixels: frame.as_raw().as_slice(),
        width: frame.width() as usize,
        pitch: frame.width() as usize * 3,
        height: frame.height() as usize,
        format: turbojpeg::PixelFormat::RGB,
    };
    let bytes = turbojpeg::compress(image, quality, turbojpeg::Subsamp::Sub2x2).map_err(failed)?;
    decode(&bytes, MediaType::Jpeg, Orientation::default(), u32::MAX, &DecodeLimits::default())
}

fn open(path: &Path) -> Result<DynamicImage> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    image::load_from_memory(&bytes)
        .map_err(|error| Error::Training(format!("{} cannot be decoded: {error}", path.display())))
}

/// The part `left, top, width, height` of a picture at another size.
fn resize_rgb(picture: &RgbImage, part: (f64, f64, f64, f64), size: (u32, u32)) -> RgbImage {
    let (left, top, width, height) = part;
    let part = Part { left, top, width, height };
    let pixels = PictureResizer::default().rgb(picture.as_raw(), picture.dimensions(), part, size);
    RgbImage::from_raw(size.0, size.1, pixels).unwrap_or_else(|| RgbImage::new(size.0, size.1))
}

fn resize_rgba(picture: &RgbaImage, scale: (f64, f64)) -> RgbaImage {
    let all = Part::all(picture.dimensions());
    let size = (((all.width * scale.0) as u32).max(8), ((all.height * scale.1) as u32).max(8));
    let pixels = PictureResizer::default().rgba(picture.as_raw(), picture.dimensions(), all, size);
    RgbaImage::from_raw(size.0, size.1, pixels).unwrap_or_else(|| RgbaImage::new(size.0, size.1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;

    use super::*;

    fn scene() -> (RgbImage, RgbaImage) {
        let background = RgbImage::from_fn(700, 500, |x, y| image::Rgb([(x / 4) as u8, (y / 4) as u8, 90]));
        (background, RgbaImage::from_pixel(60, 40, image::Rgba([250, 20, 20, 255])))
    }

    #[test]
    fn the_same_seed_gives_the_same_pixels() {
        let (background, cutout) = scene();
        let subject = Subject::Cutout(cutout.clone());
        let burst = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let frames = make_burst(&mut rng, &subject, &background, &cutout).unwrap();
            frames.into_iter().map(|frame| frame.picture.pixels).collect::<Vec<_>>()
        };
        assert_eq!(burst(7), burst(7));
        assert_ne!(burst(7), burst(8));
    }

    #[test]
    fn frames_are_of_the_stated_size_and_in_order() {
        let (background, cutout) = scene();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let frames = make_burst(&mut rng, &Subject::Photograph(background.clone()), &background, &cutout).unwrap();
        assert!(frames.windows(2).all(|pair| pair[0].seconds < pair[1].seconds));
        assert!(frames.iter().all(|frame| (frame.picture.width, frame.picture.height) == (WIDTH, HEIGHT)));
    }

    #[test]
    fn a_drawn_animal_is_where_it_is_said_to_be() {
        let mut canvas = RgbImage::from_pixel(200, 100, image::Rgb([0, 0, 0]));
        let (_, red) = scene();
        let bounds = draw(&mut canvas, &red, (100.0, 50.0), 0.0, true);
        assert_eq!(bounds, [70.0, 30.0, 130.0, 70.0]);
        assert_eq!(canvas.get_pixel(100, 50).0, [250, 20, 20]);
        assert_eq!(canvas.get_pixel(60, 50).0, [0, 0, 0]);
    }
}
