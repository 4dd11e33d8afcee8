//! The book: an account with the lots behind it, and everything that changes them.
//!
//! **Lots are settled lazily.** Between two *boundaries* (a lot starting or ending, a hold expiring, a period of a plan
//! starting, and every operation of this module) the set of live lots is constant, and burning a sum equals burning its
//! parts one after the other. So spending only lowers [`Account::available`], one row of the database; what it took
//! from which lot is worked out at the next boundary by [`Book::settle`], and kept as [`Draw`]s so that it can be given
//! back (`docs/adr/0002-draws.md`). Correctness never waits for a background job: an account that
//! [`is_due`](Account::is_due) is settled before anything else happens to it, and a reader settles a copy in memory.
//!
//! Settling depends on nothing but the state and the instant: not on who settles, nor on how often. Even the ids of the
//! grants that a plan makes follow from the subscription and the period.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::account::{Account, Balance, Corrupt};
use crate::amount::Amount;
use crate::clock::Timestamp;
use crate::credit::{Credits, Delta};
use crate::error::{Refusal, Shortfall};
use crate::grant::{Draw, GrantSource, GrantState, Lot, NewGrant};
use crate::hold::{Hold, HoldState};
use crate::id::{GrantId, HoldId};
use crate::movement::{Change, Movement, MovementKind};
use crate::plan::Subscription;
use crate::window::Validity;

/// The priority of lots that nobody gave one.
pub const DEFAULT_PRIORITY: i32 = 10;

/// When the next credits expire, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiring {
    /// What goes.
    pub credits: Credits,
    /// When.
    pub at: Timestamp,
}

/// What happens by itself at a boundary, in the order in which ties go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Boundary {
    HoldExpiry,
    LotExpiry,
    LotStart,
    PeriodGrant,
}

/// What a book is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// All pending and active lots, and those that `draws` name, in any order.
    pub lots: Vec<Lot>,
    /// All open holds, and finished ones that are asked about.
    pub holds: Vec<Hold>,
    /// Draws of the open holds, and those that a refund needs.
    pub draws: Vec<Draw>,
    /// The subscription, if there is one.
    pub subscription: Option<Subscription>,
}

/// An account with its lots and holds, which is what every movement but spending works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    /// The account.
    pub account: Account,
    /// In burn order.
    pub(crate) lots: Vec<Lot>,
    pub(crate) holds: BTreeMap<HoldId, Hold>,
    /// By the movement that they are part of, and the lot.
    pub(crate) draws: BTreeMap<(i64, GrantId), Draw>,
    pub(crate) subscription: Option<Subscription>,
    /// New lines of the ledger.
    pub(crate) movements: Vec<Movement>,
}

impl Book {
    /// The book of an account.
    pub fn new(account: Account, pages: Pages) -> Self {
        let Pages { mut lots, holds, draws, subscription } = pages;
        lots.sort_by(Lot::burn_order);
        Self {
            account,
            lots,
            holds: holds.into_iter().map(|hold| (hold.id, hold)).collect(),
            draws: draws.into_iter().map(|draw| ((draw.sequence, draw.grant_id), draw)).collect(),
            subscription,
            movements: Vec::new(),
        }
    }

    /// The lots in burn order.
    pub fn lots(&self) -> &[Lot] {
        &self.lots
    }

    /// The lot of that grant, if the book has it.
    pub fn lot(&self, id: GrantId) -> Option<&Lot> {
        self.lots.iter().find(|lot| lot.id == id)
    }

    /// The hold of that id, if the book has it.
    pub fn hold(&self, id: HoldId) -> Option<&Hold> {
        self.holds.get(&id)
    }

    /// The subscription, if there is one.
    pub const fn subscription(&self) -> Option<&Subscription> {
        self.subscription.as_ref()
    }

    /// The new lines of the ledger, in order.
    pub fn movements(&self) -> &[Movement] {
        &self.movements
    }

    /// Ends the work on the book: the account as it is now, its pages, and the new lines of the ledger.
    pub fn into_parts(self) -> (Account, Pages, Vec<Movement>) {
        let pages = Pages {
            lots: self.lots,
            holds: self.holds.into_values().collect(),
            draws: self.draws.into_values().collect(),
            subscription: self.subscription,
        };
        (self.account, pages, self.movements)
    }

