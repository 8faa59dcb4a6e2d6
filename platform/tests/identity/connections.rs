//! Connections on which a request was refused before its body was read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use platform::database::Engine;
use platform::identity::IdentityOptions;

use crate::served::Served;

/// Between head and body: long enough for an answer to the head alone.
const BETWEEN: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_the_next_request_after_a_refusal() {
    let served = Served::start(Engine::Sqlite, IdentityOptions::default()).await;
    let mut connection = Connection::to(&served.url);
    for _ in 0..3 {
        connection.send("POST /auth/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sfr_nobody\r\ncontent-length: 20000\r\n\r\n");
        std::thread::sleep(BETWEEN);
        connection.send(&"x".repeat(20_000));
        let head = connection.answer();
        assert!(head[0].starts_with("HTTP/1.1 401 "), "{head:?}");
        assert!(!says_close(&head), "{head:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_long_request_says_that_the_connection_closes() {
    let served = Served::start(Engine::Sqlite, IdentityOptions::default()).await;
    let long = "content-length: 10000000000\r\n\r\n";
    let waiting = "content-length: 10\r\nexpect: 100-continue\r\n\r\n";
    let endless = "transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    for rest in [long, waiting, endless] {
        let mut connection = Connection::to(&served.url);
        connection.send("POST /auth/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sfr_nobody\r\n");
        connection.send(rest);
        let head = connection.answer();
        assert!(head[0].starts_with("HTTP/1.1 401 "), "{head:?}");
        assert!(says_close(&head), "{head:?}");
    }
}

fn says_close(head: &[String]) -> bool {
    head.iter().any(|line| line == "connection: close")
}

/// One connection, by hand: a client would open another one by itself.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn to(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The lines of the answer's head; its body is read, too.
    fn answer(&mut self) -> Vec<String> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "the connection ended after {head:?}");
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_ascii_lowercase().replacen("http", "HTTP", 1)),
            }
        }
        let length =
            head.iter().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        self.stream.read_exact(&mut vec![0; length]).unwrap();
        head
    }
}
