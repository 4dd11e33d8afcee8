//! Latencies, counted in buckets whose width grows with the value.
//!
//! Keeping every latency would grow with the rate, and sorting them would take the processor from what is measured. A
//! bucket is at most 1/128 of its value wide, so that a percentile is exact to one percent.

use std::time::Duration;

/// Each power of two is cut into this many buckets.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 7;

/// Buckets for every value there is.
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) << STEP_BITS;

/// Counts of latencies by bucket.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

/// The bucket of a value. Small values have one each.
#[expect(clippy::cast_possible_truncation, reason = "less than BUCKETS")]
const fn bucket(nanos: u64) -> usize {
    let exponent = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (((exponent as u64) << STEP_BITS) + (nanos >> exponent)) as usize
}

/// The largest value of a bucket.
const fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let exponent = (bucket >> STEP_BITS) - 1;
    let step = bucket - (exponent << STEP_BITS);
    // Wraps for the last bucket of all, to the largest number.
    ((step + 1) << exponent).wrapping_sub(1)
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.counts[bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))] += 1;
        self.total += 1;
    }

    /// How many there are.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Counts what the other has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The latency that `per_mille` of a thousand do not exceed; zero if there is none at all.
    pub fn percentile(&self, per_mille: u64) -> Duration {
        let rank = (self.total * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_bound(bucket));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_is_less_than_a_hundredth_of_it_wide() {
        let mut value = 1_u64;
        let mut last = 0;
        while value < u64::MAX / 2 {
            for nanos in [value - 1, value, value + value / 3] {
                let at = bucket(nanos);
                assert!(at < BUCKETS && at >= last, "{nanos}");
                let bound = upper_bound(at);
                assert!(bound >= nanos && bound - nanos <= nanos / 100, "{nanos} is said to be {bound}");
                assert_eq!(bucket(bound), at);
                last = at;
            }
            value *= 2;
        }
        assert_eq!(upper_bound(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        for micros in (1..=1_000).rev() {
            histogram.record(Duration::from_micros(micros));
        }
        for (per_mille, micros) in [(500, 500.0), (990, 990.0), (999, 999.0), (1_000, 1_000.0), (0, 1.0)] {
            let found = histogram.percentile(per_mille).as_secs_f64() * 1e6;
            assert!((found - micros).abs() <= micros / 100.0, "{per_mille}: {found}");
        }
        assert_eq!(Histogram::default().percentile(500), Duration::ZERO);
    }

    #[test]
    fn histograms_add_up() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.record(Duration::from_millis(1));
        other.record(Duration::from_secs(1));
        one.add(&other);
        assert_eq!(one.total(), 2);
        assert!(one.percentile(500) < Duration::from_millis(2));
        assert!(one.percentile(1_000) >= Duration::from_secs(1));
    }
}
