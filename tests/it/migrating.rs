//! Migrating while servers work: no request fails, nothing is left half made, and nobody queues for long behind a
//! migration that waits. PostgreSQL alone; on SQLite a migration is a writer among others, and they take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use multicredit_store::{Store, StoreConfig};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DbBackend, IsolationLevel, Statement, TransactionTrait as _,
};
use tests::fixtures::{ai, key, organization, request, store};
use tests::{Engine, TestDb, run};
use tokio::time::sleep;

use crate::fault::plant::plant;

/// The last of those that made the first schema, and that changed as a whole what servers use.
const FIRST_SCHEMA: &str = "m20261122_000032_usage_summary_of_totals";

/// What servers wait for a lock.
const PATIENCE_OF_SERVERS: Duration = Duration::from_secs(2);

/// How many clients spend at once, and how long each of them rests: about half of what can be done here.
const CLIENTS: usize = 4;
const REST: Duration = Duration::from_millis(5);

/// How many migrations there are behind [`FIRST_SCHEMA`].
async fn steps_behind_the_first_schema(connection: &DatabaseConnection) -> u32 {
    let behind = migration::status(connection).await.unwrap().into_iter().rev();
    u32::try_from(behind.take_while(|step| step.name != FIRST_SCHEMA).count()).unwrap()
}

async fn number(connection: &impl ConnectionTrait, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// All that consumptions read and write.
const TABLES: [&str; 6] = [
    "organizations",
    "credit_grants",
    "credit_movements",
    "credit_consumption_logs",
    "idempotency_keys",
    "credit_actions",
];

/// Somebody who has all hot tables open, as they were, for as long as it takes.
async fn long_reader(connection: &DatabaseConnection) -> (sea_orm::DatabaseTransaction, i64) {
    let options = (Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly));
    let reader = connection.begin_with_config(options.0, options.1).await.unwrap();
    for table in TABLES {
        number(&reader, &format!("SELECT COUNT(*) FROM {table}")).await;
    }
    let balance = number(&reader, BALANCE).await;
    (reader, balance)
}

const BALANCE: &str = "SELECT SUM(ai_credits_available)::bigint FROM organization_credits";
const INVALID_INDEXES: &str = "SELECT COUNT(*) FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)";

/// Spends until it is told to end; answers what failed.
async fn spend(
    store: Store,
    whose: multicredit_domain::OrganizationId,
    name: String,
    is_over: Arc<AtomicBool>,
    spent: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut failed = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let key = if number % 2 == 0 { key(&format!("{name}-{number}")) } else { None };
        match store.consume(whose, request("ai_chat", 1), key).await {
            Ok(_) => drop(spent.fetch_add(1, Ordering::SeqCst)),
            Err(error) => failed.push(error.to_string()),
        }
        sleep(REST).await;
    }
    failed
}

/// Takes the last steps back, and applies them again while servers spend and somebody reads.
async fn migrate_under_load(db: &TestDb, steps: u32) {
    let connection = db.connect().await.unwrap();
    let reverted = migration::down(&connection, Some(steps)).await.unwrap();
    let organizations = ["one", "two"];
    let found = "SELECT id::text FROM organizations WHERE external_id = ";
    let config = StoreConfig::new(db.url());
    let servers = [Store::open(config.clone()).await.unwrap(), Store::open(config).await.unwrap()];
    let (is_over, spent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let sql = format!("{found}'{}'", organizations[client % 2]);
        let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().unwrap();
        let whose: String = row.try_get_by_index(0).unwrap();
        let whose = multicredit_domain::OrganizationId::new(whose.parse().unwrap());
        let name = format!("{steps}-{client}");
        let client = spend(servers[client / 2].clone(), whose, name, Arc::clone(&is_over), Arc::clone(&spent));
        clients.push(tokio::spawn(client));
    }
    while spent.load(Ordering::SeqCst) < 20 {
        sleep(REST).await;
    }
    let reading = db.connect().await.unwrap();
    let (reader, seen) = long_reader(&reading).await;
    let before = spent.load(Ordering::SeqCst);
    plant(db.url(), None).await;
    let mut applied = migration::migrate_up(&connection).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        assert_eq!(client.await.unwrap(), Vec::<String>::new(), "requests failed while {steps} steps were applied");
    }
    assert!(spent.load(Ordering::SeqCst) > before, "nobody spent meanwhile");
    applied.reverse();
    assert_eq!(applied, reverted);
    assert_eq!(number(&reader, BALANCE).await, seen, "the reader sees what it saw");
    reader.rollback().await.unwrap();
    assert_eq!(number(&connection, INVALID_INDEXES).await, 0, "after {steps} steps");
    for server in servers {
        server.close().await;
    }
}

#[test]
fn servers_spend_and_a_reader_reads_while_any_of_the_later_migrations_are_applied() {
    run(Engine::Postgres, async |db| {
        let connection = db.connect().await.unwrap();
        let steps_max = steps_behind_the_first_schema(&connection).await;
        let made = store(&db).await;
        for name in ["one", "two"] {
            organization(&made, name, ai(1_000_000)).await;
        }
        made.close().await;
        for steps in 1..=steps_max {
            migrate_under_load(&db, steps).await;
        }
        let made = store(&db).await;
        let report = made.verify().await.unwrap();
        assert!(report.passed(), "{report:?}");
        made.close().await;
    });
}

/// Somebody has a lock for three seconds that a migration needs; others need one that is behind the migration's.
#[test]
fn a_migration_that_waits_for_a_lock_lets_others_pass_and_is_tried_again() {
    run(Engine::Postgres, async |db| {
        let connection = db.connect().await.unwrap();
        let steps = steps_behind_the_first_schema(&connection).await;
        let reverted = migration::down(&connection, Some(steps)).await.unwrap();
        let in_the_way = db.connect().await.unwrap();
        let holder = in_the_way.begin().await.unwrap();
        holder.execute_unprepared("LOCK TABLE organizations IN ROW EXCLUSIVE MODE").await.unwrap();
        let other = db.connect().await.unwrap();
        let is_over = AtomicBool::new(false);
        let probe = async {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::SeqCst) {
                let begun = Instant::now();
                let transaction = other.begin().await.unwrap();
                transaction.execute_unprepared("LOCK TABLE organizations IN ROW EXCLUSIVE MODE").await.unwrap();
                transaction.rollback().await.unwrap();
                longest = longest.max(begun.elapsed());
                sleep(Duration::from_millis(10)).await;
            }
            longest
        };
        let release = async {
            sleep(Duration::from_millis(3_500)).await;
            holder.rollback().await.unwrap();
        };
        let begun = Instant::now();
        let migrating = async {
            let applied = migration::migrate_up(&connection).await;
            is_over.store(true, Ordering::SeqCst);
            (applied, begun.elapsed())
        };
        let ((applied, took), longest, ()) = tokio::join!(migrating, probe, release);
        let mut applied = applied.unwrap();
        applied.reverse();
        assert_eq!(applied, reverted, "every migration is told of, also those before the one that was tried again");
        assert!(took > Duration::from_secs(3), "nothing was in its way: {took:?}");
        assert!(longest > Duration::from_millis(500), "it did not wait at all: {longest:?}");
        assert!(longest < PATIENCE_OF_SERVERS, "others had to wait for {longest:?}");
        let store = store(&db).await;
        organization(&store, "acme", ai(1)).await;
        store.close().await;
    });
}
