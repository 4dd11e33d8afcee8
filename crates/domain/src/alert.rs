//! Alerts: telling once that a balance has become low, however many consumptions made it so.
//!
//! A rule watches a balance from above. While it is *armed* it waits for the balance to fall to its threshold, tells of
//! that, and is *fired*; it tells nothing more until the balance has risen again, of which it tells as well. A rule that
//! finds a balance low already when it begins is *idle*: it tells of crossings, and there was none.
//!
//! What is decided follows from the ledger alone, not from when anybody looks. Between two movements other than spending a
//! balance can only fall. So it is enough to know it before and after each of those ([`Step`]): where it is low before
//! one, it crossed the threshold in the spending since the one before, and the ledger can say at which consumption.
//!
//! Worked example: a rule of 100, and a balance of 500. Spending 250 and then 200 leaves 50: the second crosses, and the
//! rule fires at its number. Whatever else is spent says nothing new. A grant of 300 recovers the balance and arms the rule
//! again, had nothing been said of where it recovers; with `recover_at` 400 a grant of 300 would leave it fired.

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, MAX};
use crate::clock::Timestamp;
use crate::credit::{CreditType, Credits};
use crate::error::Refusal;
use crate::event::EventType;
use crate::id::{AlertRuleId, OrganizationId};

/// The longest time ahead that a rule of forecast days looks, in days.
pub const FORECAST_DAYS_MAX: i64 = 365;

/// What a rule compares with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertMeasure {
    /// What can be spent, in credits.
    Amount,
    /// What can be spent, in percent of the last grant.
    Share,
    /// In how many days the credits run out, as they were used of late.
    ForecastDays,
}

impl AlertMeasure {
    /// Every measure.
    pub const ALL: [Self; 3] = [Self::Amount, Self::Share, Self::ForecastDays];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amount => "amount",
            Self::Share => "share",
            Self::ForecastDays => "forecast_days",
        }
    }

    /// The measure of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.as_str() == name)
    }
}

/// When a rule tells something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTerms {
    /// What is compared.
    pub measure: AlertMeasure,
    /// Low is this and everything below: credits, percent or days.
    pub threshold: i64,
    /// Recovered is this and everything above; `None` is everything above the threshold.
    pub recover_at: Option<i64>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRule {
    /// Its id.
    pub id: AlertRuleId,
    /// Whose balances it watches; `None` is everybody's.
    pub organization_id: Option<OrganizationId>,
    /// What people call it.
    pub name: String,
    /// Which type of credits it watches; `None` is each by itself.
    pub credit_type: Option<CreditType>,
    /// When it tells something.
    pub terms: AlertTerms,
    /// Whether it tells anything.
    pub active: bool,
    /// From when it watches: when it was made, or last changed in what it means.
    pub since: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// How it stands with a rule and a balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The balance was low when the rule began, and has not risen yet.
    Idle,
    /// The balance is not low; that it becomes so is waited for.
    Armed,
    /// It was told that the balance is low, and not yet that it has recovered.
    Fired,
}

impl AlertState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Idle, Self::Armed, Self::Fired];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Armed => "armed",
            Self::Fired => "fired",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// How a rule begins that finds a balance so.
    pub const fn beginning(standing: Level) -> Self {
        if matches!(standing, Level::Low) { Self::Idle } else { Self::Armed }
    }

    /// What becomes of the state where a balance is found so, and what is told.
    #[must_use]
    pub const fn after(self, level: Level) -> (Self, Option<Told>) {
        match (self, level) {
            (Self::Armed, Level::Low) => (Self::Fired, Some(Told::Low)),
            (Self::Fired, Level::Recovered) => (Self::Armed, Some(Told::Recovered)),
            (Self::Idle, Level::Recovered) => (Self::Armed, None),
            (state, _) => (state, None),
        }
    }
}

/// How a balance stands to the terms of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// At the threshold or below.
    Low,
    /// Neither.
    Between,
    /// Where the rule is armed again, or above.
    Recovered,
}

/// What a rule tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The balance became low.
    Low,
    /// It recovered.
    Recovered,
}

