//! A small HTTP client: real connections that are kept and shared, nothing retried, nothing followed, nothing hidden.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::Answer;

/// How long an answer may take. None takes a second on an idle machine; nothing else should wait for one that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// After how many pages a list is taken for endless.
const PAGES_MAX: usize = 1_000;

/// The header that makes a call safe to repeat.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Somebody who calls a server, with a key or without. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    key: Option<String>,
}

impl Client {
    /// A client of the server that listens there, without a key.
    pub fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { http: legacy::Client::builder(TokioExecutor::new()).build(connector), address, key: None }
    }

    /// The same with that key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same without a key.
    #[must_use]
    pub fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// The key.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Where the server listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// A POST.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    /// A PUT.
    pub fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    /// A PATCH.
    pub fn patch(&self, path: &str) -> Call {
        self.call(Method::PATCH, path)
    }

    /// A DELETE.
    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// Every item of a list, read page by page.
    ///
    /// # Panics
    ///
    /// If a page is not one, or if the pages do not end.
    pub async fn all(&self, path: &str, limit: usize) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let page = self.get(&format!("{path}{separator}limit={limit}{cursor}")).await.expect(200);
            let fields = page.as_object().expect("a page is an object");
            assert_eq!(fields.len(), 2, "{page}");
            let found = fields["items"].as_array().expect("items");
            assert!(found.len() <= limit, "{page}");
            items.extend(found.iter().cloned());
            match &fields["next_cursor"] {
                Value::Null => return items,
                next => cursor = format!("&cursor={}", next.as_str().expect("a cursor is a text")),
            }
            assert_eq!(found.len(), limit, "a page that is not the last is full: {page}");
        }
        panic!("{path} has no end")
    }

    /// Any call; `path` may have a query.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let call =
            Call { client: self.clone(), method, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() };
        match &self.key {
            Some(key) => call.header(AUTHORIZATION.as_str(), format!("Bearer {key}")),
            None => call,
        }
    }
}

/// A call that is sent when it is awaited.
#[derive(Debug, Clone)]
#[must_use = "a call is sent when it is awaited"]
pub struct Call {
    client: Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// With a JSON body.
    pub fn json(self, body: impl Into<Value>) -> Self {
        self.body("application/json", body.into().to_string())
    }

    /// With any body.
    pub fn body(self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.header(CONTENT_TYPE.as_str(), content_type).bare(body)
    }

    /// With a body and without a word about what it is.
    pub fn bare(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With that idempotency key.
    pub fn once(self, key: &str) -> Self {
        self.header(IDEMPOTENCY_KEY, key)
    }

    /// With a header more, be it there already or not.
    ///
    /// # Panics
    ///
    /// If HTTP cannot carry it.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header's value"));
        self
    }

    /// Sends it to a server that may end meanwhile; `None` if no answer came.
    pub async fn try_send(self) -> Option<Answer> {
        let title = self.title();
        self.exchange(&title).await.ok()
    }

    fn title(&self) -> String {
        format!("{} {}", self.method, &self.path[..self.path.len().min(200)])
    }

    async fn send(self) -> Answer {
        let title = self.title();
        self.exchange(&title).await.unwrap_or_else(|error| panic!("{title}: {error}"))
    }

    async fn exchange(self, title: &str) -> Result<Answer, String> {
        let mut request = Request::new(Full::new(self.body));
        let uri = format!("http://{}{}", self.client.address, self.path);
        *request.uri_mut() = uri.parse().unwrap_or_else(|error| panic!("{title}: {error}"));
        *request.headers_mut() = self.headers;
        *request.method_mut() = self.method.clone();
        let exchange = async {
            let response = self.client.http.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            Ok((head, body))
        };
        let exchanged = tokio::time::timeout(PATIENCE, exchange).await;
        let (head, body) = exchanged.unwrap_or_else(|_| Err("no answer".to_owned()))?;
        Ok(Answer::new(title.to_owned(), &self.method, head, body))
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
