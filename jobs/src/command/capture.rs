//! Reads what a program writes: every line to the log at once, and a bounded part for the output and for messages.

use pipeline::job::MAX_OUTPUT_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::log::{MaskedLog, Stream};
use crate::text;

/// The longest line in the log, in bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// Bytes kept of the last line and of the whole: one more than an output may have tells that it is too large.
const KEPT: usize = MAX_OUTPUT_BYTES + 1;

/// Bytes kept of the end, for messages.
const TAIL: usize = 2 * 1024;

const CHUNK: usize = 64 * 1024;

/// One stream of a program.
pub(super) struct Capture<'a> {
    stream: Stream,
    log: &'a MaskedLog,
    /// The line that has not ended yet, as much of it as is kept.
    line: Vec<u8>,
    /// Its bytes in all.
    line_length: usize,
    last_line: Vec<u8>,
    whole: Vec<u8>,
    /// Masked, so that no part of a secret stays when its beginning is cut off.
    tail: String,
}

impl<'a> Capture<'a> {
    /// A capture that has seen nothing yet.
    pub(super) fn new(stream: Stream, log: &'a MaskedLog) -> Self {
        Self {
            stream,
            log,
            line: Vec::new(),
            line_length: 0,
            last_line: Vec::new(),
            whole: Vec::new(),
            tail: String::new(),
        }
    }

    /// Reads to the end of a pipe. May be dropped at any time: what was read is taken.
    pub(super) async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = vec![0; CHUNK];
        // A pipe that cannot be read has ended.
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            self.take(&chunk[..count]);
        }
    }

    /// Takes a last line without a line break as a line.
    pub(super) fn finish(&mut self) {
        if self.line_length > 0 {
            self.end_line();
        }
    }

    /// Which stream it is.
    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    /// The last line that is not blank, at most one byte more than an output may have.
    pub(super) fn last_line(&self) -> &[u8] {
        &self.last_line
    }

    /// All that was written, at most one byte more than an output may have.
    pub(super) fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// The last 2 KiB, with secrets masked.
    pub(super) fn tail(&self) -> &str {
        &self.tail[self.tail.ceil_char_boundary(self.tail.len().saturating_sub(TAIL))..]
    }

    fn take(&mut self, bytes: &[u8]) {
        append(&mut self.whole, bytes);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = part.strip_suffix(b"\n");
            let part = ended.unwrap_or(part);
            append(&mut self.line, part);
            self.line_length += part.len();
            if ended.is_some() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let unseen = self.line_length - self.line.len();
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let text = String::from_utf8_lossy(line);
        let masked = self.log.masker.mask(&text);
        let shown = text::head(&masked, LONGEST_LINE);
        let left_out = masked.len() - shown.len() + unseen;
        match left_out {
            0 => self.log.log.line(self.stream, shown),
            _ => self.log.log.line(self.stream, &format!("{shown} … [{left_out} bytes left out]")),
        }
        if !line.trim_ascii().is_empty() {
            self.tail.push_str(&masked[masked.ceil_char_boundary(masked.len().saturating_sub(TAIL))..]);
            self.tail.push('\n');
            std::mem::swap(&mut self.last_line, &mut self.line);
        }
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.ceil_char_boundary(self.tail.len() - TAIL));
        }
        self.line.clear();
        self.line_length = 0;
    }
}

/// Appends as much as may be kept.
fn append(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT - kept.len();
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::AttemptLog;
    use pipeline::Masker;
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Default)]
    struct Lines(Mutex<Vec<String>>);

    impl AttemptLog for Lines {
        fn line(&self, _stream: Stream, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    /// The lines logged, the last line and the tail.
    fn captured(chunks: &[&[u8]], secret: &str) -> (Vec<String>, Vec<u8>, String) {
        let lines = Arc::new(Lines::default());
        let log = MaskedLog { log: lines.clone(), masker: Masker::new([secret.to_owned()]) };
        let mut capture = Capture::new(Stream::Stdout, &log);
        chunks.iter().for_each(|chunk| capture.take(chunk));
        capture.finish();
        let logged = lines.0.lock().unwrap().clone();
        (logged, capture.last_line().to_vec(), capture.tail().to_owned())
    }

    #[test]
    fn lines_are_put_together_from_chunks() {
        let (lines, last, tail) = captured(&[b"on", b"e\r\ntwo \n\n", b"\xff\xfethr", b"ee"], "");
        assert_eq!(lines, ["one", "two ", "", "\u{fffd}\u{fffd}three"]);
        assert_eq!(last, b"\xff\xfethree");
        assert_eq!(tail, "one\ntwo \n\u{fffd}\u{fffd}three\n");
    }

    #[test]
    fn long_lines_are_cut_with_a_note() {
        let (lines, last, tail) = captured(&[&vec![b'x'; 500_000], b"\nend\n", b"  \n"], "");
        assert!(lines[0].ends_with("x … [434464 bytes left out]"), "{}", &lines[0][lines[0].len() - 60..]);
        assert_eq!(lines[0].len(), LONGEST_LINE + " … [434464 bytes left out]".len());
        assert_eq!(last, b"end");
        assert_eq!(tail.len(), TAIL);
    }

    #[test]
    fn no_part_of_a_secret_shows_at_a_cut() {
        let secret = "a-very-secret-value";
        let line = format!("{}{secret}{}", "x".repeat(LONGEST_LINE - 5), "y".repeat(TAIL - 5));
        let (lines, _, tail) = captured(&[line.as_bytes()], secret);
        assert!(!lines[0].contains("a-v") && !tail.contains("value"), "{tail}");
    }
}
