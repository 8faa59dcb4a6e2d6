//! Photographs to measure with: as many as wanted, made from the few of `data-samples/`.
//!
//! Each is another cut-out of a photograph at a camera's size, with noise as a sensor has it, so that no two files are
//! equal and a JPEG is as large and as slow to decode as a camera's. There is no EXIF block, hence no bursts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use detector::annotate::to_jpeg;
use detector::decode::{DecodeLimits, Picture, decode};
use detector::exif;
use detector::media::MediaType;
use detector::preprocess::Preprocessor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::machine::cores;

const WIDTH: u32 = 2048;
const HEIGHT: u32 = 1536;
const QUALITY: i32 = 85;

/// Most that noise adds to a pixel or takes from it.
const NOISE: i16 = 8;

/// Share of the largest possible cut-out's width that a cut-out has.
const ZOOM: std::ops::Range<f64> = 0.88..1.0;

/// Photographs in a folder, which is a camera's place.
const A_FOLDER: usize = 100;

/// Made photographs; they are removed with this value.
#[derive(Debug)]
pub(crate) struct Photographs {
    folder: TempDir,
    /// Bytes of all files.
    pub(crate) bytes: u64,
}

impl Photographs {
    /// The folder that holds them, in folders.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Makes `count` photographs in a folder for temporary files; the same ones every time.
pub(crate) fn make(root: &Path, count: usize) -> Result<Photographs> {
    eprintln!("  making {count} photographs of {WIDTH} x {HEIGHT} pixels");
    let sources = samples(root)?.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let temporary = tempfile::Builder::new().prefix("safari-bench-").tempdir();
    let folder = temporary.map_err(Error::io(std::env::temp_dir()))?;
    for place in 0..count.div_ceil(A_FOLDER) {
        let place = folder.path().join(place_name(place));
        fs::create_dir(&place).map_err(Error::io(&place))?;
    }
    let next = AtomicUsize::new(0);
    let bytes = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..cores()).map(|_| scope.spawn(|| make_some(&sources, folder.path(), count, &next))).collect();
        let made = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(Error::failed("making photographs", "a thread panicked")))
        });
        made.sum::<Result<u64>>()
    })?;
    Ok(Photographs { folder, bytes })
}

/// The photographs of `data-samples/` in order of name, without its bursts, whose frames are nearly equal.
pub(crate) fn samples(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in entries(&root.join("data-samples"))? {
        if place.is_dir() {
            found.extend(entries(&place)?.into_iter().filter(|path| is_jpeg(path)));
        }
    }
    if found.is_empty() {
        return Err(Error::Missing("data-samples/ holds no photographs".to_owned()));
    }
    Ok(found)
}

/// All JPEGs in `folder` and the folders in it, in order of name.
pub(crate) fn jpegs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        match path.is_dir() {
            true => found.extend(jpegs(&path)?),
            false if is_jpeg(&path) => found.push(path),
            false => {}
        }
    }
    Ok(found)
}

/// A photograph upright, at its full size.
pub(crate) fn open(path: &Path) -> Result<Picture> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let orientation = exif::read(&bytes).orientation;
    Ok(decode(&bytes, MediaType::Jpeg, orientation, u32::MAX, &DecodeLimits::default())?)
}

/// Makes photographs until all are made; the bytes of those that this thread made.
fn make_some(sources: &[Picture], folder: &Path, count: usize, next: &AtomicUsize) -> Result<u64> {
    let mut preprocessor = Preprocessor::new();
    let mut written = 0;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(written);
        }
        let picture = vary(&sources[number % sources.len()], number as u64, &mut preprocessor);
        let jpeg = to_jpeg(&picture, QUALITY)?;
        let path = folder.join(place_name(number / A_FOLDER)).join(format!("IMG_{number:05}.jpg"));
        fs::write(&path, &jpeg).map_err(Error::io(&path))?;
        written += jpeg.len() as u64;
    }
}

/// A cut-out of 4 x 3 at the camera's size; `number` decides which.
fn vary(source: &Picture, number: u64, preprocessor: &mut Preprocessor) -> Picture {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let ratio = f64::from(WIDTH) / f64::from(HEIGHT);
    let widest = f64::from(source.width).min(f64::from(source.height) * ratio);
    let width = widest * rng.random_range(ZOOM);
    let (width, height) = (width as u32, (width / ratio) as u32);
    let left = rng.random_range(0..=source.width - width);
    let top = rng.random_range(0..=source.height - height);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for row in top..top + height {
        let start = (row * source.width + left) as usize * 3;
        pixels.extend_from_slice(&source.pixels[start..start + width as usize * 3]);
    }
    let cut = Picture { pixels, width, height, source_width: width, source_height: height };
    let mut pixels = preprocessor.stretch(&cut, WIDTH, HEIGHT);
    add_noise(&mut pixels, &mut rng);
    Picture { pixels, width: WIDTH, height: HEIGHT, source_width: WIDTH, source_height: HEIGHT }
}

/// Makes pixels a little lighter or darker.
fn add_noise(pixels: &mut [u8], rng: &mut ChaCha8Rng) {
    let mut noise = vec![0_u8; pixels.len() / 3];
    rng.fill(noise.as_mut_slice());
    for (pixel, noise) in pixels.chunks_exact_mut(3).zip(noise) {
        let change = i16::from(noise) % (2 * NOISE + 1) - NOISE;
        for value in pixel {
            *value = (i16::from(*value) + change).clamp(0, 255) as u8;
        }
    }
}

fn place_name(place: usize) -> String {
    format!("camera-{place:02}")
}

fn is_jpeg(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "jpg")
}

/// What a folder holds, in order of name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).map_err(Error::io(folder))?;
    let found: std::io::Result<Vec<PathBuf>> = listed.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut found = found.map_err(Error::io(folder))?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_photograph_and_another_another() {
        let pixels = (0..64 * 40).flat_map(|i| [i as u8, (i / 3) as u8, 90]).collect();
        let source = Picture { pixels, width: 64, height: 40, source_width: 64, source_height: 40 };
        let mut preprocessor = Preprocessor::new();
        let first = vary(&source, 7, &mut preprocessor);
        assert_eq!(first.pixels.len(), (WIDTH * HEIGHT * 3) as usize);
        assert!(first == vary(&source, 7, &mut preprocessor));
        assert!(first != vary(&source, 8, &mut preprocessor));
    }
}
