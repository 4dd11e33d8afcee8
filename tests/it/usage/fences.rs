//! What is rolled up is never overtaken: no transaction that is still open can add behind it.

use chrono::TimeDelta;
use multicredit_domain::{NewGrant, OrganizationId, TimeZone, UsageBucket};
use multicredit_store::clock::Clock;
use multicredit_store::{Store, StoreConfig, UsageQuery, UsageReport};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};
use tests::app::instant;
use tests::fixtures::{ai, organization, purchase, request, store};
use tests::rpc::Rpc;
use tests::{Engine, TestDb, both_engines, run};

use super::naive;

/// A refused attempt as the ledger would write it, its instant read under the lock.
fn refusal(organization_id: OrganizationId) -> String {
    #[expect(clippy::disallowed_methods, reason = "it names a row of a test")]
    let id = uuid::Uuid::now_v7();
    format!(
        "INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, error_code, \
         created_at, price_version) SELECT organization_id, '{id}', 'ai_chat', 1, false, 'insufficient_credits', \
         GREATEST(clock_timestamp(), last_movement_at), 1 FROM organization_credits \
         WHERE organization_id = '{organization_id}'"
    )
}

async fn report(store: &Store, organization_id: OrganizationId) -> UsageReport {
    let now = store.now().await.unwrap();
    let query = UsageQuery {
        from: now - TimeDelta::hours(1),
        to: now + TimeDelta::hours(1),
        bucket: UsageBucket::Month,
        time_zone: TimeZone::default(),
        by_action: false,
    };
    store.usage(organization_id, &query).await.unwrap()
}

fn counted(report: &UsageReport) -> (i64, i64) {
    report.lines.iter().fold((0, 0), |(count, refused), line| (count + line.sums.count, refused + line.sums.refused))
}

async fn execute(db: &impl ConnectionTrait, sql: &str) {
    db.execute_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
}

async fn through(db: &DatabaseConnection, id: OrganizationId) -> chrono::DateTime<chrono::Utc> {
    let sql = format!("SELECT through FROM usage_totals WHERE organization_id = '{id}'");
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
    row.try_get("", "through").unwrap()
}

/// The case that a time without a lock gets wrong: the attempt has its instant, and is committed only after the rollup.
#[test]
fn an_organization_with_an_open_transaction_is_left_and_its_rows_are_counted_when_they_come() {
    run(Engine::Postgres, async |db| {
        let store = store(&db).await;
        let look = db.connect().await.unwrap();
        let held = organization(&store, "held", ai(10)).await;
        let free = organization(&store, "free", ai(10)).await;
        for id in [held, free] {
            store.consume(id, request("ai_chat", 1), None).await.unwrap();
        }
        let open = look.begin().await.unwrap();
        let lock = format!("SELECT 1 FROM organization_credits WHERE organization_id = '{held}' FOR NO KEY UPDATE");
        execute(&open, &lock).await;
        execute(&open, &refusal(held)).await;

        let rolled = store.roll_up_usage(None).await.unwrap();
        assert_eq!((rolled.organizations, rolled.failed), (1, 1), "the free one is rolled up, the held one is left");
        let before = report(&store, held).await;
        assert_eq!(counted(&before), (1, 0), "what is not committed does not count");

        open.commit().await.unwrap();
        let events = naive::events(&look, held).await;
        let refused_at = events.iter().find(|event| event.sums.refused == 1).unwrap().at;
        assert!(before.complete_through <= refused_at, "nothing was promised that an open transaction could break");
        assert_eq!(counted(&report(&store, held).await), (1, 1));
        let rolled = store.roll_up_usage(None).await.unwrap();
        assert_eq!((rolled.organizations, rolled.attempts, rolled.failed), (1, 2, 0));
        let after = report(&store, held).await;
        assert_eq!(counted(&after), (1, 1));
        assert!(after.complete_through > refused_at);
        assert!(store.verify().await.unwrap().passed());
    });
}

