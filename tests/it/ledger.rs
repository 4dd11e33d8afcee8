//! The ledger on real databases: many at once, none twice, nothing by halves.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use multicredit_domain::consume::Outcome;
use multicredit_domain::{CreditType, NewGrant, OrganizationStatus, Refusal};
use multicredit_store::entity::idempotency_keys;
use multicredit_store::{
    ConsumeItem, ConsumptionFilter, OrganizationUpdate, PageRequest, Store, StoreConfig, StoreError,
};
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _};
use tests::fixtures::{ai, amount, credits, key, organization, purchase, request, store};
use tests::{Engine, both_engines, run};

async fn assert_verified(store: &Store) {
    let report = store.verify().await.unwrap();
    let failed: Vec<_> = report.checks.iter().filter(|check| check.violations > 0).collect();
    assert!(report.passed(), "{failed:#?}");
}

async fn successes(store: &Store, organization_id: multicredit_domain::OrganizationId) -> usize {
    let mut count = 0;
    let mut page = PageRequest::first(100);
    loop {
        let filter = ConsumptionFilter { success: Some(true), ..ConsumptionFilter::default() };
        let found = store.consumptions(organization_id, filter, page).await.unwrap();
        count += found.items.len();
        match found.next {
            Some(next) => page = PageRequest { after: Some(next), limit: 100 },
            None => return count,
        }
    }
}

both_engines!(sixty_four_spenders_drain_an_organization_to_zero_without_a_refusal_while_credits_last, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "busy", ai(1_000)).await;
    let spender = async |_| {
        let mut spent = 0;
        loop {
            match store.consume(id, request("ai_chat", 1), None).await {
                Ok(_) => spent += 1,
                Err(StoreError::Refused(Refusal::InsufficientCredits(shortfall))) => {
                    assert_eq!(shortfall.available, ai(0), "refused while credits lasted");
                    return spent;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let spent: i64 = join_all((0..64).map(spender)).await.into_iter().sum();
    assert_eq!(spent, 1_000);
    assert!(store.balance(id).await.unwrap().balance.available.is_zero());
    assert_eq!(successes(&store, id).await, 1_000);
    assert_verified(&store).await;
});

both_engines!(two_processes_drain_an_organization_to_zero_together, async |db| {
    let (one, other) = (store(&db).await, store(&db).await);
    let id = organization(&one, "shared", ai(600)).await;
    let spend = async |store: &Store| store.consume(id, request("ai_chat", 1), None).await.is_ok();
    let answers = join_all((0..350).flat_map(|_| [spend(&one), spend(&other)])).await;
    assert_eq!(answers.into_iter().filter(|spent| *spent).count(), 600);
    assert_eq!(one.balance(id).await.unwrap().sequence, 601);
    assert_verified(&one).await;
});

both_engines!(one_key_sent_twenty_times_at_once_charges_once_and_answers_everyone, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "retry", ai(100)).await;
    let send = async |_| store.consume(id, request("ai_chat", 7), key("only-once")).await.unwrap();
    let answers = join_all((0..20).map(send)).await;
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer.value.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.value == answers[0].value));
    assert_eq!(store.balance(id).await.unwrap().balance.available, ai(93));
    assert_verified(&store).await;
});

both_engines!(a_key_replays_whatever_has_happened_since, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "retry", ai(10)).await;
    let first = store.consume(id, request("ai_chat", 10), key("k")).await.unwrap();
    store
        .update_organization(id, OrganizationUpdate { status: Some(OrganizationStatus::Closed), ..Default::default() })
        .await
        .unwrap();
    let again = store.consume(id, request("ai_chat", 10), key("k")).await.unwrap();
    assert_eq!((again.value, again.replayed), (first.value, true));
    let other = store.consume(id, request("ai_chat", 9), key("k")).await;
    assert!(matches!(other, Err(StoreError::Refused(Refusal::IdempotencyMismatch))), "{other:?}");
    let unkeyed = store.consume(id, request("ai_chat", 1), None).await;
    assert!(matches!(unkeyed, Err(StoreError::Refused(Refusal::OrganizationClosed))), "{unkeyed:?}");
});

