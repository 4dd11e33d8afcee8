//! Problems as poem-openapi sees them: an error type for handlers that documents which statuses an operation can have.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;

use super::{CONTENT_TYPE, Code, Problem, ProblemBody};

/// The problem of an operation that can fail as `F` says.
#[derive(Debug)]
pub struct Failure<F>(Problem, PhantomData<fn() -> F>);

/// A set of codes, beyond those that every operation can have.
pub trait Failures: 'static {
    /// The codes.
    const CODES: &'static [Code];
}

/// What every operation behind a key can answer.
const COMMON: &[Code] = &[
    Code::InvalidRequest,
    Code::Unauthorized,
    Code::ForbiddenScope,
    Code::RateLimited,
    Code::Internal,
    Code::Unavailable,
];

/// The documentation of an error with that body.
pub fn media_type() -> MetaMediaType {
    MetaMediaType { content_type: CONTENT_TYPE, schema: ProblemBody::schema_ref() }
}

macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident = [$($code:ident),*];)+) => {
        pub mod sets {
            //! Sets of codes, by kind of operation.
            use super::{Code, Failures};

            $(
                $(#[$doc])*
                #[derive(Debug)]
                pub enum $name {}

                impl Failures for $name {
                    const CODES: &'static [Code] = &[$(Code::$code),*];
                }
            )+
        }
    };
}

sets! {
    /// A list over everything that the key sees.
    Listing = [];
    /// A read of an organization, an action, or what belongs to them.
    Reading = [NotFound];
    /// A read of history, which may have been dropped.
    ReadingHistory = [NotFound, BeyondRetention];
    /// A stream of what happens.
    Streaming = [NotFound, TooManyRequests];
    /// A quote: a body in, nothing changed.
    Quoting = [NotFound, RequestTimeout, PayloadTooLarge, UnsupportedMediaType];
    /// A write to a catalogue.
    Writing = [NotFound, RequestTimeout, ExternalIdTaken, PayloadTooLarge, UnsupportedMediaType];
    /// An endpoint of webhooks is made.
    Hooking = [NotFound, RequestTimeout, TooManyEndpoints, PayloadTooLarge, UnsupportedMediaType];
    /// An endpoint of webhooks is changed, or sent to.
    Rehooking = [NotFound, RequestTimeout, PayloadTooLarge, UnsupportedMediaType];
    /// The end of an API key, or of a membership.
    Revoking = [NotFound];
    /// Credits are given, given back, or taken back.
    Granting = [
        NotFound, RequestTimeout, OrganizationClosed, PayloadTooLarge, UnsupportedMediaType, IdempotencyMismatch,
        TooManyRequests
    ];
    /// A consumption is given back, if it is still known.
    Refunding = [
        NotFound, RequestTimeout, OrganizationClosed, BeyondRetention, PayloadTooLarge, UnsupportedMediaType,
        IdempotencyMismatch, TooManyRequests
    ];
    /// Credits are spent.
    Spending = [
        InsufficientCredits, NotFound, RequestTimeout, OrganizationClosed, PayloadTooLarge, UnsupportedMediaType,
        IdempotencyMismatch, OrganizationFrozen, TooManyRequests
    ];
    /// A balance is corrected.
    Adjusting = [
        InsufficientCredits, NotFound, RequestTimeout, OrganizationClosed, PayloadTooLarge, UnsupportedMediaType,
        IdempotencyMismatch, TooManyRequests
    ];
    /// Credits that were set aside are spent.
    Capturing = [
        InsufficientCredits, NotFound, RequestTimeout, HoldFinalized, HoldExpired, PayloadTooLarge,
        UnsupportedMediaType, IdempotencyMismatch, OrganizationFrozen, TooManyRequests
    ];
    /// A hold is given up, or lasts longer.
    Holding = [
        NotFound, RequestTimeout, HoldFinalized, HoldExpired, PayloadTooLarge, UnsupportedMediaType,
        IdempotencyMismatch, TooManyRequests
    ];
    /// A subscription begins or changes.
    Subscribing = [
        NotFound, RequestTimeout, OrganizationClosed, PayloadTooLarge, UnsupportedMediaType, TooManyRequests
    ];
    /// A subscription ends.
    Unsubscribing = [NotFound, OrganizationClosed, TooManyRequests];
    /// Many things in one body, each with a result of its own.
    Batching = [RequestTimeout, PayloadTooLarge, UnsupportedMediaType];
}

impl<F, E: Into<Problem>> From<E> for Failure<F> {
    fn from(error: E) -> Self {
        Self(error.into(), PhantomData)
    }
}

impl<F> From<Failure<F>> for poem::Error {
    fn from(failure: Failure<F>) -> Self {
        failure.0.into()
    }
}

impl<F: Failures> ApiResponse for Failure<F> {
    fn meta() -> MetaResponses {
        let statuses: BTreeSet<u16> = COMMON.iter().chain(F::CODES).map(|code| code.status().as_u16()).collect();
        MetaResponses { responses: statuses.into_iter().map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

fn response(status: u16) -> MetaResponse {
    let (description, header) = match status {
        400 => ("A field, parameter or header is not valid, the body is no JSON, or an amount is out of range.", None),
        401 => ("No valid API key.", Some(("WWW-AUTHENTICATE", "Always `Bearer`."))),
        402 => ("At least one credit type does not suffice. Nothing was deducted.", None),
        403 => ("The API key lacks the scope, or is bound to an organization.", None),
        404 => ("There is no such thing, or the API key may not know of it.", None),
        408 => ("The body did not arrive in time.", None),
        409 => (
            "It conflicts with what there is: an `external_id` that is taken, a hold that has ended, a consumption of \
             which less is left to refund, a top-up that was answered, an organization that is closed, one endpoint of \
             webhooks too many.",
            None,
        ),
        410 => ("The hold has expired, or what is asked for lies before the history that is kept.", None),
        413 => ("The body is larger than 1 MiB.", None),
        415 => ("The body is of another media type.", None),
        422 => ("The idempotency key was used for a different request.", None),
        423 => ("The organization is frozen.", None),
        429 => (
            "Too many requests of this organization are waiting, or a rate limit is used up, of it or of the key.",
            Some(RETRY_AFTER),
        ),
        503 => ("The service cannot answer at present, or does not know the outcome yet.", Some(RETRY_AFTER)),
        _ => ("Something went wrong on our side.", None),
    };
    let headers = header.map(|(name, description)| MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: true,
        deprecated: false,
        schema: text(),
    });
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![media_type()],
        headers: headers.into_iter().collect(),
    }
}

const RETRY_AFTER: (&str, &str) = ("RETRY-AFTER", "After how many seconds to send it again.");

fn text() -> MetaSchemaRef {
    String::schema_ref()
}
