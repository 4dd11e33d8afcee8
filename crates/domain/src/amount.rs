//! Whole-number amounts that cannot go wrong quietly.
//!
//! The upper bound is the largest integer that every JSON reader represents exactly (2^53 - 1, RFC 8259 section 6),
//! far inside `i64`, so that sums of two amounts never overflow before they are checked.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest amount of credits and the largest quantity: 2^53 - 1.
pub const MAX: i64 = 9_007_199_254_740_991;

/// A number was negative, zero where it must not be, or beyond [`MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be a whole number from {least} to {MAX}")]
pub struct OutOfRange {
    /// The least value that would have been accepted.
    pub least: i64,
}

/// Credits of one type: a whole number from 0 to [`MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Amount(i64);

impl Amount {
    /// No credits.
    pub const ZERO: Self = Self(0);

    /// The amount, or [`OutOfRange`] if it is negative or beyond [`MAX`].
    pub const fn new(value: i64) -> Result<Self, OutOfRange> {
        if value < 0 || value > MAX { Err(OutOfRange { least: 0 }) } else { Ok(Self(value)) }
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, or `None` beyond [`MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0).ok()
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Self::new(self.0 - other.0).ok()
    }

    /// The product with a number of units, or `None` beyond [`MAX`].
    pub fn checked_mul(self, units: i64) -> Option<Self> {
        self.0.checked_mul(units).and_then(|product| Self::new(product).ok())
    }

    /// How much of `self` is left after taking `other`, at least nothing.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }
}

impl TryFrom<i64> for Amount {
    type Error = OutOfRange;

    fn try_from(value: i64) -> Result<Self, OutOfRange> {
        Self::new(value)
    }
}

impl From<Amount> for i64 {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

/// How often, or how much of, an action: a whole number from 1 to [`MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Quantity(i64);

impl Quantity {
    /// One unit, what is meant where no quantity is given.
    pub const ONE: Self = Self(1);
    /// The largest quantity.
    pub const MAX: Self = Self(MAX);

    /// The quantity, or [`OutOfRange`] if it is below 1 or beyond [`MAX`].
    pub const fn new(value: i64) -> Result<Self, OutOfRange> {
        if value < 1 || value > MAX { Err(OutOfRange { least: 1 }) } else { Ok(Self(value)) }
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// How many whole units of `unit_size` cover this quantity (rounded up).
    pub const fn units(self, unit_size: Self) -> i64 {
        // Both are at least 1 and at most 2^53 - 1: the sum stays inside i64.
        (self.0 + unit_size.0 - 1) / unit_size.0
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<i64> for Quantity {
    type Error = OutOfRange;

    fn try_from(value: i64) -> Result<Self, OutOfRange> {
        Self::new(value)
    }
}

impl From<Quantity> for i64 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_the_range_hold() {
        assert_eq!(Amount::new(-1), Err(OutOfRange { least: 0 }));
        assert_eq!(Amount::new(MAX + 1), Err(OutOfRange { least: 0 }));
        assert_eq!(Quantity::new(0), Err(OutOfRange { least: 1 }));
        let max = Amount::new(MAX).unwrap();
        assert_eq!(max.checked_add(Amount::new(1).unwrap()), None);
        assert_eq!(max.checked_mul(i64::MAX), None);
        assert_eq!(Amount::ZERO.checked_sub(max), None);
        assert_eq!(Quantity::MAX.units(Quantity::MAX), 1);
        assert_eq!(Quantity::MAX.units(Quantity::ONE), MAX);
    }

    #[test]
    fn a_started_unit_counts_whole() {
        let thousand = Quantity::new(1000).unwrap();
        let units = |quantity| Quantity::new(quantity).unwrap().units(thousand);
        assert_eq!([units(1), units(1000), units(1001), units(4818)], [1, 1, 2, 5]);
    }
}
