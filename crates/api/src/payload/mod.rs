//! JSON bodies: read in one pass, strictly, and documented as what they are.
//!
//! poem-openapi's own `Json` goes through [`serde_json::Value`], accepts unknown and repeated fields, and repeats the
//! input in its errors. [`Json`] reads straight into the type (`deny_unknown_fields` on every one), takes its schema
//! from the same type's `Object`, and says which field is wrong. Only a body that was refused is looked at twice.
//!
//! A *missing* body without a `Content-Type` stands for `{}`, which is enough where every field is optional.

mod diagnose;
mod node;
mod response;
mod table;

pub use node::Node;
pub use response::{Created, CreatedOnce, DoneOnce, NoContent, Written};
pub use table::{Table, Tabular, WantsCsv, lines};

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use poem::http::header::CONTENT_TYPE;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::{Example, ToJSON, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::BATCH_ITEMS_MAX;
use crate::problem::{Code, Problem};

/// The media type of requests and answers.
pub const JSON: &str = "application/json";

/// What a body must be: it has a schema and an example, and serde writes it.
pub trait Documented: Type + ToJSON + Example + Serialize {}

impl<T: Type + ToJSON + Example + Serialize> Documented for T {}

/// Adds a body to the document, and makes sure that the document does not lie about it: its fields are named once for
/// serde, which reads and writes it, and once for poem-openapi, which documents it.
pub fn register<T: Documented>(registry: &mut Registry) {
    T::register(registry);
    debug_assert_eq!(serde_json::to_value(T::example()).ok(), T::example().to_json(), "{} is another", T::name());
}

/// As [`register`], for a body that is read: its example must be one that is accepted.
pub fn register_request<T: Documented + DeserializeOwned>(registry: &mut Registry) {
    register::<T>(registry);
    let example = serde_json::to_string(&T::example()).unwrap_or_default();
    debug_assert!(parse_object::<T>(&example).is_ok(), "{} would be refused: {example}", T::name());
    #[cfg(any(test, fuzzing))]
    crate::fuzzing::learn::<T>();
}

/// A JSON object as body: of a request, or of an answer with status 200.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<'a, T: Documented + DeserializeOwned> ApiExtractor<'a> for Json<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_request::<T>(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType { content_type: JSON, schema: T::schema_ref() }],
            required: parse_object::<T>("{}").is_err(),
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = take(body).await?;
        let text = match content_type(request)? {
            None if bytes.is_empty() => "{}",
            Some(JSON) => text(&bytes)?,
            _ => return Err(Problem::new(Code::UnsupportedMediaType).into()),
        };
        Ok(Self(parse_object(text)?))
    }
}

/// The whole body, which the outermost middleware has read and bounded already.
pub async fn take(body: &mut RequestBody) -> Result<Bytes, Problem> {
    let body = body.take().map_err(|error| Problem::internal(error.to_string()))?;
    body.into_bytes().await.map_err(|error| Problem::internal(error.to_string()))
}

/// The media type that came with the body, without parameters, in small letters where it is one of ours.
pub fn content_type(request: &Request) -> Result<Option<&'static str>, Problem> {
    const OURS: [&str; 3] = [JSON, crate::cloud_event::ONE, crate::cloud_event::MANY];
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return Ok(None) };
    let essence = value.to_str().ok().and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let ours = OURS.into_iter().find(|media_type| essence.eq_ignore_ascii_case(media_type));
    ours.map(Some).ok_or(Problem::new(Code::UnsupportedMediaType))
}

/// The body as text.
pub fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| Problem::malformed("The body is not UTF-8.".into()))
}

/// Reads an object.
pub fn parse_object<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    parse::<Object<T>>(text).map(|Object(value)| value)
}

/// Reads a value, and nothing after it.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Reads a value that borrows from the text; of well-formed JSON that is none, `expected` says what it must be.
pub fn parse_borrowed<'t, T: Deserialize<'t>>(text: &'t str, expected: &'static str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(
        |error| {
            if error.is_data() { Problem::invalid("", expected) } else { malformed(&error) }
        },
    )
}

/// What was wrong with a text that is no `T`.
#[cold]
fn explain<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> Problem {
    if text.trim_ascii().is_empty() {
        return Problem::invalid("", "a body is required");
    }
    match serde_json::from_str::<Node>(text) {
        Ok(node) => match diagnose::diagnose::<T>(&node) {
            Some(errors) => errors.into(),
            None => Problem::internal(format!("a body was refused and then accepted: {error}")),
        },
        Err(error) => malformed(&error),
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let detail = format!("The body is not well-formed JSON, or nested too deep: line {line}, column {column}.");
    Problem::malformed(detail.into())
}

/// Reads a JSON object into a struct. What serde derives would also take an array of the fields' values.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// For `#[serde(deserialize_with)]`: an optional struct inside a body, as an object.
pub fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// For `#[serde(deserialize_with)]`: an array of structs inside a body, each as an object; between 1 and as many as a
/// batch may have. Reading stops at the first one too many.
pub fn batch<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(BatchVisitor(PhantomData))
}

struct BatchVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BatchVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of 1 to {BATCH_ITEMS_MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        use serde::de::Error as _;
        let mut items = Vec::new();
        while let Some(Object(item)) = seq.next_element()? {
            if items.len() == BATCH_ITEMS_MAX {
                return Err(A::Error::invalid_length(BATCH_ITEMS_MAX + 1, &self));
            }
            items.push(item);
        }
        if items.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(items) }
    }
}

#[cfg(test)]
mod tests;
