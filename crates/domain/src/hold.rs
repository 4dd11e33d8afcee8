//! Holds: credits set aside for a cost that is known only afterwards.
//!
//! A hold takes credits out of what is available at once, in burn order, as any spending does; they belong to the hold
//! until it is captured, released, or expires, each of which happens at most once. Capture spends part, all or more of
//! what is held, at the price of the day on which the hold was placed.
//!
//! Giving up a hold means "as if it had not been": every part goes back to the very lot it was drawn from. A part whose
//! lot has ended meanwhile would have ended with it, and goes. It never fills a gap that other spending made in another
//! lot, which would let credits outlive their lot (`docs/adr/0002-draws.md`).

use serde::{Deserialize, Serialize};

use crate::account::Corrupt;
use crate::action::{Price, price_at};
use crate::amount::Quantity;
use crate::book::{Book, add_draw};
use crate::clock::Timestamp;
use crate::consume::Spent;
use crate::credit::Credits;
use crate::error::{Denial, Refusal, Shortfall};
use crate::grant::Lot;
use crate::id::{ConsumptionId, GrantId, HoldId};
use crate::movement::MovementKind;
use crate::text::{ActionType, Actor};

/// The longest time that a hold may last from now, in seconds: a day.
pub const TTL_SECONDS_MAX: i64 = 86_400;

/// How long a hold lasts where nothing is said, in seconds.
pub const TTL_SECONDS_DEFAULT: i64 = 300;

/// Where a hold is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldState {
    /// The credits are set aside.
    Open,
    /// Spent, wholly or in part.
    Captured,
    /// Given up.
    Released,
    /// Given up by time.
    Expired,
}

impl HoldState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Open, Self::Captured, Self::Released, Self::Expired];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether a hold in this state can still be changed, or why not.
    fn check_open(self) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::Expired => Err(Refusal::HoldExpired),
            Self::Captured | Self::Released => Err(Refusal::HoldFinalized),
        }
    }
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// What it is for.
    pub action: ActionType,
    /// How much of it was expected.
    pub quantity: Quantity,
    /// The price version at which it is captured.
    pub price_version: i32,
    /// What was set aside.
    pub credits: Credits,
    /// Where it is in its life.
    pub state: HoldState,
    /// The movement that placed it, whose draws are its parts.
    pub sequence: i64,
    /// Who asked for it.
    pub actor: Option<Actor>,
    /// When it was placed.
    pub created_at: Timestamp,
    /// The instant from which it is no more.
    pub expires_at: Timestamp,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// What it was captured as.
    pub consumption_id: Option<ConsumptionId>,
}

/// A hold as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewHold {
    /// What it is for.
    pub action: ActionType,
    /// How much of it is expected.
    pub quantity: Quantity,
    /// How long it lasts, in seconds, 1 to [`TTL_SECONDS_MAX`].
    pub ttl_seconds: i64,
    /// Who asks for it.
    pub actor: Option<Actor>,
}

/// A capture that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// How much of the action was done.
    pub quantity: Quantity,
    /// What was spent.
    pub spent: Spent,
}

impl Book {
    /// Sets credits aside at `at`, which must be settled, all of the cost or nothing.
    pub fn place_hold(&mut self, id: HoldId, new: &NewHold, prices: &[Price], at: Timestamp) -> Result<Hold, Refusal> {
        let price = price_at(prices, at)?;
        let cost = price.cost(new.quantity)?;
        self.account.status.may_spend()?;
        let before = self.account.balance();
        let left =
            before.available.checked_sub(cost).ok_or_else(|| short(price, cost, before.available, Credits::ZERO))?;
        self.account.available = left;
        self.account.held = before.held.checked_add(cost).ok_or(Refusal::OutOfRange)?;
        let sequence = self.record(MovementKind::Hold, before, id.uuid(), at);
        self.draw(cost, sequence);
        let hold = Hold {
            id,
            action: new.action.clone(),
            quantity: new.quantity,
            price_version: price.version,
            credits: cost,
            state: HoldState::Open,
            sequence,
            actor: new.actor.clone(),
            created_at: at,
            expires_at: at + chrono::TimeDelta::seconds(new.ttl_seconds),
            finished_at: None,
            consumption_id: None,
        };
        self.holds.insert(id, hold.clone());
        self.mark_settled();
        Ok(hold)
    }

