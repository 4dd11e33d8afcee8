//! `verify` finds what should not be: each invariant has its fault planted, and is named.

use multicredit_domain::{Consume, NewGrant, NewHold, NewRefund, OnExpired, OrganizationId, Quantity};
use multicredit_store::clock::Clock;
use multicredit_store::{Store, StoreConfig};
use sea_orm::ConnectionTrait;
use tests::app::instant;
use tests::fixtures::{ai, key, organization, purchase, request, store};
use tests::{TestDb, both_engines};

/// Every fault, as the statement that plants it, and the invariant that must name it.
const FAULTS: &[(&str, &str)] = &[
    (
        "UPDATE organization_credits SET ai_credits_available = ai_credits_available + 1 WHERE sequence > 3",
        "available is what remains in live lots, less what was spent since they were settled",
    ),
    (
        "UPDATE organization_credits SET ai_credits_available = ai_credits_available + 1 WHERE sequence > 3",
        "the balance after the last movement is the account's",
    ),
    (
        "UPDATE credit_grants SET ai_credits_remaining = ai_credits_remaining - 1 WHERE state = 'active'",
        "what was drawn from a lot and what remains of it make up what was granted",
    ),
    (
        "UPDATE credit_grants SET ai_credits_remaining = 0 WHERE state = 'active'",
        "every account can be settled to the present",
    ),
    ("DELETE FROM credit_consumption_logs WHERE sequence = 3", "sequences are dense from 1"),
    ("UPDATE organization_credits SET sequence = sequence + 1", "the account knows the last movement"),
    (
        "UPDATE credit_consumption_logs SET ai_credits_consumed = 2 WHERE sequence = 3",
        "the running sum of changes is the balance after every movement",
    ),
    (
        "UPDATE credit_movements SET created_at = (SELECT MAX(created_at) FROM credit_consumption_logs) WHERE sequence = 1",
        "instants never decrease with the sequence",
    ),
    (
        "INSERT INTO idempotency_keys (organization_id, key_id, fingerprint, operation, reference, reference_at, expires_on) \
         SELECT organization_id, reference, fingerprint, operation, reference, reference_at, expires_on FROM idempotency_keys",
        "one success per idempotency key",
    ),
    ("UPDATE idempotency_keys SET reference = key_id", "a consumption's key names a success"),
    (
        "UPDATE credit_consumption_logs SET organization_id = id WHERE success = false",
        "no log row or key without its organization",
    ),
    (
        "UPDATE credit_movements SET ai_credits_held_after = 4 WHERE kind = 'hold'",
        "the running sum of changes is what is held after every movement",
    ),
    ("UPDATE organization_credits SET ai_credits_held = 4", "what is held is what open holds have set aside"),
    (
        "UPDATE credit_draws SET ai_credits_returned = ai_credits_returned + 1 \
         WHERE sequence = (SELECT sequence FROM credit_holds WHERE state = 'open')",
        "the parts of an open hold make up what it has set aside",
    ),
    (
        "UPDATE credit_holds SET state = 'released' WHERE state = 'captured'",
        "a hold comes to its end once, as its state says",
    ),
    (
        "UPDATE credit_holds SET ai_credits_held = ai_credits_held + 1 WHERE state = 'captured'",
        "a capture takes what was not held from what was available",
    ),
    ("UPDATE credit_refunds SET quantity = quantity + 30", "no more is refunded than was consumed"),
    ("UPDATE usage_rollups SET ai_credits_consumed = ai_credits_consumed + 1", "usage rollups are the sums of the log"),
    ("UPDATE usage_rollups SET bucket_start = '2020-01-01T00:00:00+00:00'", "usage rollups are the sums of the log"),
    ("UPDATE usage_totals SET refused_count = refused_count + 1", "usage totals are the sums of the rollups"),
    ("UPDATE usage_totals SET through = '2020-01-01T00:00:00+00:00'", "usage rollups are the sums of the log"),
    ("UPDATE organizations SET status = 'frozen'", "every organization has an account, with its status"),
];

