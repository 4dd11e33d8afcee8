//! The rules of prepaid credits: what credits are, what actions cost, and how a balance may move.
//!
//! Everything here is pure. Time and identity come in as arguments, the database and the network do not exist, and
//! every amount is a whole number with checked arithmetic. That is what lets one rule serve both database engines,
//! the property tests and `multicredit verify` alike, and it is why this crate must never learn of sea-orm, poem or
//! tokio. `docs/DOMAIN.md` explains the rules with examples.

pub mod account;
pub mod action;
pub mod alert;
pub mod amount;
pub mod book;
pub mod clock;
pub mod consume;
pub mod credit;
#[cfg(test)]
mod edges;
pub mod error;
pub mod event;
pub mod forecast;
pub mod grant;
pub mod hold;
pub mod id;
pub mod idempotency;
pub mod metadata;
pub mod movement;
#[cfg(test)]
mod names;
pub mod organization;
pub mod plan;
pub mod refund;
pub mod standing;
pub mod text;
pub mod top_up;
pub mod usage;
pub mod webhook;
pub mod window;

pub use account::{Account, Balance};
pub use action::{Action, Price};
pub use alert::{AlertMeasure, AlertRule, AlertState, AlertTerms};
pub use amount::{Amount, Quantity};
pub use book::{Book, Expiring, Pages};
pub use clock::Timestamp;
pub use consume::{Consume, Consumption, Quote};
pub use credit::{CreditType, Credits, Delta};
pub use error::{Denial, Refusal, Shortfall};
pub use event::{EventId, EventPlace, EventType};
pub use forecast::{BurnRate, Forecast};
pub use grant::{Draw, Grant, GrantSource, GrantState, Lot, NewGrant};
pub use hold::{Hold, HoldState, NewHold};
pub use id::{
    AlertRuleId, ApiKeyId, ConsumptionId, DeliveryId, EndpointId, GrantId, HoldId, OrganizationId, RefundId, TopUpId,
};
pub use idempotency::{IdempotencyKey, KeyBinding};
pub use metadata::Metadata;
pub use movement::{Movement, MovementKind};
pub use organization::{Organization, OrganizationStatus, TimeZone};
pub use plan::{Plan, PlanPeriod, PlanTerms, Subscription};
pub use refund::{NewRefund, OnExpired, Refund};
pub use standing::{Spending, Standing};
pub use text::{ActionType, Actor, ExternalId, PlanCode};
pub use top_up::{TopUp, TopUpRule, TopUpState, TopUpTerms};
pub use usage::{UsageBucket, UsageLine, UsageSpan, UsageSums};
pub use webhook::{EventFilter, Verdict, WebhookSecret};
pub use window::Validity;
