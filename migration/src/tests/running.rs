//! Migrating up, down and at once.

use std::{collections::BTreeSet, time::Duration};

use sea_orm_migration::{
    MigratorTrait,
    sea_orm::{
        ConnectionTrait, SqliteTransactionMode, TransactionOptions, TransactionTrait, sqlx::sqlite::SqliteJournalMode,
    },
};

use super::{TestFile, number, objects, open};
use crate::{MigrationError, Migrator, State, Step, down, exclusive, fresh, migrate_up, pending, status, task::Task};

const BEGIN_IMMEDIATE: TransactionOptions = TransactionOptions {
    isolation_level: None,
    access_mode: None,
    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
};

const AN_ORGANIZATION: &str = "INSERT INTO organizations (id, name, time_zone, status, created_at, updated_at) \
     VALUES (x'00', 'Acme', 'UTC', 'active', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00')";

fn all_names() -> Vec<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}

#[test]
fn migrations_are_listed_in_the_order_of_their_names() {
    let names = all_names();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len());
}

#[tokio::test]
async fn an_empty_database_has_everything_pending_and_stays_empty_when_asked() {
    let file = TestFile::new();
    let db = file.open().await;

    assert_eq!(pending(&db).await.unwrap(), all_names());
    assert!(status(&db).await.unwrap().iter().all(|step| step.state == State::Pending));

    assert_eq!(objects(&db).await, []);
}

