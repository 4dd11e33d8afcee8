//! What becomes of a connection for which there is no place.
//!
//! It is told so as soon as it has asked for something, in the words of every other refusal, and closed. Whoever asks how
//! the process is gets an answer all the same: a supervisor that gets none restarts a server that is only busy.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::Watcher;
use poem::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Server;
use super::connections::Place;
use super::listener::Accepted;
use crate::limits::RETRY_AFTER_SECONDS;
use crate::middleware::RequestId;
use crate::problem::{self, Code, Problem};

/// How long it may take to ask, and then to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a request begins that only asks how the process is.
const PROBE: &[u8] = b"GET /health/";

/// How long to wait for the rest of that.
const PAUSE: Duration = Duration::from_millis(1);

/// Tells the client that there are too many connections.
pub(super) async fn turn_away<E: Endpoint + 'static>(
    server: Arc<Server<E>>,
    mut accepted: Accepted,
    turn: Place,
    watcher: Watcher,
) {
    if timeout(PATIENCE, is_probe(&accepted.stream)).await == Ok(true)
        && let Some(place) = server.connections.place_of_probe()
    {
        drop(turn);
        return server.serve(accepted, place, watcher).await;
    }
    // Whoever went away meanwhile needs no answer.
    let _ = timeout(PATIENCE, tell(&mut accepted.stream)).await;
}

async fn is_probe(stream: &TcpStream) -> bool {
    let mut begin = [0; PROBE.len()];
    loop {
        match stream.peek(&mut begin).await {
            Ok(read) if read == begin.len() => return begin == PROBE,
            Ok(read) if read > 0 && PROBE.starts_with(&begin[..read]) => sleep(PAUSE).await,
            _ => return false,
        }
    }
}

async fn tell(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&answer()).await?;
    stream.shutdown().await?;
    // If the request were left unread, the system would reset the connection, and with it the answer.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn answer() -> Vec<u8> {
    let (code, request_id) = (Code::Overloaded, RequestId::new());
    let body = serde_json::to_vec(&Problem::new(code).into_body(request_id.as_str())).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nretry-after: {RETRY_AFTER_SECONDS}\r\n\
         x-request-id: {request_id}\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n",
        code.status(),
        problem::CONTENT_TYPE,
        body.len(),
    );
    [head.into_bytes(), body].concat()
}
