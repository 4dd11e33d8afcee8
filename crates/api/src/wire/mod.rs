//! How values of the domain look on the wire: in JSON, in paths, in query strings, and in the OpenAPI document.
//!
//! The domain knows serde but not OpenAPI, and must not. [`Wire`] wraps a domain value and gives it a schema from the
//! same place that reads and writes it ([`Shape`]), so that the document cannot drift from the code. Values that are one
//! text implement [`Text`] and get the rest for free.
//!
//! Nothing here puts what a caller sent into a message: messages say what is expected, never what came.

mod credits;
mod ids;
mod names;
mod number;
mod text;
mod time;
mod ttl;
mod user;

pub use credits::{some_change, some_credits};
pub use names::{not_one_of, one_of};
pub use number::{Nullable, bounds};
pub use text::{KeyText, Line, Reason, Text};
pub use ttl::TtlSeconds;
pub use user::UserId;

use std::borrow::Cow;

use multicredit_domain::Metadata;
use multicredit_domain::metadata::{MAX_BYTES, MAX_DEPTH};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A value as it is read, written and documented.
pub trait Shape: Sized + Send + Sync + 'static {
    /// What the document calls it.
    const NAME: &'static str;
    /// Whether it is described once, under `components`, or wherever it is used.
    const IS_COMPONENT: bool = false;

    /// What it looks like.
    fn schema() -> MetaSchema;

    /// Reads it. Messages never repeat what was sent.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// Writes it.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A domain value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wire<T>(pub T);

impl<'de, T: Shape> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

impl<T: Shape> Serialize for Wire<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

impl<T: Shape> Type for Wire<T> {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn schema_ref() -> MetaSchemaRef {
        if T::IS_COMPONENT {
            MetaSchemaRef::Reference(T::NAME.to_owned())
        } else {
            MetaSchemaRef::Inline(Box::new(T::schema()))
        }
    }

    fn register(registry: &mut Registry) {
        if T::IS_COMPONENT {
            registry.create_schema::<Self, _>(T::NAME.to_owned(), |_| T::schema());
        }
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: Shape> ParseFromJSON for Wire<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl<T: Shape> ToJSON for Wire<T> {
    fn to_json(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }
}

impl Shape for Metadata {
    const NAME: &'static str = "Metadata";
    const IS_COMPONENT: bool = true;

    fn schema() -> MetaSchema {
        const _: () = assert!(MAX_BYTES == 8192 && MAX_DEPTH == 16, "the description below names these limits");
        MetaSchema {
            description: Some(
                "An object of the caller's own, kept with the consumption: at most 8192 bytes of JSON, nested at most \
                 16 levels, without NUL characters or repeated keys.",
            ),
            additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
            example: Some(serde_json::json!({ "conversation": "c-4711" })),
            ..MetaSchema::new("object")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}
