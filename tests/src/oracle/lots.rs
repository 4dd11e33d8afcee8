//! Lots: how they come, how they are burned, and how they end.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{About, Oracle, Refused, TYPES, Vector, covers, minus, plus, smaller};

/// The priority of lots that nobody gave one.
const USUAL_PRIORITY: i32 = 10;

/// One lot.
#[derive(Debug, Clone)]
pub struct OracleLot {
    /// What the real ledger calls it. Lots that are alike in everything else burn in the order of their ids, which no
    /// rule can foretell, so whoever uses the oracle says them.
    pub id: Option<Uuid>,
    /// What there was at first of each type.
    pub granted: Vector,
    /// What is left of each type.
    pub left: Vector,
    /// Lower burns first.
    pub priority: i32,
    /// Where it came from.
    pub source: &'static str,
    /// The first instant at which it may be spent.
    pub from: DateTime<Utc>,
    /// The instant from which it may no longer be spent.
    pub until: Option<DateTime<Utc>>,
    /// When it was granted.
    pub created_at: DateTime<Utc>,
    /// When it was taken back, if it was.
    pub voided_at: Option<DateTime<Utc>>,
    started: bool,
    ended: bool,
}

/// A lot to grant.
#[derive(Debug, Clone)]
pub struct OracleGrant {
    /// How much of each type.
    pub credits: Vector,
    /// Where it comes from.
    pub source: &'static str,
    /// Lower burns first.
    pub priority: i32,
    /// The first instant at which it may be spent; `None` is now.
    pub from: Option<DateTime<Utc>>,
    /// The instant from which it may no longer be spent.
    pub until: Option<DateTime<Utc>>,
}

impl OracleLot {
    /// Whether it may be spent, if anything is left of it.
    pub fn is_live(&self) -> bool {
        self.started && !self.is_over()
    }

    /// Whether it is still to start.
    pub fn is_pending(&self) -> bool {
        !self.started && !self.is_over()
    }

    /// Whether nothing can come back to it.
    pub fn is_over(&self) -> bool {
        self.ended || self.voided_at.is_some()
    }

    /// It is `at` (again).
    pub(super) fn reopen(&mut self, at: DateTime<Utc>) {
        if self.until.is_some_and(|until| until > at) {
            self.ended = false;
        }
    }

    /// What the grant is shown as.
    pub fn state(&self) -> &'static str {
        if self.voided_at.is_some() {
            "voided"
        } else if self.ended {
            "expired"
        } else if !self.started {
            "pending"
        } else if self.left == [0; TYPES] {
            "exhausted"
        } else {
            "active"
        }
    }
}

impl Oracle {
    /// The places of all lots in burn order: priority, earliest end (none is last), promotion before paid, time of
    /// creation, id.
    pub(super) fn burn_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.lots.len()).collect();
        order.sort_by_key(|place| {
            let lot = &self.lots[*place];
            (lot.priority, lot.until.is_none(), lot.until, lot.source != "promotion", lot.created_at, lot.id)
        });
        order
    }

    /// Takes `wanted` from the live lots in burn order, and answers what it took from which lot.
    pub(super) fn burn(&mut self, wanted: Vector) -> Vec<(usize, Vector)> {
        let mut draws = Vec::new();
        let mut rest = wanted;
        for place in self.burn_order() {
            if !self.lots[place].is_live() {
                continue;
            }
            let taken = smaller(rest, self.lots[place].left);
            self.lots[place].left = minus(self.lots[place].left, taken);
            rest = minus(rest, taken);
            if taken != [0; TYPES] {
                draws.push((place, taken));
            }
        }
        assert_eq!(rest, [0; TYPES], "the sum over live lots covered it");
        draws
    }

    /// Gives back what was taken from a lot.
    pub(super) fn put_back(&mut self, place: usize, amount: Vector) {
        let lot = &mut self.lots[place];
        lot.left = plus(lot.left, amount);
        assert!(covers(lot.granted, lot.left), "it never held that much");
    }

    /// Adds a lot that has started, without an end, and answers its place.
    pub(super) fn add_lot(&mut self, granted: Vector, source: &'static str, created_at: DateTime<Utc>) -> usize {
        self.lots.push(OracleLot {
            id: None,
            granted,
            left: granted,
            priority: USUAL_PRIORITY,
            source,
            from: created_at,
            until: None,
            created_at,
            voided_at: None,
            started: true,
            ended: false,
        });
        self.lots.len() - 1
    }

    /// Grants credits. Answers the place among [`Oracle::lots`].
    pub fn grant(&mut self, new: &OracleGrant) -> Result<usize, Refused> {
        self.settle();
        let from = new.from.unwrap_or(self.now);
        if new.until.is_some_and(|until| until <= self.now || until <= from) {
            return Err(Refused::because("invalid_request"));
        }
        self.check_room_for(new.credits)?;
        let before = self.balance();
        let place = self.add_lot(new.credits, new.source, self.now);
        let lot = &mut self.lots[place];
        lot.priority = new.priority;
        lot.from = from;
        lot.until = new.until;
        lot.started = from <= self.now;
        self.write("grant", before, About::Lot(place), self.now);
        self.settle();
        Ok(place)
    }

    /// Takes back what is left of a lot. One that is over stays as it is.
    pub fn void(&mut self, place: usize) {
        self.settle();
        if !self.lots[place].is_over() {
            let before = self.balance();
            self.lots[place].left = [0; TYPES];
            self.lots[place].voided_at = Some(self.now);
            self.write("void", before, About::Lot(place), self.now);
        }
        self.settle();
    }

    /// Corrects the balance: what is added becomes a lot, whose place is answered; what is taken burns in order.
    pub fn adjust(&mut self, change: [i64; TYPES]) -> Result<Option<usize>, Refused> {
        self.settle();
        let (added, taken) = (change.map(|change| change.max(0)), change.map(|change| (-change).max(0)));
        let before = self.balance();
        if !covers(before.0, taken) {
            return Err(Refused::short(taken, before.0, 0));
        }
        self.check_room_for(added)?;
        self.burn(taken);
        let lot = (added != [0; TYPES]).then(|| self.add_lot(added, "adjustment", self.now));
        self.write("adjustment", before, lot.map_or(About::Nothing, About::Lot), self.now);
        self.settle();
        Ok(lot)
    }

    /// A lot ends, and what is left of it goes.
    pub(super) fn end_lot(&mut self, place: usize, at: DateTime<Utc>) {
        let before = self.balance();
        let gone = std::mem::take(&mut self.lots[place].left);
        self.lots[place].ended = true;
        if let Some(subscription) = &mut self.subscription {
            subscription.lot_ended(place, gone);
        }
        if gone != [0; TYPES] {
            self.write("expiry", before, About::Lot(place), at);
        }
    }

    pub(super) fn start_lot(&mut self, place: usize, at: DateTime<Utc>) {
        let before = self.balance();
        self.lots[place].started = true;
        self.write("activation", before, About::Lot(place), at);
    }

    /// What ends next of the lots with something left: how much of each type, and when.
    pub fn expiring_next(&self) -> Option<(Vector, DateTime<Utc>)> {
        let mut next = None::<(Vector, DateTime<Utc>)>;
        for lot in self.lots.iter().filter(|lot| lot.is_live() && lot.left != [0; TYPES]) {
            let Some(until) = lot.until else { continue };
            next = match next {
                Some((sum, at)) if at == until => Some((plus(sum, lot.left), at)),
                Some((sum, at)) if at < until => Some((sum, at)),
                _ => Some((lot.left, until)),
            };
        }
        next
    }
}
