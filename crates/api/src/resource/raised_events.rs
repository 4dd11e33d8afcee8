//! `/v1/organizations/{organization_id}/events`: what was told of an organization that is no movement of credits.

use multicredit_domain::{EventId, EventType, Timestamp};
use multicredit_store::{Page as StorePage, PageRequest, RaisedEvent};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize as _, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::{example, exists};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page, RaisedPosition};
use crate::param::{Path, Query};
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::{Shape, Wire};

/// What an event tells, by its type.
#[derive(Debug, Clone)]
struct Data(Value);

impl Shape for Data {
    const NAME: &'static str = "RaisedEventData";
    const IS_COMPONENT: bool = true;

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some(
                "What is told. Of `balance.low`, `balance.depleted` and `balance.recovered`: `rule_id`, `rule_name`, \
                 `measure`, `threshold`, `recover_at`, `credit_type`, what was `available` then and, but for forecasts, \
                 the `sequence` of the movement that made it so, with its `consumption_id` if it was one; `last_grant` of \
                 shares; `runs_out_at` of forecasts. Of `topup.requested`: `top_up_id`, `credit_type`, the `amount` asked \
                 for, what was `available` after the movement `sequence`, `threshold`, and until when an answer is waited \
                 for (`expires_at`). Later versions may tell more.",
            ),
            additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
            example: Some(example_data()),
            ..MetaSchema::new("object")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What is told of a balance that is low.
pub fn example_data() -> Value {
    json!({
        "rule_id": example::ALERT_RULE_ID,
        "rule_name": "AI credits run low",
        "measure": "amount",
        "threshold": 1_000,
        "recover_at": 2_000,
        "credit_type": "ai",
        "available": 998,
        "sequence": 4_711,
        "consumption_id": example::CONSUMPTION_ID,
    })
}

/// An event.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "RaisedEvent", example)]
struct Raised {
    /// What it is known by, wherever it is told.
    id: String,
    /// Its number among those of the organization, without gaps from 1.
    number: i64,
    /// What it tells of: `balance.low`, `balance.depleted`, `balance.recovered` or `topup.requested`.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    event_type: String,
    /// When that was.
    occurred_at: Wire<Timestamp>,
    /// What is told.
    data: Wire<Data>,
}

impl From<RaisedEvent> for Raised {
    fn from(event: RaisedEvent) -> Self {
        Self {
            id: EventId::of_raised(event.organization_id, event.number).to_string(),
            number: event.number,
            event_type: event.event_type,
            occurred_at: Wire(event.occurred_at),
            data: Wire(Data(event.data)),
        }
    }
}

impl Example for Raised {
    fn example() -> Self {
        Self {
            id: EventId::of_raised(example::ORGANIZATION_ID, 3).to_string(),
            number: 3,
            event_type: EventType::BalanceLow.as_str().to_owned(),
            occurred_at: example::time(),
            data: Wire(Data(example_data())),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Alerts")]
impl Api {
    /// List raised events
    ///
    /// What alert rules told and top-up rules asked for, newest first. What moved credits is in the ledger.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/events", method = "get", operation_id = "listRaisedEvents")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Raised>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let PageRequest { after, limit } = page::request::<RaisedPosition>(limit, cursor)?;
        let wanted = PageRequest { after: after.map(|RaisedPosition(number)| number), limit };
        let found = auth.store().raised_events(id, wanted).await?;
        exists(&auth, id, &found.items).await?;
        let found = StorePage { items: found.items, next: found.next.map(RaisedPosition) };
        Ok(Json(Page::of(found, Raised::from)))
    }
}