#[tokio::test]
async fn up_applies_everything_and_a_second_up_finds_nothing_to_do() {
    let file = TestFile::new();
    let db = file.open().await;

    assert_eq!(migrate_up(&db).await.unwrap(), all_names());
    assert_eq!(pending(&db).await.unwrap(), Vec::<String>::new());
    assert!(status(&db).await.unwrap().iter().all(|step| step.state == State::Applied));

    assert_eq!(migrate_up(&db).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn down_to_empty_leaves_nothing_of_ours_and_up_works_again() {
    let file = TestFile::new();
    let db = file.open().await;
    migrate_up(&db).await.unwrap();
    let migrated = objects(&db).await;

    let mut reverted = down(&db, None).await.unwrap();
    assert_eq!(objects(&db).await, []);
    reverted.reverse();
    assert_eq!(reverted, all_names());

    assert_eq!(migrate_up(&db).await.unwrap(), all_names());
    assert_eq!(objects(&db).await, migrated);
}

#[tokio::test]
async fn every_down_undoes_its_own_up_and_no_more() {
    let file = TestFile::new();
    let db = file.open().await;
    let mut before = vec![objects(&db).await];
    for _ in all_names() {
        Migrator::up(&db, Some(1)).await.unwrap();
        before.push(objects(&db).await);
    }

    for name in all_names().into_iter().rev() {
        assert_eq!(Some(objects(&db).await), before.pop());
        assert_eq!(down(&db, Some(1)).await.unwrap(), [name]);
    }
    assert_eq!(Some(objects(&db).await), before.pop());
    assert_eq!(down(&db, Some(1)).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_processes_that_migrate_one_file_at_once_all_succeed_and_one_does_the_work() {
    for journal_mode in [SqliteJournalMode::Delete, SqliteJournalMode::Wal] {
        for _ in 0..5 {
            let file = TestFile::new();
            let mut processes = Vec::new();
            for _ in 0..4 {
                // A busy timeout so short that the waiting is left to the retries.
                processes.push(open(&file.path(), journal_mode, Duration::from_millis(1)).await);
            }

            let at_once = processes.into_iter().map(|db| tokio::spawn(async move { migrate_up(&db).await }));
            let mut applied = Vec::new();
            for process in at_once.collect::<Vec<_>>() {
                applied.extend(process.await.unwrap().unwrap());
            }

            assert_eq!(applied, all_names());
            let db = open(&file.path(), journal_mode, Duration::from_secs(5)).await;
            assert_eq!(pending(&db).await.unwrap(), Vec::<String>::new());
            assert_eq!(number(&db, "SELECT COUNT(*) FROM credit_actions").await, 8);
        }
    }
}

#[tokio::test]
async fn a_file_that_stays_locked_is_an_error_and_no_hang() {
    let file = TestFile::new();
    let writer = file.open().await;
    let transaction = writer.begin_with_options(BEGIN_IMMEDIATE).await.unwrap();

    let db = open(&file.path(), SqliteJournalMode::Delete, Duration::from_millis(1)).await;
    let wait_max = Duration::from_millis(200);
    let outcome = exclusive::run(&db, Task::Up, wait_max).await;

    assert!(matches!(outcome, Err(MigrationError::Busy(waited)) if waited == wait_max), "{outcome:?}");
    transaction.rollback().await.unwrap();
    assert_eq!(exclusive::run(&db, Task::Up, wait_max).await.unwrap(), all_names());
}

#[tokio::test]
async fn an_up_that_has_nothing_to_do_does_not_wait_for_a_writer() {
    let file = TestFile::new();
    let writer = file.open().await;
    migrate_up(&writer).await.unwrap();
    let transaction = writer.begin_with_options(BEGIN_IMMEDIATE).await.unwrap();

    let db = open(&file.path(), SqliteJournalMode::Delete, Duration::from_millis(1)).await;

    assert_eq!(exclusive::run(&db, Task::Up, Duration::ZERO).await.unwrap(), Vec::<String>::new());
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_file_as_it_was() {
    let file = TestFile::new();
    let db = file.open().await;
    db.execute_unprepared("CREATE TABLE api_keys (in_the_way integer)").await.unwrap();
    let before = objects(&db).await;

    assert!(matches!(migrate_up(&db).await, Err(MigrationError::Database(_))));

    assert_eq!(objects(&db).await, before);
}

#[tokio::test]
async fn a_database_that_is_ahead_is_left_alone() {
    let file = TestFile::new();
    let db = file.open().await;
    migrate_up(&db).await.unwrap();
    let future = "m29990101_000001_future".to_owned();
    db.execute_unprepared(&format!("INSERT INTO seaql_migrations VALUES ('{future}', 0)")).await.unwrap();

    let steps = status(&db).await.unwrap();
    assert_eq!(steps.last(), Some(&Step { name: future.clone(), state: State::Unknown }));
    assert_eq!(pending(&db).await.unwrap(), Vec::<String>::new());
    assert_eq!(migrate_up(&db).await.unwrap(), Vec::<String>::new());

    for outcome in [down(&db, Some(1)).await, fresh(&db).await] {
        assert!(matches!(&outcome, Err(MigrationError::Unknown(names)) if *names == [future.as_str()]), "{outcome:?}");
    }
}

#[tokio::test]
async fn nothing_is_applied_on_top_of_another_release() {
    let file = TestFile::new();
    let db = file.open().await;
    migrate_up(&db).await.unwrap();
    down(&db, Some(1)).await.unwrap();
    db.execute_unprepared("INSERT INTO seaql_migrations VALUES ('m29990101_000001_future', 0)").await.unwrap();

    let outcome = migrate_up(&db).await;

    assert!(matches!(outcome, Err(MigrationError::Unknown(_))), "{outcome:?}");
}

#[tokio::test]
async fn fresh_drops_our_data_and_nobody_elses() {
    let file = TestFile::new();
    let db = file.open().await;
    migrate_up(&db).await.unwrap();
    db.execute_unprepared(AN_ORGANIZATION).await.unwrap();
    db.execute_unprepared("CREATE TABLE theirs AS SELECT 1 AS one").await.unwrap();

    assert_eq!(fresh(&db).await.unwrap(), all_names());

    assert_eq!(number(&db, "SELECT COUNT(*) FROM organizations").await, 0);
    assert_eq!(number(&db, "SELECT COUNT(*) FROM theirs").await, 1);
}

#[tokio::test]
async fn fresh_copes_with_any_mix_of_tables_and_records() {
    let file = TestFile::new();
    let db = file.open().await;
    assert_eq!(fresh(&db).await.unwrap(), all_names(), "on an empty database");

    db.execute_unprepared("DROP TABLE seaql_migrations").await.unwrap();
    assert_eq!(fresh(&db).await.unwrap(), all_names(), "without records");

    db.execute_unprepared("DROP VIEW mv_organization_usage_summary").await.unwrap();
    db.execute_unprepared("DROP TABLE credit_action_versions").await.unwrap();
    assert_eq!(fresh(&db).await.unwrap(), all_names(), "without some tables");
}