/// A clock that is set back gives no instant behind the fence, to refusals either.
#[test]
fn what_follows_a_rollup_has_a_later_instant_even_where_the_clock_was_set_back() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        run(engine, async |db| {
            let start = instant("2026-11-22T09:00:00Z");
            let clock = Clock::manual(start);
            let config = StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) };
            let store = Store::open(config).await.unwrap();
            let id = organization(&store, "acme", ai(2)).await;
            store.consume(id, request("ai_chat", 5), None).await.unwrap_err();
            clock.set(start + TimeDelta::minutes(5));
            assert_eq!(store.roll_up_usage(None).await.unwrap().attempts, 1);
            clock.set(start - TimeDelta::minutes(5));
            store.consume(id, request("ai_chat", 5), None).await.unwrap_err();
            store.consume(id, request("ai_chat", 1), None).await.unwrap();
            assert_eq!(counted(&report(&store, id).await), (1, 2));
            clock.set(start + TimeDelta::minutes(6));
            assert_eq!(store.roll_up_usage(None).await.unwrap().attempts, 2);
            assert_eq!(counted(&report(&store, id).await), (1, 2));
            assert!(store.verify().await.unwrap().passed());
        });
    }
}

/// A batch of the express path whose transaction is not over yet.
#[test]
fn a_batch_of_the_express_path_that_is_not_committed_is_not_overtaken_either() {
    run(Engine::Postgres, async |db| {
        let store = store(&db).await;
        let look = db.connect().await.unwrap();
        let id = organization(&store, "acme", ai(10)).await;
        store.consume(id, request("ai_chat", 1), None).await.unwrap();
        store.roll_up_usage(None).await.unwrap();
        let fence = through(&look, id).await;
        let open = look.begin().await.unwrap();
        execute(&open, &express(id)).await;
        assert_eq!(store.roll_up_usage(None).await.unwrap().attempts, 0);
        assert_eq!(through(&look, id).await, fence, "there is nothing to be seen, so nothing has moved");
        open.commit().await.unwrap();
        assert_eq!(counted(&report(&store, id).await), (2, 0));
        assert_eq!(store.roll_up_usage(None).await.unwrap().attempts, 1);
        assert!(store.verify().await.unwrap().passed());
    });
}

/// A call of the express path's function for one consumption, as the writer makes it.
fn express(id: OrganizationId) -> String {
    #[expect(clippy::disallowed_methods, reason = "it names a row of a test")]
    let row = uuid::Uuid::now_v7();
    format!(
        "SELECT * FROM consume_credits_express(0, NULL, false, ARRAY['ai_chat'], ARRAY[1], ARRAY['{id}'::uuid], \
         ARRAY[('{id}', 1, 1, 0, 0, 0)::express_demand], ARRAY[('{id}', 1, '{row}', 'ai_chat', 1, 1, NULL, NULL, NULL, \
         NULL, NULL, NULL, 1, 1, 0, 0, 0, 0, 0, 0)::express_item])"
    )
}

/// A boundary of before the fence is settled after it, and then the clock goes back.
async fn settle_behind_the_fence(db: TestDb, settle: impl AsyncFnOnce(&TestDb, &Store, OrganizationId)) {
    let start = instant("2026-11-22T09:00:00Z");
    let clock = Clock::manual(start);
    let config = StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) };
    let store = Store::open(config).await.unwrap();
    let id = organization(&store, "acme", ai(10)).await;
    let ends = NewGrant { expires_at: Some(start + TimeDelta::seconds(60)), ..purchase(ai(5)) };
    store.grant(id, ends, None).await.unwrap();
    clock.set(start + TimeDelta::seconds(70));
    store.roll_up_usage(None).await.unwrap();
    settle(&db, &store, id).await;

    clock.set(start + TimeDelta::seconds(65));
    store.consume(id, request("ai_chat", 1), None).await.unwrap();
    clock.set(start + TimeDelta::seconds(80));
    assert_eq!(counted(&report(&store, id).await).0, 1, "what was spent is counted, whatever the clock said");
    store.roll_up_usage(None).await.unwrap();
    assert_eq!(counted(&report(&store, id).await).0, 1);
    assert!(store.verify().await.unwrap().passed());
}

both_engines!(a_boundary_that_is_settled_late_does_not_take_the_fence_back, async |db| settle_behind_the_fence(
    db,
    async |_, store, _| {
        store.sweep().await.unwrap();
    }
)
.await);

#[test]
fn a_boundary_that_is_settled_late_in_sql_does_not_take_the_fence_back_either() {
    run(Engine::Postgres, async |db| {
        settle_behind_the_fence(db, async |db, _, id| {
            let rpc = Rpc::connect(db).await.unwrap();
            let at = instant("2026-11-22T09:01:10Z");
            let refused = rpc.consume_at(id, "ai_chat", 1_000, at).await.unwrap();
            assert_eq!(refused["success"], false, "settled, and nothing spent: {refused}");
        })
        .await;
    });
}
