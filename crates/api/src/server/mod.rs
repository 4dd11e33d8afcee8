//! From a listening socket to answers: connections are accepted, counted, served by hyper, and ended.
//!
//! The framework has a loop of its own, which takes any number of connections and keeps each for as long as the client
//! likes. Memory that grows with whoever connects, and a client that never ends its request, are what it leaves open; so
//! the loop is here. `docs/adr/0019-connections.md` says more.

mod activity;
mod connections;
mod listener;
mod peek;
mod turned_away;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use poem::http::uri::Scheme;
use poem::http::{Request, Response};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, IntoResponse};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

pub use self::connections::Connections;
pub use self::listener::Listener;

use self::activity::Activity;
use self::connections::Place;
use self::listener::Accepted;
use crate::limits::TURN_AWAY_PAUSE;
use crate::middleware::out_of_its_box;

/// How HTTP/2 begins where a client knows that it is spoken (RFC 9113, section 3.4), as far as no method of HTTP/1 does.
const HTTP2_BEGIN: &[u8; 4] = b"PRI ";

/// How many requests one HTTP/2 connection may have open: hyper's own bound, said here.
const HTTP2_STREAMS_MAX: u32 = 200;

/// Whether the server's end was in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that had been asked was answered.
    InOrder,
    /// Connections that had not ended in time were cut off.
    CutOff,
}

/// Serves until `asked_to_stop` ends, and for `drain` at most what is in hand then.
pub async fn serve<E: Endpoint + 'static>(
    listener: Listener,
    endpoint: E,
    connections: Connections,
    asked_to_stop: impl Future<Output = ()>,
    drain: Duration,
) -> Ended {
    let (stop, stopping) = watch::channel(());
    let server = Arc::new(Server::new(endpoint, connections, stopping));
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut asked_to_stop = std::pin::pin!(asked_to_stop);
    loop {
        tokio::select! {
            () = &mut asked_to_stop => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept() => {
                let (server, watcher) = (Arc::clone(&server), graceful.watcher());
                if let Some(place) = server.connections.place() {
                    tasks.spawn(server.serve(accepted, place, watcher));
                    continue;
                }
                if let Some(turn) = server.connections.turn_away() {
                    tasks.spawn(turned_away::turn_away(server, accepted, turn, watcher));
                }
                sleep(TURN_AWAY_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    // Watchers are ended by those who hold them: the connections.
    let ended = timeout(drain, graceful.shutdown()).await;
    tasks.shutdown().await;
    if ended.is_ok() { Ended::InOrder } else { Ended::CutOff }
}

/// A connection's task ends by itself: requests that panic are answered, in the middleware.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended badly");
    }
}

/// What all connections share.
struct Server<E> {
    endpoint: E,
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
    connections: Connections,
    /// Closed when the server ends.
    stopping: watch::Receiver<()>,
}

impl<E: Endpoint + 'static> Server<E> {
    fn new(endpoint: E, connections: Connections, stopping: watch::Receiver<()>) -> Self {
        let mut http2 = auto::Builder::new(TokioExecutor::new()).http2_only();
        http2.http2().max_concurrent_streams(HTTP2_STREAMS_MAX);
        let mut http1 = auto::Builder::new(TokioExecutor::new()).http1_only();
        // Else hyper reads once more while a request is in hand, to notice a client that goes away: a call of the system
        // and a buffer for every consumption. Nothing is given up for such a client, and what is written for it ends.
        http1.http1().half_close(true);
        Self { endpoint, http1, http2, connections, stopping }
    }

    /// What the client speaks, once it has begun; none if the server ends before.
    ///
    /// hyper can tell by itself. It then takes the first bytes for that, and so reads everything else into a buffer of
    /// twice the size: 8 KiB more for each connection.
    async fn protocol(&self, stream: &TcpStream) -> Option<&auto::Builder<TokioExecutor>> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            _ = stopping.changed() => None,
            is_http2 = peek::begins_with(stream, HTTP2_BEGIN) => Some(if is_http2 { &self.http2 } else { &self.http1 }),
        }
    }

    /// Serves a connection until the client ends it, nothing happens on it any more, or the server ends.
    async fn serve(self: Arc<Self>, accepted: Accepted, place: Place, watcher: Watcher) {
        let activity = Arc::new(Activity::default());
        tokio::select! {
            () = self.serve_http(accepted, &activity, watcher) => {}
            () = activity.end(|| self.connections.are_scarce()) => {}
        }
        drop(place);
    }

    async fn serve_http(self: &Arc<Self>, accepted: Accepted, activity: &Arc<Activity>, watcher: Watcher) {
        let Accepted { stream, local, remote } = accepted;
        let (local, remote) = (LocalAddr(Addr::SocketAddr(local)), RemoteAddr(Addr::SocketAddr(remote)));
        let Some(http) = self.protocol(&stream).await else { return };
        let service = service_fn(|request| {
            // Boxed: it is large, and a connection without a request should not keep room for one.
            Arc::clone(self).answer(request, local.clone(), remote.clone(), Arc::clone(activity)).boxed()
        });
        let stream = TokioIo::new(activity::Watched::new(stream, Arc::clone(activity)));
        // An error is the client's: it went away, or spoke no HTTP, which hyper has told it. (Written in one, since the task
        // would keep room for a variable as well.)
        let _ = watcher.watch(http.serve_connection(stream, service)).await;
    }

    // No `async fn`, which would keep room for the request as it came for as long as the request is in hand.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        local: LocalAddr,
        remote: RemoteAddr,
        activity: Arc<Activity>,
    ) -> impl Future<Output = Result<Response<BoxBody<Bytes, io::Error>>, Infallible>> {
        // In a box for the same reason.
        let request = Box::new((request, local, remote, Scheme::HTTP).into());
        async move {
            let _in_hand = activity.begin();
            let answer = self.endpoint.call(out_of_its_box(request)).await;
            Ok(answer.map_or_else(poem::Error::into_response, IntoResponse::into_response).into())
        }
    }
}
