//! Answers: written by serde in one pass, with the status that their type says.

use std::fmt::Display;
use std::marker::PhantomData;

use bytes::Bytes;
use poem::http::{HeaderName, HeaderValue, StatusCode};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use serde::Serialize;

use super::{Documented, JSON, Json, register};

/// Tells that the answer is the one that was first given under the key.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Room for most answers, so that writing one does not grow its buffer.
const TYPICAL_BYTES: usize = 512;

/// Something new was made: status 201.
#[derive(Debug)]
pub struct Created<T>(pub T);

/// Something new was made, once for its idempotency key: status 201, and `Idempotent-Replayed: true` where this is not
/// the first time that it is said.
#[derive(Debug)]
pub struct CreatedOnce<T> {
    /// What was made.
    pub value: T,
    /// Whether it was made by an earlier request with the same key.
    pub replayed: bool,
}

/// It is done, once for its idempotency key: status 200, and `Idempotent-Replayed: true` where this is not the first time
/// that it is said.
#[derive(Debug)]
pub struct DoneOnce<T> {
    /// What there is now.
    pub value: T,
    /// Whether it was done by an earlier request with the same key.
    pub replayed: bool,
}

/// A JSON object as the body of an answer with status 200, which was written already, and may be shown again.
#[derive(Debug)]
pub struct Written<T> {
    /// Empty if it could not be written, which no JSON is.
    bytes: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize> Written<T> {
    /// The value, written.
    pub fn of(value: &T) -> Self {
        Self::again(serde_json::to_vec(value).unwrap_or_default().into())
    }

    /// What was written before.
    pub const fn again(bytes: Bytes) -> Self {
        Self { bytes, of: PhantomData }
    }

    /// What was written.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// It is done, and there is nothing to say: status 204.
#[derive(Debug)]
pub struct NoContent;

fn write(status: StatusCode, value: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(TYPICAL_BYTES);
    match serde_json::to_writer(&mut body, value) {
        Ok(()) => Response::builder().status(status).content_type(JSON).body(Body::from_vec(body)),
        Err(error) => unwritten(&error),
    }
}

fn unwritten(error: &dyn Display) -> Response {
    // The outermost middleware turns the bare status into a problem.
    tracing::error!(%error, "an answer could not be written");
    StatusCode::INTERNAL_SERVER_ERROR.into()
}

fn write_once(status: StatusCode, value: &impl Serialize, replayed: bool) -> Response {
    let mut response = write(status, value);
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn documented<T: Type>(status: StatusCode, description: &'static str, headers: Vec<MetaHeader>) -> MetaResponses {
    let content = vec![MetaMediaType { content_type: JSON, schema: T::schema_ref() }];
    let status = Some(status.as_u16());
    MetaResponses { responses: vec![MetaResponse { description, status, status_range: None, content, headers }] }
}

fn documented_once<T: Type>(status: StatusCode, description: &'static str) -> MetaResponses {
    let replayed = MetaHeader {
        name: "IDEMPOTENT-REPLAYED".to_owned(),
        description: Some("`true` where this is the answer to an earlier request with the same key.".to_owned()),
        required: false,
        deprecated: false,
        schema: bool::schema_ref(),
    };
    documented::<T>(status, description, vec![replayed])
}

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        write(StatusCode::OK, &self.0)
    }
}

impl<T: Documented> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        documented::<T>(StatusCode::OK, "Done.", Vec::new())
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        if self.bytes.is_empty() {
            return unwritten(&"it is empty");
        }
        Response::builder().content_type(JSON).body(Body::from_bytes(self.bytes))
    }
}

impl<T: Documented> ApiResponse for Written<T> {
    fn meta() -> MetaResponses {
        Json::<T>::meta()
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        write(StatusCode::CREATED, &self.0)
    }
}

impl<T: Documented> ApiResponse for Created<T> {
    fn meta() -> MetaResponses {
        documented::<T>(StatusCode::CREATED, "Made.", Vec::new())
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for CreatedOnce<T> {
    fn into_response(self) -> Response {
        write_once(StatusCode::CREATED, &self.value, self.replayed)
    }
}

impl<T: Documented> ApiResponse for CreatedOnce<T> {
    fn meta() -> MetaResponses {
        documented_once::<T>(StatusCode::CREATED, "Made, once for its idempotency key.")
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for DoneOnce<T> {
    fn into_response(self) -> Response {
        write_once(StatusCode::OK, &self.value, self.replayed)
    }
}

impl<T: Documented> ApiResponse for DoneOnce<T> {
    fn meta() -> MetaResponses {
        documented_once::<T>(StatusCode::OK, "Done, once for its idempotency key.")
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into()
    }
}

impl ApiResponse for NoContent {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Done.",
                status: Some(StatusCode::NO_CONTENT.as_u16()),
                status_range: None,
                content: Vec::new(),
                headers: Vec::new(),
            }],
        }
    }

    fn register(_: &mut Registry) {}
}