impl AlertTerms {
    /// The terms, if their numbers are in the range of what they measure.
    pub fn check(self) -> Result<Self, Refusal> {
        let (least, most, message, recovery) = match self.measure {
            AlertMeasure::Amount => {
                let message = "must be a whole number of credits from 0 to 9007199254740990";
                (0, MAX - 1, message, MAX)
            }
            AlertMeasure::Share => (1, 99, "must be a percentage from 1 to 99", 100),
            AlertMeasure::ForecastDays => {
                let message = "must be a number of days from 1 to 365";
                (1, FORECAST_DAYS_MAX, message, 2 * FORECAST_DAYS_MAX)
            }
        };
        if !(least..=most).contains(&self.threshold) {
            return Err(Refusal::InvalidField { field: "threshold", message });
        }
        if self.recover_at.is_some_and(|at| at <= self.threshold || at > recovery) {
            let message =
                "must be above the threshold, and no more than 9007199254740991 credits, 100 percent or 730 days";
            return Err(Refusal::InvalidField { field: "recover_at", message });
        }
        Ok(self)
    }

    /// The event that tells this by a rule of these terms. That there is nothing left has a name of its own.
    pub const fn event(&self, told: Told) -> EventType {
        match told {
            Told::Recovered => EventType::BalanceRecovered,
            Told::Low if matches!(self.measure, AlertMeasure::Amount) && self.threshold == 0 => {
                EventType::BalanceDepleted
            }
            Told::Low => EventType::BalanceLow,
        }
    }

    /// The largest balance that is low, where the last grant was that large; `None` where none is, as before the first
    /// grant there is no share of it.
    pub fn low_max(&self, base: Amount) -> Option<i64> {
        match self.measure {
            AlertMeasure::Amount => Some(self.threshold),
            AlertMeasure::Share if base == Amount::ZERO => None,
            AlertMeasure::Share => percent(self.threshold, base, 0),
            AlertMeasure::ForecastDays => None,
        }
    }

    /// How that balance stands, where the last grant was that large. Forecasts are not judged by balances.
    pub fn level(&self, available: Amount, base: Amount) -> Level {
        let Some(low_max) = self.low_max(base) else { return Level::Between };
        if available.get() <= low_max {
            return Level::Low;
        }
        let recovered_min = match (self.measure, self.recover_at) {
            (AlertMeasure::Share, Some(share)) => percent(share, base, 99),
            (_, recover_at) => recover_at,
        };
        if recovered_min.is_none_or(|least| available.get() >= least) { Level::Recovered } else { Level::Between }
    }

    /// How a forecast stands that sees credits run out then, or never.
    pub fn level_of_forecast(&self, runs_out_at: Option<Timestamp>, now: Timestamp) -> Level {
        let Some(runs_out_at) = runs_out_at else { return Level::Recovered };
        let within = |days| runs_out_at <= now + chrono::TimeDelta::days(days);
        if within(self.threshold) {
            Level::Low
        } else if self.recover_at.is_some_and(|days| within(days - 1)) {
            Level::Between
        } else {
            Level::Recovered
        }
    }
}

/// So many hundredths of an amount, with so many added before it is cut.
fn percent(share: i64, of: Amount, rounding: i128) -> Option<i64> {
    let hundredths = i128::from(share) * i128::from(of.get()) + rounding;
    i64::try_from(hundredths / 100).ok()
}

/// A movement other than spending, which may have gone before it unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its number in the ledger.
    pub sequence: i64,
    /// Its instant.
    pub at: Timestamp,
    /// What could be spent before it: no more than after the step before.
    pub before: Credits,
    /// What can be spent after it.
    pub after: Credits,
    /// How much it granted of each type; nothing of those that it did not grant.
    pub granted: Credits,
}

/// A place in the ledger, and how a balance was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the last movement.
    pub sequence: i64,
    /// Its instant.
    pub at: Timestamp,
    /// What could be spent after it.
    pub available: Credits,
    /// How large the last grant of each type was.
    pub base: Credits,
}

impl Place {
    /// Before everything.
    pub const START: Self =
        Self { sequence: 0, at: Timestamp::UNIX_EPOCH, available: Credits::ZERO, base: Credits::ZERO };

    /// The place after a step.
    #[must_use]
    pub fn after(self, step: &Step) -> Self {
        let mut base = self.base;
        for (credit_type, granted) in step.granted.iter().filter(|(_, granted)| *granted > Amount::ZERO) {
            base[credit_type] = granted;
        }
        Self { sequence: step.sequence, at: step.at, available: step.after, base }
    }
}

/// What a rule tells of one type of credits, and where it became so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// What is told.
    pub told: Told,
    /// The type of credits.
    pub credit_type: CreditType,
    /// The balance was not so yet after this movement.
    pub after: i64,
    /// It was so after this one. Where there are others between, they are consumptions, and the first of them that left
    /// no more than [`AlertTerms::low_max`] is where it became so.
    pub through: i64,
    /// The instant of that.
    pub at: Timestamp,
    /// What could be spent then.
    pub available: Amount,
    /// How large the last grant was.
    pub base: Amount,
}

