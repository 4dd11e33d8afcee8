//! CloudEvents 1.0 in JSON, as consumptions.
//!
//! `type` is the action, `subject` the organization's `external_id`, `source` and `id` together the idempotency key,
//! `time` the instant at which it happened, and `data` says how much. Context and extension attributes that are not ours
//! are accepted and ignored (specification, section 3.1: consumers must tolerate extensions); `data` is ours, and a field
//! in it that we do not know is an error. `POST /v1/events` and `multicredit import` both read events here.

use multicredit_domain::idempotency::MAX_EVENT_TEXT_CHARS;
use multicredit_domain::{
    ActionType, Actor, Consume, ExternalId, IdempotencyKey, Metadata, OrganizationId, Quantity, Timestamp,
};
use multicredit_store::ConsumeItem;
use poem_openapi::Object;
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::occurrence::OccurrenceWindow;
use crate::payload::{self, optional_object};
use crate::problem::{FieldErrors, Problem};
use crate::wire::{Line, Reason, Text, Wire};

/// The media type of one event.
pub const ONE: &str = "application/cloudevents+json";

/// The media type of an array of events.
pub const MANY: &str = "application/cloudevents-batch+json";

/// The version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecVersion;

impl Text for SpecVersion {
    const NAME: &'static str = "SpecVersion";

    fn schema() -> MetaSchema {
        crate::wire::one_of(["1.0"].into_iter(), "The version of the CloudEvents specification.")
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        if text == "1.0" { Ok(Self) } else { Err(crate::wire::not_one_of(["1.0"].into_iter())) }
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("1.0")
    }
}

/// A CloudEvent that reports a consumption. Other context and extension attributes are accepted and ignored.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Object)]
#[serde(expecting = "an object")]
#[oai(example, skip_serializing_if_is_none)]
pub struct CloudEvent {
    specversion: Wire<SpecVersion>,
    /// With `source` the idempotency key: an event that is sent again is charged once.
    id: Wire<Line<MAX_EVENT_TEXT_CHARS>>,
    /// Where it came from.
    source: Wire<Line<MAX_EVENT_TEXT_CHARS>>,
    /// The action.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    action: Wire<ActionType>,
    /// The organization's `external_id`.
    subject: Wire<ExternalId>,
    /// When it happened: at most 35 days past and 5 minutes ahead. Only reports use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Wire<Timestamp>>,
    /// How much, and what to remember.
    #[serde(default, deserialize_with = "optional_object", skip_serializing_if = "Option::is_none")]
    data: Option<EventData>,
    /// Data in another encoding than JSON, which cannot be read.
    #[serde(default, deserialize_with = "no_binary_data", skip_serializing)]
    #[oai(skip)]
    data_base64: (),
}

/// The data of an event.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "CloudEventData", skip_serializing_if_is_none)]
pub struct EventData {
    /// How often, or how much.
    #[serde(default)]
    #[oai(default)]
    quantity: Wire<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Wire<Metadata>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Wire<Actor>>,
}

fn no_binary_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::<IgnoredAny>::deserialize(deserializer)? {
        None => Ok(()),
        Some(_) => Err(serde::de::Error::custom("must not be given: send JSON in data")),
    }
}

impl CloudEvent {
    /// Reads one event.
    pub fn parse(json: &str) -> Result<Self, FieldErrors> {
        payload::parse_object(json).map_err(Problem::into_field_errors)
    }

    /// What the customer's system calls the organization.
    pub const fn subject(&self) -> &ExternalId {
        &self.subject.0
    }

