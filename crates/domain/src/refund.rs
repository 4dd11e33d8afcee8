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
