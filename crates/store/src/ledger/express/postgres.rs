//! The call of `consume_credits_express`: a demand as its arguments, and what it answers.
//!
//! An organization and an item are a record each, since two arrays of records cost PostgreSQL less to make ready than an
//! array for each column. sqlx has no words for a record of a named type but those that its macros use, which are these.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use multicredit_domain::{
    ActionType, Amount, Consumption, CreditType, Credits, Metadata, OrganizationId, Price, Quantity, Timestamp,
};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::PgRecordEncoder;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgHasArrayType, PgRow, PgTypeInfo};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Postgres, Row as _, Type};
use uuid::Uuid;

use super::{After, Demand, Item, consumptions};
use crate::error::{AttemptError, StoreError};
use crate::ledger::read::PRICE_LOCK;
use crate::sql::Connection;

/// The call, with the columns of its answer by place.
pub(super) static CALL: LazyLock<String> = LazyLock::new(|| {
    let balances = CreditType::ALL.map(|it| format!("{it}_credits_available")).join(", ");
    format!(
        "SELECT organization_id, sequence, created_at, {balances} \
         FROM consume_credits_express($1, $2, $3, $4, $5, $6, $7, $8)"
    )
});

/// What is asked of one organization, an `express_demand`.
struct DemandRecord<'a> {
    organization_id: OrganizationId,
    items: &'a [Item<'a>],
}

/// One of its items, an `express_item`; `nth` counts from 1 within the organization.
struct ItemRecord<'a> {
    organization_id: OrganizationId,
    nth: i32,
    item: &'a Item<'a>,
}

impl Type<Postgres> for DemandRecord<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("express_demand")
    }
}

impl PgHasArrayType for DemandRecord<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("express_demand")
    }
}

impl Encode<'_, Postgres> for DemandRecord<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let total = self.items.last().map_or(Credits::ZERO, |item| item.so_far);
        let mut record = PgRecordEncoder::new(buffer);
        record.encode(self.organization_id.uuid())?.encode(i32::try_from(self.items.len())?)?;
        for credit_type in CreditType::ALL {
            record.encode(total[credit_type].get())?;
        }
        record.finish();
        Ok(IsNull::No)
    }
}

impl Type<Postgres> for ItemRecord<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("express_item")
    }
}

impl PgHasArrayType for ItemRecord<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("express_item")
    }
}

impl Encode<'_, Postgres> for ItemRecord<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Item { id, request, binding, version, cost, so_far, .. } = self.item;
        let mut record = PgRecordEncoder::new(buffer);
        record
            .encode(self.organization_id.uuid())?
            .encode(self.nth)?
            .encode(*id)?
            .encode(request.action.as_str())?
            .encode(request.quantity.get())?
            .encode(*version)?
            .encode(request.metadata.as_ref().map(Metadata::to_json))?
            .encode(request.occurred_at)?
            .encode(request.actor.as_ref().map(multicredit_domain::Actor::as_str))?
            .encode(binding.map(|it| it.key.id()))?
            .encode(binding.map(|it| it.fingerprint))?
            .encode(binding.map(|it| it.key.kept_days()))?;
        for credit_type in CreditType::ALL {
            record.encode(cost[credit_type].get())?.encode(so_far[credit_type].get())?;
        }
        record.finish();
        Ok(IsNull::No)
    }
}

/// Spends what can be spent of a demand.
pub(super) async fn spend(
    connection: &mut Connection,
    demand: &Demand<'_>,
    clock: Option<Timestamp>,
    screens: bool,
) -> Result<Vec<(usize, Consumption)>, AttemptError> {
    let arguments = arguments(demand, clock, screens).map_err(sqlx::Error::Encode)?;
    // In a session that is lent the call is no transaction of its own, and its commit is sent apart from it.
    let is_needed = connection.begin_around().await?;
    let rows = call(connection, arguments).await;
    let rows = connection.end_around(is_needed, rows).await?;
    let mut spent = Vec::new();
    for row in rows {
        consumptions(&after(&row)?, demand, &mut spent)?;
    }
    Ok(spent)
}

async fn call(connection: &mut Connection, arguments: PgArguments) -> Result<Vec<PgRow>, sqlx::Error> {
    let Connection::Postgres(connection, _) = connection else { return Ok(Vec::new()) };
    sqlx::query_with(AssertSqlSafe(CALL.as_str()), arguments).fetch_all(connection).await
}

/// The arguments of the call, in the order of the function's declaration.
pub(super) fn arguments(
    demand: &Demand<'_>,
    clock: Option<Timestamp>,
    screens: bool,
) -> Result<PgArguments, BoxDynError> {
    let all = || demand.iter().flat_map(|(organization, items)| items.iter().map(move |item| (organization, item)));
    let prices: BTreeMap<&str, i32> = all().map(|(_, item)| (item.request.action.as_str(), item.version)).collect();
    let mut ids = Vec::with_capacity(demand.len());
    let mut demands = Vec::with_capacity(demand.len());
    let mut records = Vec::with_capacity(all().count());
    for (organization_id, items) in demand {
        let organization_id = *organization_id;
        ids.push(organization_id.uuid());
        demands.push(DemandRecord { organization_id, items });
        records.extend((1..).zip(items).map(|(nth, item)| ItemRecord { organization_id, nth, item }));
    }
    let mut arguments = PgArguments::default();
    arguments.add(PRICE_LOCK)?;
    arguments.add(clock)?;
    arguments.add(screens)?;
    arguments.add(prices.keys().copied().collect::<Vec<_>>())?;
    arguments.add(prices.values().copied().collect::<Vec<_>>())?;
    arguments.add(ids)?;
    arguments.add(demands)?;
    arguments.add(records)?;
    Ok(arguments)
}

/// What a row of the answer says.
fn after(row: &PgRow) -> Result<After, AttemptError> {
    let mut available = Credits::ZERO;
    for (place, credit_type) in (3..).zip(CreditType::ALL) {
        available[credit_type] =
            Amount::new(row.try_get(place)?).map_err(|error| StoreError::Internal(error.to_string()))?;
    }
    let created_at: DateTime<Utc> = row.try_get(2)?;
    Ok(After {
        organization_id: OrganizationId::new(row.try_get(0)?),
        sequence: row.try_get(1)?,
        available,
        created_at,
    })
}

/// A call for one consumption of quantity 1 with its arguments written out, for the database to explain.
pub(crate) fn explainable_call(organization: Uuid, id: Uuid, action: &ActionType, price: &Price) -> String {
    let cost = Quantity::new(1).ok().and_then(|one| price.cost(one).ok()).unwrap_or(Credits::ZERO);
    let each = |f: &dyn Fn(i64) -> String| CreditType::ALL.map(|it| f(cost[it].get())).join(", ");
    let version = price.version;
    format!(
        "SELECT * FROM consume_credits_express({PRICE_LOCK}, NULL, false, ARRAY['{action}'], ARRAY[{version}], \
         ARRAY['{organization}'::uuid], ARRAY[('{organization}', 1, {totals})::express_demand], \
         ARRAY[('{organization}', 1, '{id}', '{action}', 1, {version}, NULL, NULL, NULL, NULL, NULL, NULL, \
         {costs})::express_item])",
        totals = each(&|value| value.to_string()),
        costs = each(&|value| format!("{value}, {value}")),
    )
}
