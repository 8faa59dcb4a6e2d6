//! A small HTTP server that answers as a test says and keeps what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

type Answer = dyn Fn(&str) -> String + Send + Sync;

/// Runs until it is dropped.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: AbortHandle,
}

impl Server {
    /// A server that answers each request (its head and body as one text) with this text: status and head, an empty
    /// line, the body. An empty text leaves the request without an answer.
    pub async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone(), answer.clone()));
            }
        });
        Self { url, asked, accepting: accepting.abort_handle() }
    }

    /// A server that always gives this answer.
    pub async fn always(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |_| answer.clone()).await
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An address at which nobody listens.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn serve(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>, answer: Arc<Answer>) {
    let mut bytes = Vec::new();
    while !is_whole(&bytes) {
        if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let request = String::from_utf8(bytes).unwrap();
    let answer = answer(&request);
    asked.lock().unwrap().push(request);
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    let (head, body) = answer.split_once("\n\n").unwrap_or((&answer, ""));
    let head = head.replace('\n', "\r\n");
    let length = body.len();
    let text = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    // The client may have read enough.
    drop(stream.write_all(text.as_bytes()).await);
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}
