//! What happens to every request, whatever its path.
//!
//! One layer, in this order: the request gets its id and its span, its body is read, the routes answer it; a panic or an
//! error on the way becomes a problem, and headers that every answer carries are added. It is one layer rather than six
//! because it is on the way of every request: little is allocated, and its future is small, of which there is one for each
//! request in hand.

mod body;
mod log;
mod request_id;

pub use log::failed;
pub use request_id::{RequestId, X_REQUEST_ID};

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use poem::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method};
use poem::{Endpoint, Request, Response};
use poem_openapi::OperationId;
use tracing::{Instrument as _, Span};

use crate::app::{Context, State};
use crate::problem::{self, Problem};
use crate::{dashboard, live};

/// By which protocol the client speaks to the proxy before us. Whoever sends it themselves changes their own answer alone.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// That a browser which came over TLS comes no other way for a year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Whether a proxy before us says that the client speaks TLS to it.
pub fn is_forwarded_from_tls(request: &Request) -> bool {
    let is_https = |value: &str| value.trim().eq_ignore_ascii_case("https");
    request.header(X_FORWARDED_PROTO).is_some_and(|protocols| protocols.split(',').next().is_some_and(is_https))
}

/// The operation that most requests ask for.
const CONSUME: OperationId = OperationId("consume");

/// How its paths end.
const CONSUME_PATH_END: &str = "/consume";

/// The routes, wrapped.
pub struct Envelope<E> {
    routes: E,
    state: Arc<State>,
}

impl<E: Endpoint<Output = Response>> Envelope<E> {
    /// Wraps the routes.
    pub const fn new(routes: E, state: Arc<State>) -> Self {
        Self { routes, state }
    }

    /// Refuses a consumption for which there is no room before anything of it is looked at. Under an overload most requests
    /// are refused, and what a refusal costs is taken from what could be done.
    fn refuse_early(&self, request: &Request) -> Result<(), Problem> {
        let is_consumption = request.method() == Method::POST && request.uri().path().ends_with(CONSUME_PATH_END);
        if is_consumption { Ok(self.state.store.has_room_for_a_call()?) } else { Ok(()) }
    }

    /// The answer, or what went wrong, with the operation that was found.
    async fn answer(
        &self,
        mut request: Box<Request>,
        context: Context,
    ) -> Result<Response, (Problem, Option<OperationId>)> {
        self.refuse_early(&request).map_err(|problem| (problem, Some(CONSUME)))?;
        body::read(&mut request, self.state.settings.body_timeout).await.map_err(|problem| (problem, None))?;
        request.set_data(context);
        match AssertUnwindSafe(self.routes.call(out_of_its_box(request))).catch_unwind().await {
            Ok(Ok(response)) => check(response),
            Ok(Err(error)) => Err(problem_of(error)),
            Err(panic) => Err((Problem::internal(format!("panic: {}", text_of(panic.as_ref()))), None)),
        }
    }

    /// The answer, and a problem as one.
    async fn answer_anyhow(&self, request: Box<Request>, context: Context, about: &About) -> Response {
        let request_id = about.request_id.as_str();
        let (mut response, operation) = match self.answer(request, context).await {
            Ok(response) => {
                let operation = response.data::<OperationId>().copied();
                (response, operation)
            }
            Err((problem, operation)) => {
                failed(&problem);
                let answer = if about.place == Place::Dashboard {
                    dashboard::problem_page(problem, request_id)
                } else {
                    problem.into_answer(request_id)
                };
                (answer, operation)
            }
        };
        if about.is_head {
            leave_body_out(&mut response).await;
        }
        let took = about.started.elapsed();
        self.state.http.answered(operation, response.status(), took);
        log::answered(operation, response.status(), took);
        if self.state.settings.traced {
            log::complete(&Span::current(), operation, response.status());
        }
        response
    }
}

/// What is said of a request beside its answer, told before it is taken apart.
struct About {
    request_id: RequestId,
    started: Instant,
    is_head: bool,
    is_from_tls: bool,
    place: Place,
}

/// Which part of the service is asked.
#[derive(PartialEq, Eq)]
enum Place {
    Api,
    Dashboard,
    Elsewhere,
}

impl Place {
    fn of(path: &str) -> Self {
        if path.starts_with("/v1") {
            Self::Api
        } else if dashboard::is_below(path) {
            Self::Dashboard
        } else {
            Self::Elsewhere
        }
    }
}

impl About {
    fn of(request: &Request) -> Self {
        Self {
            request_id: RequestId::of(request),
            started: Instant::now(),
            is_head: request.method() == Method::HEAD,
            is_from_tls: is_forwarded_from_tls(request),
            place: Place::of(request.uri().path()),
        }
    }

    /// Writes the headers that every answer carries.
    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, self.request_id.header());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.is_from_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
        }
        if self.place == Place::Api {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

/// Gives the room of the box back at once, where a mere `*` keeps it for as long as the box has its name.
pub fn out_of_its_box(request: Box<Request>) -> Request {
    *request
}

impl<E: Endpoint<Output = Response>> Endpoint for Envelope<E> {
    type Output = Response;

    // No `async fn`, and the request in a box: each future that a request passes through by value keeps room for it, often
    // twice, for as long as the request is in hand. It was 4 KiB of a connection's 33.
    fn call(&self, request: Request) -> impl Future<Output = poem::Result<Response>> + Send {
        let about = About::of(&request);
        let id = &about.request_id;
        let is_traced = self.state.settings.traced;
        let span = if is_traced { log::traced_span(&request, id) } else { log::span(request.method(), id) };
        let request = Box::new(request);
        async move {
            let context = Context::new(self.state.clone(), about.request_id.clone());
            let standing = context.shared_standing();
            let mut response = self.answer_anyhow(request, context, &about).instrument(span).await;
            let headers = response.headers_mut();
            if let Some(standing) = standing {
                standing.write(headers);
            }
            about.write(headers);
            Ok(response)
        }
    }
}

/// Lets an answer pass that is none of an error, or a problem already.
fn check(response: Response) -> Result<Response, (Problem, Option<OperationId>)> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let is_written = |value: &HeaderValue| value == problem::CONTENT_TYPE || value == dashboard::CONTENT_TYPE;
    if response.headers().get(CONTENT_TYPE).is_some_and(is_written) {
        return Ok(response);
    }
    let operation = response.data::<OperationId>().copied();
    Err((Problem::from_framework(&poem::Error::from_status(status)), operation))
}

fn problem_of(error: poem::Error) -> (Problem, Option<OperationId>) {
    let operation = error.data::<OperationId>().copied();
    let problem = error.downcast::<Problem>().unwrap_or_else(|error| Problem::from_framework(&error));
    (problem, operation)
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

/// HEAD is answered as GET is, with the length of what is left out.
async fn leave_body_out(response: &mut Response) {
    // An endless body has no length.
    if response.content_type() == Some(live::CONTENT_TYPE) {
        drop(response.take_body());
        return;
    }
    if let Ok(body) = response.take_body().into_bytes().await {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
}

#[cfg(test)]
mod tests;
