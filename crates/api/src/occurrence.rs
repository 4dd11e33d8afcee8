//! When a consumption may claim to have happened: a rule for what comes over HTTP. An import may bring any past.

use chrono::TimeDelta;
use multicredit_domain::Timestamp;
use multicredit_domain::consume::{MAX_AHEAD_MINUTES, MAX_PAST_DAYS};

use crate::problem::FieldErrors;

/// The instants that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OccurrenceWindow {
    first: Timestamp,
    last: Timestamp,
}

impl OccurrenceWindow {
    /// From 35 days before to 5 minutes after `now`.
    pub fn around(now: Timestamp) -> Self {
        Self { first: now - TimeDelta::days(MAX_PAST_DAYS), last: now + TimeDelta::minutes(MAX_AHEAD_MINUTES) }
    }

    /// Any past, and up to 5 minutes after `now`.
    pub fn until(now: Timestamp) -> Self {
        Self { first: Timestamp::MIN_UTC, ..Self::around(now) }
    }

    /// Refuses an instant outside, under the name of the field that it came in.
    pub fn check(self, field: &'static str, at: Option<Timestamp>) -> Result<Option<Timestamp>, FieldErrors> {
        match at {
            Some(at) if at < self.first => {
                Err(FieldErrors::one(field, format!("must be at most {MAX_PAST_DAYS} days in the past")))
            }
            Some(at) if at > self.last => {
                Err(FieldErrors::one(field, format!("must be at most {MAX_AHEAD_MINUTES} minutes in the future")))
            }
            at => Ok(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_are_inside_and_the_microsecond_beyond_is_not() {
        let now = Timestamp::from_timestamp_micros(1_763_800_000_000_000).unwrap();
        let step = TimeDelta::microseconds(1);
        let (first, last) = (now - TimeDelta::days(35), now + TimeDelta::minutes(5));
        let window = OccurrenceWindow::around(now);
        for at in [None, Some(first), Some(now), Some(last)] {
            assert_eq!(window.check("time", at), Ok(at));
        }
        for at in [first - step, last + step] {
            assert_eq!(window.check("time", Some(at)).unwrap_err().as_slice()[0].field, "time");
        }
        assert!(OccurrenceWindow::until(now).check("time", Some(first - step)).is_ok());
        assert!(OccurrenceWindow::until(now).check("time", Some(last + step)).is_err());
    }
}
