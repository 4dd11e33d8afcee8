//! The id under which a request is found in the log: the caller's, if it is a plain one, or a new one.

use std::fmt;

use multicredit_store::clock::new_uuid;
use poem::Request;
use poem::http::{HeaderName, HeaderValue};
use uuid::fmt::Hyphenated;

use crate::limits::REQUEST_ID_MAX_BYTES;

/// The header in which it comes and goes.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, so that it can stand in a log, a header and a body
/// as it is. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id that the request came with, or a new one.
    pub fn of(request: &Request) -> Self {
        match request.headers().get(X_REQUEST_ID) {
            Some(value) if is_plain(value.as_bytes()) => Self(value.clone()),
            _ => Self::new(),
        }
    }

    /// A new one.
    pub fn new() -> Self {
        let mut buffer = [0; Hyphenated::LENGTH];
        let text = new_uuid().hyphenated().encode_lower(&mut buffer);
        Self(HeaderValue::from_str(text).expect("a UUID is visible characters"))
    }

    /// The id as a header.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=REQUEST_ID_MAX_BYTES).contains(&id.len()) && id.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(value: &str) -> RequestId {
        RequestId::of(&Request::builder().header(X_REQUEST_ID, value).finish())
    }

    #[test]
    fn a_plain_id_is_taken_over_and_anything_else_is_replaced() {
        for good in ["a", "Trace_1.2-3", &"x".repeat(128)] {
            assert_eq!(id_of(good).as_str(), good);
        }
        for bad in ["", "a b", "a/b", "<b>", "\u{e9}", &"x".repeat(129)] {
            let id = id_of(bad);
            assert!(uuid::Uuid::try_parse(id.as_str()).is_ok(), "{bad} became {id}");
        }
        assert_ne!(RequestId::of(&Request::default()), RequestId::of(&Request::default()));
    }
}
