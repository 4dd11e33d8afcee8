//! The jobs of the background: each is done by one process at a time, and does what it says.

use std::time::Duration;

use chrono::TimeDelta;
use multicredit_store::clock::Clock;
use multicredit_store::{Job, JobDone, JobRun, RolledUp, Store, StoreConfig};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tests::app::instant;
use tests::fixtures::{ai, key, organization, request, store};
use tests::{Engine, TestDb, both_engines, run};

const EVERY: Option<Duration> = Some(Duration::from_mins(1));

async fn at(db: &TestDb, clock: &Clock) -> Store {
    Store::open(StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) }).await.unwrap()
}

async fn count(db: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

both_engines!(a_job_is_due_once_in_its_time_over_all_processes_and_at_once_when_asked_for, async |db| {
    let start = instant("2026-11-22T09:00:00Z");
    let clock = Clock::manual(start);
    let (one, other) = (at(&db, &clock).await, at(&db, &clock).await);
    let pruned = JobRun::Done(JobDone::Pruned { keys: 0 });
    assert_eq!(one.do_job(Job::PruneKeys, EVERY).await.unwrap(), pruned);
    for store in [&one, &other] {
        assert_eq!(store.do_job(Job::PruneKeys, EVERY).await.unwrap(), JobRun::NotDue);
    }
    assert_eq!(other.do_job(Job::PruneKeys, None).await.unwrap(), pruned, "asked for, it is done");
    assert_eq!(one.do_job(Job::PruneKeys, EVERY).await.unwrap(), JobRun::NotDue, "and due again when it was anyway");
    clock.set(start + TimeDelta::seconds(60));
    assert_eq!(other.do_job(Job::PruneKeys, EVERY).await.unwrap(), pruned);
    assert_eq!(one.do_job(Job::PruneKeys, EVERY).await.unwrap(), JobRun::NotDue);
});

both_engines!(a_job_that_somebody_is_doing_is_left_to_them_until_they_are_silent_for_too_long, async |db| {
    let start = instant("2026-11-22T09:00:00Z");
    let clock = Clock::manual(start);
    let store = at(&db, &clock).await;
    store.do_job(Job::PruneKeys, EVERY).await.unwrap();
    // As a process leaves it that died in the middle.
    let look = db.connect().await.unwrap();
    let died = "UPDATE background_jobs SET leased_until = '2026-11-22T09:02:00+00:00'";
    look.execute_unprepared(died).await.unwrap();
    clock.set(start + TimeDelta::seconds(90));
    for every in [EVERY, None] {
        assert_eq!(store.do_job(Job::PruneKeys, every).await.unwrap(), JobRun::Elsewhere);
    }
    clock.set(start + TimeDelta::seconds(121));
    assert_eq!(store.do_job(Job::PruneKeys, EVERY).await.unwrap(), JobRun::Done(JobDone::Pruned { keys: 0 }));
});

both_engines!(of_many_at_once_one_does_the_job, async |db| {
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(store(&db).await);
    }
    let runs = futures_util::future::join_all(stores.iter().map(|store| store.do_job(Job::PruneKeys, EVERY))).await;
    let done = runs.iter().filter(|run| matches!(run, Ok(JobRun::Done(_)))).count();
    assert_eq!(done, 1, "{runs:?}");
});

both_engines!(what_a_job_would_do_is_what_it_does, async |db| {
    let start = instant("2026-11-22T09:00:00Z");
    let clock = Clock::manual(start);
    let store = at(&db, &clock).await;
    let acme = organization(&store, "acme", ai(5)).await;
    store.consume(acme, request("ai_chat", 1), key("k")).await.unwrap();
    store.consume(acme, request("ai_chat", 9), None).await.unwrap_err();
    clock.set(start + TimeDelta::days(9));
    let look = db.connect().await.unwrap();
    let rolled = JobDone::RolledUp(RolledUp { organizations: 1, attempts: 2, failed: 0 });
    let pruned = JobDone::Pruned { keys: 1 };
    for (job, expected) in [(Job::RollUpUsage, rolled), (Job::PruneKeys, pruned)] {
        assert_eq!(store.plan_job(job).await.unwrap(), expected);
        assert_eq!(store.do_job(job, None).await.unwrap(), JobRun::Done(expected));
    }
    assert_eq!(count(&look, "SELECT COUNT(*) FROM idempotency_keys").await, 0);
    let nothing = JobDone::RolledUp(RolledUp::default());
    assert_eq!(store.plan_job(Job::RollUpUsage).await.unwrap(), nothing);
    assert_eq!(store.plan_job(Job::PruneKeys).await.unwrap(), JobDone::Pruned { keys: 0 });
});

