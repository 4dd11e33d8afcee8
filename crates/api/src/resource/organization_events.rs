//! `/v1/organizations/{organization_id}/events/{event_id}`: what webhooks tell, one at a time.

use multicredit_domain::EventId;
use poem_openapi::OpenApi;

use super::unknown_thing;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::Path;
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::webhook::payload::WebhookEvent;

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Webhooks")]
impl Api {
    /// Read an event
    ///
    /// What a webhook of that id tells, be there an endpoint or not. Its data is a `WebhookGrantData`,
    /// `WebhookConsumptionData`, `WebhookRefundData`, `WebhookHoldData` or `WebhookRaisedData`, by its type.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/events/:event_id", method = "get", operation_id = "getEvent")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The event: the header `webhook-id`.
        event_id: Path<EventId>,
    ) -> Result<Json<WebhookEvent>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        match auth.store().event(id, &event_id.0).await? {
            Some(event) => Ok(Json(WebhookEvent::from(&event))),
            None => Err(unknown_thing(&auth, id).await.into()),
        }
    }
}