/// Follows the ledger from `from`, where the rule was in `state`, through these steps to `to`: consumptions after the last
/// step. Answers the state there and what was told on the way, in order. `None` for the state is a rule that begins.
pub fn follow(
    terms: &AlertTerms,
    credit_type: CreditType,
    state: Option<AlertState>,
    from: Place,
    steps: &[Step],
    to: Place,
) -> (AlertState, Vec<Crossing>) {
    let level = |place: &Place| terms.level(place.available[credit_type], place.base[credit_type]);
    let mut state = state.unwrap_or_else(|| AlertState::beginning(level(&from)));
    let mut here = from;
    let mut crossings = Vec::new();
    let mut go = |here: &mut Place, next: Place| {
        let (after, told) = state.after(level(&next));
        state = after;
        crossings.extend(told.map(|told| Crossing {
            told,
            credit_type,
            after: here.sequence,
            through: next.sequence,
            at: next.at,
            available: next.available[credit_type],
            base: next.base[credit_type],
        }));
        *here = next;
    };
    for step in steps.iter().filter(|step| step.sequence > from.sequence && step.sequence <= to.sequence) {
        let spent = Place { sequence: step.sequence - 1, available: step.before, at: step.at, ..here };
        go(&mut here, spent);
        let moved = here.after(step);
        go(&mut here, moved);
    }
    let end = Place { base: here.base, ..to };
    go(&mut here, end);
    (state, crossings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credits(ai: i64) -> Credits {
        Credits::of(CreditType::Ai, Amount::new(ai).unwrap())
    }

    fn at(sequence: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(sequence)
    }

    fn terms(measure: AlertMeasure, threshold: i64, recover_at: Option<i64>) -> AlertTerms {
        AlertTerms { measure, threshold, recover_at }
    }

    /// What happens to a balance of one type.
    #[derive(Debug, Clone, Copy)]
    enum Happening {
        Spend(i64),
        Grant(i64),
        /// A release, or a refund.
        Return(i64),
        /// A hold, or an expiry.
        Take(i64),
    }

    /// Every movement with the balance after it, what the last grant was, and whether it spent.
    fn ledger(happenings: &[Happening]) -> Vec<(i64, i64, i64, Happening)> {
        let (mut balance, mut base) = (0, 0);
        let lines = happenings.iter().map(|happening| {
            let done = match *happening {
                Happening::Spend(amount) => Happening::Spend(amount.min(balance)),
                Happening::Take(amount) => Happening::Take(amount.min(balance)),
                other => other,
            };
            match done {
                Happening::Spend(amount) | Happening::Take(amount) => balance -= amount,
                Happening::Return(amount) => balance += amount,
                Happening::Grant(amount) => {
                    balance += amount;
                    base = amount;
                }
            }
            (balance, base, done)
        });
        (1..).zip(lines).map(|(sequence, (balance, base, done))| (sequence, balance, base, done)).collect()
    }

    fn steps(lines: &[(i64, i64, i64, Happening)]) -> Vec<Step> {
        let step = |(index, &(sequence, balance, _, done)): (usize, &(i64, i64, i64, Happening))| {
            let before = if index == 0 { 0 } else { lines[index - 1].1 };
            let granted = if let Happening::Grant(amount) = done { amount } else { 0 };
            let step = Step {
                sequence,
                at: at(sequence),
                before: credits(before),
                after: credits(balance),
                granted: credits(granted),
            };
            (!matches!(done, Happening::Spend(_))).then_some(step)
        };
        lines.iter().enumerate().filter_map(step).collect()
    }

    fn place(lines: &[(i64, i64, i64, Happening)], sequence: i64) -> Place {
        let Some(&(_, balance, base, _)) = usize::try_from(sequence - 1).ok().and_then(|i| lines.get(i)) else {
            return Place::START;
        };
        Place { sequence, at: at(sequence), available: credits(balance), base: credits(base) }
    }

    /// The naive way: looks at the balance after every single movement, in words of its own.
    fn oracle(terms: &AlertTerms, lines: &[(i64, i64, i64, Happening)]) -> Vec<(i64, Told)> {
        let is_low = |balance: i64, base: i64| match terms.measure {
            AlertMeasure::Amount => balance <= terms.threshold,
            _ => base > 0 && balance * 100 <= terms.threshold * base,
        };
        let has_recovered = |balance: i64, base: i64| match terms.measure {
            AlertMeasure::Amount => terms.recover_at.is_none_or(|least| balance >= least),
            _ => base > 0 && terms.recover_at.is_none_or(|least| balance * 100 >= least * base),
        };
        let (mut armed, mut has_told, mut told) = (!is_low(0, 0), false, Vec::new());
        for &(sequence, balance, base, _) in lines {
            if armed && is_low(balance, base) {
                (armed, has_told) = (false, true);
                told.push((sequence, Told::Low));
            } else if !armed && !is_low(balance, base) && has_recovered(balance, base) {
                armed = true;
                if has_told {
                    told.push((sequence, Told::Recovered));
                }
            }
        }
        told
    }

    /// What the ledger says of a crossing: the first consumption on the way that left no more than what is low.
    fn exactly(terms: &AlertTerms, lines: &[(i64, i64, i64, Happening)], crossing: &Crossing) -> i64 {
        if crossing.told == Told::Recovered {
            return crossing.through;
        }
        let low_max = terms.low_max(crossing.base).unwrap();
        let among = lines.iter().filter(|line| line.0 > crossing.after && line.0 <= crossing.through);
        among.clone().find(|line| line.1 <= low_max).map_or(crossing.through, |line| line.0)
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            6 => (0..60_i64).prop_map(Happening::Spend),
            2 => (1..150_i64).prop_map(Happening::Grant),
            1 => (1..80_i64).prop_map(Happening::Return),
            1 => (1..80_i64).prop_map(Happening::Take),
        ]
    }

    fn some_terms() -> impl Strategy<Value = AlertTerms> {
        let amount = (0..80_i64, proptest::option::of(1..80_i64))
            .prop_map(|(low, more)| terms(AlertMeasure::Amount, low, more.map(|more| low + more)));
        let share = (1..99_i64, proptest::option::of(1..100_i64))
            .prop_map(|(low, more)| terms(AlertMeasure::Share, low, more.map(|more| (low + more).min(100))));
        prop_oneof![amount, share]
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_looking_at_every_movement_tells_however_often_one_looks(
            happenings in proptest::collection::vec(happening(), 0..60),
            terms in some_terms(),
            stops in proptest::collection::vec(0..60_i64, 0..6),
        ) {
            prop_assert!(terms.check().is_ok());
            let lines = ledger(&happenings);
            let steps = steps(&lines);
            let end = lines.last().map_or(0, |line| line.0);
            let mut stops: Vec<i64> = stops.into_iter().filter(|stop| *stop < end).chain([end]).collect();
            stops.sort_unstable();
            let (mut state, mut here, mut told) = (None, Place::START, Vec::new());
            for stop in stops {
                let there = place(&lines, stop);
                let (after, crossings) = follow(&terms, CreditType::Ai, state, here, &steps, there);
                told.extend(crossings.iter().map(|it| (exactly(&terms, &lines, it), it.told)));
                (state, here) = (Some(after), there);
            }
            prop_assert_eq!(told, oracle(&terms, &lines));
        }
    }

    #[test]
    fn the_worked_example_comes_out_as_it_is_told() {
        use Happening::{Grant, Spend};
        let lines = ledger(&[Grant(500), Spend(250), Spend(200), Spend(10), Grant(300), Spend(250)]);
        let told = |recover_at| {
            let terms = terms(AlertMeasure::Amount, 100, recover_at);
            let (state, crossings) =
                follow(&terms, CreditType::Ai, None, place(&lines, 1), &steps(&lines), place(&lines, 6));
            let told = crossings.iter().map(|it| (exactly(&terms, &lines, it), it.told)).collect::<Vec<_>>();
            (state, told)
        };
        let twice = vec![(3, Told::Low), (5, Told::Recovered), (6, Told::Low)];
        assert_eq!(told(None), (AlertState::Fired, twice));
        assert_eq!(told(Some(400)), (AlertState::Fired, vec![(3, Told::Low)]));
    }

    #[test]
    fn a_rule_that_finds_a_balance_low_tells_nothing_until_it_has_risen_and_fallen() {
        use Happening::{Grant, Spend};
        let lines = ledger(&[Grant(50), Spend(10), Grant(100), Spend(100)]);
        let terms = terms(AlertMeasure::Amount, 60, None);
        let followed = |to| follow(&terms, CreditType::Ai, None, Place::START, &steps(&lines), place(&lines, to));
        assert_eq!(followed(2), (AlertState::Idle, vec![]));
        assert_eq!(followed(3), (AlertState::Armed, vec![]));
        let (state, crossings) = followed(4);
        assert_eq!((state, crossings.len(), crossings[0].through), (AlertState::Fired, 1, 4));
        // Types that the organization never had say nothing either.
        assert_eq!(follow(&terms, CreditType::Sms, None, Place::START, &steps(&lines), place(&lines, 4)).1, []);
    }

    #[test]
    fn nothing_left_has_a_name_of_its_own() {
        let event = |measure, threshold| terms(measure, threshold, None).event(Told::Low);
        assert_eq!(event(AlertMeasure::Amount, 0), EventType::BalanceDepleted);
        assert_eq!(event(AlertMeasure::Amount, 1), EventType::BalanceLow);
        assert_eq!(event(AlertMeasure::ForecastDays, 7), EventType::BalanceLow);
        assert_eq!(terms(AlertMeasure::Amount, 0, None).event(Told::Recovered), EventType::BalanceRecovered);
    }

    #[test]
    fn a_forecast_is_low_within_its_days_and_recovers_beyond_them() {
        let level = |recover_at, days| {
            let out = (days >= 0).then(|| at(0) + chrono::TimeDelta::days(days));
            terms(AlertMeasure::ForecastDays, 7, recover_at).level_of_forecast(out, at(0))
        };
        assert_eq!(level(None, 7), Level::Low);
        assert_eq!(level(None, 8), Level::Recovered);
        assert_eq!((level(Some(10), 9), level(Some(10), 10)), (Level::Between, Level::Recovered));
        assert_eq!(level(Some(10), -1), Level::Recovered, "never");
    }

    #[test]
    fn numbers_out_of_the_range_of_their_measure_are_refused() {
        let ok = |measure, threshold, recover_at| terms(measure, threshold, recover_at).check().is_ok();
        assert!(ok(AlertMeasure::Amount, 0, Some(1)) && ok(AlertMeasure::Amount, MAX - 1, Some(MAX)));
        assert!(ok(AlertMeasure::Share, 99, Some(100)) && ok(AlertMeasure::ForecastDays, 365, Some(730)));
        for (measure, threshold, recover_at) in [
            (AlertMeasure::Amount, -1, None),
            (AlertMeasure::Amount, MAX, None),
            (AlertMeasure::Amount, 5, Some(5)),
            (AlertMeasure::Amount, 5, Some(MAX + 1)),
            (AlertMeasure::Share, 0, None),
            (AlertMeasure::Share, 100, None),
            (AlertMeasure::Share, 50, Some(101)),
            (AlertMeasure::ForecastDays, 0, None),
            (AlertMeasure::ForecastDays, 366, None),
            (AlertMeasure::ForecastDays, 30, Some(731)),
        ] {
            assert!(!ok(measure, threshold, recover_at), "{measure:?} {threshold} {recover_at:?}");
        }
        let most = Amount::new(MAX).unwrap();
        assert_eq!(terms(AlertMeasure::Share, 99, Some(100)).level(most, most), Level::Recovered);
    }

    #[test]
    fn a_share_is_low_rounded_down_and_recovered_rounded_up() {
        let level = |available| {
            let [available, base] = [available, 50].map(|value| Amount::new(value).unwrap());
            terms(AlertMeasure::Share, 5, Some(25)).level(available, base)
        };
        assert_eq!([2, 3, 12, 13].map(level), [Level::Low, Level::Between, Level::Between, Level::Recovered]);
    }

    #[test]
    fn a_crossing_by_spending_has_the_instant_of_what_came_next_and_the_grant_before_it() {
        use Happening::{Grant, Spend, Take};
        let lines = ledger(&[Grant(100), Spend(95), Take(1)]);
        let terms = terms(AlertMeasure::Share, 10, None);
        for (to, instant) in [(2, at(2)), (3, at(3))] {
            // Whoever reads where the ledger ends does not know how large the last grant was.
            let to = Place { base: Credits::ZERO, ..place(&lines, to) };
            let (_, crossings) = follow(&terms, CreditType::Ai, None, place(&lines, 1), &steps(&lines), to);
            let [crossing] = &crossings[..] else { panic!("{crossings:?}") };
            assert_eq!((crossing.told, crossing.after, crossing.through), (Told::Low, 1, 2));
            assert_eq!((crossing.at, crossing.available.get(), crossing.base.get()), (instant, 5, 100));
        }
    }
}
