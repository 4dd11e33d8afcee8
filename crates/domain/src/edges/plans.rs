//! Plans whose allowances, and what rolls over of them, are nearly all that there can be.

use chrono::TimeDelta;
use proptest::prelude::*;

use super::{amount, credits, each, four_times, narrow, wide};
use crate::account::Account;
use crate::amount::MAX;
use crate::book::{Book, Pages};
use crate::clock::Timestamp;
use crate::credit::{COUNT, Credits};
use crate::error::{Denial, Refusal};
use crate::grant::{GrantSource, NewGrant};
use crate::id::{GrantId, OrganizationId};
use crate::organization::TimeZone;
use crate::plan::{PlanPeriod, PlanTerms, Subscription};
use crate::text::PlanCode;

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn subscription(allowance: Credits, rollover_max: Option<Credits>) -> Subscription {
    let code = PlanCode::new("all").unwrap();
    let terms = PlanTerms { code, version: 1, allowance, period: PlanPeriod::Day, rollover_max, priority: 1 };
    Subscription::new(OrganizationId::MIN, terms, TimeZone::default(), START, START)
}

fn grant(credits: Credits, effective_at: Option<Timestamp>) -> NewGrant {
    NewGrant {
        credits,
        source: GrantSource::Purchase,
        priority: 10,
        effective_at,
        expires_at: None,
        reference: None,
        top_up_id: None,
    }
}

fn id(number: u128) -> GrantId {
    GrantId::new(uuid::Uuid::from_u128(number))
}

/// Amounts of which several fit into the range of one, as well as those at its ends.
fn parts() -> BoxedStrategy<Credits> {
    let part = prop_oneof![amount(), (0..=MAX / 3).prop_map(super::of), (0_i64..10).prop_map(super::of)];
    prop_oneof![credits(), prop::array::uniform::<_, COUNT>(part).prop_map(Credits::from_array)].boxed()
}

proptest! {
    #![proptest_config(four_times())]

    #[test]
    fn a_period_gives_what_it_should_as_far_as_there_is_room(
        allowance in parts(), rollover_max in prop::option::of(parts()), spent in parts(), bought in parts(),
        to_come in parts(),
    ) {
        let mut book = Book::new(Account::open(OrganizationId::MIN, START), Pages::default());
        book.subscribe(subscription(allowance, rollover_max), START).unwrap();
        let full = [i128::from(MAX); COUNT];
        // What does not fit is refused, whole, and then it is not there.
        let mut total = wide(allowance);
        let mut pending = [0; COUNT];
        let mut there = [0; COUNT];
        for (number, credits, from) in [(1, bought, None), (2, to_come, Some(START + TimeDelta::days(9)))] {
            let sum = each(total, wide(credits), |a, b| a + b);
            let granted = book.grant(id(number), &grant(credits, from), START);
            prop_assert_eq!(granted.is_ok(), narrow(sum).is_some());
            if granted.is_ok() {
                total = sum;
                *if from.is_some() { &mut pending } else { &mut there } = wide(credits);
            }
        }
        let spent = spent.min(book.account.available);
        book.account.spend(spent, START).unwrap();
        book.settle(START + TimeDelta::days(1)).unwrap();

        // The plan's lot burns first.
        let left = each(wide(allowance), wide(spent), |allowance, spent| (allowance - spent).max(0));
        let from_others = each(wide(spent), wide(allowance), |spent, allowance| (spent - allowance).max(0));
        let others = each(there, from_others, |there, taken| there - taken);
        let carry = each(left, wide(rollover_max.unwrap_or_default()), i128::min);
        let room = each(full, each(others, pending, |a, b| a + b), |full, taken| full - taken);
        let given = each(each(wide(allowance), carry, |a, b| a + b), room, i128::min);
        prop_assert_eq!(Some(book.account.available), narrow(each(others, given, |a, b| a + b)));
        prop_assert_eq!(book.live(), Some(book.account.available));
    }

    #[test]
    fn nobody_subscribes_to_more_than_there_is_room_for(allowance in credits(), bought in credits()) {
        let mut book = Book::new(Account::open(OrganizationId::MIN, START), Pages::default());
        book.grant(id(1), &grant(bought, None), START).unwrap();
        let before = book.clone();
        let sum = narrow(each(wide(allowance), wide(bought), |a, b| a + b));
        let subscribed = book.subscribe(subscription(allowance, None), START);
        if let Some(sum) = sum {
            prop_assert!(subscribed.is_ok());
            prop_assert_eq!(book.account.available, sum);
        } else {
            prop_assert_eq!(subscribed, Err(Denial::Refused(Refusal::OutOfRange)));
            prop_assert_eq!(book, before);
        }
    }
}