    /// Spends `quantity` (or all that was expected) of a hold at `at`, which must be settled. The rest is released; what
    /// was not held is taken from what is available, or refused with the hold left open. `price` is the hold's.
    pub fn capture(
        &mut self,
        id: HoldId,
        quantity: Option<Quantity>,
        price: &Price,
        consumption_id: ConsumptionId,
        at: Timestamp,
    ) -> Result<Captured, Denial> {
        let hold = self.holds.get(&id).ok_or(Refusal::UnknownHold)?;
        hold.state.check_open()?;
        let (held, placed) = (hold.credits, hold.sequence);
        let quantity = quantity.unwrap_or(hold.quantity);
        let cost = price.cost(quantity)?;
        let surplus = cost.saturating_sub(held);
        if !surplus.is_zero() {
            self.account.status.may_spend()?;
        }
        let before = self.account.balance();
        let available = before.available;
        let left = available.checked_sub(surplus).ok_or_else(|| short(price, surplus, available, held))?;
        // From here on nothing can be refused.
        let sequence = self.account.sequence + 1;
        let returned = self.split_parts(placed, sequence, cost.min(held), |lot| lot.has_ended(at))?;
        self.draw(surplus, sequence);
        self.account.available = left.checked_add(returned).ok_or(Refusal::OutOfRange)?;
        self.account.held = before.held.checked_sub(held).ok_or(Refusal::OutOfRange)?;
        self.record(MovementKind::Capture, before, consumption_id.uuid(), at);
        self.finish_hold(id, HoldState::Captured, Some(consumption_id), at);
        let spent = Spent { sequence, consumed: cost, available: self.account.available };
        Ok(Captured { quantity, spent })
    }

    /// Gives up a hold at `at`, which must be settled. Giving it up again changes nothing.
    pub fn release(&mut self, id: HoldId, at: Timestamp) -> Result<Hold, Denial> {
        let hold = self.holds.get(&id).ok_or(Refusal::UnknownHold)?;
        if hold.state != HoldState::Released {
            hold.state.check_open()?;
            self.give_up_hold(id, HoldState::Released, at)?;
        }
        Ok(self.holds.get(&id).cloned().ok_or(Refusal::UnknownHold)?)
    }

    /// Lets a hold last `ttl_seconds` from `at`, which must be settled.
    pub fn extend(&mut self, id: HoldId, ttl_seconds: i64, at: Timestamp) -> Result<Hold, Refusal> {
        let hold = self.holds.get_mut(&id).ok_or(Refusal::UnknownHold)?;
        hold.state.check_open()?;
        hold.expires_at = at + chrono::TimeDelta::seconds(ttl_seconds);
        let hold = hold.clone();
        self.mark_settled();
        Ok(hold)
    }

    /// Ends a hold without spending anything of it.
    pub(crate) fn give_up_hold(&mut self, id: HoldId, state: HoldState, at: Timestamp) -> Result<(), Corrupt> {
        let hold = self.holds.get(&id).ok_or(Corrupt)?;
        let (held, placed) = (hold.credits, hold.sequence);
        let before = self.account.balance();
        // At one instant holds expire before lots do: a lot that ends now still takes its part back, and then ends.
        let (kind, returned) = if state == HoldState::Expired {
            (MovementKind::HoldExpiry, self.split_parts(placed, 0, Credits::ZERO, |lot| lot.has_ended_before(at))?)
        } else {
            (MovementKind::Release, self.split_parts(placed, 0, Credits::ZERO, |lot| lot.has_ended(at))?)
        };
        self.account.available = before.available.checked_add(returned).ok_or(Corrupt)?;
        self.account.held = before.held.checked_sub(held).ok_or(Corrupt)?;
        self.record(kind, before, id.uuid(), at);
        self.finish_hold(id, state, None, at);
        Ok(())
    }

    /// Closes the draws of a hold: of its parts, in burn order, `kept` become draws of the movement `sequence`, and the
    /// rest goes back to the lots that have not ended. Answers how much that was.
    fn split_parts(
        &mut self,
        placed: i64,
        sequence: i64,
        kept: Credits,
        has_ended: impl Fn(&Lot) -> bool,
    ) -> Result<Credits, Corrupt> {
        let mut kept_rest = kept;
        let mut returned = Credits::ZERO;
        for (grant_id, part) in self.close_draws(placed)? {
            let spent = part.min(kept_rest);
            kept_rest = kept_rest.saturating_sub(spent);
            if !spent.is_zero() {
                add_draw(&mut self.draws, sequence, grant_id, spent);
            }
            let rest = part.saturating_sub(spent);
            if !rest.is_zero() && !has_ended(self.lot(grant_id).ok_or(Corrupt)?) {
                self.put_back(grant_id, rest)?;
                returned = returned.checked_add(rest).ok_or(Corrupt)?;
            }
        }
        if kept_rest.is_zero() { Ok(returned) } else { Err(Corrupt) }
    }

