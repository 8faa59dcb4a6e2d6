//! A client that costs little beside the server: HTTP/1.1 over a connection that stays.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::error::{Error, Result};

const JSON: &str = "application/json";

/// Bytes that are sent and read at once.
const PIECE: usize = 256 * 1024;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: &'static str,
    /// With `/api/…` and the query.
    target: String,
    /// Its content type.
    kind: &'static str,
    /// Bytes of JSON that the body begins with, before bytes of tensors.
    json: Option<usize>,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), kind: JSON, json: None, body: Vec::new() }
    }

    pub(super) fn post(target: impl Into<String>, body: &serde_json::Value) -> Self {
        Self { method: "POST", target: target.into(), kind: JSON, json: None, body: body.to_string().into_bytes() }
    }

    /// Sends bytes as they are.
    pub(super) fn bytes(target: impl Into<String>, body: Vec<u8>) -> Self {
        Self { method: "POST", target: target.into(), kind: "application/octet-stream", json: None, body }
    }
}

impl Request {
    /// Says that the body begins with so many bytes of JSON (Open Inference Protocol, binary tensors).
    pub(super) fn with_json(self, bytes: usize) -> Self {
        Self { json: Some(bytes), ..self }
    }
}

/// One connection to a server of this machine.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    piece: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(Error::io("a connection"))?;
        stream.set_nodelay(true).map_err(Error::io("a connection"))?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream), piece: vec![0; PIECE] })
    }

    /// Asks, and reads the whole answer; anything but 200 is an error.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Vec<u8>> {
        let mut sent = head(request.method, &request.target, request.kind, request.body.len() as u64, request.json);
        sent.extend_from_slice(&request.body);
        self.stream.get_mut().write_all(&sent).await.map_err(Error::io("a request"))?;
        let mut body = Vec::new();
        self.answer(&request.target, |piece| body.extend_from_slice(piece)).await?;
        Ok(body)
    }

    /// Sends a file as the body of a PUT.
    pub(super) async fn upload(&mut self, target: &str, path: &Path) -> Result<()> {
        let mut file = tokio::fs::File::open(path).await.map_err(Error::io(path))?;
        let size = file.metadata().await.map_err(Error::io(path))?.len();
        let head = head("PUT", target, JSON, size, None);
        self.stream.get_mut().write_all(&head).await.map_err(Error::io("a request"))?;
        loop {
            let count = file.read(&mut self.piece).await.map_err(Error::io(path))?;
            if count == 0 {
                break;
            }
            self.stream.get_mut().write_all(&self.piece[..count]).await.map_err(Error::io("a request"))?;
        }
        self.answer(target, |_| {}).await
    }

    /// Reads a body without keeping it, and gives its length.
    pub(super) async fn download(&mut self, target: &str) -> Result<u64> {
        let head = head("GET", target, JSON, 0, None);
        self.stream.get_mut().write_all(&head).await.map_err(Error::io("a request"))?;
        let mut length = 0;
        self.answer(target, |piece| length += piece.len() as u64).await?;
        Ok(length)
    }

    async fn answer(&mut self, target: &str, mut see: impl FnMut(&[u8])) -> Result<()> {
        let status = self.line().await?;
        let (mut length, mut chunked) = (0u64, false);
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let is_good = status.split_whitespace().nth(1) == Some("200");
        let mut words = Vec::new();
        let mut keep = |piece: &[u8]| if is_good { see(piece) } else { words.extend_from_slice(piece) };
        if chunked {
            loop {
                let size = u64::from_str_radix(self.line().await?.trim(), 16).unwrap_or(0);
                self.body(size, &mut keep).await?;
                // The line's end behind each chunk, and behind the last.
                self.line().await?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.body(length, &mut keep).await?;
        }
        if is_good {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&words[..words.len().min(400)]).into_owned();
        Err(Error::failed(target, format!("{status}: {words}")))
    }

    async fn body(&mut self, length: u64, see: &mut impl FnMut(&[u8])) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let most = left.min(PIECE as u64) as usize;
            let count = self.stream.read(&mut self.piece[..most]).await.map_err(Error::io("an answer"))?;
            if count == 0 {
                return Err(Error::failed("the server", "an answer broke off"));
            }
            see(&self.piece[..count]);
            left -= count as u64;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line).await.map_err(Error::io("an answer"))?;
        if count == 0 {
            return Err(Error::failed("the server", "it closed the connection"));
        }
        Ok(line.trim_end().to_owned())
    }
}

fn head(method: &str, target: &str, kind: &str, length: u64, json: Option<usize>) -> Vec<u8> {
    let json = json.map(|bytes| format!("Inference-Header-Content-Length: {bytes}\r\n")).unwrap_or_default();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{json}\r\n"
    )
    .into_bytes()
}
