//! `/v1/webhook-endpoints`: where events are sent, and by which secrets the receiver knows that they are from here.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use chrono::TimeDelta;
use multicredit_domain::webhook::{EventFilter, WebhookSecret};
use multicredit_domain::{EndpointId, EventType, OrganizationId, Timestamp};
use multicredit_store::{NewWebhookEndpoint, WebhookEndpoint, WebhookEndpointUpdate};
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::limits::{WEBHOOK_ROTATION_SECONDS_DEFAULT, WEBHOOK_ROTATION_SECONDS_MAX, WEBHOOK_URL_MAX_BYTES};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Created, Json, NoContent};
use crate::problem::{Code, Failure, Problem, failures};
use crate::webhook::target::Target;
use crate::wire::{Line, Reason, Shape, Text, Wire};

/// The longest description of an endpoint, in characters.
const DESCRIPTION_MAX_CHARS: usize = 200;

/// The URL of an endpoint, as far as it can be judged without asking anybody.
#[derive(Debug, Clone)]
struct Url(String);

impl Text for Url {
    const NAME: &'static str = "WebhookUrl";

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some(
                "An absolute URL of `https` or `http` without user, password and fragment. Its host must have a public \
                 address whenever something is sent.",
            ),
            max_length: Some(WEBHOOK_URL_MAX_BYTES),
            example: Some("https://example.com/webhooks/credits".into()),
            ..MetaSchema::new_with_format("string", "uri")
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        Target::parse(text).map_err(|error| Cow::Owned(error.to_string()))?;
        Ok(Self(text.to_owned()))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How long a secret that was replaced still signs as well, in seconds.
#[derive(Debug, Clone, Copy)]
struct Grace(i64);

impl Shape for Grace {
    const NAME: &'static str = "WebhookRotationSeconds";

