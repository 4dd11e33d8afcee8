//! History that is old enough is dropped, and everything else goes on as if it were there.

use chrono::TimeDelta;
use multicredit_domain::{
    Consumption, ConsumptionId, CreditType, NewGrant, NewHold, NewRefund, OnExpired, OrganizationId, PlanCode,
    PlanPeriod, Quantity, Refusal, TimeZone, Timestamp, UsageBucket,
};
use multicredit_store::clock::Clock;
use multicredit_store::{
    BalanceView, ConsumptionFilter, DroppedHistory, Job, JobDone, JobRun, NewPlan, PageRequest, Store, StoreConfig,
    StoreError, UsageQuery, UsageReport,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};
use tests::app::instant;
use tests::fixtures::{ai, credits, key, organization, purchase, request};
use tests::rpc::Rpc;
use tests::{Engine, TestDb, both_engines, run};

/// Where the histories of these tests are cut, when the clock shows [`NOW`] and two months are kept.
const CUT: &str = "2027-02-01T00:00:00Z";
const NOW: &str = "2027-04-10T12:00:00Z";

async fn at(db: &TestDb, clock: &Clock) -> Store {
    let config = StoreConfig { clock: clock.clone(), retention_months: Some(2), ..StoreConfig::new(db.url()) };
    Store::open(config).await.unwrap()
}

async fn count(db: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn old_rows(db: &DatabaseConnection) -> i64 {
    count(db, "SELECT COUNT(*) FROM credit_consumption_logs WHERE created_at < '2027-02-01T00:00:00+00:00'").await
}

fn refund(consumption: &Consumption) -> NewRefund {
    NewRefund {
        consumption_id: consumption.id,
        quantity: Some(Quantity::ONE),
        reason: "a test".to_owned(),
        on_expired: OnExpired::Grant,
    }
}

fn hold(quantity: i64, ttl_seconds: i64) -> NewHold {
    let consume = request("ai_chat", quantity);
    NewHold { action: consume.action, quantity: consume.quantity, ttl_seconds, actor: None }
}

fn beyond_retention<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    let refused = matches!(answer, Err(StoreError::Refused(Refusal::BeyondRetention)));
    assert!(refused, "should lie before history, and was {answer:?}");
}

/// What a long life left: consumptions before and after the cut.
struct History {
    id: OrganizationId,
    old: Vec<Consumption>,
    young: Vec<Consumption>,
}

/// Lots that end on either side of the cut, a plan, refunds on either side of what is old, a hold over the cut, refusals.
async fn live(store: &Store, clock: &Clock) -> History {
    let set = |text: &str| clock.set(instant(text));
    set("2026-12-05T08:00:00Z");
    let id = organization(store, "acme", ai(1_000)).await;
    let ends = |text| NewGrant { priority: 1, expires_at: Some(instant(text)), ..purchase(ai(50)) };
    store.grant(id, ends("2027-01-10T00:00:00Z"), None).await.unwrap();
    store.grant(id, ends("2027-02-10T00:00:00Z"), None).await.unwrap();
    let plan = PlanCode::new("monthly").unwrap();
    let terms = NewPlan { allowance: ai(20), period: PlanPeriod::Month, rollover_max: None, priority: 0 };
    store.put_plan(plan.clone(), terms).await.unwrap();
    store.subscribe(id, &plan, None).await.unwrap();
    let (mut old, mut young) = (Vec::new(), Vec::new());
    for day in 0..7 {
        clock.set(instant("2026-12-06T08:00:00Z") + TimeDelta::days(day * 8));
        old.push(store.consume(id, request("ai_chat", 5 + day), key(&format!("old-{day}"))).await.unwrap().value);
        store.consume(id, request("whatsapp_ai_reply", 1), None).await.unwrap_err();
    }
    store.refund(id, refund(&old[1]), None).await.unwrap();
    let captured = store.place_hold(id, hold(9, 3_600), None).await.unwrap().value.hold;
    old.push(store.capture_hold(id, captured.id, Some(Quantity::new(4).unwrap()), None).await.unwrap().value);
    set("2027-01-31T23:59:59Z");
    let over = store.place_hold(id, hold(6, 86_400), None).await.unwrap().value.hold;
    let lapses = store.place_hold(id, hold(2, 30), None).await.unwrap().value.hold;
    old.push(store.consume(id, request("ai_chat", 3), None).await.unwrap().value);
    set("2027-02-01T00:00:00Z");
    assert_eq!(lapses.credits, ai(2));
    young.push(store.capture_hold(id, over.id, Some(Quantity::new(8).unwrap()), None).await.unwrap().value);
    set("2027-03-01T10:00:00Z");
    store.refund(id, refund(&old[2]), None).await.unwrap();
    young.push(store.consume(id, request("ai_chat", 11), None).await.unwrap().value);
    store.consume(id, request("ai_chat", 100_000), None).await.unwrap_err();
    set(NOW);
    // Of the time before the cut, and not rolled up before history is dropped.
    store.refund(id, refund(&old[3]), None).await.unwrap();
    // What happens at the very instant of a fence would wait for the next one.
    clock.set(instant(NOW) + TimeDelta::seconds(1));
    History { id, old, young }
}

