//! An organization's account: the one row that every movement locks and changes, and all that spending touches.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{Timestamp, not_before};
use crate::credit::Credits;
use crate::error::Shortfall;
use crate::id::OrganizationId;
use crate::organization::OrganizationStatus;

/// The database holds something that the rules could not have made. Nothing may be built on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the lots of an organization do not add up to its balance")]
pub struct Corrupt;

/// The two sides of a balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Balance {
    /// What can be spent.
    pub available: Credits,
    /// What open holds have set aside.
    pub held: Credits,
}

/// The one row of an organization that every movement locks and changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// What the organization may do.
    pub status: OrganizationStatus,
    /// What can be spent, exact while no boundary is due.
    pub available: Credits,
    /// What open holds have set aside.
    pub held: Credits,
    /// The number of the last movement; 0 before the first.
    pub sequence: i64,
    /// The instant of the last movement, or of the account's making.
    pub last_movement_at: Timestamp,
    /// The earliest instant at which the set of lots changes by itself.
    pub next_boundary_at: Option<Timestamp>,
    /// Up to which movement the lots' remaining amounts are settled.
    pub settled_sequence: i64,
}

impl Account {
    /// The account of a new organization.
    pub fn open(organization_id: OrganizationId, at: Timestamp) -> Self {
        Self {
            organization_id,
            status: OrganizationStatus::Active,
            available: Credits::ZERO,
            held: Credits::ZERO,
            sequence: 0,
            last_movement_at: at,
            next_boundary_at: None,
            settled_sequence: 0,
        }
    }

    /// The instant of a movement made when the clock shows `clock`.
    pub fn instant(&self, clock: Timestamp) -> Timestamp {
        not_before(clock, self.last_movement_at)
    }

    /// Whether the set of lots changes at or before `at`, so that the account must be settled first.
    pub fn is_due(&self, at: Timestamp) -> bool {
        self.next_boundary_at.is_some_and(|boundary| boundary <= at)
    }

    /// The balance.
    pub const fn balance(&self) -> Balance {
        Balance { available: self.available, held: self.held }
    }

    /// Spends `cost`, all of it or nothing. The account must not be due at `at`.
    ///
    /// Answers the new sequence, or what was missing (with no affordable quantity yet: the price knows that).
    pub fn spend(&mut self, cost: Credits, at: Timestamp) -> Result<i64, Shortfall> {
        debug_assert!(!self.is_due(at), "settle first");
        let Some(left) = self.available.checked_sub(cost) else {
            return Err(Shortfall {
                required: cost,
                available: self.available,
                shortfall: cost.saturating_sub(self.available),
                max_affordable_quantity: 0,
            });
        };
        self.available = left;
        Ok(self.advance(at))
    }

    /// Counts a movement of that instant. It may be a boundary of before the last one: a fence was raised since.
    pub(crate) fn advance(&mut self, at: Timestamp) -> i64 {
        self.sequence += 1;
        self.last_movement_at = self.last_movement_at.max(at);
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_instant_is_never_before_the_last_movement() {
        let last = Timestamp::UNIX_EPOCH + TimeDelta::days(1);
        let account = Account::open(OrganizationId::MIN, last);
        let second = TimeDelta::seconds(1);
        assert_eq!(account.instant(last - second), last);
        assert_eq!(account.instant(last + second), last + second);
    }
}