    fn schema() -> MetaSchema {
        const _: () = assert!(WEBHOOK_ROTATION_SECONDS_MAX == 604_800, "the schema names this limit");
        MetaSchema {
            minimum: Some(0.0),
            maximum: Some(604_800.0),
            example: Some(WEBHOOK_ROTATION_SECONDS_DEFAULT.into()),
            ..MetaSchema::new_with_format("integer", "int64")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = i64::deserialize(deserializer)?;
        if (0..=WEBHOOK_ROTATION_SECONDS_MAX).contains(&seconds) {
            return Ok(Self(seconds));
        }
        Err(serde::de::Error::custom(format_args!("must be a whole number from 0 to {WEBHOOK_ROTATION_SECONDS_MAX}")))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

const fn a_day() -> Wire<Grace> {
    Wire(Grace(WEBHOOK_ROTATION_SECONDS_DEFAULT))
}

/// An endpoint to make.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "NewWebhookEndpoint", example, skip_serializing_if_is_none)]
struct NewEndpoint {
    /// Where events are sent.
    url: Wire<Url>,
    /// Whose events. Left out, it is those of all organizations, or of the one that the key is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Wire<Tenant>>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Wire<Line<DESCRIPTION_MAX_CHARS>>>,
    /// Which events, each once. Left out, it is all but `credits.consumed`, those of later releases included.
    #[serde(default, deserialize_with = "some_events", skip_serializing_if = "Option::is_none")]
    #[oai(validator(min_items = "1", unique_items))]
    events: Option<Vec<Wire<EventType>>>,
}

fn some_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Wire<EventType>>>, D::Error> {
    let events = Option::<Vec<Wire<EventType>>>::deserialize(deserializer)?;
    let different = |events: &Vec<Wire<EventType>>| events.iter().map(|Wire(event)| *event).collect::<BTreeSet<_>>();
    if events.as_ref().is_some_and(|events| events.is_empty() || different(events).len() < events.len()) {
        return Err(serde::de::Error::custom("must hold at least one type of events, and each once"));
    }
    Ok(events)
}

fn filter(events: Option<Vec<Wire<EventType>>>) -> Option<EventFilter> {
    events.map(|events| EventFilter::Only(events.into_iter().map(|Wire(event)| event).collect()))
}

impl Example for NewEndpoint {
    fn example() -> Self {
        Self {
            url: example::text("https://example.com/webhooks/credits"),
            organization_id: Some(Wire(Tenant::example())),
            description: Some(example::text("billing")),
            events: Some(vec![Wire(EventType::GrantCreated), Wire(EventType::CreditsRefused)]),
        }
    }
}

/// What to change of an endpoint. What is left out stays as it is.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "WebhookEndpointUpdate", example, skip_serializing_if_is_none)]
struct Update {
    /// Where events are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Wire<Url>>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Wire<Line<DESCRIPTION_MAX_CHARS>>>,
    /// Which events, each once.
    #[serde(default, deserialize_with = "some_events", skip_serializing_if = "Option::is_none")]
    #[oai(validator(min_items = "1", unique_items))]
    events: Option<Vec<Wire<EventType>>>,
    /// Whether anything is sent. What happens while nothing is, is sent afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
}

impl Example for Update {
    fn example() -> Self {
        let events = vec![Wire(EventType::GrantCreated), Wire(EventType::CreditsConsumed)];
        Self { url: None, description: None, events: Some(events), enabled: None }
    }
}

/// An endpoint, without its secret.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "WebhookEndpoint", example)]
struct Endpoint {
    id: Wire<Uuid>,
    /// Whose events; `null` is those of all organizations.
    #[oai(nullable)]
    organization_id: Option<Wire<Uuid>>,
    /// Where events are sent.
    url: String,
    /// What people call it.
    #[oai(nullable)]
    description: Option<String>,
    /// Which events; `null` is all but `credits.consumed`.
    #[oai(nullable)]
    events: Option<Vec<Wire<EventType>>>,
    /// Whether anything is sent.
    enabled: bool,
    /// Whether nothing is because the receiver answered 410.
    gone: bool,
    /// Since when the secret is what it is.
    secret_created_at: Wire<Timestamp>,
    /// When it was made.
    created_at: Wire<Timestamp>,
    /// When it was changed.
    updated_at: Wire<Timestamp>,
}

impl From<WebhookEndpoint> for Endpoint {
    fn from(endpoint: WebhookEndpoint) -> Self {
        let events = match endpoint.events {
            EventFilter::Usual => None,
            EventFilter::Only(events) => Some(events.into_iter().map(Wire).collect()),
        };
        Self {
            id: Wire(endpoint.id.uuid()),
            organization_id: endpoint.organization_id.map(|id| Wire(id.uuid())),
            url: endpoint.url,
            description: endpoint.description,
            events,
            enabled: endpoint.enabled,
            gone: endpoint.is_gone,
            secret_created_at: Wire(endpoint.secret_made_at),
            created_at: Wire(endpoint.created_at),
            updated_at: Wire(endpoint.updated_at),
        }
    }
}

impl Example for Endpoint {
    fn example() -> Self {
        Self {
            id: Wire(example::ENDPOINT_ID),
            organization_id: Some(Wire(example::ORGANIZATION_ID.uuid())),
            url: "https://example.com/webhooks/credits".to_owned(),
            description: Some("billing".to_owned()),
            events: Some(vec![Wire(EventType::GrantCreated), Wire(EventType::CreditsRefused)]),
            enabled: true,
            gone: false,
            secret_created_at: example::time(),
            created_at: example::time(),
            updated_at: example::time(),
        }
    }
}

/// A new endpoint, with its secret.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "NewWebhookEndpointSecret", example)]
struct Made {
    id: Wire<Uuid>,
    /// What its webhooks are signed with, by the Standard Webhooks specification.
    secret: String,
    /// The endpoint.
    endpoint: Endpoint,
}

impl Made {
    fn of(endpoint: WebhookEndpoint) -> Self {
        let secret = endpoint.secret.expose();
        Self { id: Wire(endpoint.id.uuid()), secret, endpoint: endpoint.into() }
    }
}

impl Example for Made {
    fn example() -> Self {
        Self { id: Wire(example::ENDPOINT_ID), secret: EXAMPLE_SECRET.to_owned(), endpoint: Endpoint::example() }
    }
}

/// That of the specification's own examples.
const EXAMPLE_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The secrets that webhooks are signed with.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "WebhookSecret", example)]
struct Signing {
    /// The secret.
    secret: String,
    /// Since when.
    created_at: Wire<Timestamp>,
    /// The one before, while it still signs as well.
    #[oai(nullable)]
    previous_secret: Option<String>,
    /// Until when it does.
    #[oai(nullable)]
    previous_until: Option<Wire<Timestamp>>,
}

impl Signing {
    fn of(endpoint: &WebhookEndpoint, now: Timestamp) -> Self {
        let previous = endpoint.previous.as_ref().filter(|(_, until)| *until > now);
        Self {
            secret: endpoint.secret.expose(),
            created_at: Wire(endpoint.secret_made_at),
            previous_secret: previous.map(|(secret, _)| secret.expose()),
            previous_until: previous.map(|(_, until)| Wire(*until)),
        }
    }
}

impl Example for Signing {
    fn example() -> Self {
        Self {
            secret: EXAMPLE_SECRET.to_owned(),
            created_at: example::time(),
            previous_secret: None,
            previous_until: None,
        }
    }
}

/// How a secret is replaced.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "WebhookRotation", example)]
struct Rotation {
    /// How long the present secret still signs as well, in seconds; 0 ends it at once.
    #[serde(default = "a_day")]
    #[oai(default = "a_day")]
    previous_for_seconds: Wire<Grace>,
}

impl Example for Rotation {
    fn example() -> Self {
        Self { previous_for_seconds: a_day() }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Webhooks")]
impl Api {
    /// Make an endpoint of webhooks
    ///
    /// It is told of what happens from now on, of one organization or of all. Webhooks follow the Standard Webhooks
    /// specification: headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, the body a `WebhookEvent`. What is
    /// not answered with 2xx is sent again, ten times over three days; the order is kept for each organization. An
    /// organization has 20 endpoints at most, and there are 20 for all: one more is 409 `too_many_endpoints`.
    ///
    /// Scope: `admin`.
    #[oai(path = "/webhook-endpoints", method = "post", operation_id = "createWebhookEndpoint")]
    async fn create(
        &self,
        auth: Auth<scope::Admin>,
        body: Json<NewEndpoint>,
    ) -> Result<Created<Made>, Failure<failures::Hooking>> {
        let NewEndpoint { url, organization_id, description, events } = body.0;
        let new = NewWebhookEndpoint {
            organization_id: owner(&auth, organization_id).await?,
            url: permitted(&auth, url.0)?,
            description: description.map(|Wire(text)| text.into_string()),
            events: filter(events).unwrap_or_default(),
            secret: new_secret(),
        };
        Ok(Created(Made::of(auth.acting().create_webhook_endpoint(new).await?)))
    }

    /// List endpoints of webhooks
    ///
    /// Newest first, none with its secret. A key that is bound to an organization sees that organization's.
    ///
    /// Scope: `read`.
    #[oai(path = "/webhook-endpoints", method = "get", operation_id = "listWebhookEndpoints")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Endpoint>>, Failure<failures::Listing>> {
        let wanted = page::request::<EndpointId>(limit, cursor)?;
        let found = auth.store().webhook_endpoints(auth.bound_to(), wanted).await?;
        Ok(Json(Page::of(found, Endpoint::from)))
    }

    /// Read an endpoint of webhooks
    ///
    /// Scope: `read`.
    #[oai(path = "/webhook-endpoints/:endpoint_id", method = "get", operation_id = "getWebhookEndpoint")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
    ) -> Result<Json<Endpoint>, Failure<failures::Reading>> {
        Ok(Json(seen(&auth, endpoint_id.0).await?.into()))
    }

