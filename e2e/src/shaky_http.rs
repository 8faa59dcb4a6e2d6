//! A proxy on loopback in front of an HTTP server, such as one for S3, that is busy, full, slow, breaks off, loses answers, and
//! has less of an object than was written.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::error::io as failed;

/// No head of a request or an answer is longer.
const LONGEST_HEAD: usize = 64 * 1024;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not reach the server; the client is answered 503 Slow Down.
    Busy,
    /// The body of the answer ends in its middle.
    BrokenOff,
    /// The server does it, and the client hears nothing.
    AnswerLost,
    /// It does not reach the server; the client is answered 507, as a server without room does.
    Full,
    /// It reaches the server after this time.
    Slow(Duration),
    /// The server has only the first half of the object, and says so as if that were all of it.
    Halved,
}

/// Kinds of faults.
const KINDS: usize = 6;

impl Fault {
    /// The number of its kind.
    fn kind(self) -> usize {
        match self {
            Self::Busy => 0,
            Self::BrokenOff => 1,
            Self::AnswerLost => 2,
            Self::Full => 3,
            Self::Slow(_) => 4,
            Self::Halved => 5,
        }
    }
}

/// A request as the proxy sees it.
#[derive(Debug)]
pub struct Request<'a> {
    /// `GET`, `PUT`, …
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// How often the same was asked before.
    pub before: usize,
}

/// A proxy; new connections are refused when this value is dropped.
#[derive(Debug)]
pub struct ShakyHttp {
    port: u16,
    shared: Arc<Shared>,
}

type Judge = dyn Fn(&Request<'_>) -> Option<Fault> + Send + Sync;

struct Shared {
    server: String,
    judge: Box<Judge>,
    asked: Mutex<HashMap<String, usize>>,
    faults: [AtomicUsize; KINDS],
    ended: AtomicUsize,
}

impl ShakyHttp {
    /// Starts a proxy in front of the server at `endpoint`, such as `http://127.0.0.1:8333`; `judge` says what becomes of
    /// each request.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start(
        endpoint: &str,
        judge: impl Fn(&Request<'_>) -> Option<Fault> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("find a port for a proxy"))?;
        let port = listener.local_addr().map_err(failed("find a port for a proxy"))?.port();
        let shared = Arc::new(Shared {
            server: endpoint.trim_start_matches("http://").to_owned(),
            judge: Box::new(judge),
            asked: Mutex::default(),
            faults: Default::default(),
            ended: AtomicUsize::new(0),
        });
        let proxy = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::SeqCst) > 0 {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A connection that fails is one more fault.
                thread::spawn(move || drop(serve(client, &shared)));
            }
        });
        Ok(proxy)
    }

    /// The address that clients are to use instead of the server's.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How often it has done this to a request, whatever the time of [`Fault::Slow`].
    pub fn count(&self, fault: Fault) -> usize {
        self.shared.faults[fault.kind()].load(Ordering::SeqCst)
    }
}

impl Drop for ShakyHttp {
    fn drop(&mut self) {
        self.shared.ended.store(1, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn fault(&self, method: &str, target: &str) -> Option<Fault> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(format!("{method} {target}")).or_default();
        let request = Request { method, target, before: *count };
        *count += 1;
        (self.judge)(&request)
    }

    fn note(&self, fault: Fault) {
        self.faults[fault.kind()].fetch_add(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in front of {}", self.server)
    }
}

/// Serves one request; then the connection is closed, so that every request comes on a connection of its own.
fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let Some((head, begun)) = read_head(&mut client)? else { return Ok(()) };
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fault = shared.fault(method, target);
    match fault {
        Some(Fault::Busy) => {
            shared.note(Fault::Busy);
            let answer = refusal("503 Slow Down", "SlowDown", "Please reduce your request rate.");
            return refuse(&mut client, &head, &begun, &answer);
        }
        Some(Fault::Full) => {
            shared.note(Fault::Full);
            let answer = refusal("507 Insufficient Storage", "XMinioStorageFull", "There is no room.");
            return refuse(&mut client, &head, &begun, &answer);
        }
        Some(slow @ Fault::Slow(time)) => {
            shared.note(slow);
            thread::sleep(time);
        }
        _ => {}
    }
    let mut server = TcpStream::connect(&shared.server)?;
    server.write_all(alone(&head).as_bytes())?;
    server.write_all(&begun)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    // Ends when one of them hangs up.
    thread::spawn(move || drop(io::copy(&mut from, &mut to)));
    match fault {
        Some(Fault::AnswerLost) => {
            io::copy(&mut server, &mut io::sink())?;
            shared.note(Fault::AnswerLost);
        }
        Some(Fault::BrokenOff) => {
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            let body = body_of(&answer);
            if answer.len() - body > 1 {
                answer.truncate(body + (answer.len() - body) / 2);
                shared.note(Fault::BrokenOff);
            }
            client.write_all(&answer)?;
        }
        Some(Fault::Halved) => {
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            if let Some(halved) = halved(&answer) {
                shared.note(Fault::Halved);
                answer = halved;
            }
            client.write_all(&answer)?;
        }
        _ => drop(io::copy(&mut server, &mut client)?),
    }
    let _closed = server.shutdown(Shutdown::Both);
    client.shutdown(Shutdown::Both)
}

/// Answers without asking the server.
fn refuse(client: &mut TcpStream, head: &str, begun: &[u8], answer: &str) -> io::Result<()> {
    // Who waits to be told to go on has not sent it.
    if header(head, "expect").is_none() {
        let length: usize = header(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        io::copy(&mut (&*client).take(length.saturating_sub(begun.len()) as u64), &mut io::sink())?;
    }
    client.write_all(answer.as_bytes())?;
    client.shutdown(Shutdown::Write)
}

fn refusal(status: &str, code: &str, message: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let head = "connection: close\r\ncontent-type: application/xml";
    format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Where the body of an answer begins.
fn body_of(answer: &[u8]) -> usize {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |end| end + 4)
}

/// The answer with half of the length and of the bytes, and without their checksums; none if it tells no length or that of
/// nothing.
fn halved(answer: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = answer.split_at(body_of(answer));
    let head = String::from_utf8_lossy(head);
    let length: usize = header(&head, "content-length")?.parse().ok()?;
    if length < 2 || !head.starts_with("HTTP/1.1 200") {
        return None;
    }
    let kept = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("x-amz-checksum"));
    let lines = kept.map(|line| match line.split_once(':') {
        Some((name, _)) if name.eq_ignore_ascii_case("content-length") => format!("{name}: {}\r\n", length / 2),
        _ => line.to_owned(),
    });
    let mut halved = lines.collect::<String>().into_bytes();
    halved.extend_from_slice(&body[..body.len().min(length / 2)]);
    Some(halved)
}

/// The head of a request with its empty line, and what of the body came with it.
fn read_head(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while bytes.len() < LONGEST_HEAD {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), body)));
        }
    }
    Ok(None)
}

/// The head, with the wish that the connection is closed after the answer.
fn alone(head: &str) -> String {
    let mut lines = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let first = lines.next().unwrap_or_default();
    format!("{first}connection: close\r\n{}", lines.collect::<String>())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let named = |line: &'a str| line.split_once(':').filter(|(found, _)| found.eq_ignore_ascii_case(name));
    head.lines().find_map(named).map(|(_, value)| value.trim())
}
