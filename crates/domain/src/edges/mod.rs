//! Properties of the rules at the ends of what a number and a calendar can be.
//!
//! Everywhere the same three things hold: nothing panics, nothing wraps around, and what comes out is exactly what the
//! same sum is in 128 bits, or the refusal that is documented. The strategies here favour the places where that goes
//! wrong. What is usual is tested beside the code.

use chrono::TimeDelta;
use proptest::prelude::*;

use crate::action::Price;
use crate::amount::{Amount, MAX, Quantity};
use crate::clock::Timestamp;
use crate::credit::{COUNT, Credits};

mod amounts;
mod books;
mod calendars;
mod plans;
mod prices;
mod watching;

/// Four times the usual number of cases: there are many ends, and each meets each.
fn four_times() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases * 4, ..usual }
}

/// Any integer, most often one where a type or a range ends, or next to it.
pub(crate) fn integer() -> BoxedStrategy<i64> {
    let edges = vec![i64::MIN, -MAX, i64::from(i32::MIN), -1, 0, 1, i64::from(i32::MAX), MAX / 2, MAX, i64::MAX];
    prop_oneof![
        4 => (prop::sample::select(edges), -2_i64..=2).prop_map(|(edge, beside)| edge.saturating_add(beside)),
        1 => any::<i64>(),
        1 => -100_i64..100,
    ]
    .boxed()
}

/// A number from `least` to [`MAX`], most often at an end.
fn ranged(least: i64) -> BoxedStrategy<i64> {
    prop_oneof![
        3 => least..=least + 3,
        3 => MAX - 3..=MAX,
        1 => MAX / 2 - 1..=MAX / 2 + 2,
        2 => least..=1_000,
        1 => least..=MAX,
    ]
    .boxed()
}

/// An amount, most often at an end of its range.
pub(crate) fn amount() -> BoxedStrategy<Amount> {
    ranged(0).prop_map(of).boxed()
}

/// A quantity, most often at an end of its range.
pub(crate) fn quantity() -> BoxedStrategy<Quantity> {
    ranged(1).prop_map(|value| Quantity::new(value).unwrap()).boxed()
}

/// An amount of each type.
pub(crate) fn credits() -> BoxedStrategy<Credits> {
    prop::array::uniform::<_, COUNT>(amount()).prop_map(Credits::from_array).boxed()
}

/// An instant that an API can name: of the years 1 to 9999, most often at an end, or of these years.
pub(crate) fn instant() -> BoxedStrategy<Timestamp> {
    let (first, last) = (-62_135_596_800, 253_402_300_799_i64);
    let seconds = prop_oneof![
        1 => first..=first + 100_000,
        1 => last - 100_000..=last,
        1 => -100_000..=100_000_i64,
        2 => 1_700_000_000..=2_000_000_000_i64,
        1 => first..=last,
    ];
    (seconds, 0_i64..1_000_000)
        .prop_map(|(seconds, micros)| Timestamp::from_timestamp(seconds, 0).unwrap() + TimeDelta::microseconds(micros))
        .boxed()
}

/// A price in force since 1970 that is often too dear for anybody.
pub(crate) fn price() -> BoxedStrategy<Price> {
    (credits(), quantity())
        .prop_map(|(costs, unit_size)| Price {
            version: 1,
            costs,
            unit_size,
            active: true,
            effective_at: Timestamp::UNIX_EPOCH,
            description: None,
        })
        .boxed()
}

fn of(value: i64) -> Amount {
    Amount::new(value).unwrap()
}

/// A vector in which sums and products cannot go wrong.
pub(crate) type Wide = [i128; COUNT];

/// The vector in 128 bits.
pub(crate) fn wide(credits: Credits) -> Wide {
    credits.to_array().map(|amount| i128::from(amount.get()))
}

/// What `f` makes of each pair.
pub(crate) fn each(one: Wide, other: Wide, f: impl Fn(i128, i128) -> i128) -> Wide {
    std::array::from_fn(|i| f(one[i], other[i]))
}

/// The vector of amounts, if each is in the range of one.
pub(crate) fn narrow(wide: Wide) -> Option<Credits> {
    let mut amounts = [Amount::ZERO; COUNT];
    for (slot, value) in amounts.iter_mut().zip(wide) {
        *slot = Amount::new(i64::try_from(value).ok()?).ok()?;
    }
    Some(Credits::from_array(amounts))
}

/// What a quantity costs at a price, however much that is.
pub(crate) fn wide_cost(price: &Price, quantity: Quantity) -> Wide {
    let (quantity, unit_size) = (i128::from(quantity.get()), i128::from(price.unit_size.get()));
    let units = (quantity + unit_size - 1) / unit_size;
    wide(price.costs).map(|cost| cost * units)
}