both_engines!(a_refusal_does_not_bind_its_key, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "poor", ai(1)).await;
    assert!(store.consume(id, request("ai_image", 1), key("k")).await.is_err());
    store.grant(id, purchase(ai(4)), None).await.unwrap();
    let answer = store.consume(id, request("ai_image", 1), key("k")).await.unwrap();
    assert!(!answer.replayed);
    assert_verified(&store).await;
});

both_engines!(where_only_the_second_type_is_short_nothing_is_taken, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "half", credits([(CreditType::Ai, 10), (CreditType::Whatsapp, 2)])).await;
    let refused = store.consume(id, request("whatsapp_ai_reply", 3), None).await.unwrap_err();
    let StoreError::Refused(Refusal::InsufficientCredits(shortfall)) = refused else { panic!("{refused}") };
    assert_eq!(shortfall.required, credits([(CreditType::Ai, 3), (CreditType::Whatsapp, 3)]));
    assert_eq!(shortfall.shortfall, credits([(CreditType::Whatsapp, 1)]));
    assert_eq!(shortfall.max_affordable_quantity, 2);
    let balance = store.balance(id).await.unwrap();
    assert_eq!(balance.balance.available, credits([(CreditType::Ai, 10), (CreditType::Whatsapp, 2)]));
    assert_eq!(balance.sequence, 1);
    let log = store.consumptions(id, ConsumptionFilter::default(), PageRequest::first(10)).await.unwrap().items;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].outcome, Outcome::Refused { error_code: "insufficient_credits".to_owned() });
    assert!(log[0].consumed.is_zero());
    assert_verified(&store).await;
});

both_engines!(attempts_that_are_402_or_423_are_logged_and_others_are_not, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "logged", ai(1)).await;
    store.consume(id, request("ai_image", 1), None).await.unwrap_err();
    store.consume(id, request("no_such_action", 1), None).await.unwrap_err();
    store.consume(id, request("ai_image", 9_007_199_254_740_991), None).await.unwrap_err();
    store
        .update_organization(id, OrganizationUpdate { status: Some(OrganizationStatus::Frozen), ..Default::default() })
        .await
        .unwrap();
    let frozen = store.consume(id, request("ai_chat", 1), None).await.unwrap_err();
    assert!(matches!(frozen, StoreError::Refused(Refusal::OrganizationFrozen)));
    let log = store.consumptions(id, ConsumptionFilter::default(), PageRequest::first(10)).await.unwrap().items;
    let codes: Vec<_> = log.iter().map(|attempt| attempt.outcome.clone()).collect();
    let refused = |code: &str| Outcome::Refused { error_code: code.to_owned() };
    assert_eq!(codes, [refused("organization_frozen"), refused("insufficient_credits")]);
    // Frozen organizations still receive.
    store.grant(id, purchase(ai(5)), None).await.unwrap();
    assert_verified(&store).await;
});

both_engines!(every_item_of_many_stands_on_its_own, async |db| {
    let store = store(&db).await;
    let (rich, poor) = (organization(&store, "rich", ai(100)).await, organization(&store, "poor", ai(1)).await);
    let item = |organization_id, action: &str, k: Option<&str>| ConsumeItem {
        organization_id,
        request: request(action, 1),
        key: k.and_then(key),
    };
    let answers = store
        .consume_many(vec![
            item(rich, "ai_chat", Some("a")),
            item(poor, "ai_image", None),
            item(rich, "ai_chat", Some("a")),
            item(rich, "unknown", None),
            item(poor, "ai_chat", None),
            item(rich, "ai_image", Some("a")),
        ])
        .await;
    let replayed: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|answer| answer.replayed).ok()).collect();
    assert_eq!(replayed, [Some(false), None, Some(true), None, Some(false), None]);
    assert_eq!(store.balance(rich).await.unwrap().balance.available, ai(99));
    assert_eq!(store.balance(poor).await.unwrap().balance.available, ai(0));
    assert_verified(&store).await;
});