/// The same in a history of which the first part is dropped: what stands for it is what the checkpoint says.
const DROPPED: &str = "retention checkpoints carry the sums of what was dropped";
const FAULTS_OF_RETENTION: &[(&str, &str)] = &[
    ("UPDATE retention_checkpoints SET ai_credits_available = ai_credits_available + 1", DROPPED),
    (
        "UPDATE retention_checkpoints SET ai_credits_available = ai_credits_available + 1",
        "the running sum of changes is the balance after every movement",
    ),
    ("UPDATE retention_checkpoints SET ai_credits_held = ai_credits_held + 1", DROPPED),
    ("UPDATE retention_checkpoints SET ai_credits_spent = ai_credits_spent + 1", DROPPED),
    ("UPDATE retention_checkpoints SET ai_credits_captured = ai_credits_captured + 1", DROPPED),
    ("UPDATE retention_checkpoints SET ai_credits_refunded = ai_credits_refunded + 1", DROPPED),
    ("UPDATE retention_checkpoints SET spent_count = spent_count + 1", DROPPED),
    ("UPDATE retention_checkpoints SET captured_count = captured_count - 1", DROPPED),
    ("UPDATE retention_checkpoints SET refused_count = refused_count - 1", DROPPED),
    ("UPDATE retention_checkpoints SET refund_count = 0", DROPPED),
    ("UPDATE retention_checkpoints SET sequence = sequence - 1", DROPPED),
    ("UPDATE retention_checkpoints SET sequence = sequence - 1", "instants never decrease with the sequence"),
    ("UPDATE retention_checkpoints SET sequence = 2", "sequences are dense from 1"),
    ("UPDATE retention_checkpoints SET through = '2026-11-22T10:00:00+00:00'", DROPPED),
    ("UPDATE retention_checkpoints SET through = '2026-11-22T08:00:00+00:00'", DROPPED),
    ("DELETE FROM retention_checkpoints", "sequences are dense from 1"),
    ("DELETE FROM retention_checkpoints", "no more is refunded than was consumed"),
    ("DELETE FROM retention_checkpoints", "usage rollups are the sums of the log"),
    ("DELETE FROM credit_refunds", DROPPED),
    ("DELETE FROM credit_movements WHERE sequence = 1", DROPPED),
    ("UPDATE usage_rollups SET ai_credits_consumed = ai_credits_consumed + 1", DROPPED),
    ("UPDATE usage_rollups SET bucket_start = '2026-11-23T10:00:00+00:00'", "usage rollups are the sums of the log"),
    ("UPDATE organization_credits SET settled_sequence = 2", DROPPED),
    ("DELETE FROM credit_consumption_logs", "the account knows the last movement"),
];

/// A history of which the beginning is dropped.
async fn short_history(db: &TestDb) -> Store {
    let clock = Clock::manual(instant("2026-11-22T09:05:00Z"));
    let store = Store::open(StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) }).await.unwrap();
    let id = history(&store).await;
    clock.set(instant("2026-11-22T09:55:00Z"));
    store.consume(id, request("ai_chat", 2), None).await.unwrap();
    let dropped = store.drop_history_before(id, instant("2026-11-22T09:44:00Z")).await.unwrap();
    assert_eq!((dropped.attempts, dropped.left), (5, 0));
    store
}

async fn history(store: &Store) -> OrganizationId {
    let id = organization(store, "verified", ai(100)).await;
    store.grant(id, NewGrant { priority: 1, ..purchase(ai(20)) }, None).await.unwrap();
    store.consume(id, request("ai_chat", 1), key("k")).await.unwrap();
    store.consume(id, request("ai_chat", 30), None).await.unwrap();
    store.grant(id, purchase(ai(7)), None).await.unwrap();
    store.consume(id, request("ai_chat", 1), None).await.unwrap();
    store.consume(id, request("ai_chat", 1_000), None).await.unwrap_err();
    store.place_hold(id, hold(3), None).await.unwrap();
    let held = store.place_hold(id, hold(5), None).await.unwrap().value.hold;
    let captured = store.capture_hold(id, held.id, Some(Quantity::new(4).unwrap()), None).await.unwrap().value;
    let refund = NewRefund {
        consumption_id: captured.id,
        quantity: Some(Quantity::ONE),
        reason: "a test".to_owned(),
        on_expired: OnExpired::Refuse,
    };
    store.refund(id, refund, None).await.unwrap();
    id
}

fn hold(quantity: i64) -> NewHold {
    let Consume { action, quantity, actor, .. } = request("ai_chat", quantity);
    NewHold { action, quantity, ttl_seconds: 300, actor }
}

/// Plants one fault in a history of its own and answers the names of what `verify` found.
async fn found(db: &TestDb, store: Store, fault: &str) -> Vec<&'static str> {
    assert!(store.verify().await.unwrap().passed(), "the history is sound before {fault}");
    let planted = db.connect().await.unwrap().execute_unprepared(fault).await.unwrap();
    assert!(planted.rows_affected() > 0, "nothing was planted by {fault}");
    let report = store.verify().await.unwrap();
    assert!(!report.passed(), "nothing was found after {fault}");
    report.checks.iter().filter(|check| check.violations > 0 && !check.is_warning).map(|check| check.name).collect()
}

both_engines!(every_planted_fault_is_named, async |db| {
    let engine = db.engine();
    drop(db);
    for (fault, invariant) in FAULTS {
        let db = TestDb::new(engine).await.unwrap();
        let store = store(&db).await;
        history(&store).await;
        assert_eq!(store.roll_up_usage(None).await.unwrap().attempts, 5);
        let found = found(&db, store, fault).await;
        assert!(found.contains(invariant), "{fault} should be found as {invariant:?}, and was found as {found:?}");
    }
});

both_engines!(every_fault_planted_beside_a_checkpoint_is_named, async |db| {
    let engine = db.engine();
    drop(db);
    for (fault, invariant) in FAULTS_OF_RETENTION {
        let db = TestDb::new(engine).await.unwrap();
        let store = short_history(&db).await;
        let found = found(&db, store, fault).await;
        assert!(found.contains(invariant), "{fault} should be found as {invariant:?}, and was found as {found:?}");
    }
});