    /// Marks what a movement drew as returned and answers it, in burn order.
    fn close_draws(&mut self, sequence: i64) -> Result<Vec<(GrantId, Credits)>, Corrupt> {
        let order: Vec<_> = self.lots.iter().map(|lot| lot.id).collect();
        let mut parts = Vec::new();
        for grant_id in order {
            if let Some(draw) = self.draws.get_mut(&(sequence, grant_id)) {
                let open = draw.drawn.checked_sub(draw.returned).ok_or(Corrupt)?;
                draw.returned = draw.drawn;
                parts.push((grant_id, open));
            }
        }
        Ok(parts)
    }

    fn finish_hold(&mut self, id: HoldId, state: HoldState, consumption_id: Option<ConsumptionId>, at: Timestamp) {
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.state = state;
            hold.finished_at = Some(at);
            hold.consumption_id = consumption_id;
        }
        self.mark_settled();
    }
}

/// Why a cost is refused. What a hold has set aside already counts as affordable.
fn short(price: &Price, required: Credits, available: Credits, held: Credits) -> Refusal {
    Refusal::InsufficientCredits(Box::new(Shortfall {
        required,
        available,
        shortfall: required.saturating_sub(available),
        max_affordable_quantity: available.checked_add(held).map_or(0, |all| price.max_affordable_quantity(all)),
    }))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::account::{Account, Balance};
    use crate::amount::Amount;
    use crate::book::Pages;
    use crate::credit::CreditType;
    use crate::grant::{GrantSource, GrantState, NewGrant};
    use crate::id::OrganizationId;
    use crate::organization::OrganizationStatus;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    /// Ten credits that end after a minute, and are spent first.
    const SHORT: GrantId = GrantId::new(Uuid::from_u128(1));

    /// Fifty that do not.
    const LONG: GrantId = GrantId::new(Uuid::from_u128(2));

    const HOLD: HoldId = HoldId::new(Uuid::from_u128(3));

    fn ai(value: i64) -> Credits {
        Credits::of(CreditType::Ai, Amount::new(value).unwrap())
    }

    fn quantity(value: i64) -> Quantity {
        Quantity::new(value).unwrap()
    }

    fn seconds(count: i64) -> Timestamp {
        START + TimeDelta::seconds(count)
    }

    fn price() -> Price {
        let (costs, unit_size) = (ai(1), Quantity::ONE);
        Price { version: 1, costs, unit_size, active: true, effective_at: START, description: None }
    }

    /// A book with both lots, and twenty of their credits held for two minutes.
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
        let action = ActionType::new("ai_chat").unwrap();
        let new = NewHold { action, quantity: quantity(20), ttl_seconds: 120, actor: None };
        book.place_hold(HOLD, &new, &[price()], START).unwrap();
        book
    }

    fn capture(book: &mut Book, asked: Option<i64>, at: Timestamp) -> Result<Captured, Denial> {
        let consumption_id = ConsumptionId::new(Uuid::from_u128(4));
        book.capture(HOLD, asked.map(quantity), &price(), consumption_id, at)
    }

    /// What a movement drew, and what of it went back, lot by lot.
    fn drawn(book: &Book, sequence: i64) -> Vec<(GrantId, Credits, Credits)> {
        let draws = book.draws.values().filter(|draw| draw.sequence == sequence);
        draws.map(|draw| (draw.grant_id, draw.drawn, draw.returned)).collect()
    }

    fn remaining(book: &Book) -> [Credits; 2] {
        [SHORT, LONG].map(|id| book.lot(id).unwrap().remaining)
    }

    #[test]
    fn a_hold_draws_in_burn_order_and_lasts_as_long_as_was_asked() {
        let book = book();
        let hold = book.hold(HOLD).unwrap();
        assert_eq!((hold.expires_at, hold.credits, hold.sequence), (seconds(120), ai(20), 3));
        assert_eq!(drawn(&book, 3), [(SHORT, ai(10), ai(0)), (LONG, ai(10), ai(0))]);
        assert_eq!(remaining(&book), [ai(0), ai(40)]);
        assert_eq!(book.account.balance(), Balance { available: ai(40), held: ai(20) });
    }

    #[test]
    fn a_capture_draws_what_it_spends_and_gives_the_rest_to_the_lot_it_came_from() {
        let mut book = book();
        let captured = capture(&mut book, Some(12), START).unwrap();
        assert_eq!((captured.quantity, captured.spent.consumed, captured.spent.sequence), (quantity(12), ai(12), 4));
        assert_eq!(book.movements().last().map(|movement| movement.sequence), Some(4));
        assert_eq!(drawn(&book, 3), [(SHORT, ai(10), ai(10)), (LONG, ai(10), ai(10))]);
        assert_eq!(drawn(&book, 4), [(SHORT, ai(10), ai(0)), (LONG, ai(2), ai(0))]);
        assert_eq!(remaining(&book), [ai(0), ai(48)]);
        assert_eq!(book.account.balance(), Balance { available: ai(48), held: ai(0) });
    }

    #[test]
    fn a_part_that_is_not_spent_leaves_no_draw() {
        let mut book = book();
        capture(&mut book, Some(4), START).unwrap();
        assert_eq!(drawn(&book, 4), [(SHORT, ai(4), ai(0))]);
        assert_eq!(remaining(&book), [ai(6), ai(50)]);
    }

    #[test]
    fn a_part_whose_lot_has_ended_does_not_go_back() {
        let mut book = book();
        book.settle(seconds(60)).unwrap();
        book.release(HOLD, seconds(60)).unwrap();
        assert_eq!(remaining(&book), [ai(0), ai(50)]);
        assert_eq!(book.account.balance(), Balance { available: ai(50), held: ai(0) });
    }

    #[test]
    fn who_may_not_spend_may_capture_what_is_held_and_no_more() {
        let mut book = book();
        book.account.status = OrganizationStatus::Frozen;
        assert_eq!(capture(&mut book, Some(21), START), Err(Refusal::OrganizationFrozen.into()));
        assert_eq!(capture(&mut book, None, START).unwrap().spent.consumed, ai(20));
    }

    #[test]
    fn a_hold_is_released_once_and_a_captured_one_not_at_all() {
        let mut released = book();
        let once = released.release(HOLD, START).unwrap();
        assert_eq!(once.state, HoldState::Released);
        let movements = released.movements().len();
        assert_eq!(released.release(HOLD, seconds(1)), Ok(once));
        assert_eq!(released.movements().len(), movements);
        assert_eq!(released.movements().last().map(|movement| movement.kind), Some(MovementKind::Release));

        let mut captured = book();
        capture(&mut captured, None, START).unwrap();
        assert_eq!(captured.release(HOLD, START), Err(Refusal::HoldFinalized.into()));
    }

    #[test]
    fn a_hold_that_is_extended_lasts_as_long_from_then_on() {
        let mut book = book();
        assert_eq!(book.extend(HOLD, 300, seconds(10)).unwrap().expires_at, seconds(310));
        assert_eq!(book.hold(HOLD).unwrap().expires_at, seconds(310));
    }

    #[test]
    fn a_lot_that_ends_with_its_hold_takes_its_part_back_first() {
        let mut book = book();
        book.extend(HOLD, 60, START).unwrap();
        book.settle(seconds(60)).unwrap();
        let kinds: Vec<_> = book.movements().iter().skip(3).map(|movement| movement.kind).collect();
        assert_eq!(kinds, [MovementKind::HoldExpiry, MovementKind::Expiry]);
        assert_eq!(book.movements()[3].change.available.apply(ai(0)), Some(ai(20)));
        assert_eq!(book.lot(SHORT).unwrap().state, GrantState::Expired);
        assert_eq!(book.account.balance(), Balance { available: ai(50), held: ai(0) });
    }

    #[test]
    fn a_hold_that_expires_gives_nothing_to_lots_that_ended_before_it_or_were_taken_back() {
        let mut book = book();
        book.void(LONG, seconds(10)).unwrap();
        book.settle(seconds(120)).unwrap();
        let kinds: Vec<_> = book.movements().iter().skip(3).map(|movement| movement.kind).collect();
        assert_eq!(kinds, [MovementKind::Void, MovementKind::HoldExpiry]);
        assert_eq!(remaining(&book), [ai(0), ai(0)]);
        assert_eq!(book.account.balance(), Balance::default());
    }
}
