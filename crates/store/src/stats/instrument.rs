//! Counters and histograms that cost an addition: what the hot path is measured with.
//!
//! All of a kind is made when the store opens and found by an index, so that counting neither allocates, nor locks, nor
//! formats. Readers see every number by itself: a histogram read while it is added to may be one observation ahead in
//! its sum, which no rate over seconds can tell.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts that many.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bounds of durations, in microseconds: each is the most that its bucket holds. The thresholds of the report
/// (50 ms, 100 ms, 500 ms) are among them, so that nothing has to be guessed there.
pub const DURATION_BOUNDS_US: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
];

/// The bounds of how long something was kept, in microseconds: a millisecond to a day.
pub const AGE_BOUNDS_US: &[u64] = &[
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    3_600_000_000,
    86_400_000_000,
];

/// The bounds of how many there are of something.
pub const COUNT_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// How often something was how large.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram of durations.
    pub fn of_durations() -> Self {
        Self::new(DURATION_BOUNDS_US)
    }

    /// An empty histogram of counts.
    pub fn of_counts() -> Self {
        Self::new(COUNT_BOUNDS)
    }

    pub(super) fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Adds an observation, in the unit of the bounds.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds a duration.
    pub fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Distribution {
        Distribution {
            bounds: self.bounds,
            counts: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What a histogram held at some instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The most that each bucket holds.
    pub bounds: &'static [u64],
    /// How many observations fell into each bucket; the last is beyond every bound.
    pub counts: Vec<u64>,
    /// The sum of all observations, in the unit of the bounds.
    pub sum: u64,
}

impl Distribution {
    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The same with the observations of another histogram of the same bounds.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
        self
    }

    /// The value below which a share (0 to 1) of the observations lies, evenly spread within its bucket; `None` without
    /// observations. What is beyond the last bound is taken to be at it.
    #[expect(clippy::cast_precision_loss, reason = "an estimate within a bucket")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share * count as f64;
        let mut below = 0;
        let mut lower = 0;
        for (bound, in_bucket) in self.bounds.iter().zip(&self.counts) {
            if *in_bucket > 0 && (below + in_bucket) as f64 >= rank {
                let within = ((rank - below as f64) / *in_bucket as f64).clamp(0.0, 1.0);
                return Some(within.mul_add((bound - lower) as f64, lower as f64));
            }
            below += in_bucket;
            lower = *bound;
        }
        Some(lower as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::of_counts();
        for value in [0, 1, 2, 3, 1_024, 1_025] {
            histogram.record(value);
        }
        let held = histogram.snapshot();
        assert_eq!(held.counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((held.count(), held.sum), (6, 2_055));
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_that_holds_it() {
        let histogram = Histogram::of_durations();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for _ in 0..99 {
            histogram.record_duration(Duration::from_micros(700));
        }
        histogram.record_duration(Duration::from_mins(1));
        let held = histogram.snapshot();
        let median = held.quantile(0.5).unwrap();
        assert!((500.0..=1_000.0).contains(&median), "{median}");
        assert!((held.quantile(1.0).unwrap() - 5_000_000.0).abs() < f64::EPSILON);
    }

    #[test]
    fn merged_histograms_hold_the_observations_of_both() {
        let (one, other) = (Histogram::of_counts(), Histogram::of_counts());
        one.record(3);
        other.record(3);
        other.record(100);
        let both = one.snapshot().merged(&other.snapshot());
        assert_eq!((both.count(), both.sum, both.counts[2]), (3, 106, 2));
    }
}
