//! Every error code, with its status and its words. `docs/API.md` has the same table, and a test holds the two equal.

use poem::http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:ident, $code:literal, $title:literal, $detail:literal;)+) => {
        /// What went wrong, as callers can act on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The status with which it is answered.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The stable name, `code` of the body.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// `type` of the body: a reference that names the code and is not served.
            pub const fn type_uri(self) -> &'static str {
                match self { $(Self::$variant => concat!("/problems/", $code),)+ }
            }

            /// `title` of the body: the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// `detail` of the body, unless an occurrence knows better.
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$variant => $detail,)+ }
            }
        }
    };
}

codes! {
    /// A field, parameter or header is missing, unknown, malformed or out of its range.
    InvalidRequest = BAD_REQUEST, "invalid_request", "Invalid request",
        "At least one field, parameter or header is not valid; `errors` says which.";
    /// The body is not JSON at all.
    MalformedBody = BAD_REQUEST, "malformed_body", "Malformed body", "The body is not well-formed JSON in UTF-8.";
    /// A cost or a balance would not fit.
    OutOfRange = BAD_REQUEST, "out_of_range", "Out of range",
        "A cost or a balance would go beyond 9007199254740991.";
    /// No valid key came with the request.
    Unauthorized = UNAUTHORIZED, "unauthorized", "Unauthorized",
        "Send a valid API key as `Authorization: Bearer KEY`.";
    /// At least one credit type does not suffice.
    InsufficientCredits = PAYMENT_REQUIRED, "insufficient_credits", "Insufficient credits",
        "The balance does not cover the cost; nothing was deducted.";
    /// The key lacks the scope.
    ForbiddenScope = FORBIDDEN, "forbidden_scope", "Scope missing",
        "The API key does not have the scope that this operation needs.";
    /// The key is bound to an organization.
    ForbiddenBoundKey = FORBIDDEN, "forbidden_bound_key", "Key bound to an organization",
        "An API key that is bound to an organization cannot do what concerns all organizations.";
    /// A form of the dashboard came from another site.
    ForbiddenOrigin = FORBIDDEN, "forbidden_origin", "Form of another site",
        "The form was not sent from a page of the dashboard, so nothing was done.";
    /// There is no such organization, or none that the key may know of.
    UnknownOrganization = NOT_FOUND, "unknown_organization", "Unknown organization", "There is no such organization.";
    /// There is no such action, or it is not active.
    UnknownAction = NOT_FOUND, "unknown_action", "Unknown action", "There is no such action, or it is not active.";
    /// There is no such grant.
    UnknownGrant = NOT_FOUND, "unknown_grant", "Unknown grant", "There is no such grant.";
    /// There is no such consumption.
    UnknownConsumption = NOT_FOUND, "unknown_consumption", "Unknown consumption", "There is no such consumption.";
    /// There is no such hold.
    UnknownHold = NOT_FOUND, "unknown_hold", "Unknown hold", "There is no such hold.";
    /// There is no such plan.
    UnknownPlan = NOT_FOUND, "unknown_plan", "Unknown plan", "There is no such plan.";
    /// The organization has no subscription.
    UnknownSubscription = NOT_FOUND, "unknown_subscription", "Unknown subscription",
        "The organization has no subscription.";
    /// There is no such top-up.
    UnknownTopUp = NOT_FOUND, "unknown_top_up", "Unknown top-up", "There is no such top-up.";
    /// There is no such thing.
    NotFound = NOT_FOUND, "not_found", "Not found", "There is nothing of that id.";
    /// No operation has this path.
    UnknownPath = NOT_FOUND, "unknown_path", "Unknown path", "No operation has this path.";
    /// The path has other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed",
        "This path has other methods; `Allow` lists them.";
    /// The body did not arrive in time.
    RequestTimeout = REQUEST_TIMEOUT, "request_timeout", "Request timeout", "The body did not arrive in time.";
    /// Another organization has the `external_id`.
    ExternalIdTaken = CONFLICT, "external_id_taken", "External id taken", "Another organization has this external_id.";
    /// The API key exists.
    KeyExists = CONFLICT, "key_exists", "Key exists", "This API key is registered already.";
    /// There are as many endpoints of webhooks as there may be.
    TooManyEndpoints = CONFLICT, "too_many_endpoints", "Too many endpoints",
        "There are 20 endpoints of webhooks already; delete one.";
    /// The organization is closed.
    OrganizationClosed = CONFLICT, "organization_closed", "Organization closed", "The organization is closed for good.";
    /// The hold has ended.
    HoldFinalized = CONFLICT, "hold_finalized", "Hold finalized", "The hold was captured or released before.";
    /// The top-up was answered.
    TopUpGranted = CONFLICT, "top_up_granted", "Top-up granted", "The top-up was answered by another grant.";
    /// More would be refunded than was consumed.
    OverRefund = CONFLICT, "over_refund", "Over-refund",
        "More would be refunded than was consumed and not refunded yet.";
    /// What would be refunded cannot return to where it came from.
    LotExpired = CONFLICT, "lot_expired", "Lot expired",
        "The credits came from grants that have ended; `on_expired: grant` makes a new one.";
    /// The hold's time is over.
    HoldExpired = GONE, "hold_expired", "Hold expired", "The hold has expired.";
    /// It is older than the history that is kept.
    BeyondRetention = GONE, "beyond_retention", "Beyond retention",
        "This lies before the history that is kept; what was there is part of the usage reports alone.";
    /// The body is too long.
    PayloadTooLarge = PAYLOAD_TOO_LARGE, "payload_too_large", "Payload too large",
        "The body is larger than 1048576 bytes.";
    /// The body is of another media type.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type",
        "This operation does not take a body of that Content-Type.";
    /// The key was used for something else.
    IdempotencyMismatch = UNPROCESSABLE_ENTITY, "idempotency_mismatch", "Idempotency key reused",
        "The idempotency key was already used for a different request.";
    /// The organization may not spend.
    OrganizationFrozen = LOCKED, "organization_frozen", "Organization frozen",
        "The organization is frozen: it can receive credits but not spend them.";
    /// Too much of one organization waits.
    TooManyRequests = TOO_MANY_REQUESTS, "too_many_requests", "Too many requests",
        "Too many requests of this organization are waiting. Send it again after `Retry-After`.";
    /// More requests than the key may send, or than the organization may get.
    RateLimited = TOO_MANY_REQUESTS, "rate_limited", "Rate limited",
        "The rate limit of the API key or of the organization is used up. Send it again after `Retry-After`.";
    /// A bug.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Internal error",
        "Something went wrong on our side; the log has it under the request id.";
    /// Too much waits.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Overloaded",
        "Too many requests are waiting. Send it again after `Retry-After`.";
    /// The database cannot be reached, or the service is stopping.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "Unavailable",
        "The service cannot do its work at present. Send it again after `Retry-After`.";
    /// What became of it is not known.
    OutcomeUnknown = SERVICE_UNAVAILABLE, "outcome_unknown", "Outcome unknown",
        "Whether the credits moved is not known yet. With an idempotency key it is safe to send again.";
}
