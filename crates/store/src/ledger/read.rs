//! Locking, and reading what a decision needs.
//!
//! The first statement locks and reads the accounts. Everything else is read by later statements, whose snapshots are
//! taken once the locks are held: a key that another replica bound while this one waited is seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use multicredit_domain::{
    Account, ActionType, Consume, Consumption, GrantId, NewHold, OrganizationId, Pages, Price, Subscription, Timestamp,
};
use sea_orm::{FromQueryResult, QueryResult};

use super::decide::{BoundKey, Facts, needs_pages};
use super::pages::{Library, read_pages};
use super::refundable::read_refundables;
use super::top_ups::read_top_ups;
use super::{Reply, Request, Task};
use crate::clock::Clock;
use crate::entity::{credit_action_versions, credit_consumption_logs, idempotency_keys, organization_credits};
use crate::error::{AttemptError, BadRow, StoreError};
use crate::sql::{Cell, Column, Connection, Kind, Statement, entity_columns};

/// The key of the advisory lock that separates spending (shared, from the beginning of its transaction) from a change of
/// prices (exclusive): a new price is charged from its instant on, by every replica.
pub(crate) const PRICE_LOCK: i64 = 0x6d63_7072_6963_6531;

/// The columns of an account, from a table called `c`.
pub(crate) fn account_columns() -> String {
    entity_columns::<organization_credits::Entity>("c", "")
}

static LOCK_ACCOUNTS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("organization_id", Kind::Uuid)], |d| {
        // The ORDER BY must stay: it is the lock order that keeps two batches from deadlocking.
        format!(
            "SELECT {} FROM {} JOIN organization_credits c ON c.organization_id = v.organization_id \
             ORDER BY c.organization_id {}",
            account_columns(),
            d.source,
            d.lock_c
        )
    })
});

static READ_CLOCK: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("nothing", Kind::Int)], |d| {
        format!("SELECT {} AS clock FROM {}", d.clock, d.source)
    })
});

static READ_PRICES: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("action_type", Kind::Text)], |d| {
        format!(
            "SELECT {} FROM {} JOIN credit_action_versions p ON p.action_type = v.action_type",
            entity_columns::<credit_action_versions::Entity>("p", ""),
            d.source
        )
    })
});

static READ_KEYS: LazyLock<Statement> = LazyLock::new(|| {
    let columns_in = vec![Column::new("organization_id", Kind::Uuid), Column::new("key_id", Kind::Uuid)];
    Statement::new(columns_in, |d| {
        format!(
            "SELECT {}, {} FROM {} \
             JOIN idempotency_keys k ON k.organization_id = v.organization_id AND k.key_id = v.key_id \
             LEFT JOIN credit_consumption_logs l ON l.organization_id = k.organization_id AND l.id = k.reference \
             AND l.created_at = k.reference_at",
            entity_columns::<idempotency_keys::Entity>("k", "k_"),
            entity_columns::<credit_consumption_logs::Entity>("l", "l_"),
            d.source
        )
    })
});

/// Locks the organizations of the batch and reads everything that its decision needs.
pub(crate) async fn read(connection: &mut Connection, clock: &Clock, tasks: &[&Task]) -> Result<Facts, AttemptError> {
    let accounts = lock_accounts(connection, tasks.iter().map(|task| task.organization_id).collect()).await?;
    let clock = clock.instant(read_clock(connection).await?);
    let keys = read_keys(connection, tasks).await?;
    let refundables = read_refundables(connection, tasks).await?;
    let top_ups = read_top_ups(connection, tasks).await?;
    let organizations = needs_pages(tasks, &accounts, clock);
    let named = named_lots(tasks, &accounts, clock);
    let Library { pages, references } = read_pages(connection, organizations, tasks, named, &refundables).await?;
    let prices = read_prices(connection, action_names(tasks, &pages)).await?;
    Ok(Facts { clock, accounts, pages, references, refundables, top_ups, prices, keys })
}

/// Grants that the tasks name, by their ids or by the period that they are the lot of.
fn named_lots(
    tasks: &[&Task],
    accounts: &BTreeMap<OrganizationId, Account>,
    clock: Timestamp,
) -> BTreeSet<(OrganizationId, GrantId)> {
    let named = tasks.iter().filter_map(|task| {
        let id = match &task.request {
            Request::Void { grant_id } => *grant_id,
            Request::Subscribe { terms, time_zone, anchor } => {
                let at = accounts.get(&task.organization_id)?.instant(clock);
                let anchor = anchor.unwrap_or(at);
                Subscription::new(task.organization_id, terms.clone(), time_zone.clone(), anchor, at)
                    .first_grant_id()?
            }
            _ => return None,
        };
        Some((task.organization_id, id))
    });
    named.collect()
}

