//! Refunds: a consumption, or part of it, as if it had not happened.
//!
//! The amount follows from the price that was charged: the cost of what was kept before, less the cost of what is kept
//! after, so that parts add up to the whole whatever the unit size. The credits go back to live lots in reverse burn
//! order, up to what was drawn from each by the settlement that the consumption was part of. What no live lot can take
//! came from lots that have ended; the caller says whether that refuses the refund or makes a new lot.

use serde::{Deserialize, Serialize};

use crate::action::Price;
use crate::amount::Quantity;
use crate::book::Book;
use crate::clock::Timestamp;
use crate::credit::{Credits, Delta};
use crate::error::{Denial, Refusal};
use crate::grant::{GrantSource, Lot};
use crate::id::{ConsumptionId, GrantId, RefundId};
use crate::movement::MovementKind;

/// What becomes of credits whose lots have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpired {
    /// The refund is refused.
    #[default]
    Refuse,
    /// They become a new lot, without an end.
    Grant,
}

/// A refund as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRefund {
    /// What is given back.
    pub consumption_id: ConsumptionId,
    /// How much of its quantity; `None` is the rest.
    pub quantity: Option<Quantity>,
    /// Why.
    pub reason: String,
    /// What becomes of credits whose lots have ended.
    pub on_expired: OnExpired,
}

/// What the rules must know of a consumption to give it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refundable {
    /// The movement that spent it.
    pub sequence: i64,
    /// The price that was charged.
    pub price: Price,
    /// How much was consumed.
    pub quantity: Quantity,
    /// How much of that was refunded already.
    pub refunded: i64,
}

/// A refund that went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Its id.
    pub id: RefundId,
    /// What was given back.
    pub consumption_id: ConsumptionId,
    /// How much of its quantity.
    pub quantity: Quantity,
    /// The credits.
    pub refunded: Credits,
    /// The new lot, if the old ones had ended.
    pub grant_id: Option<GrantId>,
    /// Why.
    pub reason: String,
    /// The movement's number.
    pub sequence: i64,
    /// What could be spent afterwards.
    pub available: Credits,
    /// The movement's instant.
    pub created_at: Timestamp,
}

impl Refundable {
    /// How much quantity a refund takes back, and what that cost.
    fn amount(&self, wanted: Option<Quantity>) -> Result<(Quantity, Credits), Refusal> {
        let kept_before = self.quantity.get() - self.refunded;
        let taken = wanted.map_or(kept_before, Quantity::get);
        if taken > kept_before {
            return Err(Refusal::OverRefund);
        }
        let taken = Quantity::new(taken).map_err(|_| Refusal::OverRefund)?;
        // Nothing kept costs nothing.
        let cost = |kept: i64| Quantity::new(kept).map_or(Ok(Credits::ZERO), |kept| self.price.cost(kept));
        let before = cost(kept_before)?;
        let after = cost(kept_before - taken.get())?;
        Ok((taken, before.checked_sub(after).ok_or(Refusal::OutOfRange)?))
    }
}

impl Book {
    /// Gives a consumption back at `at`, which must be settled. `id` is the refund's, and the new lot's if there is one.
    pub fn refund(
        &mut self,
        id: RefundId,
        new: &NewRefund,
        consumption: &mut Refundable,
        at: Timestamp,
    ) -> Result<(Refund, Option<Lot>), Denial> {
        let (quantity, refunded) = consumption.amount(new.quantity)?;
        let group = self.draws.range((consumption.sequence, GrantId::MIN)..).next().map(|((sequence, _), _)| *sequence);
        let (to_live, rest) = self.places_for(refunded, group, |lot| !lot.has_ended(at));
        let (to_ended, beyond) = self.places_for(rest, group, |lot| lot.has_ended(at));
        if !rest.is_zero() && new.on_expired == OnExpired::Refuse {
            return Err(Refusal::LotExpired.into());
        }
        if !beyond.is_zero() {
            return Err(crate::account::Corrupt.into());
        }
        let before = self.account.balance();
        let available = before.available.checked_add(refunded).ok_or(Refusal::OutOfRange)?;
        self.check_room_for(refunded)?;
        // From here on nothing can be refused.
        for (grant_id, amount) in &to_live {
            self.put_back(*grant_id, *amount)?;
        }
        for (grant_id, amount) in to_live.into_iter().chain(to_ended) {
            let draw = group.and_then(|sequence| self.draws.get_mut(&(sequence, grant_id)));
            let draw = draw.ok_or(crate::account::Corrupt)?;
            draw.returned = draw.returned.checked_add(amount).ok_or(crate::account::Corrupt)?;
        }
        self.account.available = available;
        let sequence = self.record(MovementKind::Refund, before, new.consumption_id.uuid(), at);
        if let Some(movement) = self.movements.last_mut() {
            movement.note = Some(new.reason.clone());
            debug_assert_eq!(movement.change.available, Delta::between(before.available, available));
        }
        let lot = (!rest.is_zero()).then(|| Lot::of(GrantId::new(id.uuid()), rest, GrantSource::Refund, at));
        if let Some(lot) = &lot {
            self.insert_lot(lot.clone());
        }
        self.mark_settled();
        consumption.refunded += quantity.get();
        let refund = Refund {
            id,
            consumption_id: new.consumption_id,
            quantity,
            refunded,
            grant_id: lot.as_ref().map(|lot| lot.id),
            reason: new.reason.clone(),
            sequence,
            available,
            created_at: at,
        };
        Ok((refund, lot))
    }