both_engines!(a_lot_ends_at_its_instant_though_nothing_runs_in_the_background, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "expiring", ai(5)).await;
    let now = store.now().await.unwrap();
    let soon = now + Duration::from_millis(400);
    let new = NewGrant { expires_at: Some(soon), priority: 1, ..purchase(ai(100)) };
    let grant = store.grant(id, new, key("g")).await.unwrap().value;
    let later = NewGrant { effective_at: Some(soon), ..purchase(ai(1_000)) };
    store.grant(id, later, None).await.unwrap();
    store.consume(id, request("ai_chat", 30), None).await.unwrap();
    let before = store.balance(id).await.unwrap();
    assert_eq!(before.balance.available, ai(75));
    let expiring = before.expiring_next.unwrap();
    assert_eq!((expiring.credits, expiring.at), (ai(70), grant.lot.validity.expires_at.unwrap()));
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(store.balance(id).await.unwrap().balance.available, ai(1_005));
    store.consume(id, request("ai_chat", 1_005), None).await.unwrap();
    assert!(store.consume(id, request("ai_chat", 1), None).await.is_err());
    let kinds: Vec<_> = store
        .ledger(id, PageRequest::first(20))
        .await
        .unwrap()
        .items
        .into_iter()
        .rev()
        .map(|movement| {
            (
                movement.sequence,
                movement.kind.as_str(),
                movement.change.available.to_array()[0],
                movement.balance_after.available[CreditType::Ai].get(),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            (1, "grant", 5, 5),
            (2, "grant", 100, 105),
            (3, "grant", 0, 105),
            (4, "consumption", -30, 75),
            (5, "expiry", -70, 5),
            (6, "activation", 1_000, 1_005),
            (7, "consumption", -1_005, 0),
        ]
    );
    let replay =
        store.grant(id, NewGrant { expires_at: Some(soon), priority: 1, ..purchase(ai(100)) }, key("g")).await.unwrap();
    assert_eq!((replay.value, replay.replayed), (grant, true));
    assert_verified(&store).await;
});

both_engines!(the_statement_pages_through_every_movement_once, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "pages", ai(50)).await;
    for round in 0..6 {
        store
            .consume_many(
                (0..3)
                    .map(|_| ConsumeItem { organization_id: id, request: request("ai_chat", 1), key: None })
                    .collect(),
            )
            .await;
        store.grant(id, purchase(ai(round + 1)), None).await.unwrap();
    }
    let mut sequences = Vec::new();
    let mut after = None;
    loop {
        let page = store.ledger(id, PageRequest { after, limit: 4 }).await.unwrap();
        sequences.extend(page.items.iter().map(|movement| movement.sequence));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sequences, (1..=25).rev().collect::<Vec<_>>());
});

both_engines!(the_items_of_a_batch_call_are_decided_in_their_order_however_many_writers_there_are, async |db| {
    let store = Store::open(StoreConfig { writers: 3, ..StoreConfig::new(db.url()) }).await.unwrap();
    for round in 0..20 {
        let id = organization(&store, &format!("ordered-{round}"), ai(30)).await;
        let item = |_| ConsumeItem { organization_id: id, request: request("ai_chat", 1), key: None };
        let answers = store.consume_many((0..1_000).map(item).collect()).await;
        let sequences: Vec<_> = answers.iter().map_while(|answer| answer.as_ref().ok()).collect();
        assert_eq!(sequences.len(), 30);
        for (answer, sequence) in sequences.into_iter().zip(2..) {
            assert!(
                matches!(answer.value.outcome, Outcome::Spent { sequence: it, .. } if it == sequence),
                "{answer:?}"
            );
        }
        assert!(answers[30..].iter().all(Result::is_err));
    }
    assert_verified(&store).await;
});

both_engines!(credits_beyond_the_range_are_refused_before_they_are_granted, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "vast", ai(9_007_199_254_740_991)).await;
    let refused = store.grant(id, purchase(ai(1)), None).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::OutOfRange))), "{refused:?}");
    assert_eq!(store.balance(id).await.unwrap().balance.available[CreditType::Ai], amount(9_007_199_254_740_991));
});