/// Locks the accounts in the order of their ids. Those that do not exist are missing from the answer.
pub(crate) async fn lock_accounts(
    connection: &mut Connection,
    organizations: BTreeSet<OrganizationId>,
) -> Result<BTreeMap<OrganizationId, Account>, AttemptError> {
    let mut rows = LOCK_ACCOUNTS.rows();
    for organization_id in organizations {
        rows.cell(Cell::Uuid(organization_id.uuid())).end();
    }
    let mut accounts = BTreeMap::new();
    for row in connection.query(&LOCK_ACCOUNTS, &rows).await? {
        let account = Account::try_from(organization_credits::Model::from_query_result(&row, "")?)?;
        accounts.insert(account.organization_id, account);
    }
    Ok(accounts)
}

/// What the database's clock shows now that the locks are held, and no price can change any more; `None` on SQLite,
/// which has no clock of its own and one writer at a time.
pub(super) async fn read_clock(connection: &mut Connection) -> Result<Option<Timestamp>, AttemptError> {
    if matches!(connection, Connection::Sqlite(..)) {
        return Ok(None);
    }
    let mut rows = READ_CLOCK.rows();
    rows.cell(Cell::Null).end();
    let row = connection.query(&READ_CLOCK, &rows).await?.into_iter().next();
    let row = row.ok_or_else(|| StoreError::Internal("the clock answered nothing".to_owned()))?;
    Ok(Some(row.try_get("", "clock")?))
}

/// The actions whose prices the batch needs: those that it names, and those of the holds that it captures.
fn action_names(tasks: &[&Task], pages: &HashMap<OrganizationId, Pages>) -> BTreeSet<ActionType> {
    let mut names = BTreeSet::new();
    for task in tasks {
        match &task.request {
            Request::Consume(Consume { action, .. }) | Request::Hold(NewHold { action, .. }) => {
                names.insert(action.clone());
            }
            Request::Capture { hold_id, .. } => {
                let holds = pages.get(&task.organization_id).map_or(&[][..], |pages| &pages.holds);
                names.extend(holds.iter().find(|hold| hold.id == *hold_id).map(|hold| hold.action.clone()));
            }
            _ => {}
        }
    }
    names
}

async fn read_prices(
    connection: &mut Connection,
    names: BTreeSet<ActionType>,
) -> Result<HashMap<ActionType, Vec<Price>>, AttemptError> {
    let mut prices: HashMap<ActionType, Vec<Price>> = HashMap::new();
    if names.is_empty() {
        return Ok(prices);
    }
    let mut rows = READ_PRICES.rows();
    for name in names {
        rows.cell(Cell::Text(name.into())).end();
    }
    for row in connection.query(&READ_PRICES, &rows).await? {
        let row = credit_action_versions::Model::from_query_result(&row, "")?;
        let bad = BadRow { table: "credit_action_versions", column: "action_type" };
        let name = ActionType::new(row.action_type.clone()).map_err(|_| bad)?;
        prices.entry(name).or_default().push(row.try_into()?);
    }
    Ok(prices)
}

async fn read_keys(
    connection: &mut Connection,
    tasks: &[&Task],
) -> Result<HashMap<(OrganizationId, uuid::Uuid), BoundKey>, AttemptError> {
    let mut rows = READ_KEYS.rows();
    let wanted: BTreeSet<_> =
        tasks.iter().filter_map(|task| Some((task.organization_id.uuid(), task.binding?.key.id()))).collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    for (organization_id, key_id) in wanted {
        rows.cell(Cell::Uuid(organization_id)).cell(Cell::Uuid(key_id)).end();
    }
    let mut keys = HashMap::new();
    for row in connection.query(&READ_KEYS, &rows).await? {
        let key = idempotency_keys::Model::from_query_result(&row, "k_")?;
        let place = (OrganizationId::new(key.organization_id), key.key_id);
        let bound = BoundKey { fingerprint: key.fingerprint, reply: stored_reply(&row, &key)? };
        keys.insert(place, bound);
    }
    Ok(keys)
}

/// What was answered when the key was bound; `None` where that went with the history it was part of.
fn stored_reply(row: &QueryResult, key: &idempotency_keys::Model) -> Result<Option<Reply>, AttemptError> {
    let Some(response) = &key.response else {
        let log = credit_consumption_logs::Model::from_query_result_optional(row, "l_")?;
        return log.map(|log| Ok(Reply::Consumption(Box::new(Consumption::try_from(log)?)))).transpose();
    };
    let bad = BadRow { table: "idempotency_keys", column: "response" };
    Ok(Some(serde_json::from_str(response).map_err(|_| bad)?))
}
