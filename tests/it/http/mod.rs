//! The API, over HTTP: what the contract promises, once on each engine, in files that mirror the resources.
//!
//! What every answer must keep to (the shape of a problem, the request's id, no 500) is asserted by the client itself,
//! and that the ledger's invariants hold by the end of every test ([`tests::app::served`]). So a test here says only
//! what is its own.

mod actions;
mod alerts;
mod api_keys;
mod audit_log;
mod balance;
mod batch;
mod consume;
mod consumptions;
mod corrections;
mod documents;
mod events;
mod explained;
mod exports;
mod forecast;
mod foreign;
mod grants;
mod holds;
mod idempotency;
mod ledger;
mod live;
mod members;
pub(crate) mod metrics;
mod operations;
mod organizations;
mod plans;
mod pools;
mod quote;
mod rate_limits;
mod refunds;
mod refusals;
mod retention;
pub mod scopes;
pub mod tokens;
mod transport;
mod usage;
pub mod walk;

pub(crate) use walk::Document;

use serde_json::Value;
use uuid::Uuid;

/// The names of an object's fields, in order.
pub(crate) fn fields(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Asserts that an id is a UUIDv7, as the contract says of all of them.
#[track_caller]
pub(crate) fn assert_is_id(id: &Value) {
    let id: Uuid = id.as_str().unwrap_or_else(|| panic!("{id} is no text")).parse().unwrap();
    assert_eq!(id.get_version_num(), 7, "{id}");
}

/// Asserts that a text is an instant in UTC.
#[track_caller]
pub(crate) fn assert_is_instant(at: &Value) {
    let at = at.as_str().unwrap_or_else(|| panic!("{at} is no text"));
    assert!(at.ends_with('Z') && at.parse::<multicredit_domain::Timestamp>().is_ok(), "{at}");
}

/// What stands in that field of every item.
pub(crate) fn column(items: &[Value], field: &str) -> Vec<Value> {
    items.iter().map(|item| item[field].clone()).collect()
}
