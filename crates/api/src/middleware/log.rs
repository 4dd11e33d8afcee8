//! What the log says of requests: one span each, and one event at its end.
//!
//! Names and numbers of ours, and the request's id; never a header, a query string, a body or a path as it was sent.
//! Answered requests are told at `debug`: at tens of thousands a second an info line for each would cost more than the
//! request. What went wrong on our side is told at `error`, with the text that the caller does not see.

use std::time::Duration;

use poem::Request;
use poem::http::{Method, StatusCode};
use poem_openapi::OperationId;
use tracing::Span;
use tracing::field::Empty;

use super::RequestId;
use crate::otlp;
use crate::problem::Problem;

/// The span of a request.
pub fn span(method: &Method, request_id: &RequestId) -> Span {
    tracing::info_span!("request", method = name(method), %request_id)
}

/// The same with room for what a collector of spans wants to know, as a part of the caller's trace. Names are those of
/// OpenTelemetry's semantic conventions.
pub fn traced_span(request: &Request, request_id: &RequestId) -> Span {
    let span = tracing::info_span!(
        "request",
        method = name(request.method()),
        %request_id,
        otel.kind = "server",
        otel.status_code = Empty,
        http.response.status_code = Empty,
    );
    otlp::continue_trace(&span, request.headers());
    span
}

/// Puts into such a span what is known at the end.
pub fn complete(span: &Span, operation: Option<OperationId>, status: StatusCode) {
    if let Some(operation) = operation {
        otlp::rename(span, operation.0);
    }
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Tells that a request was answered.
pub fn answered(operation: Option<OperationId>, status: StatusCode, duration: Duration) {
    let operation = operation.map_or("none", |operation| operation.0);
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(operation, status = status.as_u16(), duration_us, "answered");
}

/// Tells what a problem does not show.
pub fn failed(problem: &Problem) {
    if let Some(error) = problem.internal_text() {
        tracing::error!(code = problem.code().as_str(), error, "failed");
    }
}

/// The method, if it is one that anybody has heard of: the name of another is a text that somebody sent.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
