//! What watches balances: forecasts, alerts and top-ups; and what is carried forward of them.

use chrono::TimeDelta;
use proptest::prelude::*;
use uuid::Uuid;

use super::{amount, credits, each, four_times, instant, integer, wide};
use crate::account::Account;
use crate::alert::{AlertMeasure, AlertTerms, FORECAST_DAYS_MAX, Level};
use crate::amount::{Amount, MAX};
use crate::book::{Book, Pages};
use crate::clock::Timestamp;
use crate::credit::{COUNT, CreditType, Credits};
use crate::forecast::{BurnRate, forecast};
use crate::grant::{GrantSource, Lot};
use crate::id::{GrantId, OrganizationId, TopUpId};
use crate::standing::{Spending, Standing};
use crate::top_up::{Asking, SECONDS_MAX, TopUp, TopUpState, TopUpTerms, WINDOW_REQUESTS_MAX};
use crate::webhook::retry_delay;
use crate::window::Validity;

/// Lots that begin and end anywhere, in the past as well, and together may be more than an amount can be.
fn lots() -> impl Strategy<Value = Vec<Lot>> {
    let lot = (credits(), instant(), prop::option::of(instant()));
    prop::collection::vec(lot, 0..6).prop_map(|lots| {
        let lot = |(id, (remaining, effective_at, expires_at)): (u128, (Credits, Timestamp, Option<Timestamp>))| Lot {
            validity: Validity { effective_at, expires_at },
            ..Lot::of(GrantId::new(Uuid::from_u128(id)), remaining, GrantSource::Purchase, effective_at)
        };
        (0..).zip(lots).map(lot).collect()
    })
}

fn measure() -> impl Strategy<Value = AlertMeasure> {
    prop::sample::select(AlertMeasure::ALL.to_vec())
}

/// Terms about balances, with numbers that make sense.
fn balance_terms() -> impl Strategy<Value = AlertTerms> {
    let amounts = (amount(), prop::option::of(amount())).prop_map(|(threshold, recover_at)| {
        let threshold = threshold.get().min(MAX - 1);
        let recover_at = recover_at.map(|at| at.get().max(threshold + 1));
        AlertTerms { measure: AlertMeasure::Amount, threshold, recover_at }
    });
    let shares = (1_i64..=99, prop::option::of(1_i64..=99)).prop_map(|(threshold, more)| AlertTerms {
        measure: AlertMeasure::Share,
        threshold,
        recover_at: more.map(|more| (threshold + more).min(100)),
    });
    prop_oneof![amounts, shares]
}

/// Numbers around the ends of what measures have.
fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![integer(), 0_i64..=102, FORECAST_DAYS_MAX - 2..=2 * FORECAST_DAYS_MAX + 2, MAX - 2..=MAX + 2]
}

