//! How often the ledger waits for PostgreSQL: the round trips of a batch, counted on the wire.
//!
//! `docs/PERFORMANCE.md` gives these numbers. A proxy between the store and the server counts how often the server says
//! that it is ready for the next query, which it says once in each round trip.

use std::time::Duration;

use futures_util::future::join_all;
use multicredit_domain::OrganizationId;
use multicredit_store::{ConsumeItem, Store, StoreConfig, StoreError};
use tests::fixtures::{ai, key, organization, purchase, request};
use tests::proxy::{Cut, Proxy};
use tests::{Engine, TestDb, run};
use tokio::time::sleep;

/// A store whose connections go through a proxy.
async fn store_behind_a_proxy(db: &TestDb) -> (Store, Proxy) {
    let (proxy, url) = Proxy::before_database(db.url()).await;
    (Store::open(StoreConfig::new(url)).await.unwrap(), proxy)
}

/// What everybody has: more than any test here spends.
const CREDITS: i64 = 1_000_000;

fn item(organization_id: OrganizationId, text: &str) -> ConsumeItem {
    ConsumeItem { organization_id, request: request("ai_chat", 1), key: key(text) }
}

#[test]
fn a_batch_of_any_size_is_one_round_trip_where_everybody_can_afford_it() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let mut organizations = Vec::new();
        for number in 0..50 {
            organizations.push(organization(&store, &format!("organization-{number}"), ai(CREDITS)).await);
        }
        let batch = |round: &str, count: usize| {
            let of = |number: usize| item(organizations[number % 50], &format!("{round}-{number}"));
            (0..count).map(of).collect::<Vec<_>>()
        };
        let consume = async |items: Vec<ConsumeItem>| {
            let before = proxy.round_trips();
            for answer in store.consume_many(items).await {
                answer.unwrap();
            }
            proxy.round_trips() - before
        };
        // The first learns the prices, by the portable path; the second prepares the call.
        consume(batch("prices", 1)).await;
        consume(batch("call", 1)).await;
        assert_eq!(consume(batch("one", 1)).await, 1);
        assert_eq!(consume(batch("many", 64)).await, 1);
        // The writer and its helper take half of it each; the helper, too, has to learn the prices and to prepare its call.
        consume(batch("prices-of-the-helper", 1_000)).await;
        consume(batch("call-of-the-helper", 1_000)).await;
        assert_eq!(consume(batch("most", 1_000)).await, 2);

        // A key that comes again: BEGIN, the lock, the clock, prices, keys, what was answered then, ROLLBACK, after the
        // call that looks for keys and leaves the organization out.
        consume(batch("one", 1)).await;
        let replayed = consume(batch("one", 1)).await;
        assert!(replayed <= 8, "{replayed}");
        store.close().await;
    });
}

#[test]
fn a_grant_is_as_many_round_trips_as_the_table_in_the_ledger_says() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let acme = organization(&store, "acme", ai(CREDITS)).await;
        for _ in 0..2 {
            store.grant(acme, purchase(ai(CREDITS)), None).await.unwrap();
        }
        let before = proxy.round_trips();
        store.grant(acme, purchase(ai(CREDITS)), None).await.unwrap();
        let one = proxy.round_trips() - before;
        // BEGIN, lock, clock, five for the book; account, grant, movement, and three for the audit log; COMMIT.
        assert!((10..=16).contains(&one), "{one}");
        store.close().await;
    });
}

#[test]
fn a_key_that_another_server_has_bound_is_found_and_costs_no_second_charge() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let other = Store::open(StoreConfig::new(db.url())).await.unwrap();
        let acme = organization(&store, "acme", ai(CREDITS)).await;
        for key in ["a", "b"] {
            store.consume_many(vec![item(acme, key)]).await.pop().unwrap().unwrap();
        }
        let first = other.consume_many(vec![item(acme, "theirs")]).await.pop().unwrap().unwrap();
        let before = proxy.round_trips();
        let answers = store.consume_many(vec![item(acme, "mine"), item(acme, "theirs")]).await;
        assert!(proxy.round_trips() - before > 2, "the call failed, and was asked again");
        let [mine, again] = <[_; 2]>::try_from(answers).map_err(|_| "two").unwrap().map(Result::unwrap);
        assert!(!mine.replayed);
        assert!(again.replayed);
        assert_eq!(again.value, first.value);
        let balance = store.balance(acme).await.unwrap();
        assert_eq!(balance.balance.available, ai(CREDITS - 4));
        other.close().await;
        store.close().await;
    });
}

