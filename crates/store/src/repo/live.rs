//! Following an organization's ledger forwards: what a live balance is made of.
//!
//! A place is the last movement that was seen. What comes after it is read as it is stored, so what is due and not booked
//! yet comes when the sweep has booked it. Numbers are given one by one and committed in their order: what is read in two
//! statements is whole as long as there is no number missing, and where one is, the rest waits for the next time.

use multicredit_domain::consume::Outcome;
use multicredit_domain::movement::Change;
use multicredit_domain::{
    Account, Balance, Consumption, Credits, Delta, Movement, MovementKind, OrganizationId, Refusal, Timestamp,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::entity::{credit_consumption_logs, credit_movements, organization_credits};
use crate::error::StoreError;
use crate::store::Store;

/// A place in a ledger that is followed forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePlace {
    /// The number of the last movement seen.
    pub sequence: i64,
    /// No later than the next movement.
    at: Timestamp,
    /// What was held after it.
    held: Credits,
}

/// A balance as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveBalance {
    /// Its place.
    pub place: LivePlace,
    /// What there was after the movement.
    pub balance: Balance,
}

impl LivePlace {
    /// The place after a movement.
    #[must_use]
    pub const fn after(movement: &Movement) -> Self {
        Self { sequence: movement.sequence, at: movement.created_at, held: movement.balance_after.held }
    }
}

impl Store {
    /// The balance as it is stored now, and the place to follow it from.
    pub async fn live_balance(&self, organization_id: OrganizationId) -> Result<LiveBalance, StoreError> {
        let account = self.stored_account(organization_id).await?;
        let balance = account.balance();
        let place = LivePlace { sequence: account.sequence, at: account.last_movement_at, held: balance.held };
        Ok(LiveBalance { place, balance })
    }

    /// The place after a movement that somebody has seen; `None` if what followed it cannot be told: it is not there yet, or
    /// not any more.
    pub async fn live_place(
        &self,
        organization_id: OrganizationId,
        sequence: i64,
    ) -> Result<Option<LivePlace>, StoreError> {
        use credit_movements::{Column, Entity};
        if sequence < 0 || self.stored_account(organization_id).await?.sequence < sequence {
            return Ok(None);
        }
        if self.checkpoint(organization_id).await?.is_some_and(|checkpoint| sequence < checkpoint.sequence) {
            return Ok(None);
        }
        let row = Entity::find()
            .filter(Column::OrganizationId.eq(organization_id.uuid()))
            .filter(Column::Sequence.lte(sequence))
            .order_by_desc(Column::Sequence)
            .one(self.database())
            .await?;
        let last = row.map(Movement::try_from).transpose()?;
        let start = LivePlace { sequence, at: Timestamp::UNIX_EPOCH, held: Credits::ZERO };
        // Spending in between has not changed what is held.
        Ok(Some(last.map_or(start, |last| LivePlace { sequence, ..LivePlace::after(&last) })))
    }

    /// The movements after a place, in their order, at most so many.
    pub async fn movements_after(
        &self,
        organization_id: OrganizationId,
        place: LivePlace,
        limit: u64,
    ) -> Result<Vec<Movement>, StoreError> {
        // Nearly always there is nothing, and one row says so.
        if self.stored_account(organization_id).await?.sequence <= place.sequence {
            return Ok(Vec::new());
        }
        let booked = {
            use credit_movements::{Column, Entity};
            let query = Entity::find()
                .filter(Column::OrganizationId.eq(organization_id.uuid()))
                .filter(Column::Sequence.gt(place.sequence))
                .order_by_asc(Column::Sequence);
            query.limit(limit).all(self.database()).await?
        };
        let spent = {
            use credit_consumption_logs::{Column, Entity};
            let query = Entity::find()
                .filter(Column::OrganizationId.eq(organization_id.uuid()))
                .filter(Column::CreatedAt.gte(place.at))
                // Not `success`, which an index of another order serves.
                .filter(Column::Sequence.gt(place.sequence))
                .filter(Column::HoldId.is_null())
                .order_by_asc(Column::CreatedAt)
                .order_by_asc(Column::Sequence);
            query.limit(limit).all(self.database()).await?
        };
        let booked = booked.into_iter().map(Movement::try_from).collect::<Result<Vec<_>, _>>()?;
        let spent = spent.into_iter().map(Consumption::try_from).collect::<Result<Vec<_>, _>>()?;
        let mut movements = weave(place, booked, spent);
        movements.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(movements)
    }

    async fn stored_account(&self, organization_id: OrganizationId) -> Result<Account, StoreError> {
        let row = organization_credits::Entity::find_by_id(organization_id.uuid()).one(self.database()).await?;
        Ok(row.ok_or(Refusal::UnknownOrganization)?.try_into()?)
    }
}

/// Puts both together in the order of their numbers, up to the first that is missing.
fn weave(place: LivePlace, booked: Vec<Movement>, spent: Vec<Consumption>) -> Vec<Movement> {
    let (mut booked, mut spent) = (booked.into_iter().peekable(), spent.into_iter().peekable());
    let mut here = place;
    let mut woven = Vec::new();
    loop {
        let next = here.sequence + 1;
        let movement = if let Some(movement) = booked.next_if(|movement| movement.sequence == next) {
            movement
        } else if let Some(consumption) = spent.next_if(|it| sequence_of(it) == Some(next)) {
            let Outcome::Spent { available, .. } = consumption.outcome else { return woven };
            Movement {
                sequence: next,
                kind: MovementKind::Consumption,
                change: Change { available: Delta::between(consumption.consumed, Credits::ZERO), held: Delta::ZERO },
                balance_after: Balance { available, held: here.held },
                reference: Some(consumption.id.uuid()),
                note: None,
                created_at: consumption.created_at,
            }
        } else {
            return woven;
        };
        here = LivePlace::after(&movement);
        woven.push(movement);
    }
}

const fn sequence_of(consumption: &Consumption) -> Option<i64> {
    if let Outcome::Spent { sequence, .. } = consumption.outcome { Some(sequence) } else { None }
}
