//! Frames of a video, read one at a time from ffmpeg.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use chrono::DateTime;
use serde::Deserialize;

use crate::decode::{DecodeLimits, Picture};
use crate::exif::CaptureTime;
use crate::{Error, Result};

/// Bytes of ffmpeg's messages that are kept for an error.
const KEPT_MESSAGE_BYTES: usize = 4096;

/// Which frames of a video are looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoOptions {
    /// Frames a second of video.
    pub frames_per_second: f64,
    /// Most frames of one video.
    pub max_frames: u32,
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self { frames_per_second: 1.0, max_frames: 600 }
    }
}

/// What a video's container says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// Width after rotation, in pixels.
    pub width: u32,
    /// Height after rotation, in pixels.
    pub height: u32,
    /// Frames a second as recorded.
    pub frame_rate: Option<f64>,
    /// Length in seconds.
    pub duration_seconds: Option<f64>,
    /// When the recording began, if the container says so.
    pub time: Option<CaptureTime>,
}

/// A frame with its place in the video.
#[derive(Debug)]
pub struct Frame {
    /// The upright picture, its shorter side near the asked size.
    pub picture: Picture,
    /// Number of the frame in the recording, counted from 0.
    pub number: u32,
    /// Seconds from the start of the recording.
    pub seconds: f64,
}

/// Reads what the container of the video at `path` says.
pub fn probe(path: &Path, limits: &DecodeLimits) -> Result<VideoInfo> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-protocol_whitelist", "file", "-select_streams", "v:0", "-of", "json"])
        .args(["-show_entries", "stream=width,height,avg_frame_rate,duration:stream_side_data=rotation"])
        .args(["-show_entries", "format=duration:format_tags=creation_time:stream_tags=rotate"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing_program("ffprobe", error))?;
    let reason = || Error::Video { reason: message(&output.stderr, path) };
    if !output.status.success() {
        return Err(reason());
    }
    let probed: Probed = serde_json::from_slice(&output.stdout).map_err(|_| reason())?;
    let Some(stream) = probed.streams.into_iter().next() else {
        return Err(Error::Video { reason: "the file holds no video stream".into() });
    };
    let (Some(width), Some(height)) = (stream.width, stream.height) else { return Err(reason()) };
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(Error::TooManyPixels { width: width.into(), height: height.into(), limit: limits.max_pixels });
    }
    let turned = stream.side_data_list.iter().filter_map(|data| data.rotation).any(|r| r.rem_euclid(180) == 90);
    let (width, height) = if turned { (height, width) } else { (width, height) };
    let duration = probed.format.duration.or(stream.duration).and_then(|text| text.parse().ok());
    let time = probed.format.tags.creation_time.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    Ok(VideoInfo {
        width,
        height,
        frame_rate: stream.avg_frame_rate.as_deref().and_then(parse_rate),
        duration_seconds: duration,
        time: time.map(CaptureTime::from_moment),
    })
}

/// A running ffmpeg that hands out frames; at most one frame is in memory here.
pub struct FrameReader {
    child: Child,
    messages: mpsc::Receiver<Vec<u8>>,
    path: std::path::PathBuf,
    info: VideoInfo,
    width: u32,
    height: u32,
    next: u32,
    options: VideoOptions,
}