async fn usage(store: &Store, id: OrganizationId) -> UsageReport {
    let query = UsageQuery {
        from: instant("2026-12-01T00:00:00Z"),
        to: instant("2027-05-01T00:00:00Z"),
        bucket: UsageBucket::Day,
        time_zone: TimeZone::new("Europe/Berlin").unwrap(),
        by_action: true,
    };
    store.usage(id, &query).await.unwrap()
}

/// Balances of the time after the cut.
async fn balances(store: &Store, id: OrganizationId) -> Vec<BalanceView> {
    let mut balances = Vec::new();
    let mut instant_of: Timestamp = instant(CUT);
    while instant_of <= instant(NOW) {
        balances.push(store.balance_at(id, instant_of).await.unwrap());
        instant_of += TimeDelta::hours(31);
    }
    balances
}

async fn assert_verified(store: &Store) {
    let report = store.verify().await.unwrap();
    let failed: Vec<_> = report.checks.iter().filter(|check| check.violations > 0 && !check.is_warning).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

both_engines!(what_is_dropped_is_gone_and_everything_else_is_as_before, async |db| {
    let clock = Clock::manual(instant("2026-12-01T00:00:00Z"));
    let store = at(&db, &clock).await;
    let look = db.connect().await.unwrap();
    let History { id, old, young } = live(&store, &clock).await;
    assert_verified(&store).await;
    let lines = store.ledger(id, PageRequest::first(100)).await.unwrap().items;
    let (reported, past) = (usage(&store, id).await, balances(&store, id).await);
    let (grants, holds) =
        (store.grants(id, PageRequest::first(100)).await, store.holds(id, PageRequest::first(100)).await);

    let planned = store.plan_job(Job::DropHistory).await.unwrap();
    let JobRun::Done(JobDone::Dropped(done)) = store.do_job(Job::DropHistory, None).await.unwrap() else { panic!() };
    let partitions = if db.engine() == Engine::Postgres { 2 } else { 0 };
    // Nine successes and seven refusals.
    assert_eq!((done.organizations, done.attempts, done.left), (1, 16, 0));
    assert!(done.partitions >= partitions, "{done:?}");
    assert_eq!(JobDone::Dropped(done), planned, "what a job would do is what it does");
    assert_eq!(old_rows(&look).await, 0);
    assert_verified(&store).await;

    let balance = store.balance_at(id, instant(CUT) - TimeDelta::microseconds(1)).await;
    beyond_retention(&balance);
    assert_eq!(balances(&store, id).await, past);
    assert_eq!(usage(&store, id).await.lines, reported.lines);
    assert_eq!(store.grants(id, PageRequest::first(100)).await.unwrap().items, grants.unwrap().items);
    assert_eq!(store.holds(id, PageRequest::first(100)).await.unwrap().items, holds.unwrap().items);
    for gone in &old {
        beyond_retention(&store.consumption(id, gone.id).await);
        beyond_retention(&store.refund(id, refund(gone), None).await);
    }
    let kept = young.iter().map(|one| one.created_at).min().unwrap();
    for there in &young {
        assert_eq!(store.consumption(id, there.id).await.unwrap(), *there);
        store.refund(id, refund(there), None).await.unwrap();
    }
    // The statement ends where history begins, whatever the pages.
    let mut seen = Vec::new();
    let mut page = PageRequest::first(3);
    while let found = store.ledger(id, page).await.unwrap()
        && let () = seen.extend(found.items)
        && let Some(next) = found.next
    {
        page = PageRequest { after: Some(next), limit: 3 };
    }
    let expected: Vec<_> = lines.into_iter().filter(|line| line.created_at >= instant(CUT)).collect();
    assert_eq!(seen[young.len()..], expected);
    let all = store.consumptions(id, ConsumptionFilter::default(), PageRequest::first(2)).await.unwrap();
    let rest = PageRequest { after: Some(all.next.unwrap()), limit: 2 };
    let rest = store.consumptions(id, ConsumptionFilter::default(), rest).await.unwrap();
    assert!(rest.next.is_none() && rest.items.iter().all(|item| item.created_at >= kept), "{rest:?}");
    let before = ConsumptionFilter { to: Some(instant(CUT)), ..ConsumptionFilter::default() };
    beyond_retention(&store.consumptions(id, before, PageRequest::first(1)).await);
    let unheard_of = ConsumptionId::new(uuid::Uuid::from_u128(0x0d9a_a3d2_7c50_7b2e_8a41_5f0c_9d3e_1b27));
    assert!(matches!(store.consumption(id, unheard_of).await, Err(StoreError::NotFound)));

    // And life goes on.
    clock.set(instant(NOW) + TimeDelta::days(1));
    store.consume(id, request("ai_chat", 2), key("old-0")).await.unwrap();
    let held = store.place_hold(id, hold(2, 60), None).await.unwrap().value.hold;
    store.capture_hold(id, held.id, None, None).await.unwrap();
    if db.engine() == Engine::Postgres {
        let rpc = Rpc::connect(&db).await.unwrap();
        let spent = rpc.consume_at(id, "ai_chat", 1, instant(NOW) + TimeDelta::days(40)).await.unwrap();
        assert_eq!(spent["success"], true, "{spent}");
        clock.set(instant(NOW) + TimeDelta::days(40));
    }
    assert_verified(&store).await;
    // Another month later another month goes, and the sums grow.
    clock.set(instant("2027-05-02T00:00:00Z").max(store.now().await.unwrap()));
    store.do_job(Job::DropHistory, None).await.unwrap();
    beyond_retention(&store.balance_at(id, instant("2027-02-28T23:59:59Z")).await);
    beyond_retention(&store.refund(id, refund(&young[0]), None).await);
    store.refund(id, refund(&young[1]), None).await.unwrap();
    assert_verified(&store).await;
    assert_eq!(usage(&store, id).await.lines[0], reported.lines[0]);
});

both_engines!(nothing_is_dropped_unless_it_is_configured_and_nothing_twice, async |db| {
    let clock = Clock::manual(instant("2026-12-01T00:00:00Z"));
    let store = at(&db, &clock).await;
    live(&store, &clock).await;
    let config = StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) };
    let keeps = Store::open(config).await.unwrap();
    let nothing = JobDone::Dropped(DroppedHistory::default());
    assert_eq!(keeps.plan_job(Job::DropHistory).await.unwrap(), nothing);
    assert_eq!(keeps.do_job(Job::DropHistory, None).await.unwrap(), JobRun::Done(nothing.clone()));
    store.do_job(Job::DropHistory, None).await.unwrap();
    assert_eq!(store.plan_job(Job::DropHistory).await.unwrap(), nothing);
    assert_eq!(store.do_job(Job::DropHistory, None).await.unwrap(), JobRun::Done(nothing));
    assert_verified(&store).await;
});

