//! Sends requests within their time, and stops when the attempt should.

use std::time::Duration;

use pipeline::Cancel;
use platform::error::root_cause;
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::text;

use super::redirect::follow;
use super::request::{Answer, Failure, Request};

/// A server that does not even accept the connection is not waited for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests; what it needs for that is made for the first.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    client: OnceCell<Client>,
}

impl Caller {
    /// Sends a request and reads the answer, redirects followed.
    pub(crate) async fn call(&self, request: Request, time: Duration, cancel: &Cancel) -> Result<Answer, Failure> {
        let client = self.client.get_or_try_init(|| async { make_client() }).await?;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::Cancelled),
            answer = timeout(time, follow(client, request)) => match answer {
                Ok(answer) => answer,
                Err(_) => Err(Failure::NoAnswer(format!("no whole answer within {}", text::duration(time)))),
            },
        }
    }
}

/// Connections are not kept: attempts are far apart, and a server that closed one meanwhile would fail the next.
fn make_client() -> Result<Client, Failure> {
    Client::builder()
        .user_agent(concat!("safari/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| Failure::Refused(format!("cannot set up HTTP: {}", root_cause(&error))))
}
