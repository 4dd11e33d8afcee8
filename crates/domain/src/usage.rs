//! Usage: what was consumed when, by the calendar of any time zone.
//!
//! Usage is kept by the quarter of an hour, because every offset from UTC that is in use is a whole number of quarters:
//! the hours, days and months of every time zone are made of whole quarters. (Offsets of local mean time, which the
//! first half of the 20th century still knew, are not; their days come out rounded to the quarter.)

use std::ops::Range;

use chrono::TimeDelta;
use jiff::tz::TimeZone as JiffZone;
use jiff::{SignedDuration, Timestamp as JiffTimestamp, ToSpan as _, Zoned};

use crate::clock::Timestamp;
use crate::credit::COUNT;
use crate::error::Refusal;
use crate::organization::TimeZone;
use crate::text::ActionType;

/// The seconds of a quarter of an hour.
pub const QUARTER_SECONDS: i64 = 15 * 60;

const QUARTER_MICROS: i64 = QUARTER_SECONDS * 1_000_000;

const HOUR_SECONDS: i64 = 60 * 60;

/// The most buckets of one report: a leap year of hours, and a few to spare. More is no report but an export.
pub const BUCKETS_MAX: usize = 9_000;

/// How long a bucket of a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageBucket {
    /// An hour of the clock on the wall.
    Hour,
    /// A day of the calendar, 23 to 25 hours.
    Day,
    /// A month of the calendar.
    Month,
}

/// A bucket of a report, as far as it lies in the period that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSpan {
    /// When the bucket begins, whatever the period.
    pub start: Timestamp,
    /// The part of it in the period.
    pub within: Range<Timestamp>,
}

/// What an organization did in a bucket: sums, which may be larger than any one amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageSums {
    /// Credits that were spent, by type in the order of the types. Refunds change nothing here.
    pub consumed: [i64; COUNT],
    /// Credits that were given back of what was spent in this bucket, whenever that was.
    pub refunded: [i64; COUNT],
    /// How many consumptions succeeded.
    pub count: i64,
    /// How many were refused.
    pub refused: i64,
}

/// A line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageLine {
    /// When the bucket begins.
    pub start: Timestamp,
    /// Of which action; `None` is of all of them.
    pub action: Option<ActionType>,
    /// What was done.
    pub sums: UsageSums,
}

impl UsageSums {
    /// Adds what others did; where a sum is beyond 64 bits, it is their end.
    pub fn add(&mut self, other: &Self) {
        for (sum, value) in self.consumed.iter_mut().zip(other.consumed) {
            *sum = sum.saturating_add(value);
        }
        for (sum, value) in self.refunded.iter_mut().zip(other.refunded) {
            *sum = sum.saturating_add(value);
        }
        self.count = self.count.saturating_add(other.count);
        self.refused = self.refused.saturating_add(other.refused);
    }
}

/// The quarter of an hour in which an instant lies.
pub fn quarter(at: Timestamp) -> Timestamp {
    let micros = at.timestamp_micros();
    Timestamp::from_timestamp_micros(micros - micros.rem_euclid(QUARTER_MICROS)).unwrap_or(at)
}

/// The first quarter of an hour that does not begin before the instant; `None` beyond the calendar's end.
fn quarter_after(at: Timestamp) -> Option<Timestamp> {
    let quarter = quarter(at);
    if quarter == at { Some(at) } else { quarter.checked_add_signed(TimeDelta::seconds(QUARTER_SECONDS)) }
}

impl UsageBucket {
    /// Every length.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// The name in queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The length of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bucket| bucket.as_str() == name)
    }

    /// How long before its end a report begins where nobody says: a day of hours, 30 days, a year of months.
    pub const fn default_period(self) -> TimeDelta {
        TimeDelta::days(match self {
            Self::Hour => 1,
            Self::Day => 30,
            Self::Month => 365,
        })
    }

    /// The buckets of `[from, to)` by the calendar of `zone`, in their order. Both ends are moved outwards to a quarter of
    /// an hour.
    ///
    /// [`Refusal::InvalidField`] where the period ends before it begins, has more than [`BUCKETS_MAX`] buckets, or leaves
    /// the calendar.
    pub fn spans(self, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Result<Vec<UsageSpan>, Refusal> {
        if to <= from {
            return Err(invalid("to", "must be after from"));
        }
        let out_of_range = || invalid("from", "must be within the years that the calendar has");
        let (from, to) = (quarter(from), quarter_after(to).ok_or_else(out_of_range)?);
        let calendar = Calendar::new(zone).ok_or_else(out_of_range)?;
        let mut start = calendar.start(self, from).ok_or_else(out_of_range)?;
        let mut spans = Vec::new();
        while start < to {
            if spans.len() == BUCKETS_MAX {
                return Err(invalid("to", "must be nearer to from: a report has at most 9000 buckets"));
            }
            let end = calendar.next(self, start).ok_or_else(out_of_range)?;
            spans.push(UsageSpan { start, within: start.max(from)..end.min(to) });
            start = end;
        }
        Ok(spans)
    }
}

