//! `/health`: for whoever decides whether this process lives, and whether it gets requests. No key is needed.

use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Example;
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use crate::app::Context;
use crate::openapi::Tag;
use crate::payload::Json;
use crate::problem::{Code, Problem, ProblemBody, media_type};

/// How the service is.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Health {
    /// `live` or `ready`.
    status: String,
}

impl Health {
    fn new(status: &str) -> Self {
        Self { status: status.to_owned() }
    }
}

impl Example for Health {
    fn example() -> Self {
        Self::new("ready")
    }
}

/// Why the service wants no requests.
struct NotReady(Problem);

impl From<NotReady> for poem::Error {
    fn from(NotReady(problem): NotReady) -> Self {
        problem.into()
    }
}

impl ApiResponse for NotReady {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "It is stopping, or its database does not answer.",
                status: Some(Code::Unavailable.status().as_u16()),
                status_range: None,
                content: vec![media_type()],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

impl<'a> FromRequest<'a> for Context {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self::of(request)?)
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/health", tag = "Tag::Health")]
impl Api {
    /// Is it alive?
    ///
    /// Whether this process answers at all. It does not look at the database.
    #[oai(path = "/live", method = "get", operation_id = "live")]
    #[expect(clippy::unused_async, reason = "poem-openapi takes async handlers alone")]
    async fn live(&self) -> Json<Health> {
        Json(Health::new("live"))
    }

    /// Is it ready?
    ///
    /// Whether this process wants requests: not while it is stopping, and not while its database does not answer.
    #[oai(path = "/ready", method = "get", operation_id = "ready")]
    async fn ready(&self, context: Context) -> Result<Json<Health>, NotReady> {
        let state = context.state();
        if !state.settings.readiness.is_ready() {
            return Err(NotReady(Problem::new(Code::Unavailable)));
        }
        state.store.ping().await.map_err(|error| NotReady(error.into()))?;
        Ok(Json(Health::new("ready")))
    }
}