    /// Brings the book up to `at`: books what was spent since the last settlement, then every boundary that has come,
    /// each at its own instant.
    pub fn settle(&mut self, at: Timestamp) -> Result<(), Corrupt> {
        self.book_spending()?;
        while let Some((instant, boundary, place)) = self.next_boundary().filter(|(instant, ..)| *instant <= at) {
            match boundary {
                Boundary::HoldExpiry => self.expire_hold(place, instant)?,
                Boundary::LotExpiry => self.expire_lot(place, instant)?,
                Boundary::LotStart => self.start_lot(place, instant)?,
                Boundary::PeriodGrant => self.grant_period(instant)?,
            }
        }
        self.mark_settled();
        Ok(())
    }

    /// Grants credits at `at`, which must be settled. `id` is the new grant's.
    pub fn grant(&mut self, id: GrantId, new: &NewGrant, at: Timestamp) -> Result<Lot, Refusal> {
        let validity = Validity { effective_at: new.effective_at.unwrap_or(at), expires_at: new.expires_at };
        if validity.has_ended(at) {
            return Err(Refusal::InvalidField { field: "expires_at", message: "must be in the future" });
        }
        if validity.has_ended(validity.effective_at) {
            return Err(Refusal::InvalidField { field: "expires_at", message: "must be after effective_at" });
        }
        self.check_room_for(new.credits)?;
        let starts_now = validity.contains(at);
        let lot = Lot {
            state: if starts_now { GrantState::Active } else { GrantState::Pending },
            priority: new.priority,
            validity,
            ..Lot::of(id, new.credits, new.source, at)
        };
        let before = self.account.balance();
        if starts_now {
            self.account.available = before.available.checked_add(new.credits).ok_or(Refusal::OutOfRange)?;
        }
        self.record(MovementKind::Grant, before, id.uuid(), at);
        self.insert_lot(lot.clone());
        self.mark_settled();
        Ok(lot)
    }

    /// Takes back what is left of a grant, at `at`, which must be settled. What was spent of it stays spent, and what
    /// open holds have set aside of it stays held. A grant that has ended already is left as it is.
    pub fn void(&mut self, id: GrantId, at: Timestamp) -> Result<Lot, Refusal> {
        let before = self.account.balance();
        let lot = self.lots.iter_mut().find(|lot| lot.id == id).ok_or(Refusal::UnknownGrant)?;
        if lot.has_ended(at) {
            return Ok(lot.clone().shown(at));
        }
        let gone = std::mem::take(&mut lot.remaining);
        if lot.state == GrantState::Active {
            self.account.available = before.available.checked_sub(gone).ok_or(Refusal::OutOfRange)?;
        }
        lot.state = GrantState::Voided;
        lot.voided_at = Some(at);
        let lot = lot.clone();
        self.record(MovementKind::Void, before, id.uuid(), at);
        self.mark_settled();
        Ok(lot)
    }

    /// Corrects a balance at `at`, which must be settled: what `change` adds becomes a lot of its own with the id `id`,
    /// what it takes away is burned in order, and never below zero.
    pub fn adjust(&mut self, id: GrantId, change: Delta, note: String, at: Timestamp) -> Result<Option<Lot>, Refusal> {
        let part = |sign: i64| {
            let amounts = change.to_array().map(|value| Amount::new(value.saturating_mul(sign).max(0)));
            let mut part = [Amount::ZERO; crate::credit::COUNT];
            for (slot, amount) in part.iter_mut().zip(amounts) {
                *slot = amount.map_err(|_| Refusal::OutOfRange)?;
            }
            Ok::<_, Refusal>(Credits::from_array(part))
        };
        let (added, taken) = (part(1)?, part(-1)?);
        let before = self.account.balance();
        let left = before.available.checked_sub(taken).ok_or_else(|| {
            Refusal::InsufficientCredits(Box::new(Shortfall {
                required: taken,
                available: before.available,
                shortfall: taken.saturating_sub(before.available),
                max_affordable_quantity: 0,
            }))
        })?;
        self.check_room_for(added)?;
        self.account.available = left.checked_add(added).ok_or(Refusal::OutOfRange)?;
        let sequence = self.record(MovementKind::Adjustment, before, id.uuid(), at);
        if let Some(movement) = self.movements.last_mut() {
            movement.note = Some(note);
        }
        self.draw(taken, sequence);
        let lot = (!added.is_zero()).then(|| Lot::of(id, added, GrantSource::Adjustment, at));
        if let Some(lot) = &lot {
            self.insert_lot(lot.clone());
        }
        self.mark_settled();
        Ok(lot)
    }

