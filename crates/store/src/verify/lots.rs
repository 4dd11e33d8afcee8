//! Balances against lots: what can be spent is what remains in live lots, once settled.

use std::collections::HashMap;

use multicredit_domain::{Account, Book, Credits, Grant, Lot, OrganizationId, Pages, Timestamp};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Statement,
};
use uuid::Uuid;

use super::{Check, note};
use crate::clock::Clock;
use crate::entity::{credit_grants, organization_credits};
use crate::error::StoreError;
use crate::repo::book;
use crate::sql::credit_columns;
use crate::store;

/// How many organizations are in memory at once.
const PAGE: u64 = 500;

/// How long a boundary may have passed before its bookkeeping is called overdue, in minutes: spending settles an active
/// organization at once, and a background sweep the rest.
const OVERDUE_MINUTES: i64 = 60;

/// Spending since the last settlement, by organization.
type Unsettled = HashMap<OrganizationId, Credits>;

struct Findings {
    adds_up: Check,
    settles: Check,
    overdue: Check,
}

/// Answers how many organizations there are, and what was found.
pub(super) async fn check(transaction: &DatabaseTransaction, clock: &Clock) -> Result<(u64, Vec<Check>), StoreError> {
    let mut found = Findings {
        adds_up: Check::new("available is what remains in live lots, less what was spent since they were settled"),
        settles: Check::new("every account can be settled to the present"),
        overdue: Check { is_warning: true, ..Check::new("no boundary is long overdue for bookkeeping") },
    };
    let now = store::now(transaction, clock).await?;
    let unsettled = unsettled(transaction).await?;
    let mut after = Uuid::nil();
    let mut organizations = 0;
    loop {
        let page = organization_credits::Entity::find()
            .filter(organization_credits::Column::OrganizationId.gt(after))
            .order_by_asc(organization_credits::Column::OrganizationId)
            .limit(PAGE)
            .all(transaction)
            .await?;
        let Some(last) = page.last() else { break };
        after = last.organization_id;
        organizations += page.len() as u64;
        let mut lots = lots(transaction, page.iter().map(|row| row.organization_id)).await?;
        for row in page {
            let account = Account::try_from(row)?;
            let id = account.organization_id;
            let spent = unsettled.get(&id).copied().unwrap_or_default();
            let lots = lots.remove(&id).unwrap_or_default();
            found.look_at(&account, &lots, spent, now);
            // Where no boundary is due the lots are all that settling looks at.
            let book = if account.is_due(account.instant(now)) {
                book::read(transaction, id).await?.0
            } else {
                Book::new(Account { next_boundary_at: None, ..account }, Pages { lots, ..Pages::default() })
            };
            found.settle(book, now);
        }
    }
    Ok((organizations, vec![found.adds_up, found.settles, found.overdue]))
}

impl Findings {
    fn look_at(&mut self, account: &Account, lots: &[Lot], spent: Credits, now: Timestamp) {
        let id = account.organization_id;
        let live = lots
            .iter()
            .filter(|lot| lot.state == multicredit_domain::GrantState::Active)
            .try_fold(Credits::ZERO, |sum, lot| sum.checked_add(lot.remaining));
        if live.and_then(|live| live.checked_sub(spent)) != Some(account.available) {
            note(&mut self.adds_up, || format!("organization {id}: available {}, spent {spent}", account.available));
        }
        if account.next_boundary_at.is_some_and(|boundary| boundary < now - chrono::TimeDelta::minutes(OVERDUE_MINUTES))
        {
            note(&mut self.overdue, || format!("organization {id}"));
        }
    }

    /// Settles the whole book in memory, with its holds and its subscription.
    fn settle(&mut self, mut book: Book, now: Timestamp) {
        let at = book.account.instant(now);
        let settled = book.settle(at).is_ok() && book.live() == Some(book.account.available);
        if !settled {
            note(&mut self.settles, || format!("organization {}", book.account.organization_id));
        }
    }
}

async fn lots(
    transaction: &DatabaseTransaction,
    organizations: impl Iterator<Item = Uuid>,
) -> Result<HashMap<OrganizationId, Vec<Lot>>, StoreError> {
    let rows = credit_grants::Entity::find()
        .filter(credit_grants::Column::OrganizationId.is_in(organizations))
        .filter(credit_grants::Column::State.is_in(["pending", "active"]))
        .all(transaction)
        .await?;
    let mut lots: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let organization_id = OrganizationId::new(row.organization_id);
        lots.entry(organization_id).or_default().push(Grant::try_from(row)?.lot);
    }
    Ok(lots)
}

#[derive(FromQueryResult)]
struct Spent {
    organization_id: Uuid,
    ai_credits_consumed: i64,
    whatsapp_credits_consumed: i64,
    email_credits_consumed: i64,
    sms_credits_consumed: i64,
}

async fn unsettled(transaction: &DatabaseTransaction) -> Result<Unsettled, StoreError> {
    let backend = transaction.get_database_backend();
    let sums = credit_columns("consumed").map(|column| format!("CAST(SUM(l.{0}) AS BIGINT) AS {0}", column.name));
    let sql = format!(
        "SELECT l.organization_id, {} FROM credit_consumption_logs l \
         JOIN organization_credits c ON c.organization_id = l.organization_id \
         WHERE l.success = {} AND l.hold_id IS NULL AND l.sequence > c.settled_sequence GROUP BY l.organization_id",
        sums.collect::<Vec<_>>().join(", "),
        if backend == sea_orm::DbBackend::Postgres { "true" } else { "1" },
    );
    let rows = Spent::find_by_statement(Statement::from_string(backend, sql)).all(transaction).await?;
    let mut unsettled = HashMap::with_capacity(rows.len());
    for row in rows {
        let columns = [
            row.ai_credits_consumed,
            row.whatsapp_credits_consumed,
            row.email_credits_consumed,
            row.sms_credits_consumed,
        ];
        let spent = crate::entity::credits(columns, "credit_consumption_logs", "consumed")?;
        unsettled.insert(OrganizationId::new(row.organization_id), spent);
    }
    Ok(unsettled)
}
