//! Calendars at their ends: the years that RFC 3339 has, and beyond.

use chrono::TimeDelta;
use proptest::prelude::*;

use super::{instant, integer};
use crate::clock::Timestamp;
use crate::organization::TimeZone;
use crate::plan::PlanPeriod;
use crate::usage::{BUCKETS_MAX, QUARTER_SECONDS, UsageBucket, quarter};

/// Instants that no API takes, up to the last one that there is.
fn any_instant() -> impl Strategy<Value = Timestamp> {
    let far = (any::<bool>(), 0_i64..2_000_000_000).prop_map(|(early, micros)| {
        let near = TimeDelta::microseconds(micros);
        if early { Timestamp::MIN_UTC + near } else { Timestamp::MAX_UTC - near }
    });
    prop_oneof![3 => instant(), 1 => far]
}

fn zone() -> impl Strategy<Value = TimeZone> {
    let names =
        vec!["UTC", "Europe/Berlin", "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"];
    prop::sample::select(names).prop_map(|name| TimeZone::new(name).unwrap())
}

proptest! {
    #[test]
    fn a_period_that_is_to_come_comes_later(
        anchor in any_instant(), zone in zone(), period in 0_usize..4, count in integer(),
    ) {
        let period = PlanPeriod::ALL[period];
        if let Some(start) = period.after(anchor, &zone, count) {
            prop_assert!(count > 0 || start <= anchor);
            prop_assert!(count < 1 || start > anchor);
            let next = period.after(anchor, &zone, count.saturating_add(1));
            prop_assert!(next.is_none_or(|next| next > start));
        }
    }

    #[test]
    fn a_quarter_of_an_hour_has_its_instant(at in any_instant()) {
        let quarter = quarter(at);
        prop_assert!(quarter <= at && at - quarter < TimeDelta::seconds(QUARTER_SECONDS));
        prop_assert!(quarter == at || quarter.timestamp().rem_euclid(QUARTER_SECONDS) == 0);
    }

    #[test]
    fn a_report_is_covered_or_refused(
        from in any_instant(), lasts in prop_oneof![0_i64..2_000_000, integer()], zone in zone(), bucket in 0_usize..3,
    ) {
        let to = TimeDelta::try_seconds(lasts).and_then(|lasts| from.checked_add_signed(lasts));
        let to = to.unwrap_or(Timestamp::MAX_UTC);
        if let Ok(spans) = UsageBucket::ALL[bucket].spans(&zone, from, to) {
            prop_assert!(!spans.is_empty() && spans.len() <= BUCKETS_MAX);
            prop_assert!(spans[0].within.start <= from && spans[spans.len() - 1].within.end >= to);
            prop_assert!(spans.windows(2).all(|pair| pair[0].within.end == pair[1].within.start));
        }
    }

    #[test]
    fn a_wall_has_a_clock_at_every_instant(at in any_instant(), zone in zone()) {
        let apart = (zone.wall_clock(at) - at.naive_utc()).abs();
        prop_assert!(apart <= TimeDelta::hours(26), "{apart}");
    }
}
