//! Any bytes as a photograph: a picture or an error, never a panic, and never more pixels than allowed.
#![no_main]

use detector::decode::{DecodeLimits, decode};
use detector::exif;
use detector::media::{MediaType, SNIFF_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let info = exif::read(data);
    let Ok(media_type) = MediaType::sniff(&data[..data.len().min(SNIFF_BYTES)]) else { return };
    if media_type.is_video() {
        return;
    }
    let limits = DecodeLimits { max_pixels: 1_000_000, max_bytes: 10_000_000 };
    for min_side in [300, u32::MAX] {
        if let Ok(picture) = decode(data, media_type, info.orientation, min_side, &limits) {
            assert_eq!(picture.pixels.len(), picture.width as usize * picture.height as usize * 3);
            assert!(u64::from(picture.source_width) * u64::from(picture.source_height) <= limits.max_pixels);
        }
    }
});
