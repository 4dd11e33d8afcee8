//! What is sent: the body of a webhook, as the OpenAPI document describes it, from what the store has read.
//!
//! A body is a function of its event alone, so that it is the same on every attempt. `version` is that of the schema: what
//! is added to it leaves the number as it is, and receivers have to bear with fields that they do not know; whatever
//! takes something away or changes its meaning gets the next number.

use multicredit_domain::consume::Outcome;
use multicredit_domain::movement::Change;
use multicredit_domain::{
    ActionType, Actor, Consumption, Credits, Delta, EventId, EventType, Grant, GrantSource, Hold, HoldId, Metadata,
    Movement, MovementKind, Quantity, Timestamp,
};
use multicredit_store::{Event, EventDetail};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{Example, Type as _};
use poem_openapi::{Object, Union};
use serde::{Deserialize as _, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resource::example;
use crate::resource::raised_events::example_data as raised_example;
use crate::wire::{Shape, Wire};

/// The version of the schema.
pub const VERSION: u32 = 1;

/// The type of a test, which is no event and told to nobody else.
pub const TEST_TYPE: &str = "webhook.test";

/// An event, as a webhook tells it.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub struct WebhookEvent {
    /// What it is known by, as in the header `webhook-id`: the same however often it is told.
    id: Wire<EventId>,
    /// What it tells of.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    event_type: Wire<EventType>,
    /// The version of this schema. Fields may be added to it without notice.
    version: u32,
    /// When it happened.
    timestamp: Wire<Timestamp>,
    /// What there is to say, by `type`: `WebhookGrantData` (`grant.*`, `subscription.renewed`), `WebhookConsumptionData`
    /// (`credits.consumed`, `credits.refused`), `WebhookRefundData` (`credits.refunded`), `WebhookHoldData` (`hold.*`),
    /// `WebhookRaisedData` (`balance.*`, `topup.requested`).
    data: WebhookData,
}

/// What there is to say of an event.
#[derive(Debug, Serialize, Union)]
#[serde(untagged)]
enum WebhookData {
    Grant(GrantData),
    Consumption(ConsumptionData),
    Refund(RefundData),
    Hold(HoldData),
    Raised(Wire<RaisedData>),
}

/// What a movement changed.
#[derive(Debug, Serialize, Object)]
struct WebhookChange {
    /// Of what can be spent.
    available: Wire<Delta>,
    /// Of what is set aside.
    held: Wire<Delta>,
}

impl From<Change> for WebhookChange {
    fn from(change: Change) -> Self {
        Self { available: Wire(change.available), held: Wire(change.held) }
    }
}

/// Of a grant: `grant.created`, `grant.expired`, `grant.voided`, `subscription.renewed`.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "WebhookGrantData", example, skip_serializing_if_is_none)]
struct GrantData {
    /// The organization.
    organization_id: Wire<Uuid>,
    /// The movement's number in the organization's ledger.
    sequence: i64,
    /// The grant.
    grant_id: Wire<Uuid>,
    /// How much was granted.
    granted: Wire<Credits>,
    /// Where it came from.
    source: Wire<GrantSource>,
    /// From when it may be spent; of a plan's allowance, where the period begins.
    effective_at: Wire<Timestamp>,
    /// From when it may no longer be spent; of a plan's allowance, where the period ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Wire<Timestamp>>,
    /// The caller's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// What the movement changed: nothing yet, where it may be spent later only.
    change: WebhookChange,
    /// What could be spent right after it.
    available: Wire<Credits>,
}

/// Of credits that were spent, or were to be: `credits.consumed`, `credits.refused`.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "WebhookConsumptionData", skip_serializing_if_is_none)]
struct ConsumptionData {
    /// The organization.
    organization_id: Wire<Uuid>,
    /// The movement's number in the organization's ledger; a refused attempt has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<i64>,
    /// The consumption.
    consumption_id: Wire<Uuid>,
    /// What was done.
    action: Wire<ActionType>,
    /// How often, or how much.
    quantity: Wire<Quantity>,
    /// What was spent; nothing where it was refused.
    consumed: Wire<Credits>,
    /// Why it was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    /// What could be spent right after it; not of a refused attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<Wire<Credits>>,
    /// The hold that it was captured from.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_id: Option<Wire<Uuid>>,
    /// When it happened, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Wire<Timestamp>>,
    /// What was to be remembered with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Wire<Metadata>>,
    /// Who caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Wire<Actor>>,
}

