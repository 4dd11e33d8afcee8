//! What a caller wants to remember with a consumption: a JSON object of their own.
//!
//! It is stored as it came, in canonical key order, so that two bodies that differ only in layout count as the same.
//! It is bounded, and it must not hold what a database refuses: PostgreSQL's `jsonb` has no `\u0000`.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};
use thiserror::Error;

/// The largest metadata, in bytes of JSON: a label or two for each row, not a document store.
pub const MAX_BYTES: usize = 8192;

/// How deep metadata may nest.
pub const MAX_DEPTH: usize = 16;

/// The metadata is larger than [`MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be at most {MAX_BYTES} bytes of JSON")]
pub struct TooLarge;

/// What was stored as metadata is no JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be a JSON object")]
pub struct NotAnObject;

/// A JSON object of the caller's, at most [`MAX_BYTES`] long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// The object.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// What was stored, as it was accepted then.
    pub fn from_stored(value: Value) -> Result<Self, NotAnObject> {
        if let Value::Object(map) = value { Ok(Self(map)) } else { Err(NotAnObject) }
    }

    /// The object as JSON text, keys in order.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Refuses what is larger than [`MAX_BYTES`].
    pub fn check_size(&self) -> Result<(), TooLarge> {
        if self.to_json().len() <= MAX_BYTES { Ok(()) } else { Err(TooLarge) }
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match (Strict { depth: 0 }).deserialize(deserializer)? {
            Value::Object(map) => {
                let metadata = Self(map);
                metadata.check_size().map_err(D::Error::custom)?;
                Ok(metadata)
            }
            _ => Err(D::Error::custom("must be an object")),
        }
    }
}

/// Reads any JSON value, but refuses repeated keys, NUL characters and deep nesting.
struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth < MAX_DEPTH {
            Ok(Self { depth: self.depth + 1 })
        } else {
            Err(E::custom(format_args!("must not nest deeper than {MAX_DEPTH} levels")))
        }
    }
}

fn without_nul<E: serde::de::Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("must not contain the NUL character")) } else { Ok(text) }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        without_nul(value).map(Value::String)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.inner()?)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let key = without_nul(key)?;
            let value = map.next_value_seed(self.inner()?)?;
            if values.insert(key, value).is_some() {
                return Err(A::Error::custom("must not repeat a key"));
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::BytesDeserializer;

    use super::*;

    fn parse(text: &str) -> Result<Metadata, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn layout_does_not_matter_and_content_is_kept() {
        let one = parse(r#"{"b": [1, 2.5, null], "a": {"x": true}}"#).unwrap();
        assert_eq!(one, parse(r#"{"a":{"x":true},"b":[1,2.5,null]}"#).unwrap());
        assert_eq!(one.to_json(), r#"{"a":{"x":true},"b":[1,2.5,null]}"#);
        assert_eq!(one.as_map().keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn every_kind_of_value_is_kept() {
        let text = r#"{"a":-1,"b":18446744073709551615,"c":0.5,"d":false,"e":"x","f":null,"g":[],"h":{}}"#;
        assert_eq!(parse(text).unwrap().to_json(), text);
    }

    #[test]
    fn what_is_no_json_is_told_what_was_expected() {
        let bytes = BytesDeserializer::<serde_json::Error>::new(b"x");
        let error = Metadata::deserialize(bytes).unwrap_err().to_string();
        assert_eq!(error, "invalid type: byte array, expected a JSON value");
    }

    #[test]
    fn what_a_database_would_choke_on_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_BYTES));
        for bad in ["[]", "1", r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":1,"a":1}"#, &deep, &long] {
            assert!(parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