/// Both go by the portable path, the consumption because its action was not charged before, and have no key: executed
/// once more, the one would fail and the other be charged twice.
#[test]
fn a_batch_that_was_found_after_a_cut_is_not_executed_again_if_the_connection_is_cut_once_more() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let acme = organization(&store, "acme", ai(CREDITS)).await;
        let cut_twice = || [Cut::AfterCommit, Cut::BeforeRollback].map(|cut| proxy.cut(cut));
        cut_twice();
        store.consume(acme, request("ai_image", 1), None).await.unwrap();
        assert_eq!(proxy.cuts_made(), 2);
        assert_eq!(store.balance(acme).await.unwrap().balance.available, ai(CREDITS - 5));
        cut_twice();
        store.grant(acme, purchase(ai(7)), None).await.unwrap();
        assert_eq!(proxy.cuts_made(), 4);
        assert_eq!(store.balance(acme).await.unwrap().balance.available, ai(CREDITS + 2));
        store.close().await;
    });
}

#[test]
fn a_server_that_cannot_be_reached_is_unavailable_and_leaves_no_doubt() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let acme = organization(&store, "acme", ai(CREDITS)).await;
        store.consume(acme, request("ai_chat", 1), None).await.unwrap();
        proxy.refuse(true);
        proxy.cut(Cut::BeforeCommit);
        let error = store.consume(acme, request("ai_chat", 1), None).await.unwrap_err();
        assert!(matches!(error, StoreError::OutcomeUnknown { .. }), "the call was sent: {error}");
        let error = store.consume(acme, request("ai_chat", 1), None).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "there was nothing to send it on: {error}");
        proxy.refuse(false);
        store.consume(acme, request("ai_chat", 1), None).await.unwrap();
        assert_eq!(store.balance(acme).await.unwrap().balance.available, ai(CREDITS - 2));
        store.close().await;
    });
}

/// While the database stands still: what waits is bounded, and one organization cannot take all of it. The writer has
/// taken up to a batch (256 requests) out of the queue.
#[test]
fn calls_that_wait_are_bounded_and_a_loud_organization_leaves_room_for_others() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let mut organizations = Vec::new();
        for name in ["loud", "quiet", "one", "two", "three"] {
            organizations.push(organization(&store, name, ai(CREDITS)).await);
        }
        let [loud, quiet, others @ ..] = organizations.as_slice() else { panic!("five") };
        let calls = |whose: OrganizationId, count: usize| {
            join_all((0..count).map(|_| store.consume(whose, request("ai_chat", 1), None)).collect::<Vec<_>>())
        };
        let unblock = async || {
            sleep(Duration::from_millis(300)).await;
            proxy.partition(false);
        };
        let counts = |answers: &[Result<_, StoreError>]| {
            let count = |is: fn(&StoreError) -> bool| {
                answers.iter().filter_map(|it| it.as_ref().err()).filter(|it| is(it)).count()
            };
            let done = answers.iter().filter(|answer| answer.is_ok()).count();
            [done, count(|it| matches!(it, StoreError::OrganizationBusy)), count(|it| matches!(it, StoreError::Busy))]
        };
        calls(*loud, 1).await;

        proxy.partition(true);
        let (of_loud, of_quiet, ()) = tokio::join!(calls(*loud, 3_000), calls(*quiet, 200), unblock());
        let [done, too_many, busy] = counts(&of_loud);
        assert!((1_024..=1_024 + 256).contains(&done), "{done}");
        assert_eq!((done + too_many, busy), (3_000, 0));
        assert_eq!(counts(&of_quiet), [200, 0, 0]);

        proxy.partition(true);
        let everybody = join_all(others.iter().map(|whose| calls(*whose, 1_000)));
        let (everybody, ()) = tokio::join!(everybody, unblock());
        let [done, too_many, busy] = counts(&everybody.into_iter().flatten().collect::<Vec<_>>());
        assert!((1_280..=1_280 + 256).contains(&done), "{done}");
        assert_eq!((done + busy, too_many), (3_000, 0));
        store.close().await;
    });
}

#[test]
fn wherever_a_connection_is_cut_everything_happens_once() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let acme = organization(&store, "acme", ai(CREDITS)).await;
        store.consume(acme, request("ai_chat", 1), None).await.unwrap();
        let cuts = [Cut::BeforeCommit, Cut::AfterCommit, Cut::MidBatch];
        for cut in cuts {
            proxy.cut(cut);
            store.consume(acme, request("ai_chat", 1), None).await.unwrap();
            proxy.cut(cut);
            store.grant(acme, purchase(ai(10)), None).await.unwrap();
        }
        assert_eq!(proxy.cuts_made(), 2 * cuts.len());
        assert_eq!(store.balance(acme).await.unwrap().balance.available, ai(CREDITS - 1 + 3 * 9));
        store.close().await;
    });
}
