//! `/v1/webhook-endpoints/{endpoint_id}/deliveries`: what was sent and what became of it, and sending by hand.

use multicredit_domain::webhook::Verdict;
use multicredit_domain::{DeliveryId, EndpointId, EventId, EventPlace, EventType, OrganizationId, Timestamp};
use multicredit_store::{Delivery, DeliveryFilter, DeliveryOutcome, DeliveryReason, NewDelivery, WebhookEndpoint};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::webhook_endpoints::seen;
use super::{example, unknown_thing};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Created, Json};
use crate::problem::{Failure, Problem, failures};
use crate::webhook::courier::{Letter, Sent};
use crate::webhook::payload::{self, TEST_TYPE};
use crate::wire::Wire;

/// An attempt to deliver a webhook.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "WebhookDelivery", example)]
struct Line {
    id: Wire<Uuid>,
    /// The endpoint.
    endpoint_id: Wire<Uuid>,
    /// Whose event; `null` of a test.
    #[oai(nullable)]
    organization_id: Option<Wire<Uuid>>,
    /// The event: the header `webhook-id`.
    event_id: String,
    /// Its type, or `webhook.test`.
    event_type: String,
    /// Why it was sent.
    reason: Wire<DeliveryReason>,
    /// How often it had been tried, with this time.
    attempt: u32,
    /// What became of it.
    outcome: Wire<DeliveryOutcome>,
    /// The status of the answer; `null` if there was none.
    #[oai(nullable)]
    status_code: Option<u16>,
    /// Why it did not arrive; `null` if it did.
    #[oai(nullable)]
    error: Option<String>,
    /// How long it took, in milliseconds.
    duration_ms: i64,
    /// When it ended.
    created_at: Wire<Timestamp>,
}

impl From<Delivery> for Line {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: Wire(delivery.id.uuid()),
            endpoint_id: Wire(delivery.endpoint_id.uuid()),
            organization_id: delivery.organization_id.map(|id| Wire(id.uuid())),
            event_id: delivery.event_id,
            event_type: delivery.event_type,
            reason: Wire(delivery.reason),
            attempt: delivery.attempt,
            outcome: Wire(delivery.outcome),
            status_code: delivery.status_code,
            error: delivery.error,
            duration_ms: delivery.duration_ms,
            created_at: Wire(delivery.created_at),
        }
    }
}

impl Example for Line {
    fn example() -> Self {
        Self {
            id: Wire(example::DELIVERY_ID),
            endpoint_id: Wire(example::ENDPOINT_ID),
            organization_id: Some(Wire(example::ORGANIZATION_ID.uuid())),
            event_id: "evt_0199a3d27c507b2e8a415f0c9d3e1b27_1_0".to_owned(),
            event_type: EventType::GrantCreated.as_str().to_owned(),
            reason: Wire(DeliveryReason::Event),
            attempt: 1,
            outcome: Wire(DeliveryOutcome::Delivered),
            status_code: Some(204),
            error: None,
            duration_ms: 31,
            created_at: example::time(),
        }
    }
}

/// An event to send again.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "WebhookRedelivery", example, skip_serializing_if_is_none)]
struct Redelivery {
    /// The event: the header `webhook-id`.
    event_id: Wire<EventId>,
    /// Whose event. May be left out where the endpoint is of one organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Wire<Tenant>>,
}

