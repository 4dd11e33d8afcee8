//! Why a body was refused: which field, and what it should have been.
//!
//! A good body is read in one pass that knows nothing of this. A bad one is read again from a [`Node`], by a
//! deserializer with an error type of its own: so the message is put together from what serde says is *expected*, never
//! from its texts, which repeat what was sent; and the path is known without being tracked on the way of good requests.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::Node;
use crate::problem::{FieldErrors, presentable};

/// Why `T` cannot be read from the value: `None` if it can after all.
pub fn diagnose<'n, T: Deserialize<'n>>(node: &'n Node) -> Option<FieldErrors> {
    let fault = T::deserialize(At { node, path: &Path::Root }).err()?.at(&Path::Root);
    Some(FieldErrors::one(fault.path.unwrap_or_default(), fault.message))
}

/// What is wrong, and where.
#[derive(Debug)]
struct Fault {
    message: String,
    /// A field of the object at hand, which does not exist or is there twice.
    field: Option<&'static str>,
    path: Option<String>,
}

impl Fault {
    fn says(message: impl Into<String>) -> Self {
        Self { message: message.into(), field: None, path: None }
    }

    fn of_field(field: &'static str, message: &str) -> Self {
        Self { field: Some(field), ..Self::says(message) }
    }

    /// Remembers the innermost place at which it was seen.
    fn at(mut self, path: &Path<'_>) -> Self {
        if self.path.is_none() {
            self.path = Some(match self.field {
                Some(field) => Path::Field(path, field).to_string(),
                None => path.to_string(),
            });
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::says(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::says(match expected.to_string().as_str() {
            // What serde calls its own integers.
            "i64" | "i32" | "u64" | "u32" => "must be a whole number".to_owned(),
            expected => format!("must be {expected}"),
        })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::says(format!("must be {expected}"))
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::says("is not a known field")
    }

    fn missing_field(field: &'static str) -> Self {
        Self::of_field(field, "is required")
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::of_field(field, "must not be given twice")
    }
}

/// Where a value stands: `items[3].quantity`.
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Field(parent, name) => {
                // A field's name can be what somebody sent.
                let Some(name) = presentable(name) else { return parent.fmt(f) };
                if matches!(parent, Self::Root) { f.write_str(name) } else { write!(f, "{parent}.{name}") }
            }
        }
    }
}

/// A value at its place.
#[derive(Clone, Copy)]
struct At<'n, 'p> {
    node: &'n Node,
    path: &'p Path<'p>,
}

impl<'n> Deserializer<'n> for At<'n, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Negative(value) => visitor.visit_i64(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::List(items) => visitor.visit_seq(Items { rest: items.iter(), index: 0, path: self.path }),
            Node::Object(fields) => visitor.visit_map(Fields { rest: fields.iter(), current: None, path: self.path }),
        }
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// As [`object`](super::object) reads: an object, and not an array of its fields' values.
    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Object(_) => self.deserialize_any(visitor),
            _ => Err(Fault::invalid_type(Unexpected::Other("no object"), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        <W: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct struct enum identifier ignored_any
    }
}

/// The items of an array.
struct Items<'n, 'p> {
    rest: std::slice::Iter<'n, Node>,
    index: usize,
    path: &'p Path<'p>,
}

impl<'n> SeqAccess<'n> for Items<'n, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let path = Path::Index(self.path, self.index);
        self.index += 1;
        seed.deserialize(At { node, path: &path }).map(Some).map_err(|fault| fault.at(&path))
    }
}

/// The fields of an object.
struct Fields<'n, 'p> {
    rest: std::slice::Iter<'n, (String, Node)>,
    current: Option<&'n (String, Node)>,
    path: &'p Path<'p>,
}

impl<'n> MapAccess<'n> for Fields<'n, '_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.current = self.rest.next();
        let Some((name, _)) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = name.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.at(&Path::Field(self.path, name)))
    }

    fn next_value_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((name, node)) = self.current else { return Err(Fault::custom("a value without a name")) };
        let path = Path::Field(self.path, name);
        seed.deserialize(At { node, path: &path }).map_err(|fault| fault.at(&path))
    }
}
