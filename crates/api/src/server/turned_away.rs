//! What becomes of a connection for which there is no place.
//!
//! It is told so as soon as it has asked for something, in the words of every other refusal, and closed. Whoever asks how
//! the process is gets an answer all the same: a supervisor that gets none restarts a server that is only busy.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::Watcher;
use poem::Endpoint;
use poem::http::HeaderValue;
use poem::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, X_CONTENT_TYPE_OPTIONS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Server;
use super::connections::Place;
use super::listener::Accepted;
use super::peek::begins_with;
use crate::middleware::{RequestId, X_REQUEST_ID};
use crate::problem::{Code, Problem};

/// How long it may take to ask, and then to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a request begins that only asks how the process is.
const PROBE: &[u8; 12] = b"GET /health/";

/// Tells the client that there are too many connections.
pub(super) async fn turn_away<E: Endpoint + 'static>(
    server: Arc<Server<E>>,
    mut accepted: Accepted,
    turn: Place,
    watcher: Watcher,
) {
    if timeout(PATIENCE, begins_with(&accepted.stream, PROBE)).await == Ok(true)
        && let Some(place) = server.connections.place_of_probe()
    {
        drop(turn);
        return server.serve(accepted, place, watcher).await;
    }
    // Whoever went away meanwhile needs no answer.
    let _ = timeout(PATIENCE, tell(&mut accepted.stream)).await;
}

async fn tell(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&answer().await).await?;
    stream.shutdown().await?;
    // If the request were left unread, the system would reset the connection, and with it the answer.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The refusal as every other is written, and what the middleware adds to those.
async fn answer() -> Vec<u8> {
    let request_id = RequestId::new();
    let mut answer = Problem::new(Code::Overloaded).into_answer(request_id.as_str());
    let body = answer.take_body().into_vec().await.unwrap_or_default();
    let headers = answer.headers_mut();
    headers.insert(X_REQUEST_ID, request_id.header());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut written = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            written.extend_from_slice(part);
        }
    }
    [written, b"\r\n".to_vec(), body].concat()
}