both_engines!(a_process_that_died_between_the_checkpoint_and_the_rows_harms_nobody, async |db| {
    let clock = Clock::manual(instant("2026-12-01T00:00:00Z"));
    let store = at(&db, &clock).await;
    let look = db.connect().await.unwrap();
    let History { id, old, .. } = live(&store, &clock).await;
    let copy =
        "CREATE TABLE died AS SELECT * FROM credit_consumption_logs WHERE created_at < '2027-02-01T00:00:00+00:00'";
    look.execute_unprepared(copy).await.unwrap();
    store.drop_history_before(id, instant(CUT)).await.unwrap();
    assert_eq!(old_rows(&look).await, 0);
    look.execute_unprepared("INSERT INTO credit_consumption_logs SELECT * FROM died").await.unwrap();
    assert_eq!(old_rows(&look).await, 16);
    assert_verified(&store).await;
    beyond_retention(&store.consumption(id, old[0].id).await);
    beyond_retention(&store.refund(id, refund(&old[0]), None).await);
    beyond_retention(&store.balance_at(id, instant("2027-01-05T00:00:00Z")).await);
    let lines = store.ledger(id, PageRequest::first(100)).await.unwrap().items;
    assert!(lines.iter().all(|line| line.created_at >= instant(CUT)), "{lines:?}");
    store.do_job(Job::DropHistory, None).await.unwrap();
    assert_eq!(old_rows(&look).await, 0);
    assert_verified(&store).await;
});

