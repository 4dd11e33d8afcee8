//! Answers, and what every one of them must keep to, whatever it was an answer to.

use std::collections::BTreeSet;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::http::response::Parts;
use hyper::{Method, StatusCode};
use serde_json::Value;

/// An answer that keeps what all answers promise: it would not exist otherwise.
#[derive(Debug, Clone)]
pub struct Answer {
    title: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Answer {
    pub(super) fn new(title: String, method: &Method, head: Parts, body: Bytes) -> Self {
        let answer = Self { title, status: head.status.as_u16(), headers: head.headers, body };
        answer.assert_keeps_promises(method);
        answer
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether it says that it was given before.
    ///
    /// # Panics
    ///
    /// If the header says anything but `true`.
    pub fn is_replay(&self) -> bool {
        match self.header("Idempotent-Replayed") {
            Some("true") => true,
            None => false,
            Some(other) => panic!("{}: Idempotent-Replayed is {other}", self.title),
        }
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    /// The body of a success with that status: JSON, or nothing with 204.
    ///
    /// # Panics
    ///
    /// If it is another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        if status == StatusCode::NO_CONTENT.as_u16() {
            assert!(self.body.is_empty(), "{self}");
            return Value::Null;
        }
        assert_eq!(self.header("Content-Type"), Some("application/json"), "{self}");
        self.json()
    }

    /// The body of a refusal with that status and code.
    ///
    /// # Panics
    ///
    /// If it is another.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let problem = if self.status == status { self.json() } else { Value::Null };
        assert_eq!((self.status, &problem["code"]), (status, &Value::from(code)), "{self}");
        problem
    }

    /// The body of a refusal without the id of its request: what two refusals must have in common to be the same.
    ///
    /// # Panics
    ///
    /// If it is no object.
    pub fn without_request_id(&self) -> (u16, Value) {
        let mut body = self.json();
        body.as_object_mut().expect("an object").remove("request_id");
        (self.status, body)
    }

    #[track_caller]
    fn assert_keeps_promises(&self, method: &Method) {
        let request_id = self.header("X-Request-Id").unwrap_or_else(|| panic!("{self}: no X-Request-Id"));
        assert!((1..=128).contains(&request_id.len()), "{self}");
        assert_eq!(self.header("X-Content-Type-Options"), Some("nosniff"), "{self}");
        assert_ne!(self.status, 500, "{self}");
        if self.title.contains(" /dashboard") {
            return self.assert_is_a_page();
        }
        if self.status < 400 {
            return;
        }
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self}");
        match self.status {
            401 => assert_eq!(self.header("WWW-Authenticate"), Some("Bearer"), "{self}"),
            405 => assert!(self.header("Allow").is_some_and(|allow| !allow.is_empty()), "{self}"),
            429 | 503 => assert!(self.header("Retry-After").is_some_and(|s| s.parse::<u32>().is_ok()), "{self}"),
            _ => {}
        }
        if *method != Method::HEAD {
            self.assert_is_a_problem(request_id);
        }
    }

    /// What every answer of the dashboard keeps to, errors too: no script but our own file, nothing from elsewhere, in no
    /// frame.
    fn assert_is_a_page(&self) {
        let policy = self.header("Content-Security-Policy").unwrap_or_else(|| panic!("{self}: no policy"));
        for part in ["default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'"] {
            assert!(policy.contains(part), "{self}: {policy}");
        }
        let is_live = policy.contains("; script-src 'self'; connect-src 'self';");
        assert!(!policy.contains("unsafe") && (is_live || !policy.contains("script-src")), "{self}: {policy}");
        assert_eq!(self.header("Referrer-Policy"), Some("same-origin"), "{self}");
        assert!(self.header("Cache-Control").is_some(), "{self}");
        if self.header("Content-Type") != Some("text/html; charset=utf-8") {
            assert!(self.status < 400, "{self}");
            return;
        }
        let page = String::from_utf8_lossy(&self.body);
        let page =
            if is_live { page.replacen("<script src=\"/dashboard/assets/live.", "", 1) } else { page.into_owned() };
        for bad in ["<script", "style=", " onclick", "javascript:", "http://", "https://"] {
            assert!(!page.contains(bad), "{self}: {bad}");
        }
        assert!(self.body.is_empty() || page.contains("<html lang=\"en\">"), "{self}");
    }

    fn assert_is_a_problem(&self, request_id: &str) {
        let problem = self.json();
        let fields = problem.as_object().unwrap_or_else(|| panic!("{self}: no object"));
        for name in ["type", "title", "code", "detail"] {
            assert!(fields.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty()), "{self}: no {name}");
        }
        assert_eq!(fields.get("status"), Some(&self.status.into()), "{self}");
        assert_eq!(fields.get("request_id").and_then(Value::as_str), Some(request_id), "{self}");
        let mut known = BTreeSet::from(["type", "title", "status", "code", "detail", "request_id"]);
        match problem["code"].as_str() {
            Some("invalid_request") => {
                known.insert("errors");
                self.assert_names_fields(&problem["errors"]);
            }
            Some("insufficient_credits") => {
                known.extend(["required", "available", "shortfall", "max_affordable_quantity"]);
            }
            Some("outcome_unknown") => {
                known.insert("consumption_id");
            }
            _ => {}
        }
        let names: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(names, known, "{self}");
    }

    fn assert_names_fields(&self, errors: &Value) {
        let errors = errors.as_array().unwrap_or_else(|| panic!("{self}: no errors"));
        assert!(!errors.is_empty(), "{self}");
        for error in errors {
            assert!(error["field"].is_string() && error["message"].is_string(), "{self}");
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} was answered with {}: {}", self.title, self.status, body.chars().take(2_000).collect::<String>())
    }
}
