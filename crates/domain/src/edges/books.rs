//! Books in which everything happens with amounts at the ends of their range.

use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use uuid::Uuid;

use super::{Wide, credits, each, integer, narrow, of, price, quantity, wide, wide_cost};
use crate::account::Account;
use crate::action::Price;
use crate::amount::{MAX, Quantity};
use crate::book::{Book, Pages};
use crate::clock::Timestamp;
use crate::consume::consume;
use crate::credit::{COUNT, Credits, Delta};
use crate::error::{Denial, Refusal};
use crate::grant::{GrantSource, GrantState, NewGrant};
use crate::hold::NewHold;
use crate::id::{ConsumptionId, GrantId, HoldId, OrganizationId, RefundId};
use crate::refund::{NewRefund, OnExpired, Refundable};
use crate::text::ActionType;

/// Something that happens. Which grant, hold or consumption is meant counts round those that there are.
#[derive(Debug, Clone)]
enum Step {
    Pass { seconds: i64 },
    Grant { credits: Credits, starts_in: i64, lasts: Option<i64> },
    Void { which: usize },
    Adjust { change: [i64; COUNT] },
    Consume { price: Price, quantity: Quantity },
    Hold { price: Price, quantity: Quantity, ttl_seconds: i64 },
    Capture { which: usize, quantity: Option<Quantity> },
    Release { which: usize },
    Refund { which: usize, quantity: Option<Quantity>, on_expired: OnExpired },
}

/// Prices at the ends, and such as can be paid more than once.
fn any_price() -> BoxedStrategy<Price> {
    let amount = prop_oneof![Just(0), Just(1), MAX / 8..=MAX / 4].prop_map(of);
    let costs = prop::array::uniform::<_, COUNT>(amount).prop_map(Credits::from_array);
    let payable = (costs, price()).prop_map(|(costs, price)| Price { costs, ..price });
    let cheap = (0_i64..3, price()).prop_map(|(cost, price)| Price {
        costs: Credits::from_array([of(cost); COUNT]),
        unit_size: Quantity::ONE,
        ..price
    });
    prop_oneof![2 => price(), 2 => payable, 2 => cheap].boxed()
}