both_engines!(a_history_that_does_not_reach_back_has_no_checkpoint, async |db| {
    let clock = Clock::manual(instant("2027-03-05T00:00:00Z"));
    let store = at(&db, &clock).await;
    let id = organization(&store, "young", ai(5)).await;
    let beginning = store.now().await.unwrap();
    store.consume(id, request("ai_chat", 1), None).await.unwrap();
    clock.set(instant(NOW));
    store.do_job(Job::DropHistory, None).await.unwrap();
    assert_eq!(store.balance_at(id, beginning - TimeDelta::days(9)).await.unwrap().sequence, 0);
    assert_eq!(store.ledger(id, PageRequest::first(10)).await.unwrap().items.len(), 2);
    let ahead = store.drop_history_before(id, instant(NOW) + TimeDelta::days(1)).await;
    assert!(matches!(ahead, Err(StoreError::Refused(Refusal::InvalidField { .. }))), "{ahead:?}");
});

#[test]
fn a_month_that_somebody_reads_is_dropped_later_and_nobody_waits_for_it() {
    run(Engine::Postgres, async |db| {
        let clock = Clock::manual(instant("2026-12-01T00:00:00Z"));
        let store = at(&db, &clock).await;
        let look = db.connect().await.unwrap();
        let History { id, .. } = live(&store, &clock).await;
        let reader = look.begin().await.unwrap();
        reader.execute_unprepared("LOCK TABLE credit_consumption_logs IN ACCESS SHARE MODE").await.unwrap();
        let spending = async {
            let mut slowest = std::time::Duration::ZERO;
            for _ in 0..30 {
                let started = std::time::Instant::now();
                store.consume(id, request("ai_chat", 1), None).await.unwrap();
                slowest = slowest.max(started.elapsed());
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            slowest
        };
        let (dropped, slowest) = tokio::join!(store.do_job(Job::DropHistory, None), spending);
        let JobRun::Done(JobDone::Dropped(done)) = dropped.unwrap() else { panic!() };
        assert_eq!((done.attempts, done.partitions), (16, 0));
        assert!(done.left >= 2, "{done:?}");
        assert!(slowest < std::time::Duration::from_secs(2), "somebody waited {slowest:?}");
        assert_verified(&store).await;
        reader.rollback().await.unwrap();
        let JobRun::Done(JobDone::Dropped(done)) = store.do_job(Job::DropHistory, None).await.unwrap() else {
            panic!()
        };
        assert_eq!((done.attempts, done.left), (0, 0));
        assert!(done.partitions >= 2, "{done:?}");
        assert_eq!(old_rows(&look).await, 0);
        assert_verified(&store).await;
    });
}

#[test]
fn rows_that_came_to_the_default_partition_do_not_stay_there() {
    run(Engine::Postgres, async |db| {
        let clock = Clock::manual(instant("2028-01-15T00:00:00Z"));
        let store = at(&db, &clock).await;
        let look = db.connect().await.unwrap();
        // Nobody made partitions for that year.
        let many = credits([(CreditType::Ai, 100), (CreditType::Email, 100)]);
        let id = organization(&store, "late", many).await;
        store.consume(id, request("ai_chat", 1), None).await.unwrap();
        clock.set(instant("2028-04-15T00:00:00Z"));
        store.consume(id, request("email", 1), None).await.unwrap();
        assert_eq!(count(&look, "SELECT COUNT(*) FROM credit_consumption_logs_default").await, 2);
        store.do_job(Job::DropHistory, None).await.unwrap();
        assert_eq!(count(&look, "SELECT COUNT(*) FROM credit_consumption_logs_default").await, 1);
        assert_verified(&store).await;
    });
}

#[test]
fn nobody_drops_what_no_checkpoint_stands_for() {
    run(Engine::Postgres, async |db| {
        let clock = Clock::manual(instant("2026-12-01T00:00:00Z"));
        let store = at(&db, &clock).await;
        let look = db.connect().await.unwrap();
        live(&store, &clock).await;
        for _ in 0..5 {
            let drop = "SELECT drop_sealed_consumption_log_partition('2027-02-01T00:00:00+00:00')";
            look.execute_unprepared(drop).await.unwrap();
        }
        assert_eq!(old_rows(&look).await, 16);
    });
}
