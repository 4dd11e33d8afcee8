//! Idempotency keys: one request, sent many times, moves credits once.
//!
//! A key is bound to the request it came with, in the transaction that moves the credits, and only by a success. What
//! is stored is two ids of 16 bytes: rows stay small and of one length, whatever callers send as keys. They are digests,
//! written as UUIDv8, the version that RFC 9562 (section 5.8 and appendix B.2) sets aside for names hashed with SHA-256.
//!
//! A key that is a UUIDv7 is its own id. Such keys come in the order of time, and what comes in the order of an index is
//! written to one page of it; digests go to as many pages as there are of them.

use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::{Uuid, Variant, Version};

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

/// A key as it is stored: its space, and an id that stands for what the caller sent. Scoped to the organization by its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    space: KeySpace,
    id: Uuid,
}

impl IdempotencyKey {
    /// The key of an `Idempotency-Key` header, or of an item of a batch.
    pub fn of_request(key: &str) -> Result<Self, InvalidKey> {
        if key.is_empty() || key.len() > MAX_KEY_CHARS || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidKey);
        }
        let id = time_ordered(key).unwrap_or_else(|| digest(&["request", key]));
        Ok(Self { space: KeySpace::Request, id })
    }

    /// The key of an event: `source` and `id` together (`CloudEvents` 1.0, section 3.1).
    pub fn of_event(source: &str, id: &str) -> Result<Self, InvalidEventText> {
        for text in [source, id] {
            if text.is_empty() || text.chars().count() > MAX_EVENT_TEXT_CHARS || text.chars().any(char::is_control) {
                return Err(InvalidEventText);
            }
        }
        Ok(Self { space: KeySpace::Event, id: digest(&["event", source, id]) })
    }

    /// The id under which it is stored.
    pub const fn id(self) -> Uuid {
        self.id
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

/// The key itself, if it is a UUIDv7 (RFC 9562, section 5.7) as it is usually written: of the ways of writing one, which are
/// keys of their own, this one alone is not a digest. No digest is of that version.
fn time_ordered(key: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(key).ok()?;
    let is_v7 = id.get_version() == Some(Version::SortRand) && id.get_variant() == Variant::RFC4122;
    (is_v7 && *key == *id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).then_some(id)
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
    fn a_uuid_that_is_ordered_by_time_is_its_own_id_and_no_other_key_has_it() {
        const V7: &str = "01a204c6-b96f-768c-9b6c-f2e044c443f2";
        let id = |key: &str| IdempotencyKey::of_request(key).unwrap().id();
        assert_eq!(id(V7), Uuid::try_parse(V7).unwrap());
        let others = [
            V7.to_uppercase(),
            V7.replace('-', ""),
            format!("{{{V7}}}"),
            format!("urn:uuid:{V7}"),
            format!("{V7}0"),
            // Of another version, and of another variant.
            V7.replace("-768c", "-468c"),
            V7.replace("-768c", "-868c"),
            V7.replace("-9b6c", "-5b6c"),
        ];
        let digests: std::collections::HashSet<_> = others.iter().map(|key| id(key)).collect();
        assert_eq!(digests.len(), others.len());
        assert!(digests.iter().all(|id| id.get_version_num() == 8), "{digests:?}");
        assert_eq!(IdempotencyKey::of_event("/s", V7).unwrap().id().get_version_num(), 8);
    }

    #[test]
    fn spaces_and_parts_do_not_run_together() {
        let event = |source, id| IdempotencyKey::of_event(source, id).unwrap().id();
        assert_ne!(event("ab", "c"), event("a", "bc"));
        assert_ne!(event("a", "b"), IdempotencyKey::of_request("ab").unwrap().id());
        assert_eq!(event("a", "b"), event("a", "b"));
        assert_eq!(event("a", "b").get_version_num(), 8);
    }
}
