//! Lines of logs as a server sends them.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use pipeline::api::KEEP_ALIVE;
use pipeline::logs::{RunLine, Wanted};
use reqwest::Response;
use reqwest::header::HeaderMap;
use tokio::time::{sleep, timeout};

use super::Lines;
use super::http::Http;
use crate::error::{Error, Result};

/// How often a server that went away is asked again, and how long between two tries.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);
/// More than a line of a log ever has.
const LONGEST_LINE: usize = 4 << 20;

/// Task, item of a mapped task, number of the attempt.
type Attempt = (String, Option<u32>, u32);

/// The lines of a run. Those that are followed go on when the connection is cut: of each attempt as many are passed over
/// as have come before.
pub(super) struct RemoteLines {
    http: Http,
    wanted: Wanted,
    answer: Response,
    /// What has come and is not read yet.
    rest: Vec<u8>,
    come: HashMap<Attempt, u64>,
    passed_over: HashMap<Attempt, u64>,
    /// How often it was cut off since the last line.
    cuts: u32,
}

impl RemoteLines {
    pub(super) async fn open(http: Http, wanted: Wanted) -> Result<Self> {
        let answer = connect(&http, &wanted).await?;
        let (come, passed_over) = (HashMap::new(), HashMap::new());
        Ok(Self { http, wanted, answer, rest: Vec::new(), come, passed_over, cuts: 0 })
    }

    /// Begins again, unless it was cut off too often.
    async fn open_again(&mut self) -> Result<()> {
        (self.rest, self.passed_over) = (Vec::new(), self.come.clone());
        loop {
            self.cuts += 1;
            if !self.wanted.follow || self.cuts > TRIES {
                return Err(self.http.broken_off());
            }
            sleep(PAUSE).await;
            match connect(&self.http, &self.wanted).await {
                Ok(answer) => {
                    self.answer = answer;
                    return Ok(());
                }
                Err(Error::ServerUnreachable { .. } | Error::ServerFailed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole line; an empty one only says that the server is there.
    fn line(&mut self) -> Result<Option<RunLine>> {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = self.rest.drain(..=end).collect();
            if text.len() == 1 {
                continue;
            }
            let line: RunLine = serde_json::from_slice(&text)
                .map_err(|error| self.http.not_understood(format!("a line that is something else ({error})")))?;
            let attempt = (line.task.clone(), line.map_index, line.attempt);
            if let Some(left) = self.passed_over.get_mut(&attempt).filter(|left| **left > 0) {
                *left -= 1;
                continue;
            }
            *self.come.entry(attempt).or_default() += 1;
            self.cuts = 0;
            return Ok(Some(line));
        }
        Ok(None)
    }
}

#[async_trait]
impl Lines for RemoteLines {
    async fn next(&mut self) -> Result<Option<RunLine>> {
        loop {
            if let Some(line) = self.line()? {
                return Ok(Some(line));
            }
            if self.rest.len() > LONGEST_LINE {
                return Err(self.http.not_understood("a line without end"));
            }
            // Silence for longer than two empty lines: the connection is dead.
            match timeout(KEEP_ALIVE * 3, self.answer.chunk()).await {
                Ok(Ok(Some(bytes))) => self.rest.extend_from_slice(&bytes),
                Ok(Ok(None)) if self.rest.is_empty() => return Ok(None),
                Ok(Ok(None) | Err(_)) | Err(_) => self.open_again().await?,
            }
        }
    }
}

async fn connect(http: &Http, wanted: &Wanted) -> Result<Response> {
    let Wanted { run, task, map_index, attempt, follow } = wanted;
    let query = [
        ("task", task.clone()),
        ("map_index", map_index.map(|index| index.to_string())),
        ("attempt", attempt.map(|attempt| attempt.to_string())),
        ("follow", follow.then(|| "true".to_owned())),
    ];
    http.stream(&["runs", &run.to_string(), "logs"], &query, HeaderMap::new()).await
}
