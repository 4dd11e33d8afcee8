//! Webhooks as far as the database has a part in them: endpoints, how far each was told of what, and the log.
//!
//! Nothing is written for an event: it is a movement, a refused attempt or a raised event, each of which is stored
//! already ([`events`] reads them). What is written is a cursor for each pair of an endpoint and an organization. A pair
//! with something behind its cursor is found, claimed by a lease, and worked off by whoever has the lease ([`claim`]).
//! Refused attempts have no number, and are told up to a fence ([`refusals`]). ADR 13 has the reasons.

pub(crate) mod claim;
pub(crate) mod cursors;
pub(crate) mod events;
pub(crate) mod refusals;
mod wake;

use multicredit_domain::webhook::{EventFilter, WebhookSecret};
use multicredit_domain::{
    Consumption, DeliveryId, EndpointId, EventId, EventType, Grant, Hold, HoldId, Movement, OrganizationId, Timestamp,
};
use serde_json::Value;

pub use claim::{Position, Progress, WebhookClaim, WebhookPair, WebhookRecord};
pub use events::EventBatch;
pub(crate) use wake::Wake;

/// Where events are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookEndpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose events; `None` is those of all organizations.
    pub organization_id: Option<OrganizationId>,
    /// Where they are sent.
    pub url: String,
    /// For people.
    pub description: Option<String>,
    /// Which events.
    pub events: EventFilter,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Whether nothing is because the receiver has said that it is gone.
    pub is_gone: bool,
    /// What is signed with.
    pub secret: WebhookSecret,
    /// Since when.
    pub secret_made_at: Timestamp,
    /// What was signed with before, and is as well until that instant.
    pub previous: Option<(WebhookSecret, Timestamp)>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

impl WebhookEndpoint {
    /// The secrets to sign with at an instant.
    pub fn secrets(&self, at: Timestamp) -> impl Iterator<Item = &WebhookSecret> {
        let previous = self.previous.iter().filter(move |(_, until)| *until > at).map(|(secret, _)| secret);
        std::iter::once(&self.secret).chain(previous)
    }
}

/// Something that happened to credits, as it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What it is known by.
    pub id: EventId,
    /// What it tells of.
    pub event_type: EventType,
    /// Whose credits.
    pub organization_id: OrganizationId,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// What there is to say.
    pub detail: EventDetail,
}

/// What there is to say of an event: what its row says, and what never changes in others.
#[derive(Debug, Clone, PartialEq)]
pub enum EventDetail {
    /// Of a grant.
    Grant(Box<(Movement, Grant)>),
    /// Of credits that were spent, or were to be.
    Consumption(Box<Consumption>),
    /// Of credits that were given back.
    Refund(Box<Movement>),
    /// Of a hold.
    Hold(Box<(Movement, HoldId, Option<Hold>)>),
    /// Whatever was raised.
    Raised(Value),
}

/// Why something was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryReason {
    /// It had happened.
    Event,
    /// Somebody wanted it sent again.
    Redelivery,
    /// Somebody wanted to see whether anything arrives.
    Test,
}

impl DeliveryReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Event, Self::Redelivery, Self::Test];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Redelivery => "redelivery",
            Self::Test => "test",
        }
    }

    /// The reason of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It arrived.
    Delivered,
    /// It did not; of an event that had happened, it is tried again.
    Failed,
    /// It did not, and is not tried again.
    GivenUp,
    /// The receiver wants nothing any more.
    Gone,
}

impl DeliveryOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Failed, Self::GivenUp, Self::Gone];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
            Self::Gone => "gone",
        }
    }

    /// The outcome of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// An attempt to deliver a webhook that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Whose event, if anybody's.
    pub organization_id: Option<OrganizationId>,
    /// To whom.
    pub endpoint_id: EndpointId,
    /// Which event.
    pub event_id: String,
    /// Of which type.
    pub event_type: String,
    /// Why it was sent.
    pub reason: DeliveryReason,
    /// How often it had been tried, with this time.
    pub attempt: u32,
    /// What became of it.
    pub outcome: DeliveryOutcome,
    /// The status of the answer, if there was one.
    pub status_code: Option<u16>,
    /// Why there was none, or none that counts.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: i64,
}

/// A line of the log of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Whose event, if anybody's.
    pub organization_id: Option<OrganizationId>,
    /// To whom.
    pub endpoint_id: EndpointId,
    /// Which event.
    pub event_id: String,
    /// Of which type.
    pub event_type: String,
    /// Why it was sent.
    pub reason: DeliveryReason,
    /// How often it had been tried, with this time.
    pub attempt: u32,
    /// What became of it.
    pub outcome: DeliveryOutcome,
    /// The status of the answer, if there was one.
    pub status_code: Option<u16>,
    /// Why there was none, or none that counts.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: i64,
    /// When it ended.
    pub created_at: Timestamp,
}

/// What enabled endpoints are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookInterest {
    /// How many there are.
    pub endpoints: i64,
    /// Whether one wants consumptions.
    pub consumed: bool,
    /// Whether one wants refused attempts.
    pub refused: bool,
    /// Whether one is there for all organizations.
    pub everybody: bool,
}