/// Of credits that were given back: `credits.refunded`.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "WebhookRefundData", skip_serializing_if_is_none)]
struct RefundData {
    /// The organization.
    organization_id: Wire<Uuid>,
    /// The movement's number in the organization's ledger.
    sequence: i64,
    /// The consumption.
    consumption_id: Wire<Uuid>,
    /// What the movement changed.
    change: WebhookChange,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What could be spent right after it.
    available: Wire<Credits>,
}

/// Of a hold: `hold.placed`, `hold.captured`, `hold.released`, `hold.expired`.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "WebhookHoldData", skip_serializing_if_is_none)]
struct HoldData {
    /// The organization.
    organization_id: Wire<Uuid>,
    /// The movement's number in the organization's ledger.
    sequence: i64,
    /// The hold.
    hold_id: Wire<Uuid>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Wire<ActionType>>,
    /// How much of it was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<Wire<Quantity>>,
    /// What it was captured as.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumption_id: Option<Wire<Uuid>>,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Wire<Actor>>,
    /// What the movement changed.
    change: WebhookChange,
    /// What could be spent right after it.
    available: Wire<Credits>,
}

/// Of a rule that found something: `balance.low`, `balance.depleted`, `balance.recovered`, `topup.requested`.
#[derive(Debug, Clone)]
struct RaisedData(Map<String, Value>);