    /// Change an endpoint of webhooks
    ///
    /// What is left out stays as it is. One that was disabled and is enabled again is told of what has happened meanwhile,
    /// as far as it is still kept. With another URL, or enabled, what had failed is tried at once.
    ///
    /// Scope: `admin`.
    #[oai(path = "/webhook-endpoints/:endpoint_id", method = "patch", operation_id = "updateWebhookEndpoint")]
    async fn update(
        &self,
        auth: Auth<scope::Admin>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
        body: Json<Update>,
    ) -> Result<Json<Endpoint>, Failure<failures::Rehooking>> {
        let endpoint = seen(&auth, endpoint_id.0).await?;
        let Update { url, description, events, enabled } = body.0;
        let update = WebhookEndpointUpdate {
            url: url.map(|Wire(url)| permitted(&auth, url)).transpose()?,
            description: description.map(|Wire(text)| text.into_string()),
            events: filter(events),
            enabled,
        };
        let updated = auth.acting().update_webhook_endpoint(endpoint.id, update).await?;
        Ok(Json(updated.ok_or_else(not_found)?.into()))
    }

    /// Delete an endpoint of webhooks
    ///
    /// Nothing is sent there any more, and its secrets are forgotten.
    ///
    /// Scope: `admin`.
    #[oai(path = "/webhook-endpoints/:endpoint_id", method = "delete", operation_id = "deleteWebhookEndpoint")]
    async fn delete(
        &self,
        auth: Auth<scope::Admin>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
    ) -> Result<NoContent, Failure<failures::Revoking>> {
        let endpoint = seen(&auth, endpoint_id.0).await?;
        if auth.acting().delete_webhook_endpoint(endpoint.id).await? { Ok(NoContent) } else { Err(not_found().into()) }
    }

