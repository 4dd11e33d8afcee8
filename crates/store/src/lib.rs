//! The database side of multicredit: entities, reads, catalogue writes, and the ledger writer.
//!
//! [`Store`] is the one public type; everything that happens to credits goes through it. Behind it there are two ways
//! and no third: reads and catalogue writes in [`repo`] through a pool, and movements of credits through the queue of
//! the [`ledger`], whose writer alone changes balances. `docs/ARCHITECTURE.md` walks one consumption through it.

mod alerts;
mod audit;
mod cache;
pub mod clock;
pub mod config;
pub mod entity;
pub mod error;
mod jobs;
mod ledger;
mod maintenance;
mod operations;
pub mod page;
pub mod performance;
mod reader;
mod repo;
mod retention;
mod sql;
pub mod stats;
mod store;
mod sweep;
mod usage;
mod verify;
mod webhook;

pub use alerts::{Evaluated, FORECASTS_EVERY};
pub use audit::{AuditKey, AuditOperation, Author};
pub use config::{Engine, StoreConfig};
pub use error::{Conflict, StoreError};
pub use jobs::{Job, JobDone, JobRun};
pub use ledger::{Adjustment, Answer, ConsumeItem, HoldAnswer};
pub use page::{Page, PageRequest};
pub use reader::RESERVED_CONNECTIONS;
pub use repo::action::{NewPrice, StoredAction};
pub use repo::alert_rule::{AlertRuleUpdate, NewAlertRule};
pub use repo::api_key::{ApiKey, NewApiKey, Scope};
pub use repo::audit_log::{AuditFilter, AuditLine, AuditPosition};
pub use repo::balance::BalanceView;
pub use repo::consumption::{ConsumptionFilter, LogPosition};
pub use repo::fleet::{Attempts, Combination, FleetTotals, TopOrder};
pub use repo::live::{LiveBalance, LivePlace};
pub use repo::member::{Member, MemberRole, Membership};
pub use repo::movement::LedgerPosition;
pub use repo::organization::{NewOrganization, OrganizationUpdate, Search};
pub use repo::plan::NewPlan;
pub use repo::raised_event::RaisedEvent;
pub use repo::webhook_delivery::DeliveryFilter;
pub use repo::webhook_endpoint::{NewWebhookEndpoint, WEBHOOK_ENDPOINTS_MAX, WebhookEndpointUpdate};
pub use retention::{DroppedHistory, RETENTION_MONTHS_MIN};
pub use store::Store;
pub use sweep::{SWEEP_PAUSE, Swept};
pub use usage::{ForecastView, RolledUp, SummaryPage, SummaryRow, UsageQuery, UsageReport};
pub use verify::{Check, VerifyReport};
pub use webhook::{
    Delivery, DeliveryOutcome, DeliveryReason, Event, EventBatch, EventDetail, NewDelivery, Position, Progress,
    WebhookClaim, WebhookEndpoint, WebhookInterest, WebhookPair, WebhookRecord,
};
