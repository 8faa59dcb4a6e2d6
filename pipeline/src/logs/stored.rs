//! The lines of one attempt that are in the store, read as they come.

use platform::Error;
use platform::object_store::ObjectStore;

use super::Logs;
use super::key::LogKey;
use super::line::LogLine;
use crate::error::Result;

/// Bytes read at once.
const PIECE: u64 = 1 << 20;

/// How far an attempt's log has been read.
pub(super) struct Stored {
    logs: Logs,
    key: LogKey,
    /// Bytes read in all: parts follow each other in the whole object.
    read: u64,
    part: u32,
    /// Bytes read of this part.
    of_part: u64,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
}

impl Stored {
    pub(super) fn new(logs: Logs, key: LogKey) -> Self {
        Self { logs, key, read: 0, part: 0, of_part: 0, rest: Vec::new() }
    }

    /// The next lines that are there; none when there are no more yet.
    pub(super) async fn next(&mut self) -> Result<Vec<LogLine>> {
        let logs = self.logs.clone();
        let store = logs.store().await?.as_ref();
        loop {
            let Some(bytes) = self.piece(store).await? else { return Ok(Vec::new()) };
            self.read += bytes.len() as u64;
            self.rest.extend_from_slice(&bytes);
            let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let lines: Vec<u8> = self.rest.drain(..=end).collect();
            return Ok(String::from_utf8_lossy(&lines).lines().map(LogLine::read).collect());
        }
    }

    async fn piece(&mut self, store: &dyn ObjectStore) -> Result<Option<bytes::Bytes>> {
        if let Some(bytes) = found(store.get_range(&self.key.whole(), self.read..self.read + PIECE).await)? {
            return Ok(Some(bytes).filter(|bytes| !bytes.is_empty()));
        }
        loop {
            if let Some(bytes) = self.piece_of_part(store).await? {
                return Ok(Some(bytes));
            }
            if found(store.head(&self.key.part(self.part + 1)).await)?.is_none() {
                return Ok(None);
            }
            // The next part was begun when this one was full; between the two looks it may have grown.
            if let Some(bytes) = self.piece_of_part(store).await? {
                return Ok(Some(bytes));
            }
            (self.part, self.of_part) = (self.part + 1, 0);
        }
    }

    async fn piece_of_part(&mut self, store: &dyn ObjectStore) -> Result<Option<bytes::Bytes>> {
        let range = self.of_part..self.of_part + PIECE;
        let bytes = found(store.get_range(&self.key.part(self.part), range).await)?.filter(|bytes| !bytes.is_empty());
        self.of_part += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(bytes)
    }
}

/// What is there; an object that is not there is no error.
fn found<T>(answer: platform::Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
