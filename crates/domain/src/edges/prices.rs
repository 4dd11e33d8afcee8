//! Prices: what a quantity costs, and what a balance can pay.

use proptest::prelude::*;
use uuid::Uuid;

use super::{credits, each, four_times, narrow, price, quantity, wide, wide_cost};
use crate::account::Account;
use crate::amount::{MAX, Quantity};
use crate::clock::Timestamp;
use crate::consume::{consume, quote};
use crate::credit::Credits;
use crate::error::Refusal;
use crate::id::OrganizationId;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn account(available: Credits) -> Account {
    Account { available, ..Account::open(OrganizationId::new(Uuid::nil()), NOW) }
}

proptest! {
    #![proptest_config(four_times())]

    #[test]
    fn a_cost_is_exact_or_out_of_range(price in price(), quantity in quantity()) {
        prop_assert_eq!(price.cost(quantity).ok(), narrow(wide_cost(&price, quantity)));
        if let Err(refusal) = price.cost(quantity) {
            prop_assert_eq!(refusal, Refusal::OutOfRange);
        }
    }

    #[test]
    fn the_largest_affordable_quantity_can_be_paid_and_the_next_cannot(price in price(), available in credits()) {
        let pays = |quantity: i64| {
            let quantity = Quantity::new(quantity).ok()?;
            let cost = wide_cost(&price, quantity);
            Some(each(cost, wide(available), |cost, available| i128::from(cost <= available)).into_iter().all(|it| it == 1))
        };
        let largest = price.max_affordable_quantity(available);
        prop_assert!((0..=MAX).contains(&largest));
        prop_assert_eq!(pays(largest).unwrap_or(true), true);
        prop_assert_eq!(pays(largest + 1).unwrap_or(false), false);
    }

    #[test]
    fn a_consumption_does_what_its_quote_said(price in price(), quantity in quantity(), available in credits()) {
        let mut account = account(available);
        let before = account.clone();
        let prices = [price.clone()];
        let quote = quote(&account, &prices, quantity, NOW);
        let (version, verdict) = consume(&mut account, &prices, quantity, NOW);
        prop_assert_eq!(version, Some(1));
        let cost = wide_cost(&price, quantity);
        let left = each(wide(available), cost, |available, cost| available - cost);
        match (narrow(cost), verdict) {
            (None, verdict) => {
                prop_assert_eq!(verdict, Err(Refusal::OutOfRange));
                prop_assert_eq!(quote, Err(Refusal::OutOfRange));
                prop_assert_eq!(account, before);
            }
            (Some(cost), Ok(spent)) => {
                prop_assert_eq!((spent.consumed, Some(spent.available), spent.sequence), (cost, narrow(left), 1));
                prop_assert_eq!((account.available, account.sequence), (spent.available, 1));
                let quote = quote.unwrap();
                prop_assert!(quote.allowed && quote.terms.shortfall.is_zero());
                prop_assert_eq!((quote.terms.required, quote.terms.available), (cost, available));
            }
            (Some(cost), Err(refusal)) => {
                let quote = quote.unwrap();
                prop_assert!(!quote.allowed);
                prop_assert_eq!(Some(quote.terms.shortfall), narrow(left.map(|left| (-left).max(0))));
                prop_assert!(!quote.terms.shortfall.is_zero());
                prop_assert_eq!((quote.terms.required, quote.terms.available), (cost, available));
                prop_assert_eq!(refusal, Refusal::InsufficientCredits(Box::new(quote.terms)));
                prop_assert_eq!(account, before);
            }
        }
    }
}
