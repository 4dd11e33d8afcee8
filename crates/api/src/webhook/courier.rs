//! Sending one webhook once: a connection through the gate, a signed request, a bounded look at the answer.
//!
//! A connection is kept for a moment for what is sent to the same endpoint next. Its address was judged when it was
//! opened, and it leads nowhere else, so a name that changes its mind meanwhile changes nothing. Redirects are answers
//! like any other, and not followed. Of the answer nothing counts but its status.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use multicredit_domain::webhook::{Network, WebhookSecret};
use multicredit_domain::{EndpointId, Timestamp, Verdict};
use multicredit_store::WebhookEndpoint;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::gate::Gate;
use super::target::Target;
use crate::limits::{
    WEBHOOK_ANSWER_BODY_MAX_BYTES, WEBHOOK_ANSWER_HEAD_MAX_BYTES, WEBHOOK_CONNECTION_IDLE_MAX,
    WEBHOOK_CONNECTION_LIFETIME, WEBHOOK_TIMEOUT,
};

/// Who sends.
const AGENT: &str = concat!("multicredit/", env!("CARGO_PKG_VERSION"));

/// What sends webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    gate: Gate,
    tls: TlsConnector,
    kept: Arc<Kept>,
}

/// Connections that nobody uses at the moment, by whom they lead to and by which URL.
#[derive(Default)]
struct Kept(Mutex<HashMap<(EndpointId, String), Vec<Open>>>);

/// A connection that can take a request.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    opened: Instant,
    used: Instant,
    /// What moves its bytes.
    _driver: Driver,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What that means.
    pub verdict: Verdict,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it did not arrive, if it did not.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// What it is known by, however often it is sent.
    pub id: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// When this attempt is made.
    pub at: Timestamp,
}

impl Courier {
    /// A courier that goes to public addresses, and to those of `allowed`.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { gate: Gate::new(allowed), tls: TlsConnector::from(Arc::new(tls())), kept: Arc::default() }
    }

    /// The gate that it goes through.
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Sends to an endpoint, signed with its secrets, within [`WEBHOOK_TIMEOUT`].
    pub async fn send(&self, endpoint: &WebhookEndpoint, letter: Letter<'_>) -> Sent {
        let began = Instant::now();
        let answered = timeout(WEBHOOK_TIMEOUT, self.exchange(endpoint, letter)).await;
        let answered = answered.unwrap_or_else(|_| Err(format!("no answer within {} s", WEBHOOK_TIMEOUT.as_secs())));
        let took = began.elapsed();
        match answered {
            Ok(status) => {
                let verdict = Verdict::of_status(status);
                let error = match status {
                    _ if verdict == Verdict::Delivered => None,
                    300..=399 => Some(format!("answered {status}; redirects are not followed")),
                    _ => Some(format!("answered {status}")),
                };
                Sent { verdict, status: Some(status), error, took }
            }
            Err(error) => Sent { verdict: Verdict::Failed, status: None, error: Some(error), took },
        }
    }

    async fn exchange(&self, endpoint: &WebhookEndpoint, letter: Letter<'_>) -> Result<u16, String> {
        let target = Target::parse(&endpoint.url).map_err(|error| error.to_string())?;
        let request = request(&target, endpoint.secrets(letter.at), letter)?;
        if let Some(kept) = self.kept.take(endpoint)
            && let Ok(status) = self.ask(endpoint, kept, request.clone()).await
        {
            return Ok(status);
        }
        // None was kept, or the receiver has closed it: that says nothing of the receiver.
        let open = self.open(&target).await?;
        self.ask(endpoint, open, request).await
    }

    async fn open(&self, target: &Target) -> Result<Open, String> {
        let stream = self.gate.connect(&target.host, target.port).await.map_err(|error| error.to_string())?;
        // Small requests that wait for nothing.
        let _ = stream.set_nodelay(true);
        if !target.is_secure {
            return Open::over(stream).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| "the host has no name for TLS".to_owned())?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
        Open::over(stream).await
    }

    /// Sends a request, and keeps the connection if it can take another one.
    async fn ask(
        &self,
        endpoint: &WebhookEndpoint,
        mut open: Open,
        request: Request<Full<Bytes>>,
    ) -> Result<u16, String> {
        let answer = open.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        if drain(answer.into_body()).await && open.sender.ready().await.is_ok() {
            open.used = Instant::now();
            self.kept.keep(endpoint, open);
        }
        Ok(status)
    }
}

impl Kept {
    /// A connection to the endpoint, if there is one that is not old.
    fn take(&self, endpoint: &WebhookEndpoint) -> Option<Open> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_endpoint = kept.get_mut(&(endpoint.id, endpoint.url.clone()))?;
        while let Some(open) = of_endpoint.pop() {
            if open.is_good() {
                return Some(open);
            }
        }
        None
    }

    fn keep(&self, endpoint: &WebhookEndpoint, open: Open) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, open| {
            open.retain(Open::is_good);
            !open.is_empty()
        });
        kept.entry((endpoint.id, endpoint.url.clone())).or_default().push(open);
    }
}

impl Open {
    async fn over<S>(stream: S) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(WEBHOOK_ANSWER_HEAD_MAX_BYTES)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let driver = Driver(tokio::spawn(async move {
            // What goes wrong is told to whoever waits for the answer.
            let _ = connection.await;
        }));
        let opened = Instant::now();
        Ok(Self { sender, opened, used: opened, _driver: driver })
    }

    fn is_good(&self) -> bool {
        self.sender.is_ready()
            && self.used.elapsed() < WEBHOOK_CONNECTION_IDLE_MAX
            && self.opened.elapsed() < WEBHOOK_CONNECTION_LIFETIME
    }
}

fn broken(error: impl Display) -> String {
    format!("the connection broke: {error}")
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("gate", &self.gate).finish_non_exhaustive()
    }
}

/// Authorities of the web, and those of this machine: `SSL_CERT_FILE` names others, as for every program.
fn tls() -> ClientConfig {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let own = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(own.certs);
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn request<'a>(
    target: &Target,
    secrets: impl Iterator<Item = &'a WebhookSecret>,
    letter: Letter<'_>,
) -> Result<Request<Full<Bytes>>, String> {
    let timestamp = letter.at.timestamp();
    Request::post(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", letter.id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", WebhookSecret::header(secrets, letter.id, timestamp, letter.body))
        .body(Full::new(Bytes::copy_from_slice(letter.body)))
        .map_err(|error| error.to_string())
}

/// Ends a connection together with who uses it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads a body as far as it is worth it, and answers whether that was to its end. The status is known, and whatever comes
/// of this changes nothing about it.
async fn drain(body: Incoming) -> bool {
    let mut body = Limited::new(body, WEBHOOK_ANSWER_BODY_MAX_BYTES);
    let reading = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return false,
                None => return true,
            }
        }
    };
    timeout(DRAIN_TIMEOUT, reading).await.unwrap_or(false)
}

/// How long reading a body may take that nobody wants.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
