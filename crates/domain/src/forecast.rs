//! The forecast: how long the credits last if they go on being used as they were, and what will expire unused.
//!
//! What was consumed in a period before now, less what was refunded of it, is taken to be consumed again in every period
//! of the same length from now on, evenly: after a time `t` it is `consumed * t / period`, rounded down. It burns the lots
//! that there are, in burn order, each type by itself. A lot that has not begun joins when it does, and whatever is left of
//! a lot at its end expires. What would be used while there is nothing is not used later.
//!
//! Worked example, one type. There are lots of 100 until the 11th and of 500 for ever, it is the 1st, and 70 were used in
//! the last 7 days: 10 a day. The first lot burns first, since it ends first: 100 are used up in 10 days, exactly when it
//! ends, so nothing expires. The other 500 last 50 days more: they are gone 60 days after the 1st. Had only 35 been used, 5
//! a day, 50 of the first lot would expire on the 11th, and the rest would last 100 days more, until 110 days after the 1st.
//!
//! Credits that a plan will give in periods to come are not counted: they are not there yet, and may never be.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::amount::Amount;
use crate::clock::Timestamp;
use crate::credit::{CreditType, Credits};
use crate::grant::Lot;

/// What was used of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BurnRate {
    /// How many days were looked at, up to now.
    pub days: i64,
    /// What was consumed in them and not refunded.
    pub consumed: Credits,
}

/// What the future holds if the rate stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// The rate.
    pub rate: BurnRate,
    /// When each type runs out, in the order of the types; `None` if it does not, or only after the calendar's end.
    pub runs_out_at: [Option<Timestamp>; crate::credit::COUNT],
    /// What will expire unused, and when, earliest first; at most what an amount can be.
    pub expiring_unused: Vec<(Timestamp, Credits)>,
    /// How much there is of each type, in the order of the types, from now on.
    pub course: [Course; crate::credit::COUNT],
}

/// How much there is of a type at which instant: straight lines from point to point, and as at the last one ever after.
/// Where a lot begins or ends there are two points of one instant. The amounts are sums over lots.
pub type Course = Vec<(Timestamp, i128)>;

impl BurnRate {
    /// What is used in a day, rounded down.
    pub fn per_day(&self) -> Credits {
        let per_day = self.consumed.to_array().map(|consumed| consumed.get() / self.days.max(1));
        Credits::from_sums(per_day)
    }

    /// What is used of a type within the first so many microseconds, rounded down.
    fn used_after(&self, credit_type: CreditType, micros: i64) -> i128 {
        i128::from(self.consumed[credit_type].get()) * i128::from(micros) / self.period_micros()
    }

    /// After how many microseconds that much has been used of a type; `None` where nothing is, or not in time.
    fn micros_to_use(&self, credit_type: CreditType, amount: i128) -> Option<i64> {
        let consumed = i128::from(self.consumed[credit_type].get());
        let product = amount.checked_mul(self.period_micros())?;
        let rounded_up = product.checked_add(consumed - 1)?.checked_div(consumed)?;
        i64::try_from(rounded_up).ok()
    }

    fn period_micros(&self) -> i128 {
        const DAY_MICROS: i128 = 24 * 60 * 60 * 1_000_000;
        i128::from(self.days.max(1)) * DAY_MICROS
    }
}

/// Looks into the future of these lots, which must be settled to `now`.
pub fn forecast(lots: &[Lot], rate: BurnRate, now: Timestamp) -> Forecast {
    let mut lots: Vec<&Lot> = lots.iter().filter(|lot| !lot.remaining.is_zero()).collect();
    lots.sort_by(|one, other| one.burn_order(other));
    let mut expiring: BTreeMap<Timestamp, Credits> = BTreeMap::new();
    let mut course = CreditType::ALL.map(|_| Course::new());
    let runs_out_at = CreditType::ALL
        .map(|credit_type| burn(&lots, credit_type, rate, now, &mut expiring, &mut course[credit_type as usize]));
    Forecast { rate, runs_out_at, expiring_unused: expiring.into_iter().collect(), course }
}

