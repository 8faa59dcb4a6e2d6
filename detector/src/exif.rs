//! When, how and with which camera a photograph was taken, from its EXIF block.

use std::io::Cursor;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use exif::{Exif, In, Tag, Value};

/// Cameras that lost their clock restart at some year before this one.
const FIRST_PLAUSIBLE_YEAR: i32 = 2001;

/// JPEG markers (ITU-T T.81, table B.1).
const START_OF_IMAGE: u8 = 0xD8;
const START_OF_SCAN: u8 = 0xDA;
/// Any number of these may stand before a marker.
const FILL: u8 = 0xFF;

/// The time at which a camera says it took a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureTime {
    /// What the camera's clock showed, with sub-seconds where the camera wrote them.
    pub local: NaiveDateTime,
    /// Minutes east of UTC, where the camera wrote them.
    pub offset_minutes: Option<i32>,
    /// True if the year is before 2001, so that the camera's clock cannot be trusted.
    pub clock_wrong: bool,
}

impl CaptureTime {
    /// The moment in UTC; a time without an offset is taken as if it were UTC.
    pub fn utc(&self) -> DateTime<Utc> {
        (self.local - TimeDelta::minutes(i64::from(self.offset_minutes.unwrap_or(0)))).and_utc()
    }

    /// From a moment with a known offset, as video containers state it.
    pub fn from_moment(moment: DateTime<FixedOffset>) -> Self {
        let local = moment.naive_local();
        Self {
            local,
            offset_minutes: Some(moment.offset().local_minus_utc() / 60),
            clock_wrong: local.year() < FIRST_PLAUSIBLE_YEAR,
        }
    }
}

/// How the pixels are to be turned so that up is up (EXIF orientation 1 to 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orientation {
    /// 1: as stored.
    #[default]
    Upright,
    /// 2: mirrored left to right.
    FlipHorizontal,
    /// 3: turned by 180 degrees.
    Rotate180,
    /// 4: mirrored top to bottom.
    FlipVertical,
    /// 5: mirrored along the main diagonal.
    Transpose,
    /// 6: to be turned 90 degrees clockwise.
    Rotate90,
    /// 7: mirrored along the other diagonal.
    Transverse,
    /// 8: to be turned 270 degrees clockwise.
    Rotate270,
}

impl Orientation {
    /// True if width and height change places.
    pub fn swaps_sides(self) -> bool {
        matches!(self, Self::Transpose | Self::Rotate90 | Self::Transverse | Self::Rotate270)
    }

    fn from_exif(value: u32) -> Self {
        match value {
            2 => Self::FlipHorizontal,
            3 => Self::Rotate180,
            4 => Self::FlipVertical,
            5 => Self::Transpose,
            6 => Self::Rotate90,
            7 => Self::Transverse,
            8 => Self::Rotate270,
            _ => Self::Upright,
        }
    }
}

/// What a photograph's EXIF block says. Empty where there is none or it cannot be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PhotoInfo {
    /// When it was taken.
    pub time: Option<CaptureTime>,
    /// Maker, model and serial number of the camera, as one name.
    pub camera: Option<String>,
    /// How to turn the pixels.
    pub orientation: Orientation,
}

/// Reads the EXIF block of a photograph, or of the first part of one (64 KiB hold it in JPEG files).
///
/// A damaged block never fails a photograph: whatever can be read of it is used.
pub fn read(bytes: &[u8]) -> PhotoInfo {
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    let exif = reader
        .read_from_container(&mut Cursor::new(before_the_scan(bytes)))
        .or_else(|error| error.distill_partial_result(|_| {}));
    match exif {
        Ok(exif) => PhotoInfo { time: capture_time(&exif), camera: camera(&exif), orientation: orientation(&exif) },
        Err(_) => PhotoInfo::default(),
    }
}

/// The segments of a JPEG before its pixels, where EXIF blocks stand; all bytes of other formats, and of a JPEG whose
/// segments cannot be followed. The reader would search the pixels too, which costs as much as reading the file.
fn before_the_scan(bytes: &[u8]) -> &[u8] {
    if !bytes.starts_with(&[0xFF, START_OF_IMAGE]) {
        return bytes;
    }
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            START_OF_SCAN => return &bytes[..at],
            FILL => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    bytes
}