    /// Where `amount` can go back to: the lots of a group of draws that `wanted` names, in reverse burn order, each up to
    /// what is still drawn from it. Answers the places, and what is left over.
    fn places_for(
        &self,
        amount: Credits,
        group: Option<i64>,
        wanted: impl Fn(&Lot) -> bool,
    ) -> (Vec<(GrantId, Credits)>, Credits) {
        let mut rest = amount;
        let mut places = Vec::new();
        for lot in self.lots.iter().rev().filter(|lot| wanted(lot)) {
            let draw = group.and_then(|sequence| self.draws.get(&(sequence, lot.id)));
            let part = draw.map_or(Credits::ZERO, |draw| draw.drawn.saturating_sub(draw.returned)).min(rest);
            if !part.is_zero() {
                places.push((lot.id, part));
                rest = rest.saturating_sub(part);
            }
        }
        (places, rest)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::account::{Account, Corrupt};
    use crate::book::Pages;
    use crate::grant::NewGrant;
    use crate::id::OrganizationId;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    /// Ten credits that end after a minute, and are spent first.
    const SHORT: GrantId = GrantId::new(Uuid::from_u128(1));

    /// Fifty that do not.
    const LONG: GrantId = GrantId::new(Uuid::from_u128(2));

    fn ai(value: i64) -> Credits {
        Credits::from_sums([value, 0, 0, 0])
    }

    fn quantity(value: i64) -> Quantity {
        Quantity::new(value).unwrap()
    }

    fn seconds(count: i64) -> Timestamp {
        START + TimeDelta::seconds(count)
    }

    fn price(unit_size: i64) -> Price {
        let unit_size = quantity(unit_size);
        Price { version: 1, costs: ai(1), unit_size, active: true, effective_at: START, description: None }
    }

    /// A consumption of twenty at one credit each, by the movement 3.
    fn spent() -> Refundable {
        Refundable { sequence: 3, price: price(1), quantity: quantity(20), refunded: 0 }
    }

    /// A book with both lots, of which twenty were spent at once and one credit afterwards.
    fn book() -> Book {
        let mut book = Book::new(Account::open(OrganizationId::MIN, START), Pages::default());
        for (id, credits, priority, expires_at) in [(SHORT, 10, 1, Some(seconds(60))), (LONG, 50, 2, None)] {
            let (credits, source) = (ai(credits), GrantSource::Purchase);
            let new = NewGrant {
                credits,
                source,
                priority,
                effective_at: None,
                expires_at,
                reference: None,
                top_up_id: None,
            };
            book.grant(id, &new, START).unwrap();
        }
        book.account.spend(ai(20), START).unwrap();
        book.account.spend(ai(1), START).unwrap();
        book.settle(START).unwrap();
        book
    }

    fn refund(
        book: &mut Book,
        spent: &mut Refundable,
        wanted: Option<i64>,
        on_expired: OnExpired,
        at: Timestamp,
    ) -> Result<(Refund, Option<Lot>), Denial> {
        let consumption_id = ConsumptionId::new(Uuid::from_u128(3));
        let new = NewRefund { consumption_id, quantity: wanted.map(quantity), reason: "late".to_owned(), on_expired };
        book.refund(RefundId::new(Uuid::from_u128(4)), &new, spent, at)
    }

    fn remaining(book: &Book) -> [Credits; 2] {
        [SHORT, LONG].map(|id| book.lot(id).unwrap().remaining)
    }

    #[test]
    fn parts_go_back_in_reverse_burn_order_until_the_whole_is_refunded() {
        let (mut book, mut spent) = (book(), spent());
        assert_eq!(remaining(&book), [ai(0), ai(39)]);
        let (first, lot) = refund(&mut book, &mut spent, Some(5), OnExpired::Refuse, START).unwrap();
        assert_eq!((first.quantity, first.refunded, first.sequence, first.grant_id), (quantity(5), ai(5), 5, None));
        assert_eq!((remaining(&book), first.available, lot), ([ai(0), ai(44)], ai(44), None));
        let more = refund(&mut book, &mut spent, Some(16), OnExpired::Refuse, START);
        assert_eq!(more, Err(Refusal::OverRefund.into()));
        let (rest, _) = refund(&mut book, &mut spent, None, OnExpired::Grant, START).unwrap();
        assert_eq!((rest.quantity, rest.refunded, rest.grant_id), (quantity(15), ai(15), None));
        // What was spent together is given back together: the one credit of afterwards may stand for another.
        assert_eq!(remaining(&book), [ai(9), ai(50)]);
        assert_eq!((book.account.available, spent.refunded), (ai(59), 20));
        assert_eq!(book.movements().last().and_then(|movement| movement.note.as_deref()), Some("late"));
        for wanted in [None, Some(1)] {
            let more = refund(&mut book, &mut spent, wanted, OnExpired::Grant, START);
            assert_eq!(more, Err(Refusal::OverRefund.into()));
        }
    }

    #[test]
    fn the_whole_can_be_named() {
        let (mut book, mut spent) = (book(), spent());
        let (whole, _) = refund(&mut book, &mut spent, Some(20), OnExpired::Refuse, START).unwrap();
        assert_eq!((whole.refunded, book.account.available), (ai(20), ai(59)));
    }

    #[test]
    fn a_part_costs_what_the_units_cost_that_are_no_longer_begun() {
        let spent = Refundable { price: price(3), quantity: quantity(7), refunded: 1, ..spent() };
        let given_back = |wanted| spent.amount(Some(quantity(wanted))).map(|(_, credits)| credits);
        assert_eq!([1, 2, 3, 4, 5, 6].map(given_back), [0, 0, 1, 1, 1, 2].map(|credits| Ok(ai(credits))));
        assert_eq!(given_back(7), Err(Refusal::OverRefund));
        assert_eq!(spent.amount(None), Ok((quantity(6), ai(2))));
    }

    #[test]
    fn what_came_from_a_lot_that_has_ended_is_refused_or_becomes_a_lot() {
        let (mut book, mut spent) = (book(), spent());
        book.settle(seconds(60)).unwrap();
        let before = book.clone();
        let refused = refund(&mut book, &mut spent, None, OnExpired::Refuse, seconds(60));
        assert_eq!((refused, &book, spent.refunded), (Err(Refusal::LotExpired.into()), &before, 0));
        let (refund, lot) = refund(&mut book, &mut spent, None, OnExpired::Grant, seconds(60)).unwrap();
        let lot = lot.unwrap();
        assert_eq!((lot.granted, lot.source, lot.validity.expires_at), (ai(9), GrantSource::Refund, None));
        assert_eq!((refund.refunded, refund.grant_id), (ai(20), Some(lot.id)));
        assert_eq!(remaining(&book), [ai(0), ai(50)]);
        assert_eq!(book.account.available, ai(59));
        assert_eq!(book.live(), Some(ai(59)));
        let returned = book.draws.values().map(|draw| (draw.grant_id, draw.drawn, draw.returned));
        assert_eq!(returned.collect::<Vec<_>>(), [(SHORT, ai(10), ai(9)), (LONG, ai(11), ai(11))]);
    }

    #[test]
    fn more_than_was_drawn_makes_no_sense() {
        let mut spent = Refundable { quantity: quantity(22), ..spent() };
        let refused = refund(&mut book(), &mut spent, None, OnExpired::Grant, START);
        assert_eq!(refused, Err(Corrupt.into()));
    }
}
