//! Instants, and where they come from.
//!
//! The rules never ask what time it is; they are told. The database's clock decides on PostgreSQL, the machine's on
//! SQLite, and tests move their own. Instants have microseconds, the resolution of PostgreSQL's `timestamptz`, so that
//! one instant is the same value on both engines.

use chrono::{DateTime, SubsecRound, Utc};

/// An instant in UTC, in whole microseconds.
pub type Timestamp = DateTime<Utc>;

/// The instant cut to the microsecond in which it lies.
pub fn to_micros(instant: DateTime<Utc>) -> Timestamp {
    instant.trunc_subsecs(6)
}

/// The instant of a movement: never before the organization's last one, so that instants never decrease with the
/// sequence even where a clock was set back.
pub fn not_before(clock: Timestamp, last_movement_at: Timestamp) -> Timestamp {
    clock.max(last_movement_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_cut_to_the_microsecond_in_which_it_lies() {
        for (nanos, expected) in [(0, 0), (999, 0), (1_000, 1_000), (123_456_789, 123_456_000)] {
            let instant = |nanos| DateTime::<Utc>::from_timestamp(1_767_225_600, nanos).unwrap();
            assert_eq!(to_micros(instant(nanos)), instant(expected));
        }
    }
}
