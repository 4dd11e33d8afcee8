//! JSON bodies of requests.
//!
//! Which there are is not written here: the OpenAPI document registers every one of them, and they are remembered on that
//! way. A new body is fuzzed from its first day.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::de::DeserializeOwned;

use super::{is_refusal, json};
use crate::openapi::Document;
use crate::payload::{self, Documented, Node};

/// Reads a text as a body of one type; whether it is one.
type Check = fn(&str) -> bool;

static LEARNT: Mutex<BTreeMap<String, Check>> = Mutex::new(BTreeMap::new());

/// Every type of body, by its name.
static CHECKS: LazyLock<BTreeMap<String, Check>> = LazyLock::new(|| {
    Document::new("");
    LEARNT.lock().unwrap_or_else(PoisonError::into_inner).clone()
});

/// Remembers a type of body.
pub fn learn<T: Documented + DeserializeOwned>() {
    let mut learnt = LEARNT.lock().unwrap_or_else(PoisonError::into_inner);
    learnt.insert(T::name().into_owned(), read_back::<T>);
}

/// The names of all types of bodies.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.keys().map(String::as_str)
}

/// Reads a text as a body of that type; whether it is one.
#[cfg(test)]
pub fn is_one(name: &str, text: &str) -> bool {
    CHECKS[name](text)
}

/// A body is read, or refused by the fault of who sent it. What was read is written so that it is read as the same, and
/// how its JSON is laid out does not matter.
///
/// # Panics
///
/// Where that does not hold.
pub fn bodies(data: &[u8]) -> bool {
    let text = match payload::text(data) {
        Ok(text) => text,
        Err(problem) => {
            is_refusal(&problem);
            return false;
        }
    };
    // All of them, not up to the first that takes it.
    CHECKS.values().filter(|check| check(text)).count() > 0
}

fn read_back<T: Documented + DeserializeOwned>(text: &str) -> bool {
    let body = match payload::parse_object::<T>(text) {
        Ok(body) => body,
        Err(problem) => {
            is_refusal(&problem);
            return false;
        }
    };
    let written = json(&body);
    let read = |text: &str| match payload::parse_object::<T>(text) {
        Ok(body) => json(&body),
        Err(problem) => panic!("{} is refused: {text}: {problem:?}", T::name()),
    };
    assert_eq!(read(&written), written, "{}", T::name());
    let node: Node = serde_json::from_str(text).expect("a body is JSON");
    let spaced = serde_json::to_string_pretty(&node).expect("what was read can be written");
    assert_eq!(read(&spaced), written, "{}", T::name());
    true
}
