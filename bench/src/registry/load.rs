//! Many clients that ask one server for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contestant::Contestant;
use crate::error::{Error, Result};
use crate::http::{Connection, Request};

/// Connections that ask at once.
const CLIENTS: usize = 8;

/// What a server is asked, by the number of the request.
pub(super) type Ask = Arc<dyn Fn(usize) -> Request + Send + Sync>;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Requests a second of every round.
    pub(super) rates: Vec<f64>,
    /// Milliseconds of every request.
    pub(super) milliseconds: Vec<f64>,
    /// Milliseconds of the server's processor a request, of every round.
    pub(super) processor: Vec<f64>,
}

impl Loaded {
    /// Asks for `seconds` and adds what came of it.
    pub(super) async fn round(&mut self, server: &Contestant, ask: &Ask, first: usize, seconds: f64) -> Result<()> {
        let before = server.processor_seconds()?;
        let began = Instant::now();
        let until = began + Duration::from_secs_f64(seconds);
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (ask, port) = (Arc::clone(ask), server.port);
            clients.push(tokio::spawn(async move {
                let mut connection = Connection::open(port).await?;
                let mut times = Vec::new();
                let mut number = first + client;
                while Instant::now() < until {
                    let request = ask(number);
                    let began = Instant::now();
                    connection.ask(&request).await?;
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                    number += CLIENTS;
                }
                Ok::<_, Error>(times)
            }));
        }
        let mut count = 0;
        for client in clients {
            let times = client.await.map_err(|error| Error::failed("a client", error.to_string()))??;
            count += times.len();
            self.milliseconds.extend(times);
        }
        let took = began.elapsed().as_secs_f64();
        self.rates.push(count as f64 / took);
        self.processor.push((server.processor_seconds()? - before) * 1e3 / count as f64);
        Ok(())
    }

    /// How many requests there were.
    pub(super) fn count(&self) -> usize {
        self.milliseconds.len()
    }
}
