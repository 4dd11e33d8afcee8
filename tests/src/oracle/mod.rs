//! A naive ledger of one organization, to hold the real one against.
//!
//! It is written from the rules alone and shares no code with the ledger: no vectors but arrays, no settlement in
//! arrears, no indexes, nothing cached. It is *eager*: every consumption walks the lots at once, every step of the clock
//! goes through the boundaries that it crosses one after the other, and every question looks at everything there is.
//! Slow and plain is the point: what it says should be obvious.
//!
//! One thing follows the real ledger's laziness, because refunds can see it: consumptions between two settlements are
//! one *group* of draws (`docs/adr/0002-draws.md`). The oracle therefore knows when the real ledger settles: at every
//! operation but spending, and at the boundaries that were known when it last did ([`Oracle::set_clock`]).
//!
//! Calendars are not its subject: its plans have periods of a day in UTC, which is always 24 hours.

mod holds;
mod lots;
mod plans;
mod refunds;
mod statement;

use chrono::{DateTime, Utc};

pub use holds::{OracleHold, OracleHoldState};
pub use lots::{OracleGrant, OracleLot};
pub use plans::{OraclePlan, OracleSubscription};
pub use refunds::OracleRefund;
pub use statement::{About, Line};

use refunds::Group;

/// How many credit types there are.
pub const TYPES: usize = 4;

/// The most credits that there may be of a type, in all.
pub const MOST: i64 = 9_007_199_254_740_991;

/// An amount of each credit type.
pub type Vector = [i64; TYPES];

/// A request that the rules refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code of the contract.
    pub code: &'static str,
    /// What was missing, where that is the reason.
    pub shortfall: Option<Box<OracleShortfall>>,
}

/// What was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OracleShortfall {
    /// What the request costs.
    pub required: Vector,
    /// What could be spent.
    pub available: Vector,
    /// What was missing of it.
    pub missing: Vector,
    /// The largest quantity that there was enough for.
    pub affordable: i64,
}

impl Refused {
    fn because(code: &'static str) -> Self {
        Self { code, shortfall: None }
    }

    fn short(required: Vector, available: Vector, affordable: i64) -> Self {
        let missing = minus(required, smaller(required, available));
        let shortfall = OracleShortfall { required, available, missing, affordable };
        Self { code: "insufficient_credits", shortfall: Some(Box::new(shortfall)) }
    }
}

/// What an action costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OraclePrice {
    /// For one unit.
    pub costs: Vector,
    /// How much quantity makes one unit; a started unit counts whole.
    pub unit: i64,
}

impl OraclePrice {
    fn cost(&self, quantity: i64) -> Result<Vector, Refused> {
        let units = quantity / self.unit + i64::from(quantity % self.unit > 0);
        if self.costs.iter().any(|cost| i128::from(*cost) * i128::from(units) > i128::from(MOST)) {
            return Err(Refused::because("out_of_range"));
        }
        Ok(self.costs.map(|cost| cost * units))
    }

    fn affordable(&self, available: Vector) -> i64 {
        let mut units = i128::from(MOST);
        for (cost, available) in self.costs.into_iter().zip(available) {
            if cost > 0 {
                units = units.min(i128::from(available / cost));
            }
        }
        i64::try_from((units * i128::from(self.unit)).min(i128::from(MOST))).expect("it is at most MOST")
    }
}

/// Credits that were spent, by a consumption or by a capture.
#[derive(Debug, Clone)]
pub struct Spending {
    /// How much was done.
    pub quantity: i64,
    /// What it cost.
    pub cost: Vector,
    /// The movement's number.
    pub sequence: i64,
    price: OraclePrice,
    /// How much of the quantity was given back.
    refunded: i64,
    /// Which group of draws it belongs to.
    group: usize,
}

