//! Every error, and the one place where it becomes a status and a body (RFC 9457, `application/problem+json`).
//!
//! Whatever goes wrong becomes a [`Problem`]: a refusal of the domain, a failure of the store, a field that is not
//! valid, an error of the framework, a panic. It travels as a [`poem::Error`] and is written by the outermost middleware,
//! which alone knows the request's id. What a problem shows is fixed text, names of our own fields and amounts of the
//! caller's own balance; internal text goes to the log and nowhere else.

mod code;
mod failure;
mod field;

pub use code::Code;
pub use failure::{Failure, Failures, media_type};
pub use field::{FieldError, FieldErrors, presentable};

pub mod failures {
    //! Which operations can fail how: the sets that [`Failure`](super::Failure) is documented with.
    pub use super::failure::sets::*;
}

use std::borrow::Cow;
use std::fmt;

use multicredit_domain::{ConsumptionId, Credits, Refusal, Shortfall};
use multicredit_store::{Conflict, StoreError};
use poem::error::ResponseError;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::Serialize;

use crate::limits::RETRY_AFTER_SECONDS;
use crate::wire::Wire;

/// The media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Something that went wrong, before it is written.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    more: More,
}

/// What there is to say beyond the code.
#[derive(Debug)]
enum More {
    Nothing,
    /// Which fields are not valid.
    Fields(FieldErrors),
    /// What is missing.
    Shortfall(Box<Shortfall>),
    /// What to look up.
    Consumption(ConsumptionId),
    /// Which methods there are.
    Allow(HeaderValue),
    /// For the log alone.
    Internal(String),
}

/// The body of every error.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Problem", example, skip_serializing_if_is_none)]
pub struct ProblemBody {
    /// Names the code; relative, and not served.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    type_uri: String,
    /// The code in words, the same for every occurrence.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code to act on; `docs/API.md` lists all.
    code: String,
    /// What went wrong this time.
    detail: String,
    /// The id of the request, as in `X-Request-Id`.
    request_id: String,
    /// Which fields are not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<FieldError>>,
    /// With `insufficient_credits`: what the request costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<Wire<Credits>>,
    /// With `insufficient_credits`: what could be spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<Wire<Credits>>,
    /// With `insufficient_credits`: what is missing, by type.
    #[serde(skip_serializing_if = "Option::is_none")]
    shortfall: Option<Wire<Credits>>,
    /// With `insufficient_credits`: the largest quantity that would be covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_affordable_quantity: Option<i64>,
    /// With `outcome_unknown`: under which id the consumption exists, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumption_id: Option<Wire<ConsumptionId>>,
}

impl Example for ProblemBody {
    fn example() -> Self {
        let shortfall = Shortfall {
            required: crate::resource::example::credits(3, 1),
            available: crate::resource::example::credits(2, 40),
            shortfall: crate::resource::example::credits(1, 0),
            max_affordable_quantity: 2,
        };
        Problem::from(Refusal::InsufficientCredits(Box::new(shortfall))).into_body(crate::resource::example::REQUEST_ID)
    }
}

impl Problem {
    /// A problem that its code says all about.
    pub const fn new(code: Code) -> Self {
        Self { code, detail: Cow::Borrowed(code.detail()), more: More::Nothing }
    }

    fn with(code: Code, more: More) -> Self {
        Self { more, ..Self::new(code) }
    }

    /// A field, parameter or header that is not valid.
    pub fn invalid(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        FieldErrors::one(field, message).into()
    }

    /// A body that is not JSON; `detail` says where it stops being it.
    pub fn malformed(detail: Cow<'static, str>) -> Self {
        Self { detail, ..Self::new(Code::MalformedBody) }
    }