    /// The next lot to end with something left, and everything that ends at the same instant. Settled to the present.
    pub fn expiring_next(&self) -> Option<Expiring> {
        let live = || self.lots.iter().filter(|lot| lot.state == GrantState::Active);
        let at = live().filter_map(|lot| lot.validity.expires_at).min()?;
        let credits = live()
            .filter(|lot| lot.validity.expires_at == Some(at))
            .try_fold(Credits::ZERO, |sum, lot| sum.checked_add(lot.remaining))?;
        Some(Expiring { credits, at })
    }

    /// What remains in live lots, or `None` if that is beyond the range of an amount.
    pub fn live(&self) -> Option<Credits> {
        let active = self.lots.iter().filter(|lot| lot.state == GrantState::Active);
        active.map(|lot| lot.remaining).try_fold(Credits::ZERO, Credits::checked_add)
    }

    /// Everything there is and everything that is still to come must stay inside the range of an amount, so that the
    /// start of a lot can never fail later.
    pub(crate) fn check_room_for(&self, credits: Credits) -> Result<(), Refusal> {
        let pending = self.lots.iter().filter(|lot| lot.state == GrantState::Pending);
        pending
            .map(|lot| lot.remaining)
            .chain([self.account.available, self.account.held, credits])
            .try_fold(Credits::ZERO, Credits::checked_add)
            .map(drop)
            .ok_or(Refusal::OutOfRange)
    }

    pub(crate) fn insert_lot(&mut self, lot: Lot) {
        let place = self.lots.partition_point(|other| other.burn_order(&lot).is_lt());
        self.lots.insert(place, lot);
    }

    /// Takes `wanted` from the live lots in burn order, as part of the movement `sequence`. The lots must hold it.
    pub(crate) fn draw(&mut self, wanted: Credits, sequence: i64) {
        let mut rest = wanted;
        for lot in self.lots.iter_mut().filter(|lot| lot.state == GrantState::Active) {
            if rest.is_zero() {
                break;
            }
            let drawn = lot.burn(rest);
            if !drawn.is_zero() {
                add_draw(&mut self.draws, sequence, lot.id, drawn);
            }
            rest = rest.saturating_sub(drawn);
        }
        debug_assert!(rest.is_zero(), "the lots hold what is drawn from them");
    }

    /// Gives `amount` back to a lot.
    pub(crate) fn put_back(&mut self, id: GrantId, amount: Credits) -> Result<(), Corrupt> {
        let lot = self.lots.iter_mut().find(|lot| lot.id == id).ok_or(Corrupt)?;
        lot.put_back(amount).ok_or(Corrupt)
    }

    /// Takes from the lots, in burn order, what was spent since the last settlement.
    fn book_spending(&mut self) -> Result<(), Corrupt> {
        let spent = self.live().ok_or(Corrupt)?.checked_sub(self.account.available).ok_or(Corrupt)?;
        self.draw(spent, self.account.sequence);
        Ok(())
    }

    fn next_boundary(&self) -> Option<(Timestamp, Boundary, usize)> {
        let holds = self.holds.values().enumerate().filter_map(|(place, hold)| {
            (hold.state == HoldState::Open).then_some((hold.expires_at, Boundary::HoldExpiry, place))
        });
        // Places follow the burn order, which decides between lots with the same boundary at the same instant.
        let lots = self.lots.iter().enumerate().filter_map(|(place, lot)| match lot.state {
            GrantState::Active => lot.validity.expires_at.map(|at| (at, Boundary::LotExpiry, place)),
            GrantState::Pending => Some((lot.validity.effective_at, Boundary::LotStart, place)),
            GrantState::Exhausted | GrantState::Expired | GrantState::Voided => None,
        });
        let period = self.subscription.as_ref().and_then(Subscription::next_period_start);
        let period = period.map(|at| (at, Boundary::PeriodGrant, 0));
        holds.chain(lots).chain(period).min()
    }