const fn invalid(field: &'static str, message: &'static str) -> Refusal {
    Refusal::InvalidField { field, message }
}

/// Where hours, days and months begin in a time zone.
struct Calendar(JiffZone);

impl Calendar {
    fn new(zone: &TimeZone) -> Option<Self> {
        JiffZone::get(zone.as_str()).ok().map(Self)
    }

    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        Some(JiffTimestamp::from_microsecond(at.timestamp_micros()).ok()?.to_zoned(self.0.clone()))
    }

    /// When the bucket begins in which `at` lies.
    fn start(&self, bucket: UsageBucket, at: Timestamp) -> Option<Timestamp> {
        let zoned = self.zoned(at)?;
        match bucket {
            UsageBucket::Day => instant(&zoned.start_of_day().ok()?),
            UsageBucket::Month => instant(&zoned.first_of_month().ok()?.start_of_day().ok()?),
            UsageBucket::Hour => {
                // From the beginning of the day, for an hour in which the clock was set begins where the one before ends.
                let mut start = instant(&zoned.start_of_day().ok()?)?;
                loop {
                    let next = self.next(bucket, start)?;
                    if next > at {
                        return Some(start);
                    }
                    start = next;
                }
            }
        }
    }

    /// When the bucket that begins at `start` ends.
    fn next(&self, bucket: UsageBucket, start: Timestamp) -> Option<Timestamp> {
        let zoned = self.zoned(start)?;
        match bucket {
            UsageBucket::Day => instant(&zoned.tomorrow().ok()?.start_of_day().ok()?),
            UsageBucket::Month => {
                let next = zoned.date().first_of_month().checked_add(1.month()).ok()?;
                // A first of the month that begins where the clock was set is looked for from noon.
                instant(&next.at(12, 0, 0, 0).to_zoned(self.0.clone()).ok()?.start_of_day().ok()?)
            }
            UsageBucket::Hour => self.next_hour(zoned.timestamp()),
        }
    }

    /// The next instant at which the clock on the wall shows a whole hour.
    fn next_hour(&self, at: JiffTimestamp) -> Option<Timestamp> {
        let next = until_whole_hour(at, self.0.to_offset(at).seconds(), HOUR_SECONDS)?;
        let set = self.0.following(at).next().filter(|transition| transition.timestamp() <= next);
        let next = match set {
            // The clock is set on the way there: what counts is what it shows then.
            Some(transition) => until_whole_hour(transition.timestamp(), transition.offset().seconds(), 0)?,
            None => next,
        };
        Timestamp::from_timestamp_micros(next.as_microsecond())
    }
}

/// When a clock with that offset next shows a whole hour; where it does already, `full` seconds later.
fn until_whole_hour(at: JiffTimestamp, offset: i32, full: i64) -> Option<JiffTimestamp> {
    let past = (at.as_second() + i64::from(offset)).rem_euclid(HOUR_SECONDS);
    let left = if past == 0 { full } else { HOUR_SECONDS - past };
    at.checked_add(SignedDuration::from_secs(left)).ok()
}

