//! `/v1/organizations/{organization_id}/events/stream`: an organization's balance, as it moves.

use multicredit_domain::{Balance, Movement};
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Example as _;
use poem_openapi::{ApiResponse, OpenApi};
use serde::Serialize;
use serde_json::json;

use super::ledger::{BalanceAfter, Line};
use crate::auth::{Auth, Tenant, scope};
use crate::live;
use crate::openapi::Tag;
use crate::param::{LastEventId, Path};
use crate::problem::{Failure, failures};

/// The balance with which a stream begins.
#[derive(Serialize)]
struct Beginning {
    sequence: i64,
    balance_after: BalanceAfter,
}

/// The data of the event with which a stream begins.
pub fn balance_event(sequence: i64, balance: Balance) -> String {
    json(&Beginning { sequence, balance_after: balance.into() })
}

/// The data of the event of a movement: its line of the ledger.
pub fn movement_event(movement: Movement) -> String {
    json(&Line::from(movement))
}

fn json(data: &impl Serialize) -> String {
    // Nothing that is written here can fail to be.
    serde_json::to_string(data).unwrap_or_default()
}

/// One event of the stream: what those who document streams, and those who check them, mean by its schema.
fn event_schema() -> MetaSchema {
    let text = |description| MetaSchema { description: Some(description), ..MetaSchema::new("string") };
    let names = ["balance", "movement"].map(Into::into).to_vec();
    let fields = [
        ("id", text("The `sequence` of the movement, to come back with.")),
        ("event", MetaSchema { enum_items: names, ..text("What `data` is.") }),
        ("data", text("JSON: `sequence` and `balance_after` in `balance`, a line of the ledger in `movement`.")),
    ];
    let example = json!({ "id": "2", "event": "movement", "data": json(&Line::example()) });
    MetaSchema {
        description: Some("One event. The stream is a series of them."),
        required: fields.iter().map(|(name, _)| *name).collect(),
        properties: fields.map(|(name, field)| (name, MetaSchemaRef::Inline(Box::new(field)))).to_vec(),
        example: Some(example),
        ..MetaSchema::new("object")
    }
}

/// An endless answer.
struct EventStream(Response);

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for EventStream {
    fn meta() -> MetaResponses {
        let schema = MetaSchemaRef::Inline(Box::new(event_schema()));
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Events, until the stream ends.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType { content_type: live::CONTENT_TYPE, schema }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Ledger")]
impl Api {
    /// Follow the balance
    ///
    /// Server-sent events: first `balance`, with the `sequence` of the last movement and the `balance_after` it, then a
    /// `movement` for each that follows, as the ledger lists it. The id of an event is the movement's `sequence`; with
    /// `Last-Event-ID` the stream goes on after that movement, without a gap, or begins with `balance` again where what
    /// followed is no longer kept. What expires or begins by time comes within seconds. A comment is sent every 15 seconds.
    /// The stream ends after five minutes, and when the server stops; come back with the last id, as browsers do by
    /// themselves. At most 32 streams of one organization are open at a time (429 `too_many_requests`), and 256 of all (503
    /// `overloaded`).
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/events/stream", method = "get", operation_id = "streamBalance")]
    async fn stream(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The id of the last event that was seen.
        #[oai(name = "Last-Event-ID")]
        last_event_id: LastEventId,
    ) -> Result<EventStream, Failure<failures::Streaming>> {
        let id = auth.organization(organization_id.0)?;
        Ok(EventStream(live::open(auth.context(), id, last_event_id.0).await?))
    }
}
