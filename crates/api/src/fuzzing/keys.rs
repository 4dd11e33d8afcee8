//! Keys, as they come in headers: API keys, idempotency keys, and secrets of webhooks.

use multicredit_domain::{IdempotencyKey, WebhookSecret};
use poem::Request;
use poem::http::HeaderValue;
use poem::http::header::AUTHORIZATION;

use super::{is_refusal, json};
use crate::auth::{PREFIX_CHARS, bearer, is_acceptable_admin_key, prefix};
use crate::limits::{API_KEY_MAX_BYTES, TOKEN_MAX_BYTES};
use crate::param::{IDEMPOTENCY_KEY, LAST_EVENT_ID, idempotency_key, last_event_id};
use crate::wire::{KeyText, Text as _, Wire};

/// What a header holds is the same key wherever it is read, and nothing that is no visible ASCII is a key.
///
/// # Panics
///
/// Where that does not hold.
pub fn keys(data: &[u8]) -> bool {
    let of_header = HeaderValue::from_bytes(data).is_ok_and(|value| header(&value));
    let of_text = std::str::from_utf8(data).is_ok_and(text);
    of_header || of_text
}

fn header(value: &HeaderValue) -> bool {
    let headers = [AUTHORIZATION.as_str(), IDEMPOTENCY_KEY, LAST_EVENT_ID];
    let request = headers.into_iter().fold(Request::builder(), |request, name| request.header(name, value)).finish();
    [api_key(&request), request_key(&request, value), last_seen(&request, value)].contains(&true)
}

fn api_key(request: &Request) -> bool {
    let Some(key) = bearer(request) else { return false };
    assert!((1..=API_KEY_MAX_BYTES.max(TOKEN_MAX_BYTES)).contains(&key.len()), "{} bytes", key.len());
    assert!(key.bytes().all(|byte| byte.is_ascii_graphic()));
    let again = Request::builder().header(AUTHORIZATION, format!("Bearer {key}")).finish();
    assert_eq!(bearer(&again), Some(key));
    true
}

fn request_key(request: &Request, value: &HeaderValue) -> bool {
    let key = match idempotency_key(request) {
        Ok(key) => key.expect("there is a header"),
        Err(problem) => {
            is_refusal(&problem);
            return false;
        }
    };
    let text = value.to_str().expect("a key is text");
    // In the header, in an item of a batch and in the domain it is the same.
    let item = KeyText::parse(text).expect("a key of a request is one of an item");
    assert_eq!((Ok(key), key), (IdempotencyKey::of_request(text), item.key()));
    // No two share an id: a digest says that it is one, and whatever is not is the text itself.
    assert!(key.id().get_version_num() == 8 || key.id().to_string() == text, "{text:?} is kept as {}", key.id());
    let read: Wire<KeyText> = serde_json::from_str(&json(&Wire(item.clone()))).expect("what was written is read");
    assert_eq!(read.0, item);
    true
}

fn last_seen(request: &Request, value: &HeaderValue) -> bool {
    let Ok(seen) = last_event_id(request) else { return false };
    let (seen, text) = (seen.expect("there is a header"), value.to_str().expect("a number is text"));
    let digits = text.trim_start_matches('0');
    assert_eq!(seen.to_string(), if digits.is_empty() { "0" } else { digits });
    true
}

fn text(text: &str) -> bool {
    let start = prefix(text);
    assert!(text.starts_with(&start) && start.chars().count() <= PREFIX_CHARS);
    if is_acceptable_admin_key(text) {
        let request = Request::builder().header(AUTHORIZATION, format!("Bearer {text}")).finish();
        assert_eq!(bearer(&request), Some(text), "a key that nobody can use");
    }
    if let Some((source, id)) = text.split_once('\n') {
        event_key(source, id);
    }
    let Ok(secret) = WebhookSecret::parse(text) else { return false };
    assert_eq!(secret.expose(), text);
    true
}

/// No two events share a key, and none has that of a request.
fn event_key(source: &str, id: &str) {
    let Ok(key) = IdempotencyKey::of_event(source, id) else { return };
    assert_eq!(IdempotencyKey::of_event(source, id), Ok(key));
    if source != id {
        assert_ne!(IdempotencyKey::of_event(id, source), Ok(key));
    }
    assert_ne!(IdempotencyKey::of_request(&format!("{source}{id}")), Ok(key));
}