fn has_ended(lot: &Lot, at: Timestamp) -> bool {
    lot.validity.expires_at.is_some_and(|end| end <= at)
}

/// Burns one type, from one instant at which a lot begins or ends to the next, and answers when it runs out for the first
/// time.
fn burn(
    lots: &[&Lot],
    credit_type: CreditType,
    rate: BurnRate,
    now: Timestamp,
    expiring: &mut BTreeMap<Timestamp, Credits>,
    course: &mut Course,
) -> Option<Timestamp> {
    let mut left: Vec<i64> = lots.iter().map(|lot| lot.remaining[credit_type].get()).collect();
    let mut boundaries: Vec<Timestamp> =
        lots.iter().flat_map(|lot| [Some(lot.validity.effective_at), lot.validity.expires_at]).flatten().collect();
    boundaries.retain(|at| *at > now);
    boundaries.sort_unstable();
    boundaries.dedup();

    let mut runs_out_at = None;
    let mut from = now;
    for until in boundaries.into_iter().map(Some).chain([None]) {
        let live: Vec<usize> =
            (0..lots.len()).filter(|i| lots[*i].validity.effective_at <= from && !has_ended(lots[*i], from)).collect();
        let stock: i128 = live.iter().map(|i| i128::from(left[*i])).sum();
        let used_before = rate.used_after(credit_type, micros(from - now));
        let empty_at = match rate.micros_to_use(credit_type, used_before + stock) {
            // Nothing to begin with is nothing from the beginning.
            _ if stock == 0 => Some(from),
            micros => micros.and_then(|micros| now.checked_add_signed(TimeDelta::microseconds(micros))),
        };
        course.push((from, stock));
        if let Some(at) = empty_at.filter(|at| stock > 0 && until.is_none_or(|until| *at < until)) {
            course.push((at, 0));
        }
        if runs_out_at.is_none() {
            runs_out_at = empty_at.filter(|at| until.is_none_or(|until| *at < until));
        }
        let Some(until) = until else { break };
        let mut wanted = rate.used_after(credit_type, micros(until - now)) - used_before;
        course.push((until, stock - wanted.min(stock)));
        for i in live {
            let taken = wanted.min(i128::from(left[i]));
            left[i] -= i64::try_from(taken).unwrap_or(left[i]);
            wanted -= taken;
        }
        for (_, left) in lots.iter().zip(&mut left).filter(|(lot, _)| lot.validity.expires_at == Some(until)) {
            let lost = std::mem::take(left);
            if lost > 0 {
                let lost = Credits::of(credit_type, Amount::new(lost).unwrap_or_default());
                let sum = expiring.entry(until).or_default();
                *sum = sum.saturating_add(lost);
            }
        }
        from = until;
    }
    runs_out_at
}

