//! The ledger statement: every movement in its order, wherever it is stored.

use chrono::TimeDelta;
use multicredit_domain::consume::Outcome;
use multicredit_domain::movement::Change;
use multicredit_domain::{
    Balance, Consumption, Credits, Delta, Movement, MovementKind, OrganizationId, Refusal, Timestamp,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};

use super::balance::BalanceView;
use super::book::SettledBook;
use crate::entity::{credit_consumption_logs, credit_movements};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

/// A place in the statement. The instant bounds the search in the log, which is ordered by time; it never decreases
/// with the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPosition {
    /// The number of the last movement seen.
    pub sequence: i64,
    /// Its instant.
    pub created_at: Timestamp,
}

impl Store {
    /// The organization's movements, highest sequence first.
    pub async fn ledger(
        &self,
        organization_id: OrganizationId,
        page: PageRequest<LedgerPosition>,
    ) -> Result<Page<Movement, LedgerPosition>, StoreError> {
        // What is due and not booked yet is in the book, with the numbers that it will have.
        let SettledBook { book, stored_sequence, .. } = self.settled_book(organization_id).await?;
        let unseen = |movement: &&Movement| page.after.is_none_or(|after| movement.sequence < after.sequence);
        let mut items: Vec<_> = book.movements().iter().filter(unseen).rev().cloned().collect();
        let booked = self.booked_movements(organization_id, stored_sequence, &page).await?;
        let spent = self.spendings(organization_id, stored_sequence, &page).await?;
        items.extend(merge(booked, spent));
        if let Some(checkpoint) = self.checkpoint(organization_id).await? {
            items.retain(|movement| movement.sequence > checkpoint.sequence);
        }
        let position =
            |movement: &Movement| LedgerPosition { sequence: movement.sequence, created_at: movement.created_at };
        Ok(Page::new(items, page.limit, position))
    }

    /// The balance as it was at `at`, which must not be in the future: what the balance call answered then.
    pub async fn balance_at(&self, organization_id: OrganizationId, at: Timestamp) -> Result<BalanceView, StoreError> {
        let settled = self.settled_book(organization_id).await?;
        self.balance_in(organization_id, &settled, at).await
    }

    /// The balances as they were at each of these instants, in their order, none of which may be in the future.
    pub async fn balances_at(
        &self,
        organization_id: OrganizationId,
        instants: &[Timestamp],
    ) -> Result<Vec<BalanceView>, StoreError> {
        let settled = self.settled_book(organization_id).await?;
        let mut views = Vec::with_capacity(instants.len());
        for at in instants {
            views.push(self.balance_in(organization_id, &settled, *at).await?);
        }
        Ok(views)
    }

    async fn balance_in(
        &self,
        organization_id: OrganizationId,
        SettledBook { book, stored_sequence, as_of }: &SettledBook,
        at: Timestamp,
    ) -> Result<BalanceView, StoreError> {
        if at > *as_of {
            return Err(Refusal::InvalidField { field: "at", message: "must not be in the future" }.into());
        }
        let settled = book.movements().iter().rev().find(|movement| movement.created_at <= at);
        let (sequence, balance) = match settled {
            Some(movement) => (movement.sequence, movement.balance_after),
            None => self.last_stored_balance(organization_id, *stored_sequence, at).await?,
        };
        Ok(BalanceView { organization_id, balance, expiring_next: None, sequence, as_of: at })
    }

    /// The number of the last movement before an instant, and the balance after it, from what is stored.
    pub(crate) async fn balance_before(
        &self,
        organization_id: OrganizationId,
        before: Timestamp,
    ) -> Result<(i64, Balance), StoreError> {
        // The ledger knows whole microseconds.
        self.last_stored_balance(organization_id, i64::MAX, before - TimeDelta::microseconds(1)).await
    }

    /// The number of the last movement at or before `at` that is stored, or was until it was dropped, and the balance after
    /// it. [`Refusal::BeyondRetention`] for an instant before history begins.
    async fn last_stored_balance(
        &self,
        organization_id: OrganizationId,
        last: i64,
        at: Timestamp,
    ) -> Result<(i64, Balance), StoreError> {
        let found = self.last_stored_movement(organization_id, last, at).await?.unwrap_or_default();
        match self.checkpoint(organization_id).await? {
            Some(checkpoint) if at < checkpoint.through => Err(Refusal::BeyondRetention.into()),
            Some(checkpoint) if found.0 <= checkpoint.sequence => Ok((checkpoint.sequence, checkpoint.balance()?)),
            _ => Ok(found),
        }
    }

