//! What an answer to a webhook means, and when a failed one is tried again.

use chrono::TimeDelta;

/// Seconds from one failure to the next attempt, after Standard Webhooks: soon at first, for what was a hiccup, and then
/// for about three days, in which somebody will have looked at what is broken.
const DELAYS_SECONDS: [i64; 9] = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600];

/// How much longer a delay may get by chance, as a share of it: one in so many.
const JITTER_PART: i64 = 5;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Delivered,
    /// It did not, or not for good: it is tried again.
    Failed,
    /// Nobody wants events there any more: the endpoint is to be disabled.
    Gone,
}

impl Verdict {
    /// What an HTTP status says. Redirects count as failures: they would be followed to where nobody has checked.
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            410 => Self::Gone,
            _ => Self::Failed,
        }
    }
}

/// How long to wait after that many failures in a row, `None` when it has been tried often enough.
///
/// `chance` is random: receivers that failed together, say because they are one, are not asked together again. It adds a
/// fifth at the most and takes nothing away.
pub fn retry_delay(failures: u32, chance: u16) -> Option<TimeDelta> {
    let place = usize::try_from(failures.checked_sub(1)?).ok()?;
    let delay_ms = DELAYS_SECONDS.get(place)? * 1000;
    Some(TimeDelta::milliseconds(delay_ms + delay_ms * i64::from(chance) / i64::from(u16::MAX) / JITTER_PART))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_has_arrived_and_only_410_is_for_good() {
        for status in [200, 202, 204, 299] {
            assert_eq!(Verdict::of_status(status), Verdict::Delivered, "{status}");
        }
        for status in [100, 199, 300, 301, 307, 308, 400, 401, 404, 409, 411, 429, 500, 503, 599] {
            assert_eq!(Verdict::of_status(status), Verdict::Failed, "{status}");
        }
        assert_eq!(Verdict::of_status(410), Verdict::Gone);
    }

    #[test]
    fn it_is_tried_ten_times_over_about_three_days() {
        let delays = (1..).map_while(|failures| retry_delay(failures, 0)).collect::<Vec<_>>();
        assert_eq!(delays.len(), 9);
        assert_eq!(delays[0], TimeDelta::seconds(5));
        assert_eq!(delays[1..], [5, 30, 120, 300, 600, 840, 1_200, 1_440].map(TimeDelta::minutes));
        let whole: TimeDelta = delays.into_iter().sum();
        assert!(whole > TimeDelta::days(3) && whole < TimeDelta::days(4), "{whole}");
        assert_eq!(retry_delay(0, 0), None);
        assert_eq!(retry_delay(10, 0), None);
        assert_eq!(retry_delay(u32::MAX, 0), None);
    }

    #[test]
    fn chance_adds_a_fifth_at_the_most() {
        assert_eq!(retry_delay(2, u16::MAX), Some(TimeDelta::minutes(6)));
        assert_eq!(retry_delay(9, u16::MAX), Some(TimeDelta::hours(24) + TimeDelta::minutes(288)));
        assert!(retry_delay(2, u16::MAX / 2).unwrap() > retry_delay(2, 1).unwrap());
    }
}
