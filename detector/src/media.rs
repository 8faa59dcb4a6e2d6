//! Which kind of media a file holds, told by its first bytes and not by its name.

use std::fmt;

use crate::{Error, Result};

/// Bytes from the start of a file that [`MediaType::sniff`] needs.
pub const SNIFF_BYTES: usize = 32;

/// File name endings (lower case, without the dot) that an ingest picks up.
pub const EXTENSIONS: [&str; 10] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "mp4", "mov", "m4v", "avi"];

/// A supported media format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG.
    Png,
    /// WebP, lossy or lossless; the first frame of an animation.
    Webp,
    /// TIFF; the first page.
    Tiff,
    /// MPEG-4 video.
    Mp4,
    /// QuickTime video.
    Mov,
    /// AVI video.
    Avi,
}

impl MediaType {
    /// The format of the file that starts with `head` (at least [`SNIFF_BYTES`] bytes where the file has them).
    pub fn sniff(head: &[u8]) -> Result<Self> {
        if head.is_empty() {
            return Err(Error::Empty);
        }
        if head.starts_with(&[0xff, 0xd8, 0xff]) {
            return Ok(Self::Jpeg);
        }
        if head.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Ok(Self::Png);
        }
        if head.starts_with(b"II*\0") || head.starts_with(b"MM\0*") {
            return Ok(Self::Tiff);
        }
        if head.len() >= 12 && head.starts_with(b"RIFF") {
            match &head[8..12] {
                b"WEBP" => return Ok(Self::Webp),
                b"AVI " => return Ok(Self::Avi),
                _ => {}
            }
        }
        if head.len() >= 12 && &head[4..8] == b"ftyp" {
            return match &head[8..12] {
                b"qt  " => Ok(Self::Mov),
                b"heic" | b"heix" | b"mif1" | b"avif" => Err(unknown("an HEIF or AVIF picture")),
                _ => Ok(Self::Mp4),
            };
        }
        // QuickTime files from before `ftyp` start with one of these atoms.
        if head.len() >= 8 && matches!(&head[4..8], b"moov" | b"mdat" | b"wide" | b"skip") {
            return Ok(Self::Mov);
        }
        Err(unknown(describe(head)))
    }

    /// True for formats with more than one frame.
    pub fn is_video(self) -> bool {
        matches!(self, Self::Mp4 | Self::Mov | Self::Avi)
    }

    /// The name in tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Tiff => "tiff",
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Avi => "avi",
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// True if the name of `path` ends like media that an ingest picks up.
pub fn has_media_extension(path: &str) -> bool {
    let Some((_, extension)) = path.rsplit_once('.') else { return false };
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn unknown(found: impl Into<String>) -> Error {
    Error::UnknownFormat { found: found.into() }
}

fn describe(head: &[u8]) -> &'static str {
    if head.starts_with(b"GIF8") {
        return "a GIF picture";
    }
    if head.starts_with(b"%PDF") {
        return "a PDF document";
    }
    if head.starts_with(b"PK\x03\x04") {
        return "a ZIP archive";
    }
    if head.starts_with(b"BM") {
        return "perhaps a BMP picture";
    }
    if head.iter().all(|&b| b == 0) {
        return "only zero bytes, as a failed memory card leaves them";
    }
    if head.iter().all(|&b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) {
        return "plain text";
    }
    "unknown content"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(MediaType::sniff(&[0xff, 0xd8, 0xff, 0xe0]).unwrap(), MediaType::Jpeg);
        assert_eq!(MediaType::sniff(b"RIFF\x10\0\0\0WEBPVP8 ").unwrap(), MediaType::Webp);
        assert_eq!(MediaType::sniff(b"\0\0\0\x14ftypqt  ").unwrap(), MediaType::Mov);
        assert_eq!(MediaType::sniff(b"\0\0\0\x18ftypisom").unwrap(), MediaType::Mp4);
        assert_eq!(MediaType::sniff(b"RIFF\x10\0\0\0AVI LIST").unwrap(), MediaType::Avi);
    }

    #[test]
    fn what_is_no_media_is_described() {
        let text = MediaType::sniff(b"hello, this is a diary").unwrap_err().to_string();
        assert!(text.contains("plain text"), "{text}");
        assert!(MediaType::sniff(&[0; 32]).unwrap_err().to_string().contains("memory card"));
        assert!(matches!(MediaType::sniff(b""), Err(Error::Empty)));
    }

    #[test]
    fn extensions_ignore_case() {
        assert!(has_media_extension("a/IMG_0001.JPG"));
        assert!(!has_media_extension("a/notes.txt"));
        assert!(!has_media_extension("jpg"));
    }
}