fn capture_time(exif: &Exif) -> Option<CaptureTime> {
    // The original time is the shutter's; the others are written by the same camera when the first is missing.
    let fields = [
        (Tag::DateTimeOriginal, Tag::SubSecTimeOriginal, Tag::OffsetTimeOriginal),
        (Tag::DateTimeDigitized, Tag::SubSecTimeDigitized, Tag::OffsetTimeDigitized),
        (Tag::DateTime, Tag::SubSecTime, Tag::OffsetTime),
    ];
    fields.into_iter().find_map(|(time, sub_second, offset)| {
        let mut parsed = exif::DateTime::from_ascii(ascii(exif, time)?.as_bytes()).ok()?;
        if let Some(text) = ascii(exif, sub_second) {
            // Some cameras pad with blanks; what is no number is left out.
            let _ = parsed.parse_subsec(text.trim().as_bytes());
        }
        if let Some(text) = ascii(exif, offset) {
            let _ = parsed.parse_offset(text.trim().as_bytes());
        }
        let local = NaiveDate::from_ymd_opt(i32::from(parsed.year), parsed.month.into(), parsed.day.into())?
            .and_hms_nano_opt(
                parsed.hour.into(),
                parsed.minute.into(),
                parsed.second.into(),
                parsed.nanosecond.unwrap_or(0),
            )?;
        Some(CaptureTime {
            local,
            offset_minutes: parsed.offset.map(i32::from),
            clock_wrong: local.year() < FIRST_PLAUSIBLE_YEAR,
        })
    })
}

fn camera(exif: &Exif) -> Option<String> {
    let parts: Vec<String> =
        [Tag::Make, Tag::Model, Tag::BodySerialNumber].into_iter().filter_map(|tag| ascii(exif, tag)).collect();
    let name = parts.join(" ").trim().to_owned();
    (!name.is_empty()).then_some(name)
}

fn orientation(exif: &Exif) -> Orientation {
    exif.get_field(Tag::Orientation, In::PRIMARY)
        .and_then(|field| field.value.get_uint(0))
        .map_or(Orientation::Upright, Orientation::from_exif)
}

fn ascii(exif: &Exif, tag: Tag) -> Option<String> {
    let field = exif.get_field(tag, In::PRIMARY)?;
    let Value::Ascii(lines) = &field.value else { return None };
    let text = String::from_utf8_lossy(lines.first()?).trim_matches(['\0', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG's segments up to its scan: `between` the start and an EXIF block that says "turn clockwise".
    fn jpeg(between: &[u8]) -> Vec<u8> {
        let tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let block = [b"Exif\0\0".as_slice(), tiff].concat();
        let mut file = vec![0xFF, START_OF_IMAGE];
        file.extend_from_slice(between);
        file.extend_from_slice(&[0xFF, 0xE1, 0, block.len() as u8 + 2]);
        file.extend_from_slice(&block);
        file
    }

    #[test]
    fn the_block_is_found_after_odd_segments_and_the_scan_is_not_searched() {
        let comment = [0xFF, 0xFE, 0, 6, 0xFF, START_OF_SCAN, 0xFF, 0xE1];
        let filled = [0xFF, 0xFF, 0xFF, 0xFE, 0, 2];
        for between in [[].as_slice(), &comment, &filled, &[comment.as_slice(), &filled].concat()] {
            let before = jpeg(between);
            let whole = [before.as_slice(), &[0xFF, START_OF_SCAN, 0, 2], &[0x55; 10_000]].concat();
            assert_eq!(before_the_scan(&whole), before);
            assert_eq!(read(&whole).orientation, Orientation::Rotate90);
        }
    }

    #[test]
    fn what_cannot_be_followed_is_searched_as_a_whole() {
        let before = jpeg(&[]);
        let cut = &before[..before.len() - 3];
        assert_eq!(before_the_scan(cut), cut);
        let no_scan = [before.as_slice(), b"rubbish"].concat();
        assert_eq!(before_the_scan(&no_scan), no_scan);
        assert_eq!(read(&no_scan).orientation, Orientation::Rotate90);
        assert_eq!(before_the_scan(b"GIF89a"), b"GIF89a");
    }
}