impl FrameReader {
    /// Starts to decode the video at `path`, reduced so that the shorter side of a frame is near `min_side` pixels.
    pub fn open(path: &Path, info: &VideoInfo, min_side: u32, options: &VideoOptions) -> Result<Self> {
        let (width, height) = reduced_size(info.width, info.height, min_side);
        let filter = format!("fps={}:round=up,scale={width}:{height}:flags=area", options.frames_per_second);
        let mut child = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-protocol_whitelist", "file", "-threads", "1", "-i"])
            .arg(path)
            .args(["-map", "0:v:0", "-an", "-sn", "-vf", &filter, "-frames:v", &options.max_frames.to_string()])
            .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| missing_program("ffmpeg", error))?;
        let messages = collect_messages(child.stderr.take());
        Ok(Self {
            child,
            messages,
            path: path.to_owned(),
            info: info.clone(),
            width,
            height,
            next: 0,
            options: *options,
        })
    }

    /// The next frame; none at the end. A video that ends in damage gives its good frames and then the error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        let mut pixels = vec![0; self.width as usize * self.height as usize * 3];
        let Some(stdout) = self.child.stdout.as_mut() else { return Ok(None) };
        let read = read_full(stdout, &mut pixels).map_err(Error::io(&self.path))?;
        if read < pixels.len() {
            return self.end(read);
        }
        let seconds = f64::from(self.next) / self.options.frames_per_second;
        let number = self.info.frame_rate.map_or(self.next, |rate| (seconds * rate).round() as u32);
        self.next += 1;
        let picture = Picture {
            pixels,
            width: self.width,
            height: self.height,
            source_width: self.info.width,
            source_height: self.info.height,
        };
        Ok(Some(Frame { picture, number, seconds }))
    }

    fn end(&mut self, read: usize) -> Result<Option<Frame>> {
        let status = self.child.wait().map_err(Error::io(&self.path))?;
        let messages = self.messages.recv().unwrap_or_default();
        if read > 0 || !status.success() || self.next == 0 {
            return Err(Error::Video { reason: message(&messages, &self.path) });
        }
        Ok(None)
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        // A reader that is dropped early must not leave ffmpeg behind; one that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
struct Probed {
    #[serde(default)]
    streams: Vec<ProbedStream>,
    #[serde(default)]
    format: ProbedFormat,
}

#[derive(Deserialize)]
struct ProbedStream {
    width: Option<u32>,
    height: Option<u32>,
    avg_frame_rate: Option<String>,
    duration: Option<String>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<i32>,
}

#[derive(Default, Deserialize)]
struct ProbedFormat {
    duration: Option<String>,
    #[serde(default)]
    tags: ProbedTags,
}

#[derive(Default, Deserialize)]
struct ProbedTags {
    creation_time: Option<String>,
}

fn missing_program(program: &'static str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::FfmpegMissing { program };
    }
    Error::Video { reason: format!("{program} cannot be started: {error}") }
}

/// "30000/1001" as 29.97; "0/0" is unknown.
fn parse_rate(text: &str) -> Option<f64> {
    let (top, bottom) = text.split_once('/')?;
    let rate = top.parse::<f64>().ok()? / bottom.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// Sides scaled down so that the shorter one is `min_side`, never up.
fn reduced_size(width: u32, height: u32, min_side: u32) -> (u32, u32) {
    let shorter = width.min(height).max(1);
    if shorter <= min_side {
        return (width.max(1), height.max(1));
    }
    let scale = f64::from(min_side) / f64::from(shorter);
    ((f64::from(width) * scale).round() as u32, (f64::from(height) * scale).round() as u32)
}

fn read_full(source: &mut impl Read, target: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < target.len() {
        match source.read(&mut target[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads ffmpeg's messages on a thread of their own, so that a chatty file cannot block it.
fn collect_messages(stderr: Option<ChildStderr>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(stderr) = stderr {
            let mut stderr = stderr;
            let mut buffer = [0; 1024];
            while let Ok(read) = stderr.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                if kept.len() < KEPT_MESSAGE_BYTES {
                    kept.extend_from_slice(&buffer[..read]);
                }
            }
        }
        // Nobody listens if the reader was dropped early.
        let _ = sender.send(kept);
    });
    receiver
}

/// The last line that ffmpeg wrote, without our own temporary path.
fn message(stderr: &[u8], path: &Path) -> String {
    let text = String::from_utf8_lossy(stderr).replace(&path.display().to_string(), "the file");
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => line.trim().to_owned(),
        None => "it holds no frame that can be decoded".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_sizes() {
        assert!(parse_rate("30000/1001").is_some_and(|rate| (rate - 29.97).abs() < 0.01));
        assert_eq!(parse_rate("0/0"), None);
        assert_eq!(reduced_size(1920, 1080, 540), (960, 540));
        assert_eq!(reduced_size(320, 240, 540), (320, 240));
    }
}
