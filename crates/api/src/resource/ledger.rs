//! `/v1/organizations/{organization_id}/ledger`: every movement that led to the balance.

use futures_util::FutureExt as _;
use multicredit_domain::movement::Change;
use multicredit_domain::{Amount, Balance, Credits, Delta, Movement, MovementKind, Timestamp};
use multicredit_store::LedgerPosition;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use super::{example, export};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Table, Tabular, WantsCsv};
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
pub struct BalanceAfter {
    /// What could be spent.
    available: Wire<Credits>,
    /// What was set aside.
    held: Wire<Credits>,
}

/// One line of a ledger.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Movement", example, skip_serializing_if_is_none)]
pub struct Line {
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

impl From<Balance> for BalanceAfter {
    fn from(balance: Balance) -> Self {
        Self { available: Wire(balance.available), held: Wire(balance.held) }
    }
}

impl From<Movement> for Line {
    fn from(movement: Movement) -> Self {
        let Change { available, held } = movement.change;
        Self {
            sequence: movement.sequence,
            kind: Wire(movement.kind),
            change: BalanceChange { available: Wire(available), held: Wire(held) },
            balance_after: movement.balance_after.into(),
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

/// The columns of the table, in the order of the credit types.
const COLUMNS: [&str; 20] = [
    "sequence",
    "kind",
    "reference",
    "created_at",
    "ai_available_change",
    "whatsapp_available_change",
    "email_available_change",
    "sms_available_change",
    "ai_held_change",
    "whatsapp_held_change",
    "email_held_change",
    "sms_held_change",
    "ai_available_after",
    "whatsapp_available_after",
    "email_available_after",
    "sms_available_after",
    "ai_held_after",
    "whatsapp_held_after",
    "email_held_after",
    "sms_held_after",
];

impl Tabular for Page<Line> {
    const COLUMNS: &'static [&'static str] = &COLUMNS;
}

/// A line of the table.
fn record(movement: Movement) -> impl Serialize {
    let line = Line::from(movement);
    (
        (line.sequence, line.kind, line.reference, line.created_at),
        (line.change.available.0.to_array(), line.change.held.0.to_array()),
        line.balance_after.available.0.to_array().map(Amount::get),
        line.balance_after.held.0.to_array().map(Amount::get),
    )
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Ledger")]
impl Api {
    /// List movements
    ///
    /// Everything that changed the balance, highest `sequence` first, one movement for an operation. Refused attempts
    /// change nothing and are not in it. With `Accept: text/csv` all of it is sent as one table, from `cursor` on where there
    /// is one; `limit` does not count then.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/ledger", method = "get", operation_id = "listMovements")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        wants_csv: WantsCsv,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Table<Page<Line>>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let wanted = page::request::<LedgerPosition>(limit, cursor)?;
        if wants_csv.0 {
            let store = auth.store().clone();
            let read = move |page| {
                let store = store.clone();
                async move { store.ledger(id, page).await }.boxed()
            };
            return Ok(Table::Csv(export::csv(&COLUMNS, wanted.after, read, record).await?));
        }
        let found = auth.store().ledger(id, wanted).await?;
        Ok(Table::Json(Page::of(found, Line::from)))
    }
}
