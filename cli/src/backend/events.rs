//! Changes of runs as a server sends them: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::time::Duration;

use async_trait::async_trait;
use pipeline::api::{KEEP_ALIVE, LAST_EVENT_ID, RUN_EVENT, RunChangeView};
use pipeline::state::ChangeFilter;
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::{sleep, timeout};

use super::Changes;
use super::http::Http;
use crate::error::{Error, Result};

/// How often a server that went away is asked again, and how long between two tries.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);
/// More than an event ever has.
const LONGEST_LINE: usize = 1 << 20;

/// A stream of events that goes on when the connection is cut.
pub(super) struct Events {
    http: Http,
    filter: ChangeFilter,
    answer: Response,
    lines: Lines,
    /// The last event that came.
    last: Option<HeaderValue>,
}

impl Events {
    pub(super) async fn open(http: Http, filter: ChangeFilter) -> Result<Self> {
        let answer = connect(&http, &filter, None).await?;
        Ok(Self { http, filter, answer, lines: Lines::default(), last: None })
    }

    /// Begins again behind the last event that came.
    async fn open_again(&mut self) -> Result<()> {
        let mut tries = 0;
        self.lines = Lines::default();
        loop {
            match connect(&self.http, &self.filter, self.last.as_ref()).await {
                Ok(answer) => {
                    self.answer = answer;
                    return Ok(());
                }
                Err(Error::ServerUnreachable { .. } | Error::ServerFailed { .. }) if tries < TRIES => {
                    tries += 1;
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl Changes for Events {
    async fn next(&mut self) -> Result<RunChangeView> {
        loop {
            while let Some(event) = self.lines.next() {
                if let Some(id) = event.id.and_then(|id| HeaderValue::from_str(&id).ok()) {
                    self.last = Some(id);
                }
                if event.name != RUN_EVENT || event.data.is_empty() {
                    continue;
                }
                return serde_json::from_str(&event.data)
                    .map_err(|error| self.http.not_understood(format!("an event that is something else ({error})")));
            }
            if self.lines.bytes.len() > LONGEST_LINE {
                return Err(self.http.not_understood("a line without end"));
            }
            // Silence for longer than two comments: the connection is dead.
            match timeout(KEEP_ALIVE * 3, self.answer.chunk()).await {
                Ok(Ok(Some(bytes))) => self.lines.bytes.extend_from_slice(&bytes),
                Ok(Ok(None) | Err(_)) | Err(_) => self.open_again().await?,
            }
        }
    }
}

async fn connect(http: &Http, filter: &ChangeFilter, last: Option<&HeaderValue>) -> Result<Response> {
    let query = [("run", filter.run.map(|run| run.to_string())), ("dag", filter.dag.clone())];
    let mut headers = HeaderMap::new();
    if let Some(last) = last {
        headers.insert(LAST_EVENT_ID, last.clone());
    }
    http.stream(&["events"], &query, headers).await
}

/// What has come of the stream and is not read yet.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    event: Event,
}

#[derive(Debug, Default, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: String,
}

impl Lines {
    /// The next whole event.
    fn next(&mut self) -> Option<Event> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                return Some(std::mem::take(&mut self.event));
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.event.id = Some(value.to_owned()),
                "event" => self.event.name = value.to_owned(),
                "data" if self.event.data.is_empty() => self.event.data = value.to_owned(),
                "data" => self.event.data = format!("{}\n{value}", self.event.data),
                // Comments have no name before the colon.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_the_pieces() {
        let text =
            ": keep-alive\n\nid: 7\nretry: 1000\n\nevent: run\r\nid:8\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 9\n";
        let event = |id: Option<&str>, name: &str, data: &str| Event {
            id: id.map(str::to_owned),
            name: name.to_owned(),
            data: data.to_owned(),
        };
        let expected = [event(None, "", ""), event(Some("7"), "", ""), event(Some("8"), "run", "{\"a\":\n1}")];
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut read = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.bytes.extend_from_slice(piece);
                read.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(read, expected, "in pieces of {size}");
        }
    }
}
