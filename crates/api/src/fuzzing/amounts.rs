//! Numbers of credits and quantities, and what is computed of them.

use multicredit_domain::amount::MAX;
use multicredit_domain::hold::TTL_SECONDS_MAX;
use multicredit_domain::{Amount, Credits, Delta, Price, Quantity, Refusal, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json;
use crate::payload::{self, Node};
use crate::wire::{Nullable, TtlSeconds, Wire};

/// A number is read exactly or not at all, and written as it was read. Several in a row are a price, a quantity and a
/// balance: the cost is exact, and so is what the balance can pay.
///
/// # Panics
///
/// Where that does not hold.
pub fn amounts(data: &[u8]) -> bool {
    let Ok(text) = payload::text(data) else { return false };
    let whole = match serde_json::from_str::<Node>(text) {
        Ok(Node::Unsigned(value)) => Some(i128::from(value)),
        Ok(Node::Negative(value)) => Some(i128::from(value)),
        _ => None,
    };
    let is_from = |least: i64, most: i64| whole.filter(|value| (least.into()..=most.into()).contains(value));
    number::<Amount>(text, is_from(0, MAX));
    number::<Quantity>(text, is_from(1, MAX));
    number::<TtlSeconds>(text, is_from(1, TTL_SECONDS_MAX));
    if serde_json::from_str::<Node>(text).is_ok_and(|node| node != Node::Null) {
        number::<Nullable<i64>>(text, is_from(i64::MIN, i64::MAX));
    }
    let vectors = [reads_back::<Credits>(text), reads_back::<Delta>(text)];
    price(text) || vectors.contains(&true) || is_from(0, MAX).is_some()
}

fn number<T>(text: &str, expected: Option<i128>)
where
    Wire<T>: Serialize + DeserializeOwned,
{
    let read = serde_json::from_str::<Wire<T>>(text).ok();
    assert_eq!(read.as_ref().map(json), expected.map(|value| value.to_string()));
}

fn reads_back<T>(text: &str) -> bool
where
    Wire<T>: Serialize + DeserializeOwned,
{
    let Ok(value) = serde_json::from_str::<Wire<T>>(text) else { return false };
    let written = json(&value);
    let again = serde_json::from_str::<Wire<T>>(&written).expect("what was written is read");
    assert_eq!(json(&again), written);
    true
}

/// A quantity, the size of a unit, what a unit costs, and a balance.
fn price(text: &str) -> bool {
    let numbers: Vec<i64> = text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let [quantity, unit_size, cost, available] = numbers[..] else { return false };
    let (Ok(quantity), Ok(unit_size)) = (Quantity::new(quantity), Quantity::new(unit_size)) else { return false };
    let (Ok(cost), Ok(available)) = (Amount::new(cost), Amount::new(available)) else { return false };
    let price = Price {
        version: 1,
        costs: Credits::from_array([cost; multicredit_domain::credit::COUNT]),
        unit_size,
        active: true,
        effective_at: Timestamp::UNIX_EPOCH,
        description: None,
    };
    let exact = |quantity: i64| {
        let units = (i128::from(quantity) + i128::from(unit_size.get()) - 1) / i128::from(unit_size.get());
        units * i128::from(cost.get())
    };
    match price.cost(quantity) {
        Ok(charged) => assert!(charged.iter().all(|(_, charged)| i128::from(charged.get()) == exact(quantity.get()))),
        Err(refusal) => assert!(refusal == Refusal::OutOfRange && exact(quantity.get()) > i128::from(MAX)),
    }
    let largest = price.max_affordable_quantity(Credits::from_array([available; multicredit_domain::credit::COUNT]));
    assert!((0..=MAX).contains(&largest) && exact(largest) <= i128::from(available.get()));
    assert!(largest == MAX || exact(largest + 1) > i128::from(available.get()));
    true
}
