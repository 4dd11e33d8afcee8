//! Reads that take every connection they may have, beside spending that goes on.
//!
//! On PostgreSQL alone: a reader of SQLite waits for nobody, so that nothing would hold its connections.

use std::time::{Duration, Instant};

use multicredit_store::StoreConfig;
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::json;
use tests::app::TestApp;
use tests::{Engine, run};

use super::metrics::scrape;

/// How long a read waits here for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(300);

/// The connections for reads here.
const CONNECTIONS: u32 = 2;

#[test]
fn reads_that_hold_all_their_connections_keep_nobody_from_spending() {
    run(Engine::Postgres, async |db| {
        let config = StoreConfig {
            max_connections: CONNECTIONS,
            acquire_timeout: ACQUIRE_TIMEOUT,
            ..StoreConfig::new(db.url())
        };
        let app = TestApp::configured(db, config).await;
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let spender = app.key(&["consume"]).await;

        // Nobody reads grants while somebody has locked them, and spending does not look at them.
        let locker = app.db().connect().await.unwrap();
        let lock = locker.begin().await.unwrap();
        lock.execute_unprepared("LOCK TABLE credit_grants IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let slow: Vec<_> =
            (0..CONNECTIONS).map(|_| tokio::spawn(app.admin.get(&acme.path("/grants")).into_future())).collect();
        let mut looks = 0;
        while scrape(&app.stranger()).await.value("multicredit_pool_connections", &[("state", "in_use")])
            < Some(f64::from(CONNECTIONS))
        {
            looks += 1;
            assert!(looks < 100, "the slow reads never took their connections");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        let asked_at = Instant::now();
        let read = tokio::spawn(app.admin.get(&acme.path("/balance")).into_future());
        // A key that this process has not seen yet has to be looked up first, and so has an external id.
        for number in 0..20 {
            let event = json!({ "specversion": "1.0", "id": number.to_string(), "source": "/test", "type": "ai_chat",
                "subject": "acme", "data": {} });
            let spent =
                spender.post("/v1/events").body("application/cloudevents+json", event.to_string()).await.expect(200);
            assert_eq!(spent["results"][0]["status"], 201, "{spent}");
        }
        let spent_after = asked_at.elapsed();
        assert!(!slow.iter().any(tokio::task::JoinHandle::is_finished), "the slow reads still hold their connections");
        read.await.unwrap().refused(503, "unavailable");
        let waited = asked_at.elapsed();
        assert!(waited >= ACQUIRE_TIMEOUT && waited < ACQUIRE_TIMEOUT * 5, "{waited:?}, spent after {spent_after:?}");

        let page = scrape(&app.stranger()).await;
        assert_eq!(page.value("multicredit_database_up", &[]), Some(1.0), "what watches it is not kept waiting either");
        let timeouts = |share| page.value("multicredit_pool_acquire_timeouts_total", &[("share", share)]);
        assert_eq!((timeouts("reads"), timeouts("reserved")), (Some(1.0), Some(0.0)));
        lock.rollback().await.unwrap();
        for read in slow {
            read.await.unwrap();
        }
        assert_eq!(app.admin.get(&acme.path("/balance")).await.expect(200)["available"]["ai"], 80);
        app.finish().await;
    });
}