impl RaisedData {
    fn of(organization_id: Uuid, found: &Value) -> Self {
        let mut data = Map::from_iter([("organization_id".to_owned(), json!(organization_id))]);
        data.extend(found.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        Self(data)
    }
}

impl Shape for RaisedData {
    const NAME: &'static str = "WebhookRaisedData";
    const IS_COMPONENT: bool = true;

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some("The `organization_id`, and what `RaisedEventData` has."),
            required: vec!["organization_id"],
            properties: vec![("organization_id", Wire::<Uuid>::schema_ref())],
            additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
            example: serde_json::to_value(Self::of(example::ORGANIZATION_ID.uuid(), &raised_example()).0).ok(),
            ..MetaSchema::new("object")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl From<&Event> for WebhookEvent {
    fn from(event: &Event) -> Self {
        let organization_id = Wire(event.organization_id.uuid());
        let data = match &event.detail {
            EventDetail::Grant(it) => WebhookData::Grant(GrantData::of(organization_id, &it.0, &it.1)),
            EventDetail::Consumption(it) => WebhookData::Consumption(ConsumptionData::of(organization_id, it)),
            EventDetail::Refund(movement) => WebhookData::Refund(RefundData::of(organization_id, movement)),
            EventDetail::Hold(it) => WebhookData::Hold(HoldData::of(organization_id, (&it.0, it.1, it.2.as_ref()))),
            EventDetail::Raised(found) => WebhookData::Raised(Wire(RaisedData::of(organization_id.0, found))),
        };
        Self {
            id: Wire(event.id.clone()),
            event_type: Wire(event.event_type),
            version: VERSION,
            timestamp: Wire(event.occurred_at),
            data,
        }
    }
}

impl GrantData {
    fn of(organization_id: Wire<Uuid>, movement: &Movement, Grant { lot, reference }: &Grant) -> Self {
        Self {
            organization_id,
            sequence: movement.sequence,
            grant_id: Wire(lot.id.uuid()),
            granted: Wire(lot.granted),
            source: Wire(lot.source),
            effective_at: Wire(lot.validity.effective_at),
            expires_at: lot.validity.expires_at.map(Wire),
            reference: reference.clone(),
            change: movement.change.into(),
            available: Wire(movement.balance_after.available),
        }
    }
}

impl ConsumptionData {
    fn of(organization_id: Wire<Uuid>, consumption: &Consumption) -> Self {
        let (sequence, available, error_code) = match &consumption.outcome {
            Outcome::Spent { sequence, available } => (Some(*sequence), Some(Wire(*available)), None),
            Outcome::Refused { error_code } => (None, None, Some(error_code.clone())),
        };
        let request = consumption.request.clone();
        Self {
            organization_id,
            sequence,
            consumption_id: Wire(consumption.id.uuid()),
            action: Wire(request.action),
            quantity: Wire(request.quantity),
            consumed: Wire(consumption.consumed),
            error_code,
            available,
            hold_id: consumption.hold_id.map(|id| Wire(id.uuid())),
            occurred_at: request.occurred_at.map(Wire),
            metadata: request.metadata.map(Wire),
            actor: request.actor.map(Wire),
        }
    }
}

impl RefundData {
    fn of(organization_id: Wire<Uuid>, movement: &Movement) -> Self {
        Self {
            organization_id,
            sequence: movement.sequence,
            consumption_id: Wire(movement.reference.unwrap_or_default()),
            change: movement.change.into(),
            reason: movement.note.clone(),
            available: Wire(movement.balance_after.available),
        }
    }
}

impl HoldData {
    fn of(organization_id: Wire<Uuid>, (movement, hold_id, hold): (&Movement, HoldId, Option<&Hold>)) -> Self {
        let is_capture = movement.kind == MovementKind::Capture;
        Self {
            organization_id,
            sequence: movement.sequence,
            hold_id: Wire(hold_id.uuid()),
            action: hold.map(|hold| Wire(hold.action.clone())),
            quantity: hold.map(|hold| Wire(hold.quantity)),
            consumption_id: movement.reference.filter(|_| is_capture).map(Wire),
            actor: hold.and_then(|hold| hold.actor.clone()).map(Wire),
            change: movement.change.into(),
            available: Wire(movement.balance_after.available),
        }
    }
}

impl Example for GrantData {
    fn example() -> Self {
        let granted = example::credits(10_000, 500);
        Self {
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            sequence: 1,
            grant_id: Wire(example::GRANT_ID),
            granted: Wire(granted),
            source: Wire(GrantSource::Purchase),
            effective_at: example::time(),
            expires_at: None,
            reference: Some("invoice-4711".to_owned()),
            change: WebhookChange { available: Wire(Delta::between(Credits::ZERO, granted)), held: Wire(Delta::ZERO) },
            available: Wire(granted),
        }
    }
}

impl Example for WebhookEvent {
    fn example() -> Self {
        let ids = EventId::of_movement(example::ORGANIZATION_ID, 1, MovementKind::Grant);
        let (id, event_type) = ids.last().expect("a grant makes an event");
        Self {
            id: Wire(id),
            event_type: Wire(event_type),
            version: VERSION,
            timestamp: example::time(),
            data: WebhookData::Grant(GrantData::example()),
        }
    }
}

/// The body that tells of an event.
pub fn body(event: &Event) -> Vec<u8> {
    written(&WebhookEvent::from(event))
}

/// The body of a test.
pub fn test_body(id: &str, endpoint_id: Uuid, at: Timestamp) -> Vec<u8> {
    let data = json!({ "endpoint_id": endpoint_id });
    written(&json!({ "id": id, "type": TEST_TYPE, "version": VERSION, "timestamp": Wire(at), "data": data }))
}

fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what has no maps but those of JSON can be written as JSON")
}

#[cfg(test)]
mod tests {
    use multicredit_domain::OrganizationId;

    use super::*;

    #[test]
    fn what_is_told_says_what_it_is_and_of_which_version() {
        let organization_id = OrganizationId::new(example::ORGANIZATION_ID.uuid());
        let event = Event {
            id: EventId::of_raised(organization_id, 3),
            event_type: EventType::BalanceLow,
            organization_id,
            occurred_at: example::time().0,
            detail: EventDetail::Raised(json!({ "available": 1 })),
        };
        let told: Value = serde_json::from_slice(&body(&event)).unwrap();
        let expected = json!({
            "id": "evt_0199a3d27c507b2e8a415f0c9d3e1b27_r3",
            "type": "balance.low",
            "version": 1,
            "timestamp": "2026-11-22T09:30:00.123456Z",
            "data": { "organization_id": example::ORGANIZATION_ID, "available": 1 },
        });
        assert_eq!(told, expected);
        assert_eq!(body(&event), body(&event));
    }
}