    /// A method that the path does not have; `allow` lists those it has.
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        Self::with(Code::MethodNotAllowed, More::Allow(allow))
    }

    /// Something that must not happen; `text` goes to the log.
    pub fn internal(text: impl Into<String>) -> Self {
        Self::with(Code::Internal, More::Internal(text.into()))
    }

    /// What the framework says, whose words are not ours to show: only its status counts.
    pub fn from_framework(error: &poem::Error) -> Self {
        match error.status() {
            StatusCode::NOT_FOUND => Self::new(Code::UnknownPath),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(Code::PayloadTooLarge),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(Code::UnsupportedMediaType),
            status if status.is_client_error() => Self::new(Code::InvalidRequest),
            _ => Self::internal(error.to_string()),
        }
    }

    /// The code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The status with which it is answered.
    pub const fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// What is wrong by field; a problem that is about no field stands under an empty name.
    pub fn into_field_errors(self) -> FieldErrors {
        if let More::Fields(errors) = self.more { errors } else { FieldErrors::one("", self.detail) }
    }

    /// The text that only the log may show.
    pub fn internal_text(&self) -> Option<&str> {
        if let More::Internal(text) = &self.more { Some(text) } else { None }
    }

    /// The body, with the id of the request that it answers.
    pub fn into_body(self, request_id: &str) -> ProblemBody {
        let mut body = ProblemBody {
            type_uri: self.code.type_uri().to_owned(),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            code: self.code.as_str().to_owned(),
            detail: self.detail.into_owned(),
            request_id: request_id.to_owned(),
            errors: None,
            required: None,
            available: None,
            shortfall: None,
            max_affordable_quantity: None,
            consumption_id: None,
        };
        match self.more {
            More::Fields(errors) => body.errors = Some(errors.into_vec()),
            More::Shortfall(shortfall) => {
                body.required = Some(Wire(shortfall.required));
                body.available = Some(Wire(shortfall.available));
                body.shortfall = Some(Wire(shortfall.shortfall));
                body.max_affordable_quantity = Some(shortfall.max_affordable_quantity);
            }
            More::Consumption(id) => body.consumption_id = Some(Wire(id)),
            More::Nothing | More::Allow(_) | More::Internal(_) => {}
        }
        body
    }

    /// The answer, with the headers that its status asks for.
    pub fn into_answer(self, request_id: &str) -> Response {
        let status = self.status();
        let allow = if let More::Allow(allow) = &self.more { Some(allow.clone()) } else { None };
        let body = serde_json::to_vec(&self.into_body(request_id)).unwrap_or_default();
        let mut response = Response::builder().status(status).content_type(CONTENT_TYPE).body(Body::from_vec(body));
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// Never seen by a client: the outermost middleware takes the problem out of the error and writes it. It exists so
    /// that a problem can travel as an error of the framework.
    fn as_response(&self) -> Response {
        self.code.status().into_response()
    }
}

impl From<FieldErrors> for Problem {
    fn from(errors: FieldErrors) -> Self {
        Self::with(Code::InvalidRequest, More::Fields(errors))
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::InsufficientCredits(shortfall) => {
                return Self::with(Code::InsufficientCredits, More::Shortfall(shortfall));
            }
            Refusal::InvalidField { field, message } => return Self::invalid(field, message),
            Refusal::OrganizationFrozen => Code::OrganizationFrozen,
            Refusal::OrganizationClosed => Code::OrganizationClosed,
            Refusal::UnknownOrganization => Code::UnknownOrganization,
            Refusal::UnknownAction => Code::UnknownAction,
            Refusal::UnknownGrant => Code::UnknownGrant,
            Refusal::UnknownConsumption => Code::UnknownConsumption,
            Refusal::UnknownHold => Code::UnknownHold,
            Refusal::UnknownPlan => Code::UnknownPlan,
            Refusal::UnknownSubscription => Code::UnknownSubscription,
            Refusal::UnknownTopUp => Code::UnknownTopUp,
            Refusal::TopUpGranted => Code::TopUpGranted,
            Refusal::HoldFinalized => Code::HoldFinalized,
            Refusal::HoldExpired => Code::HoldExpired,
            Refusal::OverRefund => Code::OverRefund,
            Refusal::LotExpired => Code::LotExpired,
            Refusal::BeyondRetention => Code::BeyondRetention,
            Refusal::OutOfRange => Code::OutOfRange,
            Refusal::IdempotencyMismatch => Code::IdempotencyMismatch,
        };
        Self::new(code)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal.into(),
            StoreError::Conflict(Conflict::ExternalIdTaken) => Self::new(Code::ExternalIdTaken),
            StoreError::Conflict(Conflict::KeyExists) => Self::new(Code::KeyExists),
            StoreError::Conflict(Conflict::TooManyEndpoints) => Self::new(Code::TooManyEndpoints),
            StoreError::NotFound => Self::new(Code::NotFound),
            StoreError::Busy => Self::new(Code::Overloaded),
            StoreError::OrganizationBusy => Self::new(Code::TooManyRequests),
            StoreError::OutcomeUnknown { consumption_id } => {
                Self::with(Code::OutcomeUnknown, consumption_id.map_or(More::Nothing, More::Consumption))
            }
            StoreError::Unavailable(text) => Self::with(Code::Unavailable, More::Internal(text)),
            StoreError::Internal(text) => Self::internal(text),
        }
    }
}

#[cfg(test)]
mod tests;