/// An organization: everything that was ever done to its credits, and what follows from that.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// The lots, in the order in which they were granted.
    pub lots: Vec<OracleLot>,
    /// The holds, in the order in which they were placed.
    pub holds: Vec<OracleHold>,
    /// What was spent, in order.
    pub spendings: Vec<Spending>,
    /// The statement, from the first movement on.
    pub lines: Vec<Line>,
    /// The subscription, if there is one.
    pub subscription: Option<OracleSubscription>,
    /// Every period that was granted, by plan and start, and its lot.
    periods: Vec<((&'static str, DateTime<Utc>), usize)>,
    /// When attempts to spend were refused and logged.
    pub refused_at: Vec<DateTime<Utc>>,
    /// When it was made.
    created_at: DateTime<Utc>,
    now: DateTime<Utc>,
    frozen: bool,
    groups: Vec<Group>,
    /// The group of the consumptions since the last settlement, once there is one.
    open_group: Option<usize>,
    /// The next boundary, as it was known at the last settlement.
    due: Option<DateTime<Utc>>,
}

/// What happens by itself, in the order in which ties go. The number is the place of the hold or lot.
#[derive(Debug, Clone, Copy)]
enum Event {
    HoldExpires(usize),
    LotEnds(usize),
    LotStarts(usize),
    PeriodStarts,
}

impl Oracle {
    /// A new organization without credits.
    pub fn new(at: DateTime<Utc>) -> Self {
        Self {
            lots: Vec::new(),
            holds: Vec::new(),
            spendings: Vec::new(),
            lines: Vec::new(),
            subscription: None,
            periods: Vec::new(),
            refused_at: Vec::new(),
            created_at: at,
            now: at,
            frozen: false,
            groups: Vec::new(),
            open_group: None,
            due: None,
        }
    }

    /// The instant at which something done now would happen.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The clock shows `at`. Whatever happens by itself until then happens, each at its own instant, ties in their order.
    /// A clock that is set back takes no movement back, and nothing happens before the last one; but a lot that ended
    /// without one, because nothing was left of it, has not ended yet.
    pub fn set_clock(&mut self, at: DateTime<Utc>) {
        let at = at.max(self.lines.last().map_or(self.created_at, |line| line.at));
        for lot in &mut self.lots {
            lot.reopen(at);
        }
        while let Some((instant, event)) = self.next_event()
            && instant <= at
        {
            match event {
                Event::HoldExpires(hold) => self.give_up(hold, OracleHoldState::Expired, instant),
                Event::LotEnds(lot) => self.end_lot(lot, instant),
                Event::LotStarts(lot) => self.start_lot(lot, instant),
                Event::PeriodStarts => self.begin_period(instant),
            }
        }
        self.now = at;
        // Whoever comes next, spending too, settles first.
        if self.due.is_some_and(|due| due <= at) {
            self.settle();
        }
    }

    /// When something next happens by itself.
    pub fn next_boundary(&self) -> Option<DateTime<Utc>> {
        self.next_event().map(|(at, _)| at)
    }

    fn next_event(&self) -> Option<(DateTime<Utc>, Event)> {
        let mut events = Vec::new();
        for (place, hold) in self.holds.iter().enumerate() {
            if hold.state == OracleHoldState::Open {
                events.push((hold.until, Event::HoldExpires(place)));
            }
        }
        // Several lots that end or start at one instant do so in burn order.
        for place in self.burn_order() {
            if let (true, Some(until)) = (self.lots[place].is_live(), self.lots[place].until) {
                events.push((until, Event::LotEnds(place)));
            }
        }
        for place in self.burn_order() {
            if self.lots[place].is_pending() {
                events.push((self.lots[place].from, Event::LotStarts(place)));
            }
        }
        if let Some(subscription) = &self.subscription {
            events.push((subscription.next_start(), Event::PeriodStarts));
        }
        // The first of those with the earliest instant: the list is in the order in which ties go.
        let mut first = None::<(DateTime<Utc>, Event)>;
        for (at, event) in events {
            if first.is_none_or(|(earliest, _)| at < earliest) {
                first = Some((at, event));
            }
        }
        first
    }

    /// What every operation but spending begins with and ends with: the group of consumptions before it is complete, and
    /// what happens next is known. A lot with nothing left has no end that matters.
    fn settle(&mut self) {
        self.open_group = None;
        let mut due = self.subscription.as_ref().map(OracleSubscription::next_start);
        let mut earlier = |at: DateTime<Utc>| due = Some(due.map_or(at, |due| due.min(at)));
        for hold in &self.holds {
            if hold.state == OracleHoldState::Open {
                earlier(hold.until);
            }
        }
        for lot in &self.lots {
            if let (true, true, Some(until)) = (lot.is_live(), lot.left != [0; TYPES], lot.until) {
                earlier(until);
            }
            if lot.is_pending() {
                earlier(lot.from);
            }
        }
        self.due = due;
    }

    /// What can be spent.
    pub fn available(&self) -> Vector {
        let mut sum = [0; TYPES];
        for lot in self.lots.iter().filter(|lot| lot.is_live()) {
            sum = plus(sum, lot.left);
        }
        sum
    }

    /// What open holds have set aside.
    pub fn held(&self) -> Vector {
        let mut sum = [0; TYPES];
        for hold in self.holds.iter().filter(|hold| hold.state == OracleHoldState::Open) {
            sum = plus(sum, hold.credits);
        }
        sum
    }

    /// How much more there may be of each type, beside what there is and what is still to come.
    fn room(&self) -> Vector {
        let mut room = minus(minus([MOST; TYPES], self.available()), self.held());
        for lot in self.lots.iter().filter(|lot| lot.is_pending()) {
            room = minus(room, lot.left);
        }
        room
    }

    fn check_room_for(&self, credits: Vector) -> Result<(), Refused> {
        if covers(self.room(), credits) { Ok(()) } else { Err(Refused::because("out_of_range")) }
    }

    /// Lets the organization spend, or not.
    pub fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    fn check_may_spend(&self) -> Result<(), Refused> {
        if self.frozen { Err(Refused::because("organization_frozen")) } else { Ok(()) }
    }

    /// Spends, all of the cost or nothing; `price` is none where there is no such action. Answers the place among [`Oracle::spendings`].
    pub fn consume(&mut self, price: Option<OraclePrice>, quantity: i64) -> Result<usize, Refused> {
        let answer = self.try_consume(price, quantity);
        self.count_attempt(&answer);
        answer
    }

    fn try_consume(&mut self, price: Option<OraclePrice>, quantity: i64) -> Result<usize, Refused> {
        let price = price.ok_or(Refused::because("unknown_action"))?;
        let cost = price.cost(quantity)?;
        self.check_may_spend()?;
        let available = self.available();
        if !covers(available, cost) {
            return Err(Refused::short(cost, available, price.affordable(available)));
        }
        let before = self.balance();
        let group = *self.open_group.get_or_insert_with(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        for (lot, taken) in self.burn(cost) {
            self.groups[group].add(lot, taken);
        }
        let place = self.spendings.len();
        let sequence = self.write("consumption", before, About::Spending(place), self.now);
        self.spendings.push(Spending { quantity, cost, sequence, price, refunded: 0, group });
        Ok(place)
    }

    /// Attempts that fail for want of credits, or because the organization is frozen, leave a row.
    fn count_attempt<T>(&mut self, answer: &Result<T, Refused>) {
        if let Err(Refused { code: "insufficient_credits" | "organization_frozen", .. }) = answer {
            self.refused_at.push(self.now());
        }
    }
}

fn plus(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|t| a[t] + b[t])
}

fn minus(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|t| a[t] - b[t])
}

fn smaller(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|t| a[t].min(b[t]))
}

/// Whether there is enough of every type.
fn covers(available: Vector, wanted: Vector) -> bool {
    (0..TYPES).all(|t| available[t] >= wanted[t])
}