    /// Read the secret of an endpoint of webhooks
    ///
    /// Scope: `admin`.
    #[oai(path = "/webhook-endpoints/:endpoint_id/secret", method = "get", operation_id = "getWebhookSecret")]
    async fn secret(
        &self,
        auth: Auth<scope::Admin>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
    ) -> Result<Json<Signing>, Failure<failures::Reading>> {
        let endpoint = seen(&auth, endpoint_id.0).await?;
        Ok(Json(Signing::of(&endpoint, auth.store().now().await?)))
    }

    /// Replace the secret of an endpoint of webhooks
    ///
    /// Webhooks are signed with both for as long as `previous_for_seconds` says. The body may be left out.
    ///
    /// Scope: `admin`.
    #[oai(
        path = "/webhook-endpoints/:endpoint_id/rotate-secret",
        method = "post",
        operation_id = "rotateWebhookSecret"
    )]
    async fn rotate(
        &self,
        auth: Auth<scope::Admin>,
        /// The endpoint.
        endpoint_id: Path<EndpointId>,
        body: Json<Rotation>,
    ) -> Result<Json<Signing>, Failure<failures::Rehooking>> {
        let endpoint = seen(&auth, endpoint_id.0).await?;
        let grace = TimeDelta::seconds(body.0.previous_for_seconds.0.0);
        let rotated = auth.acting().rotate_webhook_secret(endpoint.id, new_secret(), grace).await?;
        let rotated = rotated.ok_or_else(not_found)?;
        Ok(Json(Signing::of(&rotated, auth.store().now().await?)))
    }
}

/// The endpoint, if the caller may see it: a bound key sees its organization's, and not those of all.
pub async fn seen<R>(auth: &Auth<R>, id: EndpointId) -> Result<WebhookEndpoint, Problem> {
    let found = auth.store().webhook_endpoint(id).await?;
    let is_seen = |endpoint: &WebhookEndpoint| auth.bound_to().is_none() || endpoint.organization_id == auth.bound_to();
    found.filter(is_seen).ok_or_else(not_found)
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound)
}

/// Whose events a new endpoint is told: those that were asked for, as far as the caller may ask.
async fn owner<R>(auth: &Auth<R>, asked: Option<Wire<Tenant>>) -> Result<Option<OrganizationId>, Problem> {
    let Some(Wire(tenant)) = asked else { return Ok(auth.bound_to()) };
    let id = auth.organization(tenant)?;
    Ok(Some(auth.store().organization(id).await?.id))
}

/// A URL that names no address that nothing would ever be sent to. What a name resolves to is judged when it is used.
fn permitted<R>(auth: &Auth<R>, Url(url): Url) -> Result<String, Problem> {
    let target = Target::parse(&url).map_err(|error| Problem::invalid("url", error.to_string()))?;
    let address = target.host.parse::<IpAddr>().ok();
    if address.is_some_and(|address| !auth.context().state().courier.gate().permits(address)) {
        return Err(Problem::invalid("url", "must name a public address"));
    }
    Ok(url)
}

fn new_secret() -> WebhookSecret {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).expect("the operating system gives random bytes");
    WebhookSecret::new(bits)
}
