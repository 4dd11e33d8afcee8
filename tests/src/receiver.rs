//! A receiver of webhooks: a small HTTP server that behaves as it is told, and remembers what came.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(3);

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With that status.
    Status(u16),
    /// With that status, and then by ending the connection without having said so.
    Abandon(u16),
    /// With a redirect.
    Redirect(String),
    /// Not at all, with the connection left open.
    Hang,
    /// By ending the connection.
    Reset,
    /// With a head that has no end.
    Endless,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it came.
    pub body: Vec<u8>,
    /// How it was answered.
    pub answer: Answer,
}

impl Received {
    /// A header.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("there is no {name}")).to_str().expect("a header is a text")
    }

    /// What it is known by.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Its body.
    ///
    /// # Panics
    ///
    /// If it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Whether it was taken.
    pub fn is_taken(&self) -> bool {
        matches!(self.answer, Answer::Status(200..=299) | Answer::Abandon(200..=299))
    }
}

type Behaviour = Box<dyn FnMut(&Received) -> Answer + Send>;

struct Shared {
    received: Mutex<Vec<Received>>,
    behaviour: Mutex<Behaviour>,
    connections: AtomicUsize,
}

/// A server that listens until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// One that takes everything.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it listens somewhere");
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            behaviour: Mutex::new(Box::new(|_| Answer::Status(204))),
            connections: AtomicUsize::default(),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        });
        Self { address, shared, task }
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on it behaves so.
    pub fn behave(&self, behaviour: impl FnMut(&Received) -> Answer + Send + 'static) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(behaviour);
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Everything that came, in its order.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was taken, in its order.
    pub fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(Received::is_taken).collect()
    }

    /// Waits until `enough` is so of what came, and answers that.
    ///
    /// # Panics
    ///
    /// If it does not come to that.
    pub async fn until(&self, what: &str, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let received = self.received();
            if enough(&received) {
                return received;
            }
            assert!(Instant::now() < deadline, "{what}: {} requests came", received.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until that many were taken.
    pub async fn until_taken(&self, count: usize) -> Vec<Received> {
        let taken = |received: &[Received]| received.iter().filter(|it| it.is_taken()).count();
        self.until(&format!("{count} to be taken"), |received| taken(received) >= count).await;
        self.taken()
    }
}

/// Answers one request after the other, as long as they are answered with a status.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    while answer_one(&mut stream, &shared).await? {}
    stream.shutdown().await.ok()
}

/// Answers a request, and whether another one may follow.
async fn answer_one(stream: &mut TcpStream, shared: &Shared) -> Option<bool> {
    let mut received = read(stream).await?;
    let answer = (shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner))(&received);
    received.answer = answer.clone();
    shared.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    let (head, stays) = match answer {
        Answer::Status(status) => (format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n"), true),
        Answer::Abandon(status) => (format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n"), false),
        Answer::Redirect(url) => {
            let head = "Content-Length: 0\r\nConnection: close\r\n\r\n";
            (format!("HTTP/1.1 307 Elsewhere\r\nLocation: {url}\r\n{head}"), false)
        }
        Answer::Hang => {
            tokio::time::sleep(PATIENCE).await;
            return None;
        }
        Answer::Reset => {
            // Ends with a reset, because nothing is left to wait for.
            stream.set_zero_linger().ok()?;
            return None;
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            loop {
                stream
                    .write_all(b"X-More: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
                    .await
                    .ok()?;
            }
        }
    };
    stream.write_all(head.as_bytes()).await.ok()?;
    Some(stays)
}

async fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(':')?;
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?);
    }
    let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Received { headers, body, answer: Answer::Hang })
}
