//! Idempotency keys: one request, sent many times, moves credits once.
//!
//! A key is bound to the request it came with, in the transaction that moves the credits, and only by a success. What
//! is stored is two digests of 16 bytes, written as UUIDv8, the version that RFC 9562 (section 5.8 and appendix B.2)
//! sets aside for names hashed with SHA-256: rows stay small and of one length, whatever callers send as keys.

use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;

/// The most characters of an `Idempotency-Key`.
pub const MAX_KEY_CHARS: usize = 255;

/// The most characters of a CloudEvent's `source` and of its `id`.
pub const MAX_EVENT_TEXT_CHARS: usize = 1024;

/// How long a request's key is kept, in days.
pub const REQUEST_RETENTION_DAYS: i32 = 7;

/// How long an event's key is kept, in days: past the 35 days that an event may lie in the past.
pub const EVENT_RETENTION_DAYS: i32 = 40;

/// The key is empty, too long, or has characters that are not visible ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be 1 to {MAX_KEY_CHARS} visible ASCII characters")]
pub struct InvalidKey;

/// The `source` or `id` of an event is empty, too long, or has control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be 1 to {MAX_EVENT_TEXT_CHARS} characters, none of them a control character")]
pub struct InvalidEventText;

/// The two spaces of keys: a header's `a` and an event's `a` never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySpace {
    /// `Idempotency-Key` of a request or of an item of a batch.
    Request,
    /// `source` and `id` of an event.
    Event,
}

/// A key as it is stored: its space, and a digest of what the caller sent. Scoped to the organization by its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    space: KeySpace,
    digest: Uuid,
}

impl IdempotencyKey {
    /// The key of an `Idempotency-Key` header, or of an item of a batch.
    pub fn of_request(key: &str) -> Result<Self, InvalidKey> {
        if key.is_empty() || key.len() > MAX_KEY_CHARS || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidKey);
        }
        Ok(Self { space: KeySpace::Request, digest: digest(&["request", key]) })
    }

    /// The key of an event: `source` and `id` together (`CloudEvents` 1.0, section 3.1).
    pub fn of_event(source: &str, id: &str) -> Result<Self, InvalidEventText> {
        for text in [source, id] {
            if text.is_empty() || text.chars().count() > MAX_EVENT_TEXT_CHARS || text.chars().any(char::is_control) {
                return Err(InvalidEventText);
            }
        }
        Ok(Self { space: KeySpace::Event, digest: digest(&["event", source, id]) })
    }

    /// The digest, under which it is stored.
    pub const fn digest(self) -> Uuid {
        self.digest
    }

    /// How many days after the one on which it is bound it is kept: one more than is promised, whatever the time of day.
    pub const fn kept_days(self) -> i32 {
        match self.space {
            KeySpace::Request => REQUEST_RETENTION_DAYS + 1,
            KeySpace::Event => EVENT_RETENTION_DAYS + 1,
        }
    }
}

/// A key together with what it is bound to: the operation, its path and the parsed body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyBinding {
    /// The key.
    pub key: IdempotencyKey,
    /// What counts as the same request.
    pub fingerprint: Uuid,
}

/// The digest of what makes a request the same: an operation's name and the canonical text of its parsed content.
pub fn fingerprint(operation: &str, content: &str) -> Uuid {
    digest(&[operation, content])
}

/// SHA-256 over the parts, each after its length so that no two lists of parts run together, cut to a UUIDv8.
pub(crate) fn digest(parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_ascii_of_bounded_length() {
        assert!(IdempotencyKey::of_request(&"k".repeat(255)).is_ok());
        for bad in ["", " ", "a b", "a\tb", "ü", &"k".repeat(256)] {
            assert_eq!(IdempotencyKey::of_request(bad), Err(InvalidKey), "{bad:?}");
        }
    }

    #[test]
    fn the_texts_of_an_event_are_of_bounded_length_and_without_control_characters() {
        for good in ["a", "ü", &"ü".repeat(1024)] {
            assert!(IdempotencyKey::of_event(good, "b").is_ok(), "{good:?}");
            assert!(IdempotencyKey::of_event("b", good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\0", "a\n", &"a".repeat(1025)] {
            assert_eq!(IdempotencyKey::of_event(bad, "b"), Err(InvalidEventText), "{bad:?}");
            assert_eq!(IdempotencyKey::of_event("b", bad), Err(InvalidEventText), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_kept_a_day_longer_than_is_promised() {
        assert_eq!(IdempotencyKey::of_request("a").unwrap().kept_days(), 8);
        assert_eq!(IdempotencyKey::of_event("a", "b").unwrap().kept_days(), 41);
    }

    #[test]
    fn a_fingerprint_is_of_the_operation_and_its_content() {
        let one = fingerprint("consume", "{}");
        assert_eq!(one, fingerprint("consume", "{}"));
        assert_ne!(one, fingerprint("hold", "{}"));
        assert_ne!(one, fingerprint("consume", "{ }"));
    }

    #[test]
    fn spaces_and_parts_do_not_run_together() {
        let event = |source, id| IdempotencyKey::of_event(source, id).unwrap().digest();
        assert_ne!(event("ab", "c"), event("a", "bc"));
        assert_ne!(event("a", "b"), IdempotencyKey::of_request("ab").unwrap().digest());
        assert_eq!(event("a", "b"), event("a", "b"));
        assert_eq!(event("a", "b").get_version_num(), 8);
    }
}