proptest! {
    #![proptest_config(four_times())]

    #[test]
    fn a_forecast_is_made_of_whatever_there_is(
        lots in lots(), days in integer(), consumed in credits(), now in instant(),
    ) {
        let rate = BurnRate { days, consumed };
        let found = forecast(&lots, rate, now);
        let per_day = wide(consumed).map(|consumed| consumed / i128::from(days.max(1)));
        prop_assert_eq!(wide(rate.per_day()), per_day);
        for credit_type in CreditType::ALL {
            let course = &found.course[credit_type as usize];
            prop_assert!(course.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            prop_assert!(course.iter().all(|(at, stock)| *at >= now && *stock >= 0));
            prop_assert!(found.runs_out_at[credit_type as usize].is_none_or(|at| at >= now));
        }
        // No more expires at an instant than the lots that end there hold.
        let mut last = now;
        for (at, unused) in &found.expiring_unused {
            prop_assert!(*at > last, "{at} is not after {last}");
            last = *at;
            let ending = lots.iter().filter(|lot| lot.validity.expires_at == Some(*at));
            let held = ending.map(|lot| wide(lot.remaining)).fold([0; COUNT], |sum, lot| each(sum, lot, |a, b| a + b));
            prop_assert!(each(wide(*unused), held, |unused, held| unused - held).into_iter().all(|more| more <= 0));
        }
    }

    /// Nothing is used, so all of it is left, as far as an amount can say so.
    #[test]
    fn what_ends_together_is_added_up(lots in prop::collection::vec(credits(), 1..5)) {
        let (now, end) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + TimeDelta::days(1));
        let of = |(id, remaining): (u128, &Credits)| Lot {
            validity: Validity { effective_at: now, expires_at: Some(end) },
            ..Lot::of(GrantId::new(Uuid::from_u128(id)), *remaining, GrantSource::Purchase, now)
        };
        let sum = lots.iter().fold([0; COUNT], |sum, lot| each(sum, wide(*lot), |a, b| a + b));
        let lots: Vec<_> = (0..).zip(&lots).map(of).collect();
        let unused = forecast(&lots, BurnRate { days: 1, consumed: Credits::ZERO }, now).expiring_unused;
        let unused = unused.first().map_or([0; COUNT], |(_, unused)| wide(*unused));
        prop_assert_eq!(unused, sum.map(|sum| sum.min(MAX.into())));
    }

    #[test]
    fn a_lot_runs_out_at_the_first_microsecond_by_which_it_is_used(
        stock in amount(), consumed in amount(), days in 1_i64..=400, now in instant(),
    ) {
        let lot = Lot::of(GrantId::MIN, Credits::of(CreditType::Ai, stock), GrantSource::Purchase, now);
        let rate = BurnRate { days, consumed: Credits::of(CreditType::Ai, consumed) };
        let used = |micros: i128| {
            i128::from(consumed.get()) * micros / (i128::from(days) * i128::from(24 * 60 * 60 * 1_000_000_i64))
        };
        let out = forecast(&[lot], rate, now).runs_out_at[0];
        match out {
            None => {
                let longest = i128::from((Timestamp::MAX_UTC - now).num_microseconds().unwrap_or(i64::MAX));
                prop_assert!(used(longest) < i128::from(stock.get()), "it runs out within the calendar");
            }
            Some(at) => {
                let micros = i128::from((at - now).num_microseconds().unwrap());
                prop_assert!(used(micros) >= i128::from(stock.get()));
                prop_assert!(micros == 0 || used(micros - 1) < i128::from(stock.get()));
            }
        }
    }

    #[test]
    fn the_terms_of_an_alert_are_those_that_its_measure_has(
        measure in measure(), threshold in bound(), recover_at in prop::option::of(bound()),
    ) {
        let (least, most, recovery) = match measure {
            AlertMeasure::Amount => (0, MAX - 1, MAX),
            AlertMeasure::Share => (1, 99, 100),
            AlertMeasure::ForecastDays => (1, 365, 730),
        };
        let is_fine = threshold >= least && threshold <= most
            && recover_at.is_none_or(|at| at > threshold && at <= recovery);
        let terms = AlertTerms { measure, threshold, recover_at };
        prop_assert_eq!(terms.check().is_ok(), is_fine);
    }

    #[test]
    fn a_forecast_is_low_to_the_microsecond(
        threshold in 1..=FORECAST_DAYS_MAX, more in prop::option::of(1..=FORECAST_DAYS_MAX),
        beside in prop::option::of((0_i64..740, -1_i64..=1)), now in 0_i64..30_000_000_000,
    ) {
        let terms = AlertTerms {
            measure: AlertMeasure::ForecastDays, threshold, recover_at: more.map(|more| threshold + more),
        };
        prop_assert_eq!(terms.check(), Ok(terms));
        let now = Timestamp::from_timestamp(now, 0).unwrap();
        let left = beside.map(|(days, micros)| TimeDelta::days(days) + TimeDelta::microseconds(micros));
        let level = terms.level_of_forecast(left.map(|left| now + left), now);
        let is_within = |days| left.is_some_and(|left| left <= TimeDelta::days(days));
        let expected = match terms.recover_at {
            _ if is_within(threshold) => Level::Low,
            Some(days) if is_within(days - 1) => Level::Between,
            _ => Level::Recovered,
        };
        prop_assert_eq!(level, expected);
    }

    #[test]
    fn a_level_is_that_of_the_exact_share(
        terms in balance_terms(), available in amount(), base in prop_oneof![amount(), (0_i64..1_000).prop_map(super::of)],
        beside in prop::option::of((any::<bool>(), -1_i64..=1)),
    ) {
        prop_assert_eq!(terms.check(), Ok(terms));
        let AlertTerms { measure, threshold, recover_at } = terms;
        // Half of them right beside where something changes.
        let available = beside.map_or(available, |(recovery, beside)| {
            let bound = i128::from(if recovery { recover_at.unwrap_or(threshold) } else { threshold });
            let hundredths = bound * if measure == AlertMeasure::Share { i128::from(base.get()) } else { 100 };
            super::of(i64::try_from(hundredths / 100 + i128::from(beside)).unwrap().clamp(0, MAX))
        });
        let level = terms.level(available, base);
        let share = measure == AlertMeasure::Share;
        if share && base == Amount::ZERO {
            prop_assert_eq!(level, Level::Between);
            return Ok(());
        }
        // Both sides in hundredths, of the last grant or of a credit.
        let of = |value: i64| i128::from(value) * if share { i128::from(base.get()) } else { 100 };
        let have = i128::from(available.get()) * 100;
        prop_assert_eq!(level == Level::Low, have <= of(threshold));
        prop_assert_eq!(
            level == Level::Recovered,
            have > of(threshold) && recover_at.is_none_or(|at| have >= of(at))
        );
    }

    #[test]
    fn the_terms_of_a_top_up_are_checked_at_every_end(
        amount in amount(), seconds in prop::array::uniform3(prop_oneof![integer(), SECONDS_MAX - 1..=SECONDS_MAX + 1]),
        window_max in prop_oneof![integer(), WINDOW_REQUESTS_MAX - 1..=WINDOW_REQUESTS_MAX + 1],
        available in amount(), requests in prop::collection::vec((instant(), instant()), 0..3), now in instant(),
    ) {
        let [timeout_seconds, cooldown_seconds, window_seconds] = seconds;
        let terms = TopUpTerms {
            threshold: amount, amount, timeout_seconds, cooldown_seconds, window_seconds, window_max, active: true,
        };
        let is_fine = amount > Amount::ZERO && (1..=SECONDS_MAX).contains(&timeout_seconds)
            && (0..=SECONDS_MAX).contains(&cooldown_seconds) && (1..=SECONDS_MAX).contains(&window_seconds)
            && (1..=WINDOW_REQUESTS_MAX).contains(&window_max);
        prop_assert_eq!(terms.check().is_ok(), is_fine);
        if !is_fine {
            return Ok(());
        }
        let request = |(requested_at, expires_at)| TopUp {
            id: TopUpId::MIN, credit_type: CreditType::Ai, amount, state: TopUpState::Requested, requested_at, expires_at,
            granted: None,
        };
        let requests: Vec<_> = requests.into_iter().map(request).collect();
        match terms.asking(available, &requests, now) {
            Asking::Enough => prop_assert!(available > amount),
            Asking::Wait(until) => prop_assert!(until > now && available <= amount),
            Asking::Ask => prop_assert!(requests.iter().all(|it| it.expires_at <= now) && available <= amount),
        }
    }

    #[test]
    fn a_standing_goes_on_only_without_a_gap(
        sequence in 0..i64::MAX, count in integer(), next in integer(), available in credits(), at in instant(),
    ) {
        let account = Account { sequence, ..Account::open(OrganizationId::MIN, Timestamp::UNIX_EPOCH) };
        let standing = Standing::of(&Book::new(account, Pages::default()), Timestamp::UNIX_EPOCH);
        let follows = i128::from(sequence) + i128::from(count) == i128::from(next);
        let after = standing.after(&Spending { count, sequence: next, available, at });
        prop_assert_eq!(after.map(|it| it.sequence()), follows.then_some(next));
        // The one that does follow.
        if let Some(next) = sequence.checked_add(count) {
            let after = standing.after(&Spending { count, sequence: next, available, at }).unwrap();
            prop_assert_eq!((after.sequence(), after.balance().available), (next, available));
            prop_assert_eq!(after.as_of(), at.max(Timestamp::UNIX_EPOCH));
        }
    }

    #[test]
    fn a_pause_grows_by_a_fifth_at_the_most(failures in prop_oneof![0_u32..12, any::<u32>()], chance in any::<u16>()) {
        let (least, found) = (retry_delay(failures, 0), retry_delay(failures, chance));
        prop_assert_eq!(found.is_some(), (1..=9).contains(&failures));
        if let Some((least, found)) = least.zip(found) {
            prop_assert!(found >= least && found <= least + least / 5);
        }
    }
}
