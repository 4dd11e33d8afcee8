//! Which organization each request is for, drawn before anything is measured.

/// How many draws are made of a distribution. Each connection begins at another place and goes round.
const DRAWS: usize = 1 << 18;

/// The exponent of the Zipf distribution: the organization of rank k is drawn in proportion to 1/k.
pub const ZIPF_EXPONENT: f64 = 1.0;

/// How requests spread over organizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// All alike.
    Uniform,
    /// By rank, [`ZIPF_EXPONENT`].
    Zipf,
}

/// Random numbers that are the same in every run (splitmix64, Steele et al. 2014).
pub struct Random(u64);

impl Random {
    /// The numbers of that seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, of all 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u128::try_from(bound).unwrap_or(u128::MAX);
        usize::try_from((u128::from(self.next()) * bound) >> 64).unwrap_or(0)
    }

    /// One from 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        // 53 bits, which a float holds exactly.
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// Draws of numbers below `count`, which is at least 1.
pub fn draws(spread: Spread, count: usize) -> Vec<u32> {
    let mut random = Random::new(0x006D_756C_7469);
    let index = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    match spread {
        Spread::Uniform => (0..DRAWS).map(|_| index(random.below(count))).collect(),
        Spread::Zipf => {
            let cumulated = cumulated_zipf(count);
            let organizations = shuffled(count, &mut random);
            let rank = |unit: f64| cumulated.partition_point(|bound| *bound <= unit).min(count - 1);
            (0..DRAWS).map(|_| organizations[rank(random.unit())]).collect()
        }
    }
}

/// The probability of each rank or one before it.
fn cumulated_zipf(count: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let mut rank = 0.0_f64;
    let mut sums = Vec::with_capacity(count);
    for _ in 0..count {
        rank += 1.0;
        sum += rank.powf(-ZIPF_EXPONENT);
        sums.push(sum);
    }
    sums.iter().map(|so_far| so_far / sum).collect()
}

/// Numbers below `count` in random order, so that the popular ones are not neighbours in the tables.
fn shuffled(count: usize, random: &mut Random) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    for last in (1..count).rev() {
        numbers.swap(last, random.below(last + 1));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(spread: Spread, count: usize) -> Vec<usize> {
        let mut counts = vec![0; count];
        for draw in draws(spread, count) {
            counts[draw as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn uniform_draws_are_alike() {
        let counts = counts(Spread::Uniform, 100);
        let expected = DRAWS / 100;
        assert!(counts.iter().all(|count| count.abs_diff(expected) < expected / 5), "{counts:?}");
    }

    #[test]
    fn zipf_draws_fall_as_one_over_the_rank() {
        let counts = counts(Spread::Zipf, 1_000);
        // The harmonic number of 1,000 is 7.4855.
        let first = DRAWS * 10_000 / 74_855;
        for rank in [1, 2, 5, 10] {
            let expected = first / rank;
            assert!(
                counts[rank - 1].abs_diff(expected) < expected / 10,
                "rank {rank}: {} of {expected}",
                counts[rank - 1]
            );
        }
    }

    #[test]
    fn one_organization_is_always_drawn() {
        assert!(draws(Spread::Uniform, 1).iter().chain(&draws(Spread::Zipf, 1)).all(|draw| *draw == 0));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut numbers = shuffled(1_000, &mut Random::new(1));
        assert!(!numbers.is_sorted());
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..1_000));
    }
}
