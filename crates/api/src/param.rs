//! Parameters of paths, query strings and headers, each a [`Text`] with its own schema and its own words when it is
//! wrong.
//!
//! poem-openapi's own extractors would put what was sent into their errors. Which query parameters an operation has is
//! known from its documentation; the router refuses all others before the handler runs ([`crate::router`]).

use std::sync::Arc;

use multicredit_domain::{
    ActionType, AlertRuleId, ApiKeyId, ConsumptionId, CreditType, EndpointId, EventId, GrantId, HoldId, IdempotencyKey,
    PlanCode, TopUpId,
};
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::problem::Problem;
use crate::wire::{KeyText, Text, UserId};

/// The header that makes a request safe to repeat.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// A text that can stand in a path.
pub trait Segment: Text {
    /// What errors call it; the same as in the operations' paths.
    const PARAMETER: &'static str;
}

impl Segment for ActionType {
    const PARAMETER: &'static str = "action_type";
}

impl Segment for AlertRuleId {
    const PARAMETER: &'static str = "alert_rule_id";
}

impl Segment for CreditType {
    const PARAMETER: &'static str = "credit_type";
}

impl Segment for TopUpId {
    const PARAMETER: &'static str = "top_up_id";
}

impl Segment for ApiKeyId {
    const PARAMETER: &'static str = "api_key_id";
}

impl Segment for ConsumptionId {
    const PARAMETER: &'static str = "consumption_id";
}

impl Segment for EndpointId {
    const PARAMETER: &'static str = "endpoint_id";
}

impl Segment for EventId {
    const PARAMETER: &'static str = "event_id";
}

impl Segment for GrantId {
    const PARAMETER: &'static str = "grant_id";
}

impl Segment for HoldId {
    const PARAMETER: &'static str = "hold_id";
}

impl Segment for PlanCode {
    const PARAMETER: &'static str = "code";
}

impl Segment for UserId {
    const PARAMETER: &'static str = "user_id";
}

/// A parameter of the path. (poem-openapi knows path parameters by this very name.)
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<'a, T: Segment> ApiExtractor<'a> for Path<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = true;

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Path)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(T::schema())))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        // The router leaves a parameter out that is not UTF-8 once its percent signs are resolved.
        let text = request.raw_path_param(options.name).unwrap_or_default();
        Ok(T::parse(text).map(Self).map_err(|reason| Problem::invalid(T::PARAMETER, reason))?)
    }
}

/// The query string, taken apart by the router, which has made sure that every name is known and there only once.
#[derive(Debug, Clone)]
pub struct QueryPairs(pub Arc<[(String, String)]>);

/// An optional parameter of the query string.
#[derive(Debug)]
pub struct Query<T>(pub Option<T>);

impl<'a, T: Text> ApiExtractor<'a> for Query<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(T::schema())))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let pairs = request.data::<QueryPairs>().map_or(&[][..], |pairs| &pairs.0);
        let Some((name, text)) = pairs.iter().find(|(name, _)| name == options.name) else { return Ok(Self(None)) };
        let value = T::parse(text).map_err(|reason| Problem::invalid(name.as_str(), reason))?;
        Ok(Self(Some(value)))
    }
}

/// The `Idempotency-Key` header, of operations where it counts.
#[derive(Debug)]
pub struct KeyHeader(pub Option<IdempotencyKey>);

impl<'a> ApiExtractor<'a> for KeyHeader {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(KeyText::schema())))
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
        Ok(Self(idempotency_key(request)?))
    }
}

/// The key that came with the request, if one did.
pub fn idempotency_key(request: &Request) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(IDEMPOTENCY_KEY, "must not be given twice"));
    }
    // A header can hold what is no text; as a key it is as wrong as an empty one.
    let key = IdempotencyKey::of_request(value.to_str().unwrap_or_default());
    key.map(Some).map_err(|error| Problem::invalid(IDEMPOTENCY_KEY, error.to_string()))
}

/// The `Last-Event-ID` header, of streams: the number of the last movement that was seen.
#[derive(Debug)]
pub struct LastEventId(pub Option<i64>);

/// The name of that header.
pub const LAST_EVENT_ID: &str = "Last-Event-ID";

impl<'a> ApiExtractor<'a> for LastEventId {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        let schema = MetaSchema { minimum: Some(0.0), ..MetaSchema::new_with_format("integer", "int64") };
        Some(MetaSchemaRef::Inline(Box::new(schema)))
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
        Ok(last_event_id(request).map(Self)?)
    }
}

/// The number of the last movement that whoever comes back has seen.
pub fn last_event_id(request: &Request) -> Result<Option<i64>, Problem> {
    let Some(value) = request.headers().get(LAST_EVENT_ID) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.map(Some).ok_or_else(|| Problem::invalid(LAST_EVENT_ID, "must be the id of an event of this stream"))
}

/// Refuses an `Idempotency-Key` header where keys stand in the items instead: it would look as if it counted.
#[derive(Debug)]
pub struct NoKeyHeader;

impl<'a> FromRequest<'a> for NoKeyHeader {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        if request.headers().contains_key(IDEMPOTENCY_KEY) {
            return Err(Problem::invalid(IDEMPOTENCY_KEY, "must stand in each item as idempotency_key").into());
        }
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(values: &[&str]) -> Result<Option<IdempotencyKey>, Problem> {
        let request = values.iter().fold(Request::builder(), |request, value| request.header(IDEMPOTENCY_KEY, *value));
        idempotency_key(&request.finish())
    }

    #[test]
    fn a_key_is_1_to_255_visible_characters_and_there_once() {
        assert_eq!(key_of(&[]).unwrap(), None);
        assert_eq!(key_of(&["k-1"]).unwrap(), Some(IdempotencyKey::of_request("k-1").unwrap()));
        for bad in [&[""][..], &["a b"], &["\u{e9}"], &[&"k".repeat(256)], &["a", "a"]] {
            assert!(key_of(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