    /// The last stored movement at or before `at`, and the balance after it.
    async fn last_stored_movement(
        &self,
        organization_id: OrganizationId,
        last: i64,
        at: Timestamp,
    ) -> Result<Option<(i64, Balance)>, StoreError> {
        let booked = credit_movements::Entity::find()
            .filter(credit_movements::Column::OrganizationId.eq(organization_id.uuid()))
            .filter(credit_movements::Column::CreatedAt.lte(at))
            .filter(credit_movements::Column::Sequence.lte(last))
            .order_by_desc(credit_movements::Column::CreatedAt)
            .order_by_desc(credit_movements::Column::Sequence)
            .one(self.database())
            .await?;
        let spent = credit_consumption_logs::Entity::find()
            .filter(credit_consumption_logs::Column::OrganizationId.eq(organization_id.uuid()))
            .filter(credit_consumption_logs::Column::CreatedAt.lte(at))
            .filter(credit_consumption_logs::Column::Sequence.lte(last))
            .filter(credit_consumption_logs::Column::HoldId.is_null())
            .order_by_desc(credit_consumption_logs::Column::CreatedAt)
            .order_by_desc(credit_consumption_logs::Column::Sequence);
        let spent = self.newest_log_rows(spent, Some(at), 1).await?.pop();
        let booked = booked.map(Movement::try_from).transpose()?;
        let spent = spent.map(Consumption::try_from).transpose()?;
        let newest = merge(booked.into_iter().collect(), spent.into_iter().collect()).into_iter().next();
        Ok(newest.map(|movement| (movement.sequence, movement.balance_after)))
    }

    async fn booked_movements(
        &self,
        organization_id: OrganizationId,
        last: i64,
        page: &PageRequest<LedgerPosition>,
    ) -> Result<Vec<Movement>, StoreError> {
        use credit_movements::{Column, Entity};
        let mut query =
            Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid())).filter(Column::Sequence.lte(last));
        if let Some(after) = page.after {
            query = query.filter(Column::Sequence.lt(after.sequence));
        }
        let rows = query.order_by_desc(Column::Sequence).limit(page.fetch_limit()).all(self.database()).await?;
        Ok(rows.into_iter().map(Movement::try_from).collect::<Result<_, _>>()?)
    }

    async fn spendings(
        &self,
        organization_id: OrganizationId,
        last: i64,
        page: &PageRequest<LedgerPosition>,
    ) -> Result<Vec<Consumption>, StoreError> {
        use credit_consumption_logs::{Column, Entity};
        let mut query = Entity::find()
            .filter(Column::OrganizationId.eq(organization_id.uuid()))
            // Not `success`, which an index of another order serves.
            .filter(Column::Sequence.lte(last))
            .filter(Column::HoldId.is_null());
        if let Some(after) = page.after {
            query = query.filter(Column::CreatedAt.lte(after.created_at)).filter(Column::Sequence.lt(after.sequence));
        }
        let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Sequence);
        let newest = page.after.map(|after| after.created_at);
        let rows = self.newest_log_rows(query, newest, page.fetch_limit()).await?;
        Ok(rows.into_iter().map(Consumption::try_from).collect::<Result<_, _>>()?)
    }
}

/// Merges two lists of movements, both highest sequence first. Spending leaves what is held as the movement before it
/// left it, so a log row need not store that.
fn merge(booked: Vec<Movement>, spent: Vec<Consumption>) -> Vec<Movement> {
    let mut merged = Vec::with_capacity(booked.len() + spent.len());
    let mut booked = booked.into_iter().peekable();
    for consumption in spent {
        let Outcome::Spent { sequence, available } = consumption.outcome else { continue };
        while let Some(movement) = booked.next_if(|movement| movement.sequence > sequence) {
            merged.push(movement);
        }
        let held = booked.peek().map_or(Credits::ZERO, |movement| movement.balance_after.held);
        merged.push(Movement {
            sequence,
            kind: MovementKind::Consumption,
            change: Change { available: Delta::between(consumption.consumed, Credits::ZERO), held: Delta::ZERO },
            balance_after: Balance { available, held },
            reference: Some(consumption.id.uuid()),
            note: None,
            created_at: consumption.created_at,
        });
    }
    merged.extend(booked);
    merged
}
