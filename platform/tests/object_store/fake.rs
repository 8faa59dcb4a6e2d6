//! A server that answers as it is told, for the faults that a real one does not show on demand.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request: its head (request line and headers) as text.
pub type Requests = Arc<Mutex<Vec<String>>>;

/// Starts a server; `answer` gets the number of the request, from 0, and its head. It answers with the raw response, or
/// `None` to hang up. The address and the requests so far come back.
pub fn serve(answer: impl Fn(usize, &str) -> Option<String> + Send + 'static) -> (String, Requests) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(head) = read_request(&mut stream) else {
                continue;
            };
            let number = seen.lock().unwrap().len();
            seen.lock().unwrap().push(head.clone());
            if let Some(response) = answer(number, &head) {
                let _client_may_be_gone = stream.write_all(response.as_bytes());
            }
        }
    });
    (endpoint, requests)
}

/// A response with a length and a closed connection.
pub fn response(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"))
}

/// The answer to the first request of every store.
pub fn empty_listing() -> Option<String> {
    response(
        "200 OK",
        "content-type: application/xml\r\n",
        "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
    )
}

/// An S3 error.
pub fn failure(status: &str, code: &str) -> Option<String> {
    response(
        status,
        "content-type: application/xml\r\n",
        &format!("<Error><Code>{code}</Code><Message>Told so.</Message></Error>"),
    )
}

/// A header of a request.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Reads the head and as much body as it announces.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length: usize = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut missing = (end + 4 + length).saturating_sub(bytes.len());
        while missing > 0 {
            missing -= stream.read(&mut buffer).ok().filter(|count| *count > 0)?.min(missing);
        }
        return Some(head);
    }
}
