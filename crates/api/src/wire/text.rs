//! Values that are one text: a JSON string, a segment of a path, a query parameter.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use multicredit_domain::text::check_name;
use multicredit_domain::{ActionType, Actor, ExternalId, IdempotencyKey, PlanCode, TimeZone, idempotency};
use poem_openapi::registry::MetaSchema;
use serde::de::Visitor;
use serde::{Deserializer, Serializer};

use super::Shape;

/// Why a text is not what it should be, without the text.
pub type Reason = Cow<'static, str>;

/// A value that is one text.
pub trait Text: Sized + Send + Sync + 'static {
    /// What the document calls it.
    const NAME: &'static str;

    /// What it looks like.
    fn schema() -> MetaSchema;

    /// The value of that text, or what the text should have been.
    fn parse(text: &str) -> Result<Self, Reason>;

    /// Writes it as JSON.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

impl<T: Text> Shape for T {
    const NAME: &'static str = <T as Text>::NAME;

    fn schema() -> MetaSchema {
        <T as Text>::schema()
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        <T as Text>::write(self, serializer)
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Text> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(E::custom)
    }
}

/// The schema of a string of 1 to `max` characters.
fn bounded(max: usize, description: &'static str, example: &'static str) -> MetaSchema {
    MetaSchema {
        description: Some(description),
        min_length: Some(1),
        max_length: Some(max),
        example: Some(example.into()),
        ..MetaSchema::new("string")
    }
}

/// The pattern of a text without control characters.
const NO_CONTROL_CHARACTERS: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

macro_rules! domain_texts {
    ($($type:ty, $name:literal, $schema:expr;)+) => {$(
        impl Text for $type {
            const NAME: &'static str = $name;

            fn schema() -> MetaSchema {
                $schema
            }

            fn parse(text: &str) -> Result<Self, Reason> {
                Self::new(text).map_err(|error| error.to_string().into())
            }

            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )+};
}

domain_texts! {
    ActionType, "ActionType", MetaSchema {
        pattern: Some("^[A-Za-z0-9._:/-]+$".to_owned()),
        ..bounded(Self::MAX_CHARS, "What an action is called.", "ai_chat")
    };
    PlanCode, "PlanCode", MetaSchema {
        pattern: Some("^[A-Za-z0-9._:-]+$".to_owned()),
        ..bounded(Self::MAX_CHARS, "What a plan is called.", "pro-monthly")
    };
    ExternalId, "ExternalId", MetaSchema {
        pattern: Some(NO_CONTROL_CHARACTERS.to_owned()),
        ..bounded(Self::MAX_CHARS, "What the customer's own system calls the organization. Unique.", "acme-eu")
    };
    Actor, "Actor", MetaSchema {
        pattern: Some(NO_CONTROL_CHARACTERS.to_owned()),
        ..bounded(Self::MAX_CHARS, "Who caused it, in the caller's own words: a user, a service.", "user-42")
    };
    TimeZone, "TimeZone", bounded(64, "A time zone of the IANA database.", "Europe/Berlin");
}

/// A line of text for people: 1 to `MAX` characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<const MAX: usize>(String);

impl<const MAX: usize> Line<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MAX: usize> Text for Line<MAX> {
    const NAME: &'static str = "Line";

    fn schema() -> MetaSchema {
        MetaSchema {
            min_length: Some(1),
            max_length: Some(MAX),
            pattern: Some(NO_CONTROL_CHARACTERS.to_owned()),
            ..MetaSchema::new("string")
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        check_name(text, MAX).map_err(|error| error.to_string())?;
        Ok(Self(text.to_owned()))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The idempotency key of an item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyText {
    text: String,
    key: IdempotencyKey,
}

impl KeyText {
    /// The key that the text stands for.
    pub const fn key(&self) -> IdempotencyKey {
        self.key
    }
}

impl Text for KeyText {
    const NAME: &'static str = "IdempotencyKey";

    fn schema() -> MetaSchema {
        MetaSchema {
            pattern: Some("^[!-~]+$".to_owned()),
            ..bounded(
                idempotency::MAX_KEY_CHARS,
                "Makes the request safe to repeat: 1 to 255 visible ASCII characters, unique within the organization.",
                "0199a3d2-7c51-7d0e-9f6b-0e9d7a5c4b31",
            )
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        let key = IdempotencyKey::of_request(text).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), key })
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    fn accepts<T: Text>(json: &str) -> bool {
        serde_json::from_str::<Wire<T>>(json).is_ok()
    }

    #[test]
    fn control_characters_are_refused_everywhere() {
        for bad in [r#""a\u0000b""#, r#""a\u0007b""#, r#""a\nb""#, r#""\u0085""#] {
            assert!(!accepts::<ActionType>(bad), "action {bad}");
            assert!(!accepts::<PlanCode>(bad), "plan {bad}");
            assert!(!accepts::<ExternalId>(bad), "external id {bad}");
            assert!(!accepts::<Actor>(bad), "actor {bad}");
            assert!(!accepts::<Line<10>>(bad), "line {bad}");
            assert!(!accepts::<KeyText>(bad), "key {bad}");
            assert!(!accepts::<TimeZone>(bad), "time zone {bad}");
        }
    }

    #[test]
    fn messages_do_not_repeat_what_was_sent() {
        let secret = "s3cr3t value";
        let messages = [
            ActionType::parse(secret).unwrap_err(),
            TimeZone::parse(secret).unwrap_err(),
            Line::<3>::parse(secret).unwrap_err(),
            KeyText::parse(secret).unwrap_err(),
        ];
        for message in messages {
            assert!(!message.contains("s3cr3t"), "{message}");
        }
    }
}
