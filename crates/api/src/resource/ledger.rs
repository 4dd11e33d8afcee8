//! `/v1/organizations/{organization_id}/ledger`: every movement that led to the balance.

use multicredit_domain::movement::Change;
use multicredit_domain::{Credits, Delta, Movement, MovementKind, Timestamp};
use multicredit_store::LedgerPosition;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::Wire;

/// A change of both sides of a balance.
#[derive(Debug, Serialize, Object)]
struct BalanceChange {
    /// Of what can be spent.
    available: Wire<Delta>,
    /// Of what is set aside.
    held: Wire<Delta>,
}

/// Both sides of a balance.
#[derive(Debug, Serialize, Object)]
struct BalanceAfter {
    /// What could be spent.
    available: Wire<Credits>,
    /// What was set aside.
    held: Wire<Credits>,
}

/// One line of a ledger.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Movement", example, skip_serializing_if_is_none)]
struct Line {
    /// Its number in the organization, without gaps from 1.
    sequence: i64,
    /// What it was.
    kind: Wire<MovementKind>,
    /// What it changed.
    change: BalanceChange,
    /// The balance after it.
    balance_after: BalanceAfter,
    /// The grant, hold or consumption that it is about; of an adjustment, its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Wire<Uuid>>,
    /// Why, as given with an adjustment or a refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Its instant, which never decreases with the number.
    created_at: Wire<Timestamp>,
}

impl From<Movement> for Line {
    fn from(movement: Movement) -> Self {
        let Change { available, held } = movement.change;
        Self {
            sequence: movement.sequence,
            kind: Wire(movement.kind),
            change: BalanceChange { available: Wire(available), held: Wire(held) },
            balance_after: BalanceAfter {
                available: Wire(movement.balance_after.available),
                held: Wire(movement.balance_after.held),
            },
            reference: movement.reference.map(Wire),
            reason: movement.note,
            created_at: Wire(movement.created_at),
        }
    }
}

impl Example for Line {
    fn example() -> Self {
        let (before, after) = (example::credits(10_000, 500), example::credits(9_995, 500));
        Self {
            sequence: 2,
            kind: Wire(MovementKind::Consumption),
            change: BalanceChange { available: Wire(Delta::between(before, after)), held: Wire(Delta::ZERO) },
            balance_after: BalanceAfter { available: Wire(after), held: Wire(Credits::ZERO) },
            reference: Some(Wire(example::CONSUMPTION_ID)),
            reason: None,
            created_at: example::time(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Ledger")]
impl Api {
    /// List movements
    ///
    /// Everything that changed the balance, highest `sequence` first, one movement for an operation. Refused attempts
    /// change nothing and are not in it.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/ledger", method = "get", operation_id = "listMovements")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Line>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let found = auth.store().ledger(id, page::request::<LedgerPosition>(limit, cursor)?).await?;
        Ok(Json(Page::of(found, Line::from)))
    }
}