    fn expire_hold(&mut self, place: usize, at: Timestamp) -> Result<(), Corrupt> {
        let id = *self.holds.keys().nth(place).ok_or(Corrupt)?;
        self.give_up_hold(id, HoldState::Expired, at)
    }

    fn expire_lot(&mut self, place: usize, at: Timestamp) -> Result<(), Corrupt> {
        let lot = &mut self.lots[place];
        lot.state = GrantState::Expired;
        let gone = std::mem::take(&mut lot.remaining);
        let id = lot.id;
        if let Some(subscription) = &mut self.subscription {
            subscription.lot_expired(id, gone);
        }
        let before = self.account.balance();
        self.account.available = before.available.checked_sub(gone).ok_or(Corrupt)?;
        self.record(MovementKind::Expiry, before, id.uuid(), at);
        Ok(())
    }

    fn start_lot(&mut self, place: usize, at: Timestamp) -> Result<(), Corrupt> {
        let lot = &mut self.lots[place];
        lot.state = GrantState::Active;
        let (id, remaining) = (lot.id.uuid(), lot.remaining);
        let before = self.account.balance();
        self.account.available = before.available.checked_add(remaining).ok_or(Corrupt)?;
        self.record(MovementKind::Activation, before, id, at);
        Ok(())
    }

    /// Writes a line of the ledger for what has changed since `before` and answers its number.
    pub(crate) fn record(&mut self, kind: MovementKind, before: Balance, reference: Uuid, at: Timestamp) -> i64 {
        let after = self.account.balance();
        let sequence = self.account.advance(at);
        self.movements.push(Movement {
            sequence,
            kind,
            change: Change {
                available: Delta::between(before.available, after.available),
                held: Delta::between(before.held, after.held),
            },
            balance_after: after,
            reference: Some(reference),
            note: None,
            created_at: at,
        });
        sequence
    }

    pub(crate) fn mark_settled(&mut self) {
        self.account.settled_sequence = self.account.sequence;
        self.account.next_boundary_at = self.next_boundary().map(|(at, ..)| at);
    }
}

/// Adds to what a movement drew from a lot.
pub(crate) fn add_draw(draws: &mut BTreeMap<(i64, GrantId), Draw>, sequence: i64, grant_id: GrantId, amount: Credits) {
    let draw = draws.entry((sequence, grant_id)).or_insert_with(|| Draw::new(sequence, grant_id));
    // Both are parts of one lot, so their sum is at most what was granted.
    draw.drawn = draw.drawn.checked_add(amount).unwrap_or(draw.drawn);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::OrganizationId;

    #[test]
    fn a_grant_has_the_priority_that_was_asked_for_and_leaves_a_movement() {
        let now = Timestamp::UNIX_EPOCH;
        let mut book = Book::new(Account::open(OrganizationId::MIN, now), Pages::default());
        let new = NewGrant {
            credits: Credits::from_sums([5, 0, 0, 0]),
            source: GrantSource::Purchase,
            priority: DEFAULT_PRIORITY + 7,
            effective_at: None,
            expires_at: None,
            reference: None,
            top_up_id: None,
        };
        let id = GrantId::new(Uuid::from_u128(1));
        let lot = book.grant(id, &new, now).unwrap();
        assert_eq!(lot.priority, DEFAULT_PRIORITY + 7);
        assert_eq!(book.lot(id), Some(&lot));
        let [movement] = book.movements() else { panic!("{:?}", book.movements()) };
        assert_eq!((movement.kind, movement.sequence, movement.reference), (MovementKind::Grant, 1, Some(id.uuid())));
        assert_eq!(book.subscription(), None);
    }
}
