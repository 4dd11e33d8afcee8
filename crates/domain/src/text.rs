//! Names that users choose: what they may look like, and how long they may be.
//!
//! Whatever the database would refuse (a NUL character, above all) is refused here, before it can reach a batch that
//! carries other people's requests.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The text is empty, too long, or holds a character that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be 1 to {max} characters: {allowed}")]
pub struct InvalidText {
    max: usize,
    allowed: &'static str,
}

/// Checks a name for people: 1 to `max` characters, none of them a control character.
pub fn check_name(text: &str, max: usize) -> Result<(), InvalidText> {
    let fits = !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(InvalidText { max, allowed: "no control characters" }) }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($max:literal, $allowed:literal, $test:expr);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl $name {
            /// The most characters it may have.
            pub const MAX_CHARS: usize = $max;

            /// The text as given, or [`InvalidText`].
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidText> {
                let text = text.into();
                let allowed: fn(char) -> bool = $test;
                let fits = !text.is_empty() && text.chars().count() <= $max && text.chars().all(allowed);
                if fits { Ok(Self(text)) } else { Err(InvalidText { max: $max, allowed: $allowed }) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidText;

            fn try_from(text: String) -> Result<Self, InvalidText> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

texts! {
    /// What an action is called: `ai_chat`, `com.example.sms.sent`. The `type` of a CloudEvent.
    ActionType(100, "letters, digits and . _ - : /", |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/'));
    /// What a plan is called.
    PlanCode(100, "letters, digits and . _ - :", |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':'));
    /// An organization's name in the customer's own system. The `subject` of a CloudEvent.
    ExternalId(200, "no control characters", |c| !c.is_control());
    /// Who caused a consumption, in the customer's own words: a user id, a service name.
    Actor(200, "no control characters", |c| !c.is_control());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_excess_are_refused() {
        assert!(ActionType::new("ai_chat").is_ok());
        for bad in ["", "ai chat", "ai\0chat", "ümlaut"] {
            assert!(ActionType::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(ExternalId::new("Müller & Co").is_ok());
        assert!(ExternalId::new("a\u{0}b").is_err());
        assert!(ExternalId::new("x".repeat(200)).is_ok());
        assert!(ExternalId::new("x".repeat(201)).is_err());
        assert!(check_name("line\nbreak", 100).is_err());
        assert!(check_name("Müller", 6).is_ok() && check_name("Müller", 5).is_err() && check_name("", 5).is_err());
    }
}