fn micros(time: TimeDelta) -> i64 {
    time.num_microseconds().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::GrantSource;
    use crate::id::GrantId;
    use crate::window::Validity;

    fn day(number: i64) -> Timestamp {
        "2026-12-01T00:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::days(number - 1)
    }

    fn ai(value: i64) -> Credits {
        Credits::from_sums([value, 0, 0, 0])
    }

    fn lot(id: u128, credits: Credits, from: i64, until: Option<i64>) -> Lot {
        let id = GrantId::new(uuid::Uuid::from_u128(id));
        Lot {
            validity: Validity { effective_at: day(from), expires_at: until.map(day) },
            ..Lot::of(id, credits, GrantSource::Purchase, day(from))
        }
    }

    fn weekly(credits: Credits) -> BurnRate {
        BurnRate { days: 7, consumed: credits }
    }

    #[test]
    fn what_has_ended_is_not_there() {
        let found = forecast(&[lot(1, ai(100), 1, Some(2))], weekly(ai(70)), day(3));
        assert_eq!(found.runs_out_at[0], Some(day(3)));
        assert_eq!(found.expiring_unused, []);
        assert_eq!(found.course[0], [(day(3), 0)]);
    }

    #[test]
    fn a_lot_with_nothing_left_leaves_no_mark() {
        let found = forecast(&[lot(1, ai(0), 1, Some(11)), lot(2, ai(5), 1, None)], weekly(ai(0)), day(1));
        assert_eq!(found.course[0], [(day(1), 5)]);
    }

    #[test]
    fn the_worked_example_comes_out_as_it_is_told() {
        let lots = [lot(1, ai(100), 1, Some(11)), lot(2, ai(500), 1, None)];
        let found = forecast(&lots, weekly(ai(70)), day(1));
        assert_eq!(found.runs_out_at[0], Some(day(61)));
        assert_eq!(found.expiring_unused, []);
        assert_eq!(found.rate.per_day(), ai(10));
        assert_eq!(found.course[0], [(day(1), 600), (day(11), 500), (day(11), 500), (day(61), 0)]);
        assert_eq!(found.course[1], [(day(1), 0), (day(11), 0), (day(11), 0)]);
        let found = forecast(&lots, weekly(ai(35)), day(1));
        assert_eq!(found.runs_out_at[0], Some(day(111)));
        assert_eq!(found.expiring_unused, [(day(11), ai(50))]);
        assert_eq!(found.course[0], [(day(1), 600), (day(11), 550), (day(11), 500), (day(111), 0)]);
    }

    #[test]
    fn what_is_not_used_lasts_for_ever_and_expires_whole() {
        let lots = [lot(1, Credits::from_sums([9, 0, 3, 0]), 1, Some(11)), lot(2, ai(5), 1, None)];
        let found = forecast(&lots, weekly(Credits::ZERO), day(1));
        assert_eq!(found.expiring_unused, [(day(11), Credits::from_sums([9, 0, 3, 0]))]);
        assert_eq!(found.runs_out_at[0], None, "there are five that never end");
        assert_eq!(found.runs_out_at[2], Some(day(11)), "the last e-mails are gone when their lot ends");
        assert_eq!(found.runs_out_at[1], Some(day(1)), "there never were any");
    }

    #[test]
    fn a_lot_that_begins_later_joins_when_it_does() {
        let lots = [lot(1, ai(20), 1, None), lot(2, ai(70), 3, Some(20))];
        let found = forecast(&lots, weekly(ai(70)), day(1));
        // Two days burn the first lot down to nothing, just when the second begins.
        assert_eq!(found.runs_out_at[0], Some(day(10)));
        let course = [(day(1), 20), (day(3), 0), (day(3), 70), (day(10), 0), (day(20), 0), (day(20), 0)];
        assert_eq!(found.course[0], course);
        let late = [lot(1, ai(20), 1, None), lot(2, ai(70), 5, Some(8))];
        let found = forecast(&late, weekly(ai(70)), day(1));
        assert_eq!(found.runs_out_at[0], Some(day(3)));
        let course = [(day(1), 20), (day(3), 0), (day(5), 0), (day(5), 70), (day(8), 40), (day(8), 0)];
        assert_eq!(found.course[0], course);
        assert_eq!(found.expiring_unused, [(day(8), ai(40))], "what could not be used on two days is not used later");
    }

    #[test]
    fn amounts_at_the_end_of_their_range_do_not_overflow() {
        let most = Credits::from_sums([crate::amount::MAX; 4]);
        let lots = [lot(1, most, 1, Some(3)), lot(2, most, 1, None)];
        let found = forecast(&lots, BurnRate { days: 30, consumed: most }, day(1));
        assert_eq!(found.expiring_unused.len(), 1);
        assert!(found.runs_out_at[0].is_some());
        assert_eq!(forecast(&lots, weekly(ai(1)), day(1)).runs_out_at[0], None, "after the calendar's end");
    }
}
