//! What fuzzing found in the decoder, and the broken files of e2e: a picture or an error in words, never a panic.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use detector::decode::{DecodeLimits, decode};
use detector::exif;
use detector::media::{MediaType, SNIFF_BYTES};

#[test]
fn no_file_makes_the_decoder_panic() {
    let root = Path::new(env!("WORKSPACE_ROOT"));
    let limits = DecodeLimits { max_pixels: 1_000_000, max_bytes: 10_000_000 };
    let mut files = 0;
    for folder in ["fuzz/findings/decode", "e2e/assets/bad-media"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            files += 1;
            let info = exif::read(&bytes);
            let Ok(media_type) = MediaType::sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]) else { continue };
            if media_type.is_video() {
                continue;
            }
            for min_side in [300, u32::MAX] {
                match decode(&bytes, media_type, info.orientation, min_side, &limits) {
                    Ok(picture) => {
                        let expected = picture.width as usize * picture.height as usize * 3;
                        assert_eq!(picture.pixels.len(), expected, "{}", path.display());
                    }
                    Err(error) => assert!(error.is_media_failure(), "{}: {error}", path.display()),
                }
            }
        }
    }
    assert!(files > 20, "only {files} files");
}
