//! The log of one attempt under way.

use std::fmt;
use std::io::{Seek, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use platform::object_store::ObjectStore;
use platform::telemetry::Sink;
use tracing::Level;

use super::AttemptLog;
use super::key::LogKey;
use super::line::{LogLine, Stream};
use super::store::Shared;
use crate::clock::Timestamp;
use crate::mask::Masker;

/// A part that has so many bytes is full, and the next begins.
const FULL_PART: usize = 1 << 20;

/// So many bytes may wait for the store; then programs wait, and without a store that works lines are left out.
const MOST_WAITING: usize = 4 << 20;

/// Of one message so many bytes are kept, which is more than jobs log in one line.
const LONGEST_MESSAGE: usize = 128 * 1024;

/// How long one object may take, and the making of one object of all parts.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(60);

/// How often a program that waits for the store looks whether it still must.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Takes the lines of one attempt. Costs next to nothing until the first.
pub(crate) struct Writer {
    key: LogKey,
    shared: Arc<Shared>,
    masker: Masker,
    buffer: Mutex<Buffer>,
    taken: Condvar,
    upload: tokio::sync::Mutex<Upload>,
}

/// Lines that wait for the store.
#[derive(Default)]
struct Buffer {
    waiting: Vec<u8>,
    /// Bytes of all lines so far.
    bytes: u64,
    /// Lines that were left out and not told of yet.
    left_out: u64,
    is_open: bool,
    is_cut: bool,
    is_closed: bool,
}

/// What is in the store.
#[derive(Default)]
struct Upload {
    /// The part that is not full yet.
    part: u32,
    bytes: Vec<u8>,
    /// The store has some of this part.
    is_stored: bool,
    /// The store lacks some of this part.
    is_behind: bool,
}

impl Writer {
    pub(super) fn new(key: LogKey, shared: Arc<Shared>, masker: Masker) -> Self {
        let upload = tokio::sync::Mutex::default();
        Self { key, shared, masker, buffer: Mutex::default(), taken: Condvar::new(), upload }
    }

    fn take_line(self: &Arc<Self>, stream: Stream, level: Option<Level>, text: &str) {
        let masked = self.masker.mask(text);
        let masked = self.shared.options.masking.mask(&masked);
        let kept = &masked[..masked.floor_char_boundary(LONGEST_MESSAGE)];
        let line = LogLine::new(Timestamp::now(), stream, level, kept).text();
        let mut buffer = self.buffer();
        // Events come from threads that must not wait.
        while buffer.waiting.len() >= MOST_WAITING && !buffer.is_closed {
            if stream == Stream::Event || self.shared.is_failing() {
                buffer.left_out += 1;
                return;
            }
            buffer = self.taken.wait_timeout(buffer, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
        if buffer.is_closed || buffer.is_cut {
            return;
        }
        buffer.tell_left_out();
        buffer.bytes += line.len() as u64;
        if buffer.bytes > self.shared.options.max_bytes {
            buffer.is_cut = true;
            let limit = self.shared.options.max_bytes;
            buffer.say(&format!("the log is cut here: it has the {limit} bytes that `logs.max_bytes` allows"));
        } else {
            buffer.waiting.extend_from_slice(line.as_bytes());
        }
        if !std::mem::replace(&mut buffer.is_open, true) {
            drop(buffer);
            self.shared.opened(Arc::clone(self));
        }
    }

    /// Brings what is new to the store.
    pub(super) async fn flush(&self) {
        let mut upload = self.upload.lock().await;
        self.take_waiting(&mut upload);
        if upload.is_behind {
            let result = self.within(PATIENCE, self.put_part(&mut upload)).await;
            self.shared.wrote(&result);
        }
    }

    /// Brings the rest to the store and makes one object of it; afterwards nothing more is taken. A log of which nothing
    /// is to stay is `dropped`.
    pub(crate) async fn finish(&self, dropped: bool) {
        {
            let mut buffer = self.buffer();
            buffer.is_closed = true;
            self.taken.notify_all();
            if !buffer.is_open {
                return;
            }
            buffer.tell_left_out();
        }
        self.shared.closed(self);
        let mut upload = self.upload.lock().await;
        self.take_waiting(&mut upload);
        let patience = if upload.part == 0 { PATIENCE } else { PATIENCE_WITH_ALL };
        let result = match dropped {
            true => self.within(patience, self.forget(&upload)).await,
            false => self.within(patience, self.put_whole(&mut upload)).await,
        };
        self.shared.wrote(&result);
    }

    async fn within(&self, patience: Duration, work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let late = |_| format!("{} did not take it within {patience:?}", self.key.whole());
        tokio::time::timeout(patience, work).await.map_err(late)?
    }

    async fn store(&self) -> Result<&Arc<dyn ObjectStore>, String> {
        self.shared.store().await.map_err(in_words)
    }

    fn take_waiting(&self, upload: &mut Upload) {
        if upload.bytes.len() >= MOST_WAITING {
            return;
        }
        let mut buffer = self.buffer();
        if !buffer.waiting.is_empty() {
            upload.bytes.append(&mut buffer.waiting);
            upload.is_behind = true;
            self.taken.notify_all();
        }
    }

    async fn put_part(&self, upload: &mut Upload) -> Result<(), String> {
        let bytes = Bytes::copy_from_slice(&upload.bytes);
        // Said before it is sure: what may be there is removed in the end.
        upload.is_stored = true;
        self.store().await?.put(&self.key.part(upload.part), bytes).await.map_err(in_words)?;
        upload.is_behind = false;
        if upload.bytes.len() >= FULL_PART {
            *upload = Upload { part: upload.part + 1, ..Upload::default() };
        }
        Ok(())
    }

    async fn put_whole(&self, upload: &mut Upload) -> Result<(), String> {
        let store = self.store().await?;
        if upload.part == 0 {
            let bytes = Bytes::from(std::mem::take(&mut upload.bytes));
            store.put(&self.key.whole(), bytes).await.map_err(in_words)?;
            return self.forget(upload).await;
        }
        if upload.is_behind {
            self.put_part(upload).await?;
        }
        let mut all = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        for part in 0..upload.parts() {
            let bytes = store.get(&self.key.part(part)).await.map_err(in_words)?;
            all.write_all(&bytes).map_err(|error| error.to_string())?;
        }
        all.flush().and_then(|()| all.rewind()).map_err(|error| error.to_string())?;
        store.put_file(&self.key.whole(), all.path()).await.map_err(in_words)?;
        self.forget(upload).await
    }

    /// Removes the parts.
    async fn forget(&self, upload: &Upload) -> Result<(), String> {
        let store = self.store().await?;
        for part in 0..upload.parts() {
            store.delete(&self.key.part(part)).await.map_err(in_words)?;
        }
        if let Some(part) = store.local_path(&self.key.part(0)).filter(|_| upload.parts() > 0) {
            // A folder that is not empty stays.
            let _ = part.parent().map(std::fs::remove_dir);
        }
        Ok(())
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn tell_left_out(&mut self) {
        if self.left_out > 0 {
            let count = std::mem::take(&mut self.left_out);
            self.say(&format!("{count} lines left out: the store of the logs did not take them in time"));
        }
    }

    fn say(&mut self, text: &str) {
        let line = LogLine::new(Timestamp::now(), Stream::Event, Some(Level::WARN), text);
        self.waiting.extend_from_slice(line.text().as_bytes());
    }
}

impl Upload {
    /// How many parts may be in the store.
    fn parts(&self) -> u32 {
        self.part + u32::from(self.is_stored)
    }
}

/// What an attempt logs through its [`Writer`].
#[derive(Clone)]
pub(crate) struct LogHandle(pub(crate) Arc<Writer>);

impl AttemptLog for LogHandle {
    fn line(&self, stream: Stream, text: &str) {
        let level = (stream == Stream::Event).then_some(Level::INFO);
        self.0.take_line(stream, level, text);
    }
}

impl Sink for LogHandle {
    fn event(&self, level: Level, text: &str) {
        self.0.take_line(Stream::Event, Some(level), text);
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.key.whole())
    }
}

fn in_words(error: platform::Error) -> String {
    error.to_string()
}
