//! Holds: credits set aside, each part remembered with the lot it came from.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::refunds::Group;
use super::{About, Oracle, OraclePrice, Refused, Spending, TYPES, Vector, covers, minus, plus, smaller};

/// Where a hold is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OracleHoldState {
    /// The credits are set aside.
    Open,
    /// Spent, wholly or in part.
    Captured,
    /// Given up.
    Released,
    /// Given up by time.
    Expired,
}

/// A hold.
#[derive(Debug, Clone)]
pub struct OracleHold {
    /// What the real ledger calls it.
    pub id: Option<Uuid>,
    /// How much was expected.
    pub quantity: i64,
    /// What was set aside.
    pub credits: Vector,
    /// Where it is in its life.
    pub state: OracleHoldState,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// The instant from which it is no more.
    pub until: DateTime<Utc>,
    /// When it came to its end.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it was captured as: the place among [`Oracle::spendings`].
    pub spending: Option<usize>,
    price: OraclePrice,
    /// What was set aside of which lot, in burn order.
    parts: Vec<(usize, Vector)>,
}

impl OracleHoldState {
    /// The name of the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    fn check_open(self) -> Result<(), Refused> {
        match self {
            Self::Open => Ok(()),
            Self::Captured | Self::Released => Err(Refused::because("hold_finalized")),
            Self::Expired => Err(Refused::because("hold_expired")),
        }
    }
}

impl Oracle {
    /// Sets credits aside, all of the cost or nothing. Answers the place among [`Oracle::holds`].
    pub fn hold(&mut self, price: Option<OraclePrice>, quantity: i64, ttl_seconds: i64) -> Result<usize, Refused> {
        self.settle();
        let price = price.ok_or(Refused::because("unknown_action"))?;
        let credits = price.cost(quantity)?;
        self.check_may_spend()?;
        let available = self.available();
        if !covers(available, credits) {
            return Err(Refused::short(credits, available, price.affordable(available)));
        }
        let before = self.balance();
        let parts = self.burn(credits);
        let place = self.holds.len();
        self.holds.push(OracleHold {
            id: None,
            quantity,
            credits,
            state: OracleHoldState::Open,
            created_at: self.now,
            until: self.now + TimeDelta::seconds(ttl_seconds),
            finished_at: None,
            spending: None,
            price,
            parts,
        });
        self.write("hold", before, About::Hold(place), self.now);
        self.settle();
        Ok(place)
    }

    /// Spends a quantity of what was expected, or all of it, or more. Answers the place among [`Oracle::spendings`].
    pub fn capture(&mut self, place: usize, quantity: Option<i64>) -> Result<usize, Refused> {
        self.settle();
        let answer = self.try_capture(place, quantity);
        self.count_attempt(&answer);
        self.settle();
        answer
    }

    fn try_capture(&mut self, place: usize, quantity: Option<i64>) -> Result<usize, Refused> {
        let OracleHold { price, credits: held, state, ref parts, quantity: expected, .. } = self.holds[place];
        state.check_open()?;
        let parts = parts.clone();
        let quantity = quantity.unwrap_or(expected);
        let cost = price.cost(quantity)?;
        let mut kept = smaller(cost, held);
        let surplus = minus(cost, kept);
        if surplus != [0; TYPES] {
            self.check_may_spend()?;
        }
        let before = self.balance();
        if !covers(before.0, surplus) {
            return Err(Refused::short(surplus, before.0, price.affordable(plus(before.0, held))));
        }
        let mut group = Group::default();
        for (lot, part) in parts {
            let spent = smaller(kept, part);
            kept = minus(kept, spent);
            group.add(lot, spent);
            if !self.lots[lot].is_over() {
                self.put_back(lot, minus(part, spent));
            }
        }
        for (lot, taken) in self.burn(surplus) {
            group.add(lot, taken);
        }
        self.groups.push(group);
        let spending = self.spendings.len();
        self.finish(place, OracleHoldState::Captured, self.now);
        self.holds[place].spending = Some(spending);
        let sequence = self.write("capture", before, About::Spending(spending), self.now);
        let group = self.groups.len() - 1;
        self.spendings.push(Spending { quantity, cost, sequence, price, refunded: 0, group });
        Ok(spending)
    }

    /// Gives up a hold. One that was given up before stays as it is.
    pub fn release(&mut self, place: usize) -> Result<(), Refused> {
        self.settle();
        if self.holds[place].state != OracleHoldState::Released {
            self.holds[place].state.check_open()?;
            self.give_up(place, OracleHoldState::Released, self.now);
        }
        self.settle();
        Ok(())
    }

    /// Lets a hold last from now.
    pub fn extend(&mut self, place: usize, ttl_seconds: i64) -> Result<(), Refused> {
        self.settle();
        self.holds[place].state.check_open()?;
        self.holds[place].until = self.now + TimeDelta::seconds(ttl_seconds);
        self.settle();
        Ok(())
    }

    /// Every part goes back to its own lot, or is lost if that is over.
    pub(super) fn give_up(&mut self, place: usize, state: OracleHoldState, at: DateTime<Utc>) {
        let before = self.balance();
        for (lot, part) in self.holds[place].parts.clone() {
            if !self.lots[lot].is_over() {
                self.put_back(lot, part);
            }
        }
        self.finish(place, state, at);
        let kind = if state == OracleHoldState::Expired { "hold_expiry" } else { "release" };
        self.write(kind, before, About::Hold(place), at);
    }

    fn finish(&mut self, place: usize, state: OracleHoldState, at: DateTime<Utc>) {
        self.holds[place].state = state;
        self.holds[place].finished_at = Some(at);
    }
}
