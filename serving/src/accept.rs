//! Takes connections, as many as may be open, until it is told to end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use platform::identity::PeerAddress;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::app::App;

/// Requests at the same time on one connection of HTTP/2.
const STREAMS: u32 = 128;

/// How often a silent connection of HTTP/2 is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long no connection is taken when none can be, such as for want of file handles.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers until `closed`; then no connection is taken any more, and answers that are being sent get `end` to leave.
pub(crate) async fn answer(
    listener: TcpListener,
    router: Router,
    app: App,
    mut closed: watch::Receiver<bool>,
    end: Duration,
) {
    let limits = app.inner.options.limits;
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).max_concurrent_streams(STREAMS);
    let graceful = GracefulShutdown::new();
    loop {
        // While all places are taken, more connections wait in the system's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let one = Connection { builder: builder.clone(), router: router.clone(), peer };
        let served = one.serve(stream, graceful.watcher(), limits.header_timeout);
        let connections = app.inner.metrics.connections.clone();
        connections.inc();
        tokio::spawn(async move {
            served.await;
            connections.dec();
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(end, graceful.shutdown()).await.is_err() {
        warn!("answers that were being sent are broken off");
    }
}

struct Connection {
    builder: Builder<TokioExecutor>,
    router: Router,
    peer: SocketAddr,
}

impl Connection {
    async fn serve(self, stream: TcpStream, watcher: Watcher, patience: Duration) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection may be slow");
        }
        let (asked, mut has_asked) = watch::channel(false);
        let peer = self.peer;
        let router = self.router.map_request(move |mut request: Request<Incoming>| {
            asked.send_replace(true);
            request.extensions_mut().insert(peer);
            // An IPv4 client of an IPv6 socket is the same one.
            request.extensions_mut().insert(PeerAddress(peer.ip().to_canonical()));
            request
        });
        let service = TowerToHyperService::new(router);
        let served = self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let served = watcher.watch(served);
        tokio::pin!(served);
        // Whoever connects and says nothing, or too little to tell HTTP/1.1 from HTTP/2, is not waited for.
        let first = async {
            let asked = tokio::time::timeout(patience, has_asked.wait_for(|asked| *asked)).await.is_ok();
            if asked {
                std::future::pending().await
            }
        };
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    debug!(%error, "a connection broke off");
                }
            }
            () = first => debug!("a connection asked nothing in time"),
        }
    }
}
