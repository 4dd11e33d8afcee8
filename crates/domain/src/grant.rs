//! Grants. Each is a *lot*: credits that came together, with a validity and a place in the burn order.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::book::DEFAULT_PRIORITY;
use crate::clock::Timestamp;
use crate::credit::Credits;
use crate::id::{GrantId, TopUpId};
use crate::window::Validity;

/// Where a grant came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantSource {
    /// Bought.
    Purchase,
    /// Given away.
    Promotion,
    /// The allowance of a plan's period.
    Plan,
    /// A correction.
    Adjustment,
    /// Given back after the lot it came from had ended.
    Refund,
}

impl GrantSource {
    /// Every source.
    pub const ALL: [Self; 5] = [Self::Purchase, Self::Promotion, Self::Plan, Self::Adjustment, Self::Refund];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Promotion => "promotion",
            Self::Plan => "plan",
            Self::Adjustment => "adjustment",
            Self::Refund => "refund",
        }
    }

    /// The source of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

/// Where a lot is in its life, as of the organization's last settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// Not yet effective.
    Pending,
    /// Spendable, with something left.
    Active,
    /// In force, with nothing left.
    Exhausted,
    /// Ended with something left, which went.
    Expired,
    /// Taken back.
    Voided,
}

impl GrantState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Exhausted, Self::Expired, Self::Voided];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Exhausted => "exhausted",
            Self::Expired => "expired",
            Self::Voided => "voided",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What the rules know of a grant: enough to burn it in order and to end it in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// The grant.
    pub id: GrantId,
    /// What it held at first.
    pub granted: Credits,
    /// What was left of it at the last settlement.
    pub remaining: Credits,
    /// Where it was in its life at the last settlement.
    pub state: GrantState,
    /// Where it came from.
    pub source: GrantSource,
    /// Lower burns first.
    pub priority: i32,
    /// When it may be spent.
    pub validity: Validity,
    /// When it was granted.
    pub created_at: Timestamp,
    /// When it was taken back, if it was.
    pub voided_at: Option<Timestamp>,
}

impl Lot {
    /// A lot that may be spent from `at` on, for ever.
    pub(crate) fn of(id: GrantId, granted: Credits, source: GrantSource, at: Timestamp) -> Self {
        Self {
            id,
            granted,
            remaining: granted,
            state: GrantState::Active,
            source,
            priority: DEFAULT_PRIORITY,
            validity: Validity { effective_at: at, expires_at: None },
            created_at: at,
            voided_at: None,
        }
    }

    /// Whether nothing can come back to it at `at`.
    pub(crate) fn has_ended(&self, at: Timestamp) -> bool {
        matches!(self.state, GrantState::Expired | GrantState::Voided) || self.validity.has_ended(at)
    }

    /// Whether nothing can come back to it in what happens at the instant `at` before lots end there.
    pub(crate) fn has_ended_before(&self, at: Timestamp) -> bool {
        matches!(self.state, GrantState::Expired | GrantState::Voided)
            || self.validity.expires_at.is_some_and(|end| end < at)
    }

    /// The lot as it is shown at `at`. One with nothing left is not settled again; that it has ended all the same follows
    /// from its dates.
    #[must_use]
    pub fn shown(mut self, at: Timestamp) -> Self {
        if self.state == GrantState::Exhausted && self.validity.has_ended(at) {
            self.state = GrantState::Expired;
        }
        self
    }

    /// Gives back what was drawn from it; `None` if it never held that much.
    pub(crate) fn put_back(&mut self, amount: Credits) -> Option<()> {
        let remaining = self.remaining.checked_add(amount).filter(|remaining| remaining.fits_in(self.granted))?;
        self.remaining = remaining;
        if self.state == GrantState::Exhausted && !remaining.is_zero() {
            self.state = GrantState::Active;
        }
        Some(())
    }

    /// The total order in which lots are spent: priority (lower first), earliest expiry (none is last), promotion before
    /// paid, time of creation, id.
    pub fn burn_order(&self, other: &Self) -> Ordering {
        let key = |lot: &Self| {
            (
                lot.priority,
                lot.validity.expires_at.is_none(),
                lot.validity.expires_at,
                lot.source != GrantSource::Promotion,
                lot.created_at,
                lot.id,
            )
        };
        key(self).cmp(&key(other))
    }