fn instant(zoned: &Zoned) -> Option<Timestamp> {
    Timestamp::from_timestamp_micros(zoned.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn starts(bucket: UsageBucket, zone: &str, from: &str, to: &str) -> Vec<String> {
        let spans = bucket.spans(&TimeZone::new(zone).unwrap(), at(from), at(to)).unwrap();
        spans.iter().map(|span| span.start.format("%m-%dT%H:%M").to_string()).collect()
    }

    #[test]
    fn days_and_months_begin_when_the_time_zone_says() {
        let days = starts(UsageBucket::Day, "Asia/Kathmandu", "2026-11-01T00:00:00Z", "2026-11-02T18:15:00Z");
        assert_eq!(days, ["10-31T18:15", "11-01T18:15"]);
        let months = starts(UsageBucket::Month, "Europe/Berlin", "2026-03-15T00:00:00Z", "2026-04-30T22:00:00Z");
        assert_eq!(months, ["02-28T23:00", "03-31T22:00"]);
    }

    #[test]
    fn a_day_on_which_the_clock_is_set_has_23_or_25_hours() {
        let hours = |from, to| starts(UsageBucket::Hour, "Europe/Berlin", from, to).len();
        assert_eq!(hours("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), 23);
        assert_eq!(hours("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), 25);
    }

    #[test]
    fn an_hour_begins_when_the_clock_on_the_wall_shows_it() {
        let hours = starts(UsageBucket::Hour, "Asia/Kathmandu", "2026-11-01T00:00:00Z", "2026-11-01T02:00:00Z");
        assert_eq!(hours, ["10-31T23:15", "11-01T00:15", "11-01T01:15"]);
    }

    #[test]
    fn an_hour_that_is_lived_through_twice_by_half_is_one_bucket() {
        // On Lord Howe Island the clock is set back by half an hour, from 2:00 to 1:30.
        let hours = starts(UsageBucket::Hour, "Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-04T16:30:00Z");
        assert_eq!(hours, ["04-04T13:00", "04-04T14:00", "04-04T15:30"]);
    }

    #[test]
    fn a_day_that_a_country_left_out_has_no_bucket() {
        let days = starts(UsageBucket::Day, "Pacific/Apia", "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z");
        assert_eq!(days, ["12-29T10:00", "12-30T10:00"]);
    }

    #[test]
    fn the_ends_of_the_period_are_moved_outwards_to_a_quarter_and_cut_the_first_and_last_bucket() {
        let spans = UsageBucket::Day
            .spans(&TimeZone::default(), at("2026-11-01T10:07:00Z"), at("2026-11-02T09:00:00.000001Z"))
            .unwrap();
        let expected = [
            UsageSpan {
                start: at("2026-11-01T00:00:00Z"),
                within: at("2026-11-01T10:00:00Z")..at("2026-11-02T00:00:00Z"),
            },
            UsageSpan {
                start: at("2026-11-02T00:00:00Z"),
                within: at("2026-11-02T00:00:00Z")..at("2026-11-02T09:15:00Z"),
            },
        ];
        assert_eq!(spans, expected);
    }

    #[test]
    fn a_period_without_an_end_or_with_too_many_buckets_is_refused() {
        let refused = |bucket: UsageBucket, from, to| bucket.spans(&TimeZone::default(), at(from), at(to)).is_err();
        assert!(refused(UsageBucket::Day, "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"));
        assert!(refused(UsageBucket::Hour, "2025-01-01T00:00:00Z", "2026-11-01T00:00:00Z"));
        assert!(!refused(UsageBucket::Hour, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"));
        assert!(refused(UsageBucket::Month, "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"));
    }

    proptest! {
        /// Whatever the zone and the period, the buckets follow each other without a gap, and begin and end with it.
        #[test]
        fn buckets_cover_the_period_once(
            zone in 0_usize..600, bucket in 0_usize..3, from in 0_i64..4_000_000_000, seconds in 1_i64..20_000_000,
        ) {
            let names: Vec<_> = jiff::tz::db().available().filter_map(|name| TimeZone::new(name.as_str()).ok()).collect();
            let zone = &names[zone % names.len()];
            let instant = |seconds| Timestamp::from_timestamp(seconds, 0).unwrap();
            let (from, to) = (instant(from), instant(from + seconds));
            let spans = UsageBucket::ALL[bucket].spans(zone, from, to).unwrap();
            prop_assert_eq!(spans.first().unwrap().within.start, quarter(from));
            prop_assert_eq!(Some(spans.last().unwrap().within.end), quarter_after(to));
            for span in &spans {
                prop_assert!(span.start <= span.within.start && span.within.start < span.within.end);
            }
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[0].within.end, pair[1].within.start);
                prop_assert_eq!(pair[1].start, pair[1].within.start);
            }
        }
    }
}