impl Example for Redelivery {
    fn example() -> Self {
        Self {
            event_id: example::text("evt_0199a3d27c507b2e8a415f0c9d3e1b27_1_0"),
            organization_id: Some(Wire(Tenant::example())),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Webhooks")]
impl Api {
    /// List what was sent to an endpoint of webhooks
    ///
    /// Every attempt, newest first, for 30 days.
    ///
    /// Scope: `read`.
    #[oai(path = "/webhook-endpoints/:endpoint_id/deliveries", method = "get", operation_id = "listWebhookDeliveries")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the query string")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
        /// Only about events of that organization.
        organization_id: Query<Tenant>,
        /// Only those that ended so.
        outcome: Query<DeliveryOutcome>,
        /// Only of that event.
        event_id: Query<EventId>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Line>>, Failure<failures::Reading>> {
        let endpoint = seen(&auth, endpoint_id.0).await?;
        let filter = DeliveryFilter {
            organization_id: organization_id.0.map(|tenant| auth.organization(tenant)).transpose()?,
            outcome: outcome.0,
            event_id: event_id.0.map(|id| id.as_str().to_owned()),
        };
        let wanted = page::request::<DeliveryId>(limit, cursor)?;
        let found = auth.store().webhook_deliveries(endpoint.id, filter, wanted).await?;
        Ok(Json(Page::of(found, Line::from)))
    }

    /// Send an event again
    ///
    /// At once, once, whatever the endpoint's filter says and whether it is enabled or not; the answer says what became of
    /// it. The `webhook-id` is the same as before.
    ///
    /// Scope: `admin`.
    #[oai(path = "/webhook-endpoints/:endpoint_id/redeliver", method = "post", operation_id = "redeliverEvent")]
    async fn redeliver(
        &self,
        auth: Auth<scope::Admin>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
        body: Json<Redelivery>,
    ) -> Result<Created<Line>, Failure<failures::Rehooking>> {
        let endpoint = seen(&auth, endpoint_id.0).await?;
        let Redelivery { event_id: Wire(event_id), organization_id } = body.0;
        let organization_id = match organization_id {
            Some(Wire(tenant)) => Some(auth.organization(tenant)?),
            None => endpoint.organization_id.or(event_id.place().and_then(EventPlace::organization_id)),
        };
        let Some(organization_id) = organization_id else {
            return Err(
                Problem::invalid("organization_id", "is required for an event that does not say whose it is").into()
            );
        };
        let is_told = endpoint.organization_id.is_none_or(|own| own == organization_id);
        let found = if is_told { auth.store().event(organization_id, &event_id).await? } else { None };
        let Some(event) = found else { return Err(unknown_thing(&auth, organization_id).await.into()) };
        let letter = Content {
            organization_id: Some(organization_id),
            event_id: event.id.as_str().to_owned(),
            event_type: event.event_type.as_str(),
            reason: DeliveryReason::Redelivery,
            body: payload::body(&event),
        };
        Ok(Created(send(&auth, endpoint, letter).await?))
    }

    /// Send a test to an endpoint of webhooks
    ///
    /// At once, once, with the type `webhook.test`; the answer says what became of it.
    ///
    /// Scope: `admin`.
    #[oai(path = "/webhook-endpoints/:endpoint_id/test", method = "post", operation_id = "testWebhookEndpoint")]
    async fn test(
        &self,
        auth: Auth<scope::Admin>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
    ) -> Result<Created<Line>, Failure<failures::Rehooking>> {
        let endpoint = seen(&auth, endpoint_id.0).await?;
        let now = auth.store().now().await?;
        let event_id = format!("test_{}", auth.context().request_id().as_str().replace(['.', '-'], ""));
        let letter = Content {
            organization_id: None,
            event_type: TEST_TYPE,
            reason: DeliveryReason::Test,
            body: payload::test_body(&event_id, endpoint.id.uuid(), now),
            event_id,
        };
        Ok(Created(send(&auth, endpoint, letter).await?))
    }
}

/// What is sent by hand.
struct Content {
    organization_id: Option<OrganizationId>,
    event_id: String,
    event_type: &'static str,
    reason: DeliveryReason,
    body: Vec<u8>,
}

async fn send<R>(auth: &Auth<R>, endpoint: WebhookEndpoint, content: Content) -> Result<Line, Problem> {
    let at = auth.store().now().await?;
    let letter = Letter { id: &content.event_id, body: &content.body, at };
    let Sent { verdict, status, error, took } = auth.context().state().courier.send(&endpoint, letter).await;
    let outcome = match verdict {
        Verdict::Delivered => DeliveryOutcome::Delivered,
        Verdict::Failed => DeliveryOutcome::Failed,
        Verdict::Gone => DeliveryOutcome::Gone,
    };
    auth.store().stats().webhooks.sent(outcome, took);
    let new = NewDelivery {
        organization_id: content.organization_id,
        endpoint_id: endpoint.id,
        event_id: content.event_id,
        event_type: content.event_type.to_owned(),
        reason: content.reason,
        attempt: 1,
        outcome,
        status_code: status,
        error,
        duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
    };
    let made = auth.acting().record_manual_delivery(endpoint.organization_id, new).await?;
    if outcome == DeliveryOutcome::Gone {
        auth.acting().disable_gone_endpoint(endpoint.id).await?;
    }
    Ok(made.into())
}
