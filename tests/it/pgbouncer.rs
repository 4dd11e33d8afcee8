//! The server behind pgbouncer in transaction mode, where every transaction may get another session of the database.
//!
//! On PostgreSQL alone, of course. Two servers share three sessions, so that whatever one left in a session (a
//! statement, a setting, a lock) would be found by the other.

use std::sync::Arc;

use multicredit_store::clock::Clock;
use multicredit_store::stats::DecidedBy;
use multicredit_store::{Store, StoreConfig};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};
use serde_json::json;
use tests::app::{TestApp, instant};
use tests::fixtures::{ai, key, organization, request};
use tests::pgbouncer::Pgbouncer;
use tests::{Engine, TestDb, postgres, run};

use crate::cli::process;

const NOW: &str = "2026-11-22T09:30:00Z";

fn pooled(db: &TestDb, bouncer: &Pgbouncer) -> StoreConfig {
    StoreConfig { pooler: true, ..StoreConfig::new(bouncer.url(db.url())) }
}

fn bouncer() -> Pgbouncer {
    Pgbouncer::start(&postgres::shared_url().unwrap()).unwrap()
}

#[test]
fn everything_works_through_a_pooler_in_transaction_mode() {
    run(Engine::Postgres, async |db| {
        let bouncer = bouncer();
        let clock = Clock::manual(instant(NOW));
        let config = StoreConfig { clock: clock.clone(), ..pooled(&db, &bouncer) };
        let app = TestApp::configured(db, config).await;
        let acme = app.organization("acme", json!({ "ai": 100, "sms": 5 })).await;
        let post = |path: &str, body| app.admin.post(&acme.path(path)).json(body);

        let first = post("/consume", json!({ "action": "ai_chat" })).once("a").await.expect(201);
        assert_eq!(post("/consume", json!({ "action": "ai_chat" })).once("a").await.expect(201), first, "replayed");
        for _ in 0..5 {
            post("/consume", json!({ "action": "ai_chat", "quantity": 2 })).await.expect(201);
        }
        post("/consume", json!({ "action": "sms", "quantity": 6 })).await.refused(402, "insufficient_credits");
        let paths = DecidedBy::ALL.map(|path| app.store.stats().ledger.path(path).decided.get());
        assert!(paths.iter().all(|decided| *decided > 0), "both paths were taken: {paths:?}");

        let hold = post("/holds", json!({ "action": "ai_chat", "quantity": 10 })).await.expect(201);
        let path = format!("/holds/{}/capture", hold["id"].as_str().unwrap());
        post(&path, json!({ "quantity": 4 })).await.expect(201);
        let forgotten =
            post("/holds", json!({ "action": "ai_chat", "quantity": 7, "ttl_seconds": 60 })).await.expect(201);
        let refund = format!("/consumptions/{}/refund", first["id"].as_str().unwrap());
        post(&refund, json!({ "reason": "a test" })).await.expect(201);
        app.admin.put("/v1/actions/ai_chat").json(json!({ "costs": { "ai": 2 } })).await.expect(200);
        post("/consume", json!({ "action": "ai_chat" })).await.expect(201);

        clock.set(instant("2026-11-22T09:40:00Z"));
        assert_eq!(app.store.sweep().await.unwrap().settled, 1, "the forgotten hold expires");
        let path = format!("/holds/{}", forgotten["id"].as_str().unwrap());
        assert_eq!(app.admin.get(&acme.path(&path)).await.expect(200)["status"], "expired");
        assert_eq!(app.available(&acme).await["ai"], 100 - 10 - 4 - 2);
        assert!(app.admin.all(&acme.path("/ledger"), 5).await.len() > 10);
        assert!(app.admin.all("/v1/actions", 3).await.len() >= 8);
        app.admin.get("/v1/performance").await.expect(200);

        // What was set for a transaction is gone with it: sessions are as the next client expects them.
        let somebody = Store::open(pooled(app.db(), &bouncer)).await.unwrap();
        let session = somebody.pool();
        for _ in 0..5 {
            for (setting, default) in [("statement_timeout", "0"), ("lock_timeout", "0"), ("enable_seqscan", "on")] {
                let sql = format!("SELECT current_setting('{setting}') AS value");
                assert_eq!(simple(session, &sql).await, default, "{setting}");
            }
        }
        somebody.close().await;
        app.finish().await;
    });
}

/// A query through the pooler in a transaction of its own, in which a statement may be prepared.
async fn simple(connection: &sea_orm::DatabaseConnection, sql: &str) -> String {
    use sea_orm::TransactionTrait as _;
    let transaction = connection.begin().await.unwrap();
    transaction.execute_unprepared("DEALLOCATE ALL").await.unwrap();
    let row = transaction.query_one_raw(Statement::from_string(DatabaseBackend::Postgres, sql)).await.unwrap().unwrap();
    transaction.rollback().await.unwrap();
    row.try_get("", "value").unwrap()
}

#[test]
fn many_at_once_from_two_servers_spend_once_each_while_their_sessions_are_ended() {
    run(Engine::Postgres, async |db| {
        let bouncer = bouncer();
        let stores =
            [Store::open(pooled(&db, &bouncer)).await.unwrap(), Store::open(pooled(&db, &bouncer)).await.unwrap()];
        let id = organization(&stores[0], "acme", ai(1_000)).await;
        let killer = Arc::new(db.connect().await.unwrap());
        let killing = tokio::spawn({
            let killer = Arc::clone(&killer);
            async move {
                for _ in 0..10 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                               AND application_name LIKE 'multicredit%'";
                    killer.execute_unprepared(end).await.unwrap();
                }
            }
        });
        let spending = (0..300).map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move {
                // With a key it is safe to ask until there is an answer.
                for _ in 0..200 {
                    match store.consume(id, request("ai_chat", 1), key(&format!("k{number}"))).await {
                        Ok(_) => return,
                        Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                    }
                }
                panic!("{number} had no answer");
            })
        });
        for spent in futures_util::future::join_all(spending).await {
            spent.unwrap();
        }
        killing.await.unwrap();
        let direct = tests::fixtures::store(&db).await;
        let balance = direct.balance(id).await.unwrap();
        assert_eq!(balance.balance.available, ai(700));
        assert!(direct.verify().await.unwrap().passed());
        for store in stores.into_iter().chain([direct]) {
            store.close().await;
        }
    });
}

#[test]
fn the_program_serves_through_a_pooler_again_and_again_and_refuses_to_migrate_there() {
    run(Engine::Postgres, async |db| {
        let bouncer = bouncer();
        let url = bouncer.url(db.url());
        let migrating = process::run(&url, &["serve", "--pooler", "--migrate"]).await;
        assert_eq!(migrating.code, Some(1), "{migrating:?}");
        assert!(migrating.stderr.contains("past the pooler"), "{migrating:?}");
        for _ in 0..3 {
            let server = process::Server::start(&url, &["--pooler"]).await;
            server.client.get("/health/ready").await.expect(200);
            server.stop().await;
        }
        // Again and again: what one leaves in a session, the next one finds.
        for _ in 0..3 {
            process::run(&url, &["verify", "--pooler"]).await.succeeded();
            process::run(&url, &["maintain", "--pooler"]).await.succeeded();
            process::run(&url, &["report", "--pooler"]).await.succeeded();
        }
    });
}
