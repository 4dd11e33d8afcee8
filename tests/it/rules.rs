//! The domain's lazy settlement against the naive oracle, in memory.

use chrono::{DateTime, TimeDelta, Utc};
use multicredit_domain::credit::COUNT;
use multicredit_domain::{Account, Book, GrantId, GrantSource, GrantState, Lot, NewGrant, OrganizationId, Pages};
use proptest::prelude::*;
use tests::fixtures::{of_values, values};
use tests::oracle::{Oracle, OracleGrant, OraclePrice};
use uuid::Uuid;

/// A step of a random history. Times are seconds after the step before.
#[derive(Debug, Clone)]
enum Step {
    Grant {
        credits: [i64; COUNT],
        priority: i32,
        promotion: bool,
        starts_in: i64,
        lasts: Option<i64>,
    },
    Consume {
        cost: [i64; COUNT],
    },
    /// A reader or a background job settles; nothing may come of it.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let vector = |max: i64| prop::array::uniform::<_, COUNT>(prop_oneof![Just(0), 0..=max]);
    prop_oneof![
        2 => (vector(100), 0..3, any::<bool>(), prop_oneof![Just(0), -5_i64..20], prop::option::of(1_i64..40)).prop_map(
            |(credits, priority, promotion, starts_in, lasts)| Step::Grant { credits, priority, promotion, starts_in, lasts }
        ),
        5 => vector(60).prop_map(|cost| Step::Consume { cost }),
        1 => Just(Step::Settle),
    ]
}

/// What the database would do between two requests: only the account and the unspent lots survive.
fn reload(book: Book, ended: &mut Vec<Lot>) -> Book {
    let (account, pages, _) = book.into_parts();
    let (lots, closed): (Vec<_>, Vec<_>) =
        pages.lots.into_iter().partition(|lot| matches!(lot.state, GrantState::Pending | GrantState::Active));
    ended.extend(closed);
    Book::new(account, Pages { lots, ..Pages::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn settling_lazily_is_settling_at_every_step(steps in prop::collection::vec((0_i64..10, step()), 1..40)) {
        let organization_id = OrganizationId::new(Uuid::nil());
        let mut now: DateTime<Utc> = DateTime::UNIX_EPOCH;
        let mut oracle = Oracle::new(now);
        let mut ended = Vec::new();
        let mut book = Book::new(Account::open(organization_id, now), Pages::default());
        let mut movements = Vec::new();
        for (index, (pause, step)) in steps.into_iter().enumerate() {
            now += TimeDelta::seconds(pause);
            oracle.set_clock(now);
            match step {
                Step::Grant { credits, priority, promotion, starts_in, lasts } => {
                    let from = now + TimeDelta::seconds(starts_in);
                    let until = lasts.map(|lasts| from.max(now) + TimeDelta::seconds(lasts));
                    let source = if promotion { GrantSource::Promotion } else { GrantSource::Purchase };
                    let new = NewGrant {
                        credits: of_values(credits),
                        source,
                        priority,
                        effective_at: Some(from),
                        expires_at: until,
                        reference: None,
                        top_up_id: None,
                    };
                    book.settle(now).unwrap();
                    let id = Uuid::from_u128(index as u128);
                    book.grant(GrantId::new(id), &new, now).unwrap();
                    let new = OracleGrant { credits, source: source.as_str(), priority, from: Some(from), until };
                    let place = oracle.grant(&new).unwrap();
                    oracle.lots[place].id = Some(id);
                }
                Step::Consume { cost } => {
                    if book.account.is_due(now) {
                        book.settle(now).unwrap();
                    }
                    let spent = book.account.spend(of_values(cost), now).is_ok();
                    let price = OraclePrice { costs: cost, unit: 1 };
                    prop_assert_eq!(spent, oracle.consume(Some(price), 1).is_ok());
                }
                Step::Settle => book.settle(now).unwrap(),
            }
            // What a reader sees: a copy, settled.
            let mut seen = book.clone();
            seen.settle(now).unwrap();
            prop_assert_eq!(values(seen.account.available), oracle.available());
            movements.extend(book.movements().iter().cloned());
            book = reload(book, &mut ended);
        }
        book.settle(now).unwrap();
        let (account, Pages { lots, .. }, booked) = book.into_parts();
        movements.extend(booked);
        for lot in lots.iter().chain(&ended) {
            let theirs = oracle.lots.iter().find(|theirs| theirs.id == Some(lot.id.uuid())).unwrap();
            prop_assert_eq!(values(lot.remaining), theirs.left, "{:?}", lot);
        }
        for pair in movements.windows(2) {
            prop_assert!(pair[0].sequence < pair[1].sequence);
            prop_assert!(pair[0].created_at <= pair[1].created_at);
        }
        prop_assert!(movements.iter().all(|movement| movement.sequence <= account.sequence));
    }
}

#[test]
fn a_lot_is_spendable_until_the_instant_at_which_it_expires() {
    let start = DateTime::UNIX_EPOCH;
    let end = start + TimeDelta::hours(1);
    let mut book = Book::new(Account::open(OrganizationId::new(Uuid::nil()), start), Pages::default());
    let new = NewGrant { expires_at: Some(end), ..tests::fixtures::purchase(tests::fixtures::ai(10)) };
    book.grant(GrantId::new(Uuid::nil()), &new, start).unwrap();
    let before = end - TimeDelta::microseconds(1);
    assert!(!book.account.is_due(before));
    assert!(book.account.spend(tests::fixtures::ai(4), before).is_ok());
    assert!(book.account.is_due(end));
    book.settle(end).unwrap();
    assert!(book.account.available.is_zero());
    let (account, pages, movements) = book.into_parts();
    let expiry = movements.last().unwrap();
    assert_eq!((expiry.created_at, expiry.change.available.to_array()[0]), (end, -6));
    assert_eq!((account.sequence, account.next_boundary_at), (3, None));
    assert_eq!((pages.lots[0].state, pages.draws[0].drawn), (GrantState::Expired, tests::fixtures::ai(4)));
}
