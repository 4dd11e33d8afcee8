//! `/v1/organizations/{organization_id}/consumptions`: the history of attempts, refused ones included.

use futures_util::FutureExt as _;
use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    ActionType, Actor, Amount, ConsumptionId, CreditType, Credits, Metadata, Quantity, Refusal, Timestamp,
};
use multicredit_store::{ConsumptionFilter, StoreError};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use super::balance::Flag;
use super::{example, exists, export, unknown};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Json, Table, Tabular, WantsCsv};
use crate::problem::{Failure, Problem, failures};
use crate::wire::Wire;

/// An attempt to consume, as it was logged.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "ConsumptionRecord", example, skip_serializing_if_is_none)]
struct Record {
    id: Wire<Uuid>,
    organization_id: Wire<Uuid>,
    /// The action.
    action: Wire<ActionType>,
    /// How often, or how much.
    quantity: Wire<Quantity>,
    /// The hold that it was captured from.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_id: Option<Wire<Uuid>>,
    /// What was spent; nothing where it was refused.
    consumed: Wire<Credits>,
    /// Whether the credits were spent.
    success: bool,
    /// Why not, where they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    /// What could be spent right after it, where it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<Wire<Credits>>,
    /// The movement's number in the organization's ledger, where it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<i64>,
    /// The version of the action's price that it was judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    price_version: Option<i32>,
    /// When it happened, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Wire<Timestamp>>,
    /// What was to be remembered with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Wire<Metadata>>,
    /// Who caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Wire<Actor>>,
    /// When it was decided.
    created_at: Wire<Timestamp>,
}

impl From<multicredit_domain::Consumption> for Record {
    fn from(consumption: multicredit_domain::Consumption) -> Self {
        let (available, sequence, error_code) = match consumption.outcome {
            Outcome::Spent { sequence, available } => (Some(Wire(available)), Some(sequence), None),
            Outcome::Refused { error_code } => (None, None, Some(error_code)),
        };
        let request = consumption.request;
        Self {
            id: Wire(consumption.id.uuid()),
            organization_id: Wire(consumption.organization_id.uuid()),
            action: Wire(request.action),
            quantity: Wire(request.quantity),
            hold_id: consumption.hold_id.map(|id| Wire(id.uuid())),
            consumed: Wire(consumption.consumed),
            success: error_code.is_none(),
            error_code,
            available,
            sequence,
            price_version: consumption.price_version,
            occurred_at: request.occurred_at.map(Wire),
            metadata: request.metadata.map(Wire),
            actor: request.actor.map(Wire),
            created_at: Wire(consumption.created_at),
        }
    }
}

impl Example for Record {
    fn example() -> Self {
        Self {
            id: Wire(example::CONSUMPTION_ID),
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            action: example::text("ai_tokens"),
            quantity: example::quantity(4818),
            hold_id: None,
            consumed: Wire(example::credits(5, 0)),
            success: true,
            error_code: None,
            available: Some(Wire(example::credits(9_995, 500))),
            sequence: Some(2),
            price_version: Some(1),
            occurred_at: None,
            metadata: None,
            actor: Some(example::text("user-42")),
            created_at: example::time(),
        }
    }
}

/// The columns of the table, in the order of the credit types.
const COLUMNS: [&str; 20] = [
    "id",
    "action",
    "quantity",
    "success",
    "error_code",
    "ai_consumed",
    "whatsapp_consumed",
    "email_consumed",
    "sms_consumed",
    "ai_available",
    "whatsapp_available",
    "email_available",
    "sms_available",
    "sequence",
    "price_version",
    "hold_id",
    "occurred_at",
    "created_at",
    "actor",
    "metadata",
];

impl Tabular for Page<Record> {
    const COLUMNS: &'static [&'static str] = &COLUMNS;
}

/// A line of the table.
fn record(consumption: multicredit_domain::Consumption) -> impl Serialize {
    let record = Record::from(consumption);
    let consumed = record.consumed.0.to_array().map(Amount::get);
    let available = CreditType::ALL.map(|credit_type| record.available.map(|Wire(after)| after[credit_type].get()));
    let metadata = record.metadata.map(|Wire(metadata)| metadata.to_json());
    (
        (record.id, record.action, record.quantity, record.success, record.error_code),
        (consumed, available),
        (record.sequence, record.price_version, record.hold_id, record.occurred_at, record.created_at),
        (record.actor, metadata),
    )
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Consumption")]
impl Api {
    /// List consumptions
    ///
    /// Newest first, refused attempts included. With `Accept: text/csv` all of them are sent as one table, from `cursor` on
    /// where there is one; `limit` does not count then.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/consumptions", method = "get", operation_id = "listConsumptions")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter that the operation documents")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        wants_csv: WantsCsv,
        /// The organization.
        organization_id: Path<Tenant>,
        /// Only those of this action.
        action: Query<ActionType>,
        /// Only those that succeeded, or only those that did not.
        success: Query<Flag>,
        /// Only those decided at this instant or later.
        from: Query<Timestamp>,
        /// Only those decided before this instant.
        to: Query<Timestamp>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Table<Page<Record>>, Failure<failures::ReadingHistory>> {
        let id = auth.organization(organization_id.0)?;
        let filter = ConsumptionFilter {
            action: action.0,
            success: success.0.map(|Flag(success)| success),
            from: from.0,
            to: to.0,
        };
        if filter.from.zip(filter.to).is_some_and(|(from, to)| to < from) {
            return Err(Problem::invalid("to", "must not be before from").into());
        }
        let wanted = page::request(limit, cursor)?;
        if wants_csv.0 {
            auth.store().organization(id).await?;
            let store = auth.store().clone();
            let read = move |page| {
                let (store, filter) = (store.clone(), filter.clone());
                async move { store.consumptions(id, filter, page).await }.boxed()
            };
            return Ok(Table::Csv(export::csv(&COLUMNS, wanted.after, read, record).await?));
        }
        let found = auth.store().consumptions(id, filter, wanted).await?;
        exists(&auth, id, &found.items).await?;
        Ok(Table::Json(Page::of(found, Record::from)))
    }

    /// Read a consumption
    ///
    /// Also the way to find out what became of a request that was answered with 503 `outcome_unknown`.
    ///
    /// Scope: `read`.
    #[oai(
        path = "/organizations/:organization_id/consumptions/:consumption_id",
        method = "get",
        operation_id = "getConsumption"
    )]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The organization.
        organization_id: Path<Tenant>,
        /// The consumption.
        consumption_id: Path<ConsumptionId>,
    ) -> Result<Json<Record>, Failure<failures::ReadingHistory>> {
        let id = auth.organization(organization_id.0)?;
        match auth.store().consumption(id, consumption_id.0).await {
            Err(StoreError::NotFound) => Err(unknown(&auth, id, Refusal::UnknownConsumption).await.into()),
            found => Ok(Json(found?.into())),
        }
    }
}
