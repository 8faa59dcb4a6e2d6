//! A proxy on loopback in front of a server of any protocol, which does what broken networks do: it cuts connections, lets
//! nobody through, loses an answer on its way, and falls silent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::Result;
use crate::error::io;

/// A proxy; it ends, with all its connections, when this value is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    refused: AtomicUsize,
    lost: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    /// Nobody is let through.
    closed: bool,
    /// Both ends of every connection.
    ends: Vec<TcpStream>,
    /// Of every connection: whether it is silent.
    silent: Vec<Arc<AtomicBool>>,
    loss: Option<Loss>,
}

/// An answer to be lost.
#[derive(Clone, Debug)]
struct Loss {
    /// What a client sends before, in this order.
    after: Vec<String>,
    /// What the answer holds; nothing: all connections fall silent instead.
    answer: Option<String>,
}

impl Proxy {
    /// Starts a proxy in front of a server on this port of the loopback interface.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("find a port for a proxy"))?;
        let address = listener.local_addr().map_err(io("find a port for a proxy"))?;
        let shared = Arc::new(Shared {
            server: (Ipv4Addr::LOCALHOST, port).into(),
            state: Mutex::default(),
            refused: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        });
        let proxy = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || accept(&listener, &shared));
        Ok(proxy)
    }

    /// The port that clients are to use instead of the server's.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts all connections; new ones are let through.
    pub fn cut(&self) {
        self.shared.state().cut();
    }

    /// Cuts all connections and lets nobody through.
    pub fn close(&self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.cut();
    }

    /// Lets nobody more through; connections that are there stay.
    pub fn refuse(&self) {
        self.shared.state().closed = true;
    }

    /// Lets clients through again.
    pub fn open(&self) {
        self.shared.state().closed = false;
    }

    /// How many clients have found the proxy closed.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Loses one answer: on the first connection on which a client has sent the texts in this order, what the server says
    /// next and holds `answer` does not arrive, and the connection is cut. The server has done what it was asked.
    pub fn lose_answer(&self, after: &[&str], answer: &str) {
        self.lose(after, Some(answer));
    }

    /// Lets all connections fall silent when a client has sent the texts in this order on one of them: nobody hears
    /// anything from then on, the last text included, and nothing is closed. New connections are let through.
    pub fn fall_silent(&self, after: &[&str]) {
        self.lose(after, None);
    }

    fn lose(&self, after: &[&str], answer: Option<&str>) {
        let after = after.iter().map(|text| (*text).to_owned()).collect();
        self.shared.state().loss = Some(Loss { after, answer: answer.map(str::to_owned) });
    }

    /// How many answers were lost, and how often connections fell silent.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        state.cut();
        drop(state);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is lost, if the client has now sent all that comes before; `seen` counts the texts that it has sent. Only one
    /// connection finds it so.
    fn loss(&self, seen: &mut usize, mut bytes: &[u8]) -> Option<Loss> {
        let mut state = self.state();
        let loss = state.loss.clone()?;
        while let Some(text) = loss.after.get(*seen) {
            bytes = &bytes[end_of(text, bytes)?..];
            *seen += 1;
        }
        state.loss = None;
        if loss.answer.is_none() {
            state.silent.drain(..).for_each(|silent| silent.store(true, Ordering::SeqCst));
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
        Some(loss)
    }
}

impl State {
    fn cut(&mut self) {
        for end in self.ends.drain(..) {
            // It may be closed already.
            let _closed = end.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mut state = shared.state();
        if state.ended {
            return;
        }
        let Ok(client) = client else { continue };
        if state.closed {
            shared.refused.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        // Who cannot be connected finds the connection closed.
        let Ok(server) = TcpStream::connect(shared.server) else { continue };
        let ends = [&client, &server].map(TcpStream::try_clone);
        state.ends.extend(ends.into_iter().flatten());
        let silent = Arc::new(AtomicBool::new(false));
        state.silent.push(Arc::clone(&silent));
        drop(state);
        connect(client, server, shared, silent);
    }
}

/// Passes on what both say until one hangs up.
fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>, silent: Arc<AtomicBool>) {
    let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else { return };
    let (Ok(from_server), Ok(to_server)) = (server.try_clone(), server.try_clone()) else { return };
    let losing: Arc<Mutex<Option<Loss>>> = Arc::default();
    let (told, shared_up, shared_down) = (Arc::clone(&losing), Arc::clone(shared), Arc::clone(shared));
    let silent_too = Arc::clone(&silent);
    thread::spawn(move || {
        let mut seen = 0;
        pass(from_client, to_server, &silent, |bytes| {
            if let Some(loss) = shared_up.loss(&mut seen, bytes) {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(loss);
            }
            true
        });
    });
    thread::spawn(move || {
        pass(from_server, to_client, &silent_too, |bytes| {
            let loss = losing.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = loss.as_ref().and_then(|loss| loss.answer.as_ref());
            let is_lost = answer.is_some_and(|answer| end_of(answer, bytes).is_some());
            shared_down.lost.fetch_add(usize::from(is_lost), Ordering::SeqCst);
            !is_lost
        });
    });
}

/// Passes bytes on while `look` agrees and the connection is not silent: then not even its end is heard.
fn pass(mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool, mut look: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
    {
        let bytes = &buffer[..count];
        let goes_on = look(bytes);
        if silent.load(Ordering::SeqCst) {
            continue;
        }
        if !goes_on || to.write_all(bytes).is_err() {
            break;
        }
    }
    if !silent.load(Ordering::SeqCst) {
        let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

/// Where a text ends among the bytes.
fn end_of(text: &str, bytes: &[u8]) -> Option<usize> {
    let found = bytes.windows(text.len().max(1)).position(|window| window == text.as_bytes());
    found.map(|start| start + text.len())
}
