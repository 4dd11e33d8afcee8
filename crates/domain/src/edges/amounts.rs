//! Amounts, quantities and vectors of them.

use proptest::prelude::*;

use super::{amount, credits, each, four_times, integer, narrow, quantity, wide};
use crate::amount::{Amount, MAX, OutOfRange, Quantity};
use crate::credit::{COUNT, Credits, Delta};
use crate::usage::UsageSums;

/// The amount, if it is one.
fn amount_of(value: i128) -> Option<Amount> {
    i64::try_from(value).ok().and_then(|value| Amount::new(value).ok())
}

proptest! {
    #![proptest_config(four_times())]

    #[test]
    fn what_is_in_range_is_taken_and_nothing_else(value in integer()) {
        let amount = (0..=MAX).contains(&value).then_some(value).ok_or(OutOfRange { least: 0 });
        prop_assert_eq!(Amount::new(value).map(Amount::get), amount);
        prop_assert_eq!(Amount::try_from(value).map(i64::from), amount);
        let quantity = (1..=MAX).contains(&value).then_some(value).ok_or(OutOfRange { least: 1 });
        prop_assert_eq!(Quantity::new(value).map(Quantity::get), quantity);
        prop_assert_eq!(Quantity::try_from(value).map(i64::from), quantity);
    }

    /// Beyond 64 bits as well, where a reader of JSON has to notice that a number does not fit.
    #[test]
    fn a_number_that_is_read_is_the_number_that_was_written(value in integer(), beyond in -2_i128..=2) {
        let value = i128::from(value) + beyond * (1 << 64);
        let text = value.to_string();
        let read = serde_json::from_str::<Amount>(&text).ok();
        prop_assert_eq!(read, amount_of(value));
        if let Some(amount) = read {
            prop_assert_eq!(serde_json::to_string(&amount).unwrap(), text.clone());
        }
        let read = serde_json::from_str::<Quantity>(&text).ok();
        prop_assert_eq!(read.map(|quantity| i128::from(quantity.get())), amount_of(value).and(Some(value)).filter(|it| *it > 0));
    }

    #[test]
    fn sums_differences_and_products_are_exact_or_none(one in amount(), other in amount(), units in integer()) {
        let (a, b) = (i128::from(one.get()), i128::from(other.get()));
        prop_assert_eq!(one.checked_add(other), amount_of(a + b));
        prop_assert_eq!(one.checked_sub(other), amount_of(a - b));
        prop_assert_eq!(one.checked_mul(units), amount_of(a * i128::from(units)));
        prop_assert_eq!(Some(one.saturating_sub(other)), amount_of((a - b).max(0)));
    }

    #[test]
    fn units_cover_a_quantity_and_one_less_does_not(quantity in quantity(), unit_size in quantity()) {
        let (units, size) = (i128::from(quantity.units(unit_size)), i128::from(unit_size.get()));
        let quantity = i128::from(quantity.get());
        prop_assert!(units * size >= quantity && (units - 1) * size < quantity);
    }

    #[test]
    fn a_vector_is_its_types(one in credits(), other in credits(), units in integer()) {
        let (a, b) = (wide(one), wide(other));
        prop_assert_eq!(one.checked_add(other), narrow(each(a, b, |a, b| a + b)));
        prop_assert_eq!(one.checked_sub(other), narrow(each(a, b, |a, b| a - b)));
        prop_assert_eq!(one.checked_mul(units), narrow(a.map(|a| a * i128::from(units))));
        prop_assert_eq!(Some(one.saturating_add(other)), narrow(each(a, b, |a, b| (a + b).min(MAX.into()))));
        prop_assert_eq!(Some(one.saturating_sub(other)), narrow(each(a, b, |a, b| (a - b).max(0))));
        prop_assert_eq!(Some(one.min(other)), narrow(each(a, b, i128::min)));
        prop_assert_eq!(one.fits_in(other), (0..COUNT).all(|i| a[i] <= b[i]));
        prop_assert_eq!(one.is_zero(), a == [0; COUNT]);
        prop_assert_eq!(serde_json::from_str::<Credits>(&serde_json::to_string(&one).unwrap()).unwrap(), one);
    }

    #[test]
    fn sums_beyond_the_range_are_its_ends(sums in prop::array::uniform::<_, COUNT>(integer())) {
        prop_assert_eq!(Some(Credits::from_sums(sums)), narrow(sums.map(|sum| sum.clamp(0, MAX).into())));
    }

    #[test]
    fn a_change_leads_from_one_balance_to_the_other_or_nowhere(
        one in credits(), other in credits(), change in prop::array::uniform::<_, COUNT>(integer()),
    ) {
        let way = Delta::between(one, other);
        prop_assert_eq!(way.to_array().map(i128::from), each(wide(one), wide(other), |one, other| other - one));
        prop_assert_eq!(way.apply(one), Some(other));
        let change = Delta::from_array(change);
        let changed = each(wide(one), change.to_array().map(i128::from), |one, change| one + change);
        prop_assert_eq!(change.apply(one), narrow(changed));
        prop_assert_eq!(serde_json::from_str::<Delta>(&serde_json::to_string(&change).unwrap()).unwrap(), change);
    }

    #[test]
    fn usage_is_the_exact_sum_or_the_end_of_what_a_number_can_be(
        one in prop::array::uniform4(integer()), other in prop::array::uniform4(integer()),
    ) {
        let sums = |[consumed, refunded, count, refused]: [i64; 4]| UsageSums {
            consumed: [consumed; COUNT], refunded: [refunded; COUNT], count, refused,
        };
        let end = |i: usize| {
            let sum = i128::from(one[i]) + i128::from(other[i]);
            i64::try_from(sum.clamp(i64::MIN.into(), i64::MAX.into())).unwrap()
        };
        let mut sum = sums(one);
        sum.add(&sums(other));
        prop_assert_eq!(sum, sums([end(0), end(1), end(2), end(3)]));
    }
}