    /// Takes what it can of `wanted` and answers what it took.
    pub(crate) fn burn(&mut self, wanted: Credits) -> Credits {
        let taken = wanted.min(self.remaining);
        self.remaining = self.remaining.saturating_sub(taken);
        if self.remaining.is_zero() {
            self.state = GrantState::Exhausted;
        }
        taken
    }
}

/// A grant as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGrant {
    /// How much of each type; not all zero.
    pub credits: Credits,
    /// Where it comes from.
    pub source: GrantSource,
    /// Lower burns first.
    pub priority: i32,
    /// From when it may be spent; `None` is at once.
    pub effective_at: Option<Timestamp>,
    /// From when it may no longer be spent; `None` never comes.
    pub expires_at: Option<Timestamp>,
    /// The caller's own name for it: an invoice, an order.
    pub reference: Option<String>,
    /// The request for credits that it answers.
    ///
    /// Left out where there is none, so that a key that was bound before there were such requests is bound to the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_up_id: Option<TopUpId>,
}

/// A grant as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What the rules know of it, settled to the instant of showing.
    pub lot: Lot,
    /// The caller's own name for it.
    pub reference: Option<String>,
}

/// What was taken from one lot: by a hold, by a capture, or by all spending up to and including the movement `sequence`
/// since the settlement before it.
///
/// What is given back later finds here which lots it came from (`docs/adr/0002-draws.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// The organization's last movement that it covers.
    pub sequence: i64,
    /// The lot.
    pub grant_id: GrantId,
    /// How much was taken.
    pub drawn: Credits,
    /// How much of that has been given back, or has passed to another draw.
    pub returned: Credits,
}

impl Draw {
    pub(crate) const fn new(sequence: i64, grant_id: GrantId) -> Self {
        Self { sequence, grant_id, drawn: Credits::ZERO, returned: Credits::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn seconds(count: i64) -> Timestamp {
        START + TimeDelta::seconds(count)
    }

    fn ai(value: i64) -> Credits {
        Credits::from_sums([value, 0, 0, 0])
    }

    /// A lot of ten that ends after a minute.
    fn lot(id: u128) -> Lot {
        let validity = Validity { effective_at: START, expires_at: Some(seconds(60)) };
        Lot { validity, ..Lot::of(GrantId::new(Uuid::from_u128(id)), ai(10), GrantSource::Purchase, START) }
    }

    #[test]
    fn the_first_difference_in_the_burn_order_decides() {
        // What is spent last stands first.
        let lots = [
            Lot { priority: 11, ..lot(1) },
            Lot { validity: Validity { effective_at: START, expires_at: None }, ..lot(2) },
            Lot { validity: Validity { effective_at: START, expires_at: Some(seconds(61)) }, ..lot(3) },
            lot(9),
            lot(4),
            Lot { source: GrantSource::Promotion, created_at: seconds(2), ..lot(5) },
            Lot { source: GrantSource::Promotion, created_at: seconds(1), ..lot(6) },
            Lot { priority: 9, validity: Validity { effective_at: START, expires_at: None }, ..lot(7) },
        ];
        let mut sorted = lots.to_vec();
        sorted.sort_by(Lot::burn_order);
        sorted.reverse();
        assert_eq!(sorted, lots);
    }

    #[test]
    fn a_lot_with_nothing_left_is_shown_as_expired_once_it_has_ended() {
        let shown = |state, at| Lot { state, ..lot(1) }.shown(seconds(at)).state;
        assert_eq!(shown(GrantState::Exhausted, 59), GrantState::Exhausted);
        assert_eq!(shown(GrantState::Exhausted, 60), GrantState::Expired);
        assert_eq!(shown(GrantState::Voided, 60), GrantState::Voided);
        assert_eq!(shown(GrantState::Active, 59), GrantState::Active);
    }

    #[test]
    fn what_comes_back_wakes_an_exhausted_lot_and_no_other() {
        let mut burned = lot(1);
        assert_eq!(burned.burn(ai(12)), ai(10));
        assert_eq!((burned.remaining, burned.state), (ai(0), GrantState::Exhausted));
        burned.put_back(ai(0)).unwrap();
        assert_eq!(burned.state, GrantState::Exhausted);
        burned.put_back(ai(3)).unwrap();
        assert_eq!((burned.remaining, burned.state), (ai(3), GrantState::Active));
        assert_eq!(burned.put_back(ai(8)), None, "it never held that much");
        let mut voided = Lot { state: GrantState::Voided, remaining: ai(0), ..lot(1) };
        voided.put_back(ai(3)).unwrap();
        assert_eq!(voided.state, GrantState::Voided);
    }
}
