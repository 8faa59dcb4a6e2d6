//! Serves a router on a socket: HTTP/1.1 and HTTP/2, with TLS where there are certificates, until it is told to end.

mod proxies;
mod tls;
mod unread;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;
use tracing::{debug, warn};

pub use proxies::TrustedProxies;
pub use tls::Tls;
use unread::Unread;

use crate::config::Config;
use crate::error::io_reason;
use crate::identity::{Guard, Identity, PeerAddress};
use crate::{Error, Result};

/// How long a client may take to send the head of a request, and to be silent between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of the head of a request.
const HEAD_BYTES: usize = 64 * 1024;
/// How often a silent connection of HTTP/2 is asked whether it is alive, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests at the same time on one connection of HTTP/2.
const STREAMS: u32 = 256;
/// How long a handshake of TLS may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers under way may take when the server is told to end.
const DRAIN: Duration = Duration::from_secs(30);
/// How long no connection is taken when none can be, such as for want of file handles.
const PAUSE: Duration = Duration::from_millis(100);

/// How a server is reached, and by whom. Open, and without TLS, if nobody says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    /// Who is let in.
    pub guard: Guard,
    /// Certificates.
    pub tls: Option<Tls>,
    /// Gateways that say for whom they ask.
    pub proxies: TrustedProxies,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    proxies: Arc<TrustedProxies>,
    head_timeout: Duration,
    drain: Duration,
    places: Option<Arc<Semaphore>>,
}

impl Entrance {
    /// That of the settings.
    ///
    /// # Errors
    /// What is wrong with the tables of identity, or with certificates.
    pub async fn of(config: &Config) -> Result<Self> {
        let guard = Identity::open(config).await?.map_or(Guard::Open, Guard::Closed);
        let tls = match (&config.tls.cert, &config.tls.key) {
            (Some(cert), Some(key)) => Some(Tls::open(cert, key)?),
            (None, None) => None,
            (Some(path), None) | (None, Some(path)) => {
                let reason = "certificate and key are needed, and one of them is not set".to_owned();
                return Err(Error::Tls { path: path.clone(), reason });
            }
        };
        Ok(Self { guard, tls, proxies: config.identity.trusted_proxies.clone() })
    }
}

impl Server {
    /// Listens; port 0 takes any free one.
    ///
    /// # Errors
    /// [`Error::OpenAddress`] for an address that other machines can reach while nobody is asked who they are;
    /// [`Error::Listen`].
    pub async fn bind(address: SocketAddr, entrance: &Entrance) -> Result<Self> {
        entrance.guard.check(address)?;
        if !address.ip().is_loopback() && entrance.tls.is_none() {
            warn!(%address, "passwords and tokens come without TLS: set `tls.cert` and `tls.key`, or let a gateway have them");
        }
        let failed = |error: io::Error| Error::Listen { address, reason: io_reason(&error) };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address: bound,
            tls: entrance.tls.clone(),
            proxies: Arc::new(entrance.proxies.clone()),
            head_timeout: HEAD_TIMEOUT,
            drain: DRAIN,
            places: None,
        })
    }

    /// The same, with another time for the head of a request.
    #[must_use]
    pub fn with_head_timeout(self, head_timeout: Duration) -> Self {
        Self { head_timeout, ..self }
    }

    /// The same, with another time for answers under way when the server is told to end.
    #[must_use]
    pub fn with_drain(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }

    /// The same, with no more open connections than there are permits: more wait in the system's queue.
    #[must_use]
    pub fn with_places(self, places: Arc<Semaphore>) -> Self {
        Self { places: Some(places), ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Answers until `stop` is true. Then no connection is taken any more, and answers under way get some time to end: 30 s,
    /// or what [`Server::with_drain`] said.
    pub async fn run(self, router: Router, mut stop: watch::Receiver<bool>) {
        let Self { listener, tls, proxies, head_timeout, drain, places, .. } = self;
        let watching = tls.clone().map(|tls| tokio::spawn(tls.watch()));
        let connections = GracefulShutdown::new();
        let builder = builder(head_timeout);
        loop {
            let taken = tokio::select! {
                taken = take(&listener, places.as_ref()) => taken,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match taken {
                Ok((stream, peer, place)) => {
                    let (builder, router, proxies) = (builder.clone(), router.clone(), Arc::clone(&proxies));
                    let one = Connection { builder, router, peer, proxies, head_timeout };
                    let served = one.begin(stream, tls.clone(), connections.watcher());
                    tokio::spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                // One that broke off before it was taken says nothing of the next.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
            warn!("answers that were under way are broken off");
        }
        if let Some(watching) = watching {
            watching.abort();
        }
    }
}

/// The next connection, when there is a place for it.
async fn take(
    listener: &TcpListener,
    places: Option<&Arc<Semaphore>>,
) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    let place = match places {
        Some(places) => Arc::clone(places).acquire_owned().await.ok(),
        None => None,
    };
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

struct Connection {
    builder: Builder<TokioExecutor>,
    router: Router,
    peer: SocketAddr,
    proxies: Arc<TrustedProxies>,
    head_timeout: Duration,
}

impl Connection {
    async fn begin(self, stream: TcpStream, tls: Option<Tls>, watcher: Watcher) {
        // Answers are small and complete: they need not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection may be slow");
        }
        let Some(tls) = tls else { return self.answer(stream, watcher).await };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => self.answer(stream, watcher).await,
            Ok(Err(error)) => debug!(%error, peer = %self.peer, "a handshake of TLS failed"),
            Err(_) => debug!(peer = %self.peer, "a handshake of TLS took too long"),
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, watcher: Watcher) {
        let Self { builder, router, peer, proxies, head_timeout } = self;
        let (asked, mut has_asked) = watch::channel(false);
        let service = service_fn(move |request: Request<Incoming>| {
            asked.send_replace(true);
            let (mut request, unread) = Unread::of(request);
            request.extensions_mut().insert(peer);
            let caller = proxies.caller(peer.ip(), request.headers());
            request.extensions_mut().insert(PeerAddress(caller));
            let answer = router.clone().oneshot(request);
            async move {
                let mut response = answer.await?;
                if let Some(unread) = unread {
                    unread.settle(&mut response).await;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = watcher.watch(connection);
        tokio::pin!(connection);
        // Whoever connects and says nothing, or too little to tell HTTP/1.1 from HTTP/2, is not waited for.
        let silent = async {
            if tokio::time::timeout(head_timeout, has_asked.wait_for(|asked| *asked)).await.is_ok() {
                std::future::pending().await
            }
        };
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    debug!(%error, %peer, "a connection broke off");
                }
            }
            () = silent => debug!(%peer, "a connection asked nothing in time"),
        }
    }
}

fn builder(head_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX));
    builder
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionAborted | E::ConnectionReset | E::ConnectionRefused | E::Interrupted)
}
