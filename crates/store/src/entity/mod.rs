//! The tables as sea-orm entities, one file each.
//!
//! A model is a row and nothing more. What it means is said once, where it becomes a value of the domain; a row that
//! the rules could not have written is a [`BadRow`], never a guess.

use multicredit_domain::credit::COUNT;
use multicredit_domain::{Amount, Credits, Delta};

use crate::error::BadRow;

pub mod alert_cursors;
pub mod alert_rules;
pub mod alert_states;
pub mod api_keys;
pub mod audit_chains;
pub mod audit_log;
pub mod credit_action_versions;
pub mod credit_actions;
pub mod credit_consumption_logs;
pub mod credit_draws;
pub mod credit_grants;
pub mod credit_holds;
pub mod credit_movements;
pub mod dashboard_sessions;
pub mod idempotency_keys;
pub mod organization_credits;
pub mod organization_members;
pub mod organizations;
pub mod performance_reports;
pub mod plan_versions;
pub mod plans;
pub mod raised_events;
pub mod retention_checkpoints;
pub mod subscriptions;
pub mod top_up_rules;
pub mod top_ups;
pub mod webhook_cursors;
pub mod webhook_deliveries;
pub mod webhook_endpoints;

/// The vector that stands in a row's columns, in the order of the credit types.
pub(crate) fn credits(columns: [i64; COUNT], table: &'static str, column: &'static str) -> Result<Credits, BadRow> {
    let mut amounts = [Amount::ZERO; COUNT];
    for (amount, value) in amounts.iter_mut().zip(columns) {
        *amount = Amount::new(value).map_err(|_| BadRow { table, column })?;
    }
    Ok(Credits::from_array(amounts))
}

/// The signed vector that stands in a row's columns, in the order of the credit types.
pub(crate) const fn delta(columns: [i64; COUNT]) -> Delta {
    Delta::from_array(columns)
}