both_engines!(a_key_is_kept_to_the_end_of_its_last_day, async |db| {
    let start = instant("2026-11-22T23:59:00Z");
    let clock = Clock::manual(start);
    let store = at(&db, &clock).await;
    let acme = organization(&store, "acme", ai(5)).await;
    let first = store.consume(acme, request("ai_chat", 1), key("k")).await.unwrap();
    clock.set(start + TimeDelta::days(7));
    assert_eq!(store.do_job(Job::PruneKeys, None).await.unwrap(), JobRun::Done(JobDone::Pruned { keys: 0 }));
    let again = store.consume(acme, request("ai_chat", 1), key("k")).await.unwrap();
    assert_eq!((again.replayed, &again.value), (true, &first.value), "at least seven days");
    clock.set(start + TimeDelta::days(9));
    assert_eq!(store.do_job(Job::PruneKeys, None).await.unwrap(), JobRun::Done(JobDone::Pruned { keys: 1 }));
    assert!(!store.consume(acme, request("ai_chat", 1), key("k")).await.unwrap().replayed);
    assert!(store.verify().await.unwrap().passed());
});

#[test]
fn the_partitions_of_the_months_to_come_are_made_ahead() {
    run(Engine::Postgres, async |db| {
        let store = store(&db).await;
        let look = db.connect().await.unwrap();
        assert_eq!(store.plan_job(Job::MakePartitions).await.unwrap(), JobDone::Partitions { made: 0 });
        let name = "SELECT to_char(now() AT TIME ZONE 'UTC' + interval '2 months', '\"credit_consumption_logs_y\"YYYY\"m\"MM') AS n";
        let row = look.query_one_raw(Statement::from_string(look.get_database_backend(), name)).await.unwrap().unwrap();
        let name: String = row.try_get("", "n").unwrap();
        look.execute_unprepared(&format!("DROP TABLE {name}")).await.unwrap();
        let made = JobDone::Partitions { made: 1 };
        assert_eq!(store.plan_job(Job::MakePartitions).await.unwrap(), made);
        assert_eq!(store.do_job(Job::MakePartitions, None).await.unwrap(), JobRun::Done(made));
        assert_eq!(store.plan_job(Job::MakePartitions).await.unwrap(), JobDone::Partitions { made: 0 });
    });
}

#[test]
fn tables_with_more_than_a_thousand_dead_rows_are_vacuumed_and_those_with_fewer_are_not() {
    run(Engine::Postgres, async |db| {
        let store = store(&db).await;
        let look = db.connect().await.unwrap();
        store.do_job(Job::Vacuum, None).await.unwrap();
        let needy = async || match store.plan_job(Job::Vacuum).await.unwrap() {
            JobDone::Vacuumed { tables } => tables,
            other => panic!("{other:?}"),
        };
        let plans = "INSERT INTO plans (code, latest_version, created_at, updated_at) \
                     SELECT 'p' || n, 1, now(), now() FROM generate_series(1, 2500) n";
        look.execute_unprepared("ALTER TABLE plans SET (autovacuum_enabled = false)").await.unwrap();
        look.execute_unprepared(plans).await.unwrap();
        look.execute_unprepared("ANALYZE plans").await.unwrap();
        let until = async |dead: i64| {
            let sql = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'plans'";
            for _ in 0..200 {
                if count(&look, sql).await == dead {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("the statistics never showed {dead} dead rows");
        };
        let touch = async |from: i32, to: i32| {
            let sql = format!("UPDATE plans SET updated_at = now() WHERE substr(code, 2)::int BETWEEN {from} AND {to}");
            look.execute_unprepared(&sql).await.unwrap();
        };
        touch(1, 1000).await;
        until(1000).await;
        assert!(!needy().await.contains(&"plans".to_owned()), "a thousand are not more than a thousand");
        touch(1001, 1001).await;
        until(1001).await;
        assert!(needy().await.contains(&"plans".to_owned()));
        store.do_job(Job::Vacuum, None).await.unwrap();
        until(0).await;
        assert!(!needy().await.contains(&"plans".to_owned()));
    });
}