both_engines!(what_was_pushed_before_closing_is_finished, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "closing", ai(500)).await;
    let spend = async |_| store.consume(id, request("ai_chat", 1), None).await;
    let (answers, ()) = futures_util::future::join(join_all((0..200).map(spend)), async {
        tokio::task::yield_now().await;
        store.close().await;
    })
    .await;
    let spent = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(StoreError::Unavailable(_)))));
    let reopened = tests::fixtures::store(&db).await;
    assert_eq!(successes(&reopened, id).await, spent);
    assert_verified(&reopened).await;
});

both_engines!(a_key_that_is_ordered_by_time_is_replayed_like_any_other, async |db| {
    const KEY: &str = "01a204c6-b96f-768c-9b6c-f2e044c443f2";
    let store = store(&db).await;
    let id = organization(&store, "in order", ai(10)).await;
    let spend = |quantity, text: &str| store.consume(id, request("ai_chat", quantity), key(text));
    // Prices are not known yet, so this one takes the portable path, and those behind it the express path.
    let first = spend(1, KEY).await.unwrap();
    let upper_case = spend(1, &KEY.to_uppercase()).await.unwrap();
    let next = spend(1, "01a204c6-b96f-768c-9b6c-f2e044c443f3").await.unwrap();
    assert!([&first, &upper_case, &next].iter().all(|answer| !answer.replayed));
    let again = spend(1, KEY).await.unwrap();
    assert_eq!((again.value.id, again.replayed), (first.value.id, true));
    let mismatch = spend(2, KEY).await;
    assert!(matches!(mismatch, Err(StoreError::Refused(Refusal::IdempotencyMismatch))), "{mismatch:?}");
    assert_eq!(store.balance(id).await.unwrap().balance.available, ai(7));
    let reference = first.value.id.uuid();
    let bound = idempotency_keys::Entity::find().filter(idempotency_keys::Column::Reference.eq(reference));
    let bound = bound.one(&db.connect().await.unwrap()).await.unwrap().unwrap();
    assert_eq!(bound.key_id.to_string(), KEY);
    assert_verified(&store).await;
});

#[test]
fn who_reads_after_a_while_does_not_notice_that_the_server_ended_connections() {
    run(Engine::Postgres, async |db| {
        const READERS: usize = 8;
        let store = store(&db).await;
        let id = organization(&store, "patient", ai(5)).await;
        let read = || join_all((0..READERS).map(|_| store.balance(id)));
        for balance in read().await {
            balance.unwrap();
        }
        let open = store.pool_gauges().idle;
        assert!(open > 1, "{open} connections are ended");
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        db.connect().await.unwrap().execute_unprepared(end).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        for balance in read().await {
            balance.unwrap();
        }
    });
}

/// Whatever code it is refused with: whoever gets no session was not told anything about their request.
#[test]
fn a_database_that_takes_no_connections_is_unavailable_and_works_again_when_it_does() {
    run(Engine::Postgres, async |db| {
        let store = store(&db).await;
        let id = organization(&store, "shut out", ai(5)).await;
        store.consume(id, request("ai_chat", 1), None).await.unwrap();
        let (server, name) = db.url().rsplit_once('/').unwrap();
        let beside = sea_orm::Database::connect(format!("{server}/postgres")).await.unwrap();
        let allow = async |allowed: bool| {
            beside.execute_unprepared(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")).await.unwrap();
        };
        allow(false).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        beside.execute_unprepared(&end).await.unwrap();
        let refused = store.consume(id, request("ai_chat", 1), key("again")).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown { .. })), "{refused:?}");
        let refused = store.consume(id, request("ai_chat", 1), key("again")).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        let unseen = store.balance(id).await;
        assert!(matches!(unseen, Err(StoreError::Unavailable(_))), "{unseen:?}");
        allow(true).await;
        store.consume(id, request("ai_chat", 1), key("again")).await.unwrap();
        // Among the connections for readers there may still be some that were ended, of which each fails one reader.
        let reopened = tests::fixtures::store(&db).await;
        assert_eq!(successes(&reopened, id).await, 2);
        assert_verified(&reopened).await;
        beside.close().await.unwrap();
    });
}