fn any_quantity() -> BoxedStrategy<Quantity> {
    prop_oneof![3 => quantity(), 2 => (1_i64..4).prop_map(|value| Quantity::new(value).unwrap())].boxed()
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![integer(), -3_i64..=3, Just(0)];
    prop_oneof![
        2 => (0_i64..30).prop_map(|seconds| Step::Pass { seconds }),
        3 => (credits(), prop_oneof![Just(0), -5_i64..20], prop::option::of(1_i64..60))
            .prop_map(|(credits, starts_in, lasts)| Step::Grant { credits, starts_in, lasts }),
        1 => any::<usize>().prop_map(|which| Step::Void { which }),
        2 => prop::array::uniform::<_, COUNT>(change).prop_map(|change| Step::Adjust { change }),
        3 => (any_price(), any_quantity()).prop_map(|(price, quantity)| Step::Consume { price, quantity }),
        3 => (any_price(), any_quantity(), 1_i64..60)
            .prop_map(|(price, quantity, ttl_seconds)| Step::Hold { price, quantity, ttl_seconds }),
        3 => (any::<usize>(), prop::option::of(any_quantity()))
            .prop_map(|(which, quantity)| Step::Capture { which, quantity }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        3 => (any::<usize>(), prop::option::of(any_quantity()), any::<bool>()).prop_map(|(which, quantity, grant)| {
            Step::Refund { which, quantity, on_expired: if grant { OnExpired::Grant } else { OnExpired::Refuse } }
        }),
    ]
}

/// A book with what its caller would know of it.
struct World {
    book: Book,
    now: Timestamp,
    ids: u128,
    grants: Vec<GrantId>,
    holds: Vec<(HoldId, Price)>,
    consumptions: Vec<(ConsumptionId, Refundable)>,
}

fn plus(one: Wide, other: Wide) -> Wide {
    each(one, other, |one, other| one + other)
}

fn minus(one: Wide, other: Wide) -> Wide {
    each(one, other, |one, other| one - other)
}

fn above_zero(one: Wide) -> Wide {
    one.map(|value| value.max(0))
}

impl World {
    fn new() -> Self {
        let now = Timestamp::UNIX_EPOCH;
        Self {
            book: Book::new(Account::open(OrganizationId::MIN, now), Pages::default()),
            now,
            ids: 0,
            grants: Vec::new(),
            holds: Vec::new(),
            consumptions: Vec::new(),
        }
    }

    fn new_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// Everything there is and everything to come.
    fn total(&self) -> Wide {
        let pending = self.book.lots().iter().filter(|lot| lot.state == GrantState::Pending);
        let sides = plus(wide(self.book.account.available), wide(self.book.account.held));
        pending.map(|lot| wide(lot.remaining)).fold(sides, plus)
    }

    /// What can be spent afterwards, and what is held, must be that.
    fn expect(&self, available: Wide, held: Wide) -> TestCaseResult {
        prop_assert_eq!(Some(self.book.account.available), narrow(available));
        prop_assert_eq!(Some(self.book.account.held), narrow(held));
        Ok(())
    }

    fn step(&mut self, step: Step) -> TestCaseResult {
        if let Step::Pass { seconds } = step {
            self.now += TimeDelta::seconds(seconds);
        }
        prop_assert_eq!(self.book.settle(self.now), Ok(()));
        match step {
            Step::Pass { .. } => Ok(()),
            Step::Grant { credits, starts_in, lasts } => self.grant(credits, starts_in, lasts),
            Step::Void { which } => self.void(which),
            Step::Adjust { change } => self.adjust(change),
            Step::Consume { price, quantity } => self.consume(price, quantity),
            Step::Hold { price, quantity, ttl_seconds } => self.hold(price, quantity, ttl_seconds),
            Step::Capture { which, quantity } => self.capture(which, quantity),
            Step::Release { which } => self.release(which),
            Step::Refund { which, quantity, on_expired } => self.refund(which, quantity, on_expired),
        }
    }

    fn grant(&mut self, credits: Credits, starts_in: i64, lasts: Option<i64>) -> TestCaseResult {
        let (before, total) = (self.book.clone(), self.total());
        let from = self.now + TimeDelta::seconds(starts_in);
        let new = NewGrant {
            credits,
            source: GrantSource::Purchase,
            priority: 10,
            effective_at: Some(from),
            expires_at: lasts.map(|lasts| from.max(self.now) + TimeDelta::seconds(lasts)),
            reference: None,
            top_up_id: None,
        };
        let id = GrantId::new(self.new_id());
        let granted = self.book.grant(id, &new, self.now);
        if narrow(plus(total, wide(credits))).is_none() {
            prop_assert_eq!(granted, Err(Refusal::OutOfRange));
            prop_assert_eq!(&self.book, &before);
            return Ok(());
        }
        prop_assert!(granted.is_ok());
        self.grants.push(id);
        let now = if starts_in <= 0 { wide(credits) } else { [0; COUNT] };
        self.expect(plus(wide(before.account.available), now), wide(before.account.held))
    }

    fn void(&mut self, which: usize) -> TestCaseResult {
        let Some(index) = which.checked_rem(self.grants.len()) else { return Ok(()) };
        let (before, id) = (self.book.account.clone(), self.grants[index]);
        let lot = self.book.lot(id).unwrap().clone();
        self.book.void(id, self.now).unwrap();
        let gone = if lot.state == GrantState::Active { wide(lot.remaining) } else { [0; COUNT] };
        self.expect(minus(wide(before.available), gone), wide(before.held))
    }

    fn adjust(&mut self, change: [i64; COUNT]) -> TestCaseResult {
        let (before, total) = (self.book.clone(), self.total());
        let id = GrantId::new(self.new_id());
        let adjusted = self.book.adjust(id, Delta::from_array(change), "because".to_owned(), self.now);
        let change = change.map(i128::from);
        let added = above_zero(change);
        let taken = above_zero(change.map(|change| -change));
        let left = minus(wide(before.account.available), taken);
        let fits = narrow(plus(total, added)).is_some() && narrow(taken).is_some();
        if fits && narrow(left).is_some() {
            prop_assert!(adjusted.is_ok());
            if adjusted.unwrap().is_some() {
                self.grants.push(id);
            }
            return self.expect(plus(left, added), wide(before.account.held));
        }
        prop_assert_eq!(&self.book, &before);
        match adjusted {
            Err(Refusal::OutOfRange) => prop_assert!(!fits),
            Err(Refusal::InsufficientCredits(missing)) => {
                prop_assert_eq!(Some(missing.shortfall), narrow(above_zero(left.map(|left| -left))));
            }
            other => prop_assert!(false, "{other:?}"),
        }
        Ok(())
    }

    fn consume(&mut self, price: Price, quantity: Quantity) -> TestCaseResult {
        let before = self.book.account.clone();
        let (_, verdict) = consume(&mut self.book.account, std::slice::from_ref(&price), quantity, self.now);
        if let Ok(spent) = verdict {
            let id = ConsumptionId::new(self.new_id());
            let cost = wide_cost(&price, quantity);
            self.consumptions.push((id, Refundable { sequence: spent.sequence, price, quantity, refunded: 0 }));
            return self.expect(minus(wide(before.available), cost), wide(before.held));
        }
        prop_assert_eq!(&self.book.account, &before);
        Ok(())
    }

    fn hold(&mut self, price: Price, quantity: Quantity, ttl_seconds: i64) -> TestCaseResult {
        let before = self.book.clone();
        let cost = wide_cost(&price, quantity);
        let left = minus(wide(before.account.available), cost);
        let new = NewHold { action: ActionType::new("any").unwrap(), quantity, ttl_seconds, actor: None };
        let id = HoldId::new(self.new_id());
        let held = self.book.place_hold(id, &new, std::slice::from_ref(&price), self.now);
        if narrow(left).is_some() && narrow(cost).is_some() {
            prop_assert!(held.is_ok());
            self.holds.push((id, price));
            return self.expect(left, plus(wide(before.account.held), cost));
        }
        prop_assert_eq!(&self.book, &before);
        match held {
            Err(Refusal::OutOfRange) => prop_assert_eq!(narrow(cost), None),
            Err(Refusal::InsufficientCredits(missing)) => {
                prop_assert_eq!(Some(missing.shortfall), narrow(above_zero(left.map(|left| -left))));
            }
            other => prop_assert!(false, "{other:?}"),
        }
        Ok(())
    }

    /// What can be spent is less by what was not held, and more by what was held and not used, as far as its lots have
    /// not ended.
    fn capture(&mut self, which: usize, quantity: Option<Quantity>) -> TestCaseResult {
        let Some(index) = which.checked_rem(self.holds.len()) else { return Ok(()) };
        let (id, price) = self.holds[index].clone();
        let before = self.book.clone();
        let (was, held) = (before.account.balance(), before.hold(id).unwrap().clone());
        let quantity = quantity.unwrap_or(held.quantity);
        let cost = wide_cost(&price, quantity);
        let surplus = above_zero(minus(cost, wide(held.credits)));
        let unused = above_zero(minus(wide(held.credits), cost));
        let consumption = ConsumptionId::new(self.new_id());
        match self.book.capture(id, Some(quantity), &price, consumption, self.now) {
            Ok(captured) => {
                prop_assert_eq!(Some(captured.spent.consumed), narrow(cost));
                let least = minus(wide(was.available), surplus);
                let most = plus(least, unused);
                let available = wide(self.book.account.available);
                prop_assert!((0..COUNT).all(|i| least[i] <= available[i] && available[i] <= most[i]));
                if before.lots().iter().all(|lot| !lot.has_ended(self.now)) {
                    prop_assert_eq!(available, most);
                }
                self.expect(available, minus(wide(was.held), wide(held.credits)))?;
                let sequence = captured.spent.sequence;
                self.consumptions.push((consumption, Refundable { sequence, price, quantity, refunded: 0 }));
                return Ok(());
            }
            Err(Denial::Refused(Refusal::OutOfRange)) => prop_assert_eq!(narrow(cost), None),
            Err(Denial::Refused(Refusal::InsufficientCredits(missing))) => {
                prop_assert_eq!(Some(missing.shortfall), narrow(above_zero(minus(surplus, wide(was.available)))));
                prop_assert!(!missing.shortfall.is_zero());
            }
            Err(Denial::Refused(Refusal::HoldExpired | Refusal::HoldFinalized)) => {
                prop_assert!(held.finished_at.is_some());
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
        prop_assert_eq!(&self.book, &before);
        Ok(())
    }

    fn release(&mut self, which: usize) -> TestCaseResult {
        let Some(index) = which.checked_rem(self.holds.len()) else { return Ok(()) };
        let id = self.holds[index].0;
        let before = self.book.account.clone();
        let held = self.book.hold(id).unwrap().clone();
        let released = self.book.release(id, self.now);
        if held.finished_at.is_some() {
            return self.expect(wide(before.available), wide(before.held));
        }
        prop_assert!(released.is_ok());
        let available = wide(self.book.account.available);
        let most = plus(wide(before.available), wide(held.credits));
        prop_assert!((0..COUNT).all(|i| wide(before.available)[i] <= available[i] && available[i] <= most[i]));
        self.expect(available, minus(wide(before.held), wide(held.credits)))
    }

    fn refund(&mut self, which: usize, quantity: Option<Quantity>, on_expired: OnExpired) -> TestCaseResult {
        let Some(index) = which.checked_rem(self.consumptions.len()) else { return Ok(()) };
        let id = RefundId::new(self.new_id());
        let (before, total) = (self.book.clone(), self.total());
        let (consumption_id, consumption) = &mut self.consumptions[index];
        let was = consumption.clone();
        let kept = was.quantity.get() - was.refunded;
        let taken = quantity.map_or(kept, Quantity::get);
        let new = NewRefund { consumption_id: *consumption_id, quantity, reason: "because".to_owned(), on_expired };
        let cost = |kept: i64| Quantity::new(kept).map_or([0; COUNT], |kept| wide_cost(&was.price, kept));
        let back = if taken <= kept { minus(cost(kept), cost(kept - taken)) } else { [0; COUNT] };
        match self.book.refund(id, &new, consumption, self.now) {
            Ok((refund, lot)) => {
                prop_assert!(taken <= kept);
                prop_assert_eq!((refund.quantity.get(), Some(refund.refunded)), (taken, narrow(back)));
                prop_assert_eq!(consumption.refunded, was.refunded + taken);
                self.grants.extend(lot.map(|lot| lot.id));
                let before = before.account.balance();
                return self.expect(plus(wide(before.available), back), wide(before.held));
            }
            Err(Denial::Refused(Refusal::OverRefund)) => prop_assert!(taken > kept || taken == 0),
            Err(Denial::Refused(Refusal::LotExpired)) => prop_assert_eq!(on_expired, OnExpired::Refuse),
            Err(Denial::Refused(Refusal::OutOfRange)) => prop_assert_eq!(narrow(plus(total, back)), None),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
        prop_assert_eq!(&*consumption, &was);
        prop_assert_eq!(&self.book, &before);
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_balance_is_exact_and_a_refusal_leaves_the_book_alone(steps in prop::collection::vec(step(), 1..25)) {
        let mut world = World::new();
        for step in steps {
            world.step(step)?;
            prop_assert!(narrow(world.total()).is_some(), "more than an amount can be: {:?}", world.total());
            let mut seen = world.book.clone();
            prop_assert_eq!(seen.settle(world.now), Ok(()));
            prop_assert_eq!(seen.live(), Some(seen.account.available));
        }
    }
}
