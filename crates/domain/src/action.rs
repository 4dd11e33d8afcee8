//! Actions and what they cost.
//!
//! A price never changes: a new price is a new version with an instant from which it is in force. So what was charged
//! can be explained for as long as the row that names the version exists.

use serde::{Deserialize, Serialize};

use crate::amount::{MAX, Quantity};
use crate::clock::Timestamp;
use crate::credit::Credits;
use crate::error::Refusal;
use crate::text::ActionType;

/// One immutable version of an action's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The version, from 1.
    pub version: i32,
    /// What one unit costs.
    pub costs: Credits,
    /// How much quantity makes one unit; a started unit counts whole.
    pub unit_size: Quantity,
    /// Whether the action may be used.
    pub active: bool,
    /// From when this version is in force.
    pub effective_at: Timestamp,
    /// What the action is, for people.
    pub description: Option<String>,
}

impl Price {
    /// `ceil(quantity / unit_size) * costs`, or [`Refusal::OutOfRange`].
    pub fn cost(&self, quantity: Quantity) -> Result<Credits, Refusal> {
        self.costs.checked_mul(quantity.units(self.unit_size)).ok_or(Refusal::OutOfRange)
    }

    /// The largest quantity whose cost `available` covers; 0 if it does not cover one unit.
    pub fn max_affordable_quantity(&self, available: Credits) -> i64 {
        let units = self
            .costs
            .iter()
            .filter(|(_, cost)| cost.get() > 0)
            .map(|(credit_type, cost)| available[credit_type].get() / cost.get())
            .min();
        units.map_or(MAX, |units| units.saturating_mul(self.unit_size.get()).min(MAX))
    }
}

/// An action with its price in force and those still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What it is called.
    pub action_type: ActionType,
    /// The version in force; `None` before the first one takes effect.
    pub in_force: Option<Price>,
    /// Versions that take effect later, soonest first.
    pub upcoming: Vec<Price>,
}

impl Action {
    /// Sorts an action's versions into the one in force at `at` and those to come. Of two with the same instant the
    /// later version wins.
    pub fn at(action_type: ActionType, mut prices: Vec<Price>, at: Timestamp) -> Self {
        prices.sort_by_key(|price| (price.effective_at, price.version));
        let upcoming = prices.split_off(prices.partition_point(|price| price.effective_at <= at));
        Self { action_type, in_force: prices.pop(), upcoming }
    }
}

/// The price to charge at `at` among an action's versions in any order, or [`Refusal::UnknownAction`] where none is in
/// force or the action is not active. Of two versions with the same instant the later one wins.
pub fn price_at(prices: &[Price], at: Timestamp) -> Result<&Price, Refusal> {
    prices
        .iter()
        .filter(|price| price.effective_at <= at)
        .max_by_key(|price| (price.effective_at, price.version))
        .filter(|price| price.active)
        .ok_or(Refusal::UnknownAction)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::amount::Amount;
    use crate::credit::COUNT;

    fn price(version: i32, effective_at: Timestamp) -> Price {
        Price { version, costs: Credits::ZERO, unit_size: Quantity::ONE, active: true, effective_at, description: None }
    }

    #[test]
    fn the_newest_version_that_has_begun_is_in_force() {
        let now = Timestamp::UNIX_EPOCH;
        let hour = TimeDelta::hours(1);
        let prices = vec![price(3, now), price(1, now - hour), price(4, now + hour), price(2, now)];
        assert_eq!(price_at(&prices, now).unwrap().version, 3);
        let action = Action::at(ActionType::new("sms").unwrap(), prices, now);
        assert_eq!(action.in_force.unwrap().version, 3);
        assert_eq!(action.upcoming.iter().map(|price| price.version).collect::<Vec<_>>(), [4]);
    }

    proptest! {
        #[test]
        fn the_largest_affordable_quantity_is_affordable_and_one_unit_more_is_not(
            costs in prop::array::uniform::<_, COUNT>(0_i64..1_000),
            available in prop::array::uniform::<_, COUNT>(prop_oneof![0_i64..10_000, MAX - 5..=MAX]),
            unit_size in prop_oneof![1_i64..5_000, MAX - 5..=MAX],
        ) {
            let credits = |amounts: [i64; COUNT]| Credits::from_array(amounts.map(|amount| Amount::new(amount).unwrap()));
            let price = Price {
                costs: credits(costs),
                unit_size: Quantity::new(unit_size).unwrap(),
                ..price(1, Timestamp::UNIX_EPOCH)
            };
            let available = credits(available);
            let largest = price.max_affordable_quantity(available);
            if let Ok(quantity) = Quantity::new(largest) {
                prop_assert!(price.cost(quantity).unwrap().fits_in(available));
            } else {
                prop_assert_eq!(largest, 0);
            }
            if let Ok(more) = Quantity::new(largest + 1) {
                prop_assert!(price.cost(more).is_err() || !price.cost(more).unwrap().fits_in(available));
            }
        }
    }
}