    /// The consumption that the event reports, of the organization that its subject stands for.
    pub fn into_item(
        self,
        organization_id: OrganizationId,
        window: OccurrenceWindow,
    ) -> Result<ConsumeItem, FieldErrors> {
        let occurred_at = window.check("time", self.time.map(|Wire(time)| time))?;
        let key = IdempotencyKey::of_event(self.source.0.as_str(), self.id.0.as_str())
            .map_err(|error| FieldErrors::one("id", error.to_string()))?;
        let EventData { quantity, metadata, actor } = self.data.unwrap_or_default();
        let request = Consume {
            action: self.action.0,
            quantity: quantity.0,
            occurred_at,
            metadata: metadata.map(|Wire(metadata)| metadata),
            actor: actor.map(|Wire(actor)| actor),
        };
        Ok(ConsumeItem { organization_id, request, key: Some(key) })
    }
}

impl Example for CloudEvent {
    fn example() -> Self {
        use crate::resource::example;
        Self {
            specversion: Wire(SpecVersion),
            id: example::text("evt-2026-11-22-000017"),
            source: example::text("/chat/eu-1"),
            action: example::text("ai_tokens"),
            subject: example::text("acme-eu"),
            time: Some(example::text("2026-11-22T09:30:00Z")),
            data: Some(EventData {
                quantity: example::quantity(4818),
                metadata: None,
                actor: Some(example::text("user-42")),
            }),
            data_base64: (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"sms","subject":"acme"}"#;

    fn item(json: &str) -> Result<ConsumeItem, FieldErrors> {
        let now = Timestamp::from_timestamp_micros(1_763_800_000_000_000).unwrap();
        let id = OrganizationId::new(uuid::Uuid::from_u128(1));
        CloudEvent::parse(json)?.into_item(id, OccurrenceWindow::around(now))
    }

    fn with(field: &str) -> String {
        format!("{},{field}}}", MINIMAL.trim_end_matches('}'))
    }

    #[test]
    fn an_event_is_a_consumption_under_the_key_of_its_source_and_id() {
        let minimal = item(MINIMAL).unwrap();
        assert_eq!(minimal.request.action.as_str(), "sms");
        assert_eq!((minimal.request.quantity, minimal.request.occurred_at), (Quantity::ONE, None));
        assert_eq!(minimal.key, Some(IdempotencyKey::of_event("/s", "1").unwrap()));
        let full = item(&with(r#""data":{"quantity":7,"actor":"u","metadata":{"a":1}},"time":"2025-11-22T08:26:40Z""#))
            .unwrap();
        assert_eq!(full.request.quantity.get(), 7);
        assert_eq!(full.request.actor.unwrap().as_str(), "u");
        assert_eq!(full.request.metadata.unwrap().to_json(), r#"{"a":1}"#);
        assert!(full.request.occurred_at.is_some());
    }

    #[test]
    fn attributes_of_others_are_ignored_and_data_is_ours() {
        for good in [
            r#""datacontenttype":"application/json","traceparent":"00-a-b-01","comexample":5,"other":[1]"#,
            r#""data":null,"time":null,"data_base64":null"#,
            r#""data":{}"#,
        ] {
            assert!(item(&with(good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_field() {
        let field = |json: &str| item(json).unwrap_err().as_slice()[0].field.clone();
        assert_eq!(field(&MINIMAL.replace("1.0", "0.3")), "specversion");
        assert_eq!(field(&MINIMAL.replace(r#","subject":"acme""#, "")), "subject");
        assert_eq!(field(&MINIMAL.replace(r#""id":"1""#, r#""id":"""#)), "id");
        assert_eq!(field(&MINIMAL.replace("sms", "s m s")), "type");
        assert_eq!(field(&with(r#""time":"2020-01-01T00:00:00Z""#)), "time");
        assert_eq!(field(&with(r#""data":{"quantity":0}"#)), "data.quantity");
        assert_eq!(field(&with(r#""data":{"price":1}"#)), "data.price");
        assert_eq!(field(&with(r#""data":[1]"#)), "data");
        assert_eq!(field(&with(r#""data":"<x/>""#)), "data");
        assert_eq!(field(&with(r#""data_base64":"AA==""#)), "data_base64");
        assert_eq!(field(&with(r#""subject":"other""#)), "subject");
        assert_eq!(field("[]"), "");
    }
}
