//! Caches: what is shown is what there is, whoever changed it, and nothing is decided from them.

use std::time::{Duration, Instant};

use multicredit_store::StoreConfig;
use multicredit_store::clock::Clock;
use redis::AsyncCommands;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use tests::app::{Client, Organization, TestApp, instant, served};
use tests::redis::{Redis, shared_url};
use tests::{Engine, both_engines, run};

use crate::cli::process::{Server, program};
use crate::http::metrics::scrape;

/// An application whose caches are over the Redis that all tests share, and hears of changes.
async fn app_on(db: tests::TestDb, redis_url: String, clock: Clock) -> TestApp {
    let config = StoreConfig { redis_url: Some(redis_url), clock, ..StoreConfig::new(db.url()) };
    let app = TestApp::configured(db, config).await;
    until_it_hears(&app.admin).await;
    app
}

/// Waits until that application is told of changes, and keeps what it shows.
async fn until_it_hears(client: &Client) {
    for _ in 0..500 {
        if scrape(client).await.value("multicredit_caches_informed", &[]) == Some(1.0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the application never heard");
}

/// A test's body with an application over the shared Redis.
fn with_redis(test: impl AsyncFnOnce(&TestApp)) -> impl AsyncFnOnce(tests::TestDb) {
    async move |db| {
        let app = app_on(db, shared_url().unwrap(), Clock::default()).await;
        test(&app).await;
        app.finish().await;
    }
}

async fn hits(app: &TestApp, cache: &str) -> f64 {
    let labels = [("cache", cache), ("result", "hit")];
    scrape(&app.stranger()).await.value("multicredit_cache_requests_total", &labels).unwrap_or(0.0)
}

async fn consume(app: &TestApp, organization: &Organization, quantity: i64) -> Value {
    app.admin
        .post(&organization.path("/consume"))
        .json(json!({ "action": "ai_chat", "quantity": quantity }))
        .await
        .expect(201)
}

both_engines!(
    a_balance_is_kept_and_every_change_shows_in_it_at_once,
    with_redis(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000, "email": 5 })).await;
        assert_eq!(app.available(&acme).await["ai"], 1_000);
        let before = hits(app, "balances").await;
        for round in 1..=10 {
            consume(app, &acme, 7).await;
            let balance = app.admin.get(&acme.path("/balance")).await.expect(200);
            let fresh = app.admin.get(&acme.path("/balance?fresh=true")).await.expect(200);
            assert_eq!(balance["available"]["ai"], 1_000 - 7 * round);
            for field in ["available", "held", "sequence", "expiring_next"] {
                assert_eq!(balance[field], fresh[field], "{field} in round {round}");
            }
        }
        let expires_at = "2099-01-01T00:00:00Z";
        app.grant(
            &acme,
            json!({ "credits": { "ai": 3 }, "source": "promotion", "priority": 1, "expires_at": expires_at }),
        )
        .await;
        let balance = app.admin.get(&acme.path("/balance")).await.expect(200);
        assert_eq!(balance["expiring_next"], json!({ "credits": tests::app::credits(3, 0, 0, 0), "at": expires_at }));
        consume(app, &acme, 1).await;
        let balance = app.admin.get(&acme.path("/balance")).await.expect(200);
        assert_eq!(balance["expiring_next"]["credits"]["ai"], 2, "{balance}");
        let hold =
            app.admin.post(&acme.path("/holds")).json(json!({ "action": "ai_chat", "quantity": 50 })).await.expect(201);
        assert_eq!(app.admin.get(&acme.path("/balance")).await.expect(200)["held"]["ai"], 50, "{hold}");
        assert!(hits(app, "balances").await > before, "something was found in the cache");
    })
);

both_engines!(
    what_another_server_changes_shows_within_a_tenth_of_a_second,
    with_redis(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100_000 })).await;
        let other = app.replica().await;
        let mut waits = Vec::new();
        for round in 1..=21 {
            // Both have it in memory.
            other.admin.get(&acme.path("/balance")).await.expect(200);
            app.available(&acme).await;
            consume(app, &acme, 1).await;
            let changed_at = Instant::now();
            while other.admin.get(&acme.path("/balance")).await.expect(200)["available"]["ai"] != 100_000 - round {
                assert!(changed_at.elapsed() < Duration::from_secs(5), "the change of round {round} never showed");
            }
            waits.push(changed_at.elapsed());
        }
        waits.sort();
        assert!(waits[10] < Duration::from_millis(100), "{waits:?}");
        other.stop().await;
    })
);

both_engines!(
    a_balance_in_redis_is_found_by_a_server_that_has_just_started,
    with_redis(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        app.available(&acme).await;
        let other = app.replica().await;
        let mut found = None;
        for _ in 0..100 {
            other.admin.get(&acme.path("/balance")).await.expect(200);
            found = scrape(&other.admin).await.value("multicredit_cache_redis_hits_total", &[("cache", "balances")]);
            if found > Some(0.0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(found > Some(0.0), "Redis answered");
        other.stop().await;
    })
);

both_engines!(what_has_expired_is_not_shown_however_it_was_kept, async |db| {
    let clock = Clock::manual(instant("2026-03-01T00:00:00Z"));
    let app = app_on(db, shared_url().unwrap(), clock.clone()).await;
    let acme = app.organization("acme", json!({})).await;
    for minute in 1..=20 {
        let expires_at = format!("2026-03-01T00:{minute:02}:00Z");
        let grant = json!({ "credits": { "ai": 9 }, "source": "promotion", "expires_at": expires_at });
        app.grant(&acme, grant).await;
        assert_eq!(app.available(&acme).await["ai"], 9);
        clock.set(instant(&format!("2026-03-01T00:{:02}:59.999999Z", minute - 1)));
        assert_eq!(app.available(&acme).await["ai"], 9);
        // At once: a read that somebody shares may not outlive what it found either.
        clock.set(instant(&expires_at));
        assert_eq!(app.available(&acme).await["ai"], 0);
    }
    app.finish().await;
});

#[test]
fn what_sql_has_spent_shows_to_whoever_asks_for_a_fresh_balance_and_then_to_everybody() {
    run(
        Engine::Postgres,
        with_redis(async |app| {
            let acme = app.organization("acme", json!({ "ai": 100 })).await;
            assert_eq!(app.available(&acme).await["ai"], 100);
            let sql = format!("SELECT consume_credits_rpc('{}', 'ai_chat', 40)", acme.id);
            app.db().connect().await.unwrap().execute_unprepared(&sql).await.unwrap();
            assert_eq!(app.admin.get(&acme.path("/balance?fresh=true")).await.expect(200)["available"]["ai"], 60);
            assert_eq!(app.available(&acme).await["ai"], 60);
            consume(app, &acme, 10).await;
            assert_eq!(app.available(&acme).await["ai"], 50);
        }),
    );
}

both_engines!(a_false_balance_in_redis_changes_no_decision, async |db| {
    let redis = Redis::start().unwrap();
    let app = app_on(db, redis.url(), Clock::default()).await;
    let acme = app.organization("acme", json!({ "ai": 5 })).await;
    app.available(&acme).await;
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = connection.keys("*:balance:*").await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let value: String = connection.get(&keys[0]).await.unwrap();
    let (number, standing) = value.split_once('|').unwrap();
    let mut standing: Value = serde_json::from_str(standing).unwrap();
    standing["account"]["available"] = json!([1_000_000_000, 0, 0, 0]);
    let lie = format!("{number}|{standing}");
    let _: () = connection.pset_ex(&keys[0], lie, 60_000).await.unwrap();

    let other = app.replica().await;
    for client in [&app.admin, &other.admin] {
        let asked = json!({ "action": "ai_chat", "quantity": 6 });
        let refused =
            client.post(&acme.path("/consume")).json(asked.clone()).await.refused(402, "insufficient_credits");
        assert_eq!(refused["available"]["ai"], 5);
        let quote = client.post(&acme.path("/quote")).json(asked.clone()).await.expect(200);
        assert_eq!(quote["allowed"], false);
        client.post(&acme.path("/holds")).json(asked).await.refused(402, "insufficient_credits");
    }
    consume(&app, &acme, 5).await;
    let fresh = app.admin.get(&acme.path("/balance?fresh=true")).await.expect(200);
    assert_eq!(fresh["available"]["ai"], 0);
    other.stop().await;
    app.finish().await;
});

both_engines!(a_redis_that_is_paused_emptied_or_gone_is_noticed_and_nothing_depends_on_it, async |db| {
    let redis = Redis::start().unwrap();
    let app = app_on(db, redis.url(), Clock::default()).await;
    let other = app.replica().await;
    let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
    let mut left = 1_000;
    let mut check = async |what: &str| {
        for _ in 0..5 {
            consume(&app, &acme, 1).await;
            left -= 1;
            assert_eq!(app.available(&acme).await["ai"], left, "{what}");
        }
        // Nobody tells the other one now; it must notice that.
        let asked_at = Instant::now();
        while other.admin.get(&acme.path("/balance")).await.expect(200)["available"]["ai"] != left {
            assert!(asked_at.elapsed() < Duration::from_secs(3), "the other server shows what was: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    check("at first").await;
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    check("emptied").await;
    let _: () = redis::cmd("CLIENT").arg("PAUSE").arg(2_000).query_async(&mut connection).await.unwrap();
    check("paused").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    until_it_hears(&app.admin).await;
    check("back").await;
    drop(redis);
    check("gone").await;
    other.stop().await;
    app.finish().await;
});

both_engines!(
    without_redis_balances_are_read_anew_and_other_servers_show_what_is,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 50 })).await;
        assert_eq!(app.available(&acme).await["ai"], 50);
        let other = app.replica().await;
        consume(app, &acme, 9).await;
        for client in [&app.admin, &other.admin] {
            assert_eq!(client.get(&acme.path("/balance")).await.expect(200)["available"]["ai"], 41);
        }
        other.stop().await;
        assert!(hits(app, "balances").await < 1.0);
    })
);

/// Reads it until it is as wanted.
async fn until(read: impl AsyncFn() -> Value, wanted: &Value) {
    let since = Instant::now();
    loop {
        let found = read().await;
        if found == *wanted {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(5), "{found} is not {wanted}");
    }
}

async fn catalogues(app: &TestApp) {
    let other = app.replica().await;
    let acme = app.organization("acme", json!({})).await;
    // The other one begins to hear in the background.
    until_it_hears(&other.admin).await;
    for cost in 1..=3 {
        let price = json!({ "costs": { "ai": cost } });
        app.admin.put("/v1/actions/translate").json(price).await.expect(200);
        let plan = json!({ "allowance": { "ai": cost }, "interval": "month" });
        app.admin.put("/v1/plans/pro").json(plan).await.expect(200);
        let member = acme.path("/members/ann");
        if cost == 2 {
            app.admin.delete(&member).await.expect(204);
        } else {
            app.admin.put(&member).json(json!({ "role": "member" })).await.expect(200);
        }
        for client in [&app.admin, &other.admin] {
            let costs = async || client.get("/v1/actions/translate").await.expect(200)["costs"]["ai"].clone();
            let allowance = async || client.get("/v1/plans/pro").await.expect(200)["allowance"]["ai"].clone();
            let count = async || {
                json!(client.get("/v1/users/ann/organizations").await.expect(200)["items"].as_array().unwrap().len())
            };
            for _ in 0..2 {
                until(costs, &json!(cost)).await;
                until(allowance, &json!(cost)).await;
                until(count, &json!(usize::from(cost != 2))).await;
            }
        }
    }
    other.stop().await;
}

both_engines!(
    prices_plans_and_memberships_that_another_server_changes_show_through_redis,
    with_redis(async |app| {
        catalogues(app).await;
        for (cache, path) in [
            ("actions", "/v1/actions/translate"),
            ("plans", "/v1/plans/pro"),
            ("memberships", "/v1/users/ann/organizations"),
        ] {
            let before = hits(app, cache).await;
            for _ in 0..3 {
                app.admin.get(path).await.expect(200);
            }
            assert!(hits(app, cache).await > before, "{cache}");
        }
    })
);

#[test]
fn prices_plans_and_memberships_that_another_server_changes_show_through_postgres_alone() {
    run(
        Engine::Postgres,
        served(async |app| {
            until_it_hears(&app.admin).await;
            catalogues(app).await;
            assert!(hits(app, "actions").await > 0.0);
        }),
    );
}

#[test]
fn nothing_is_kept_once_postgres_no_longer_tells() {
    run(
        Engine::Postgres,
        served(async |app| {
            until_it_hears(&app.admin).await;
            app.admin.put("/v1/actions/translate").json(json!({ "costs": { "ai": 1 } })).await.expect(200);
            app.admin.get("/v1/actions/translate").await.expect(200);
            let connection = app.db().connect().await.unwrap();
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'multicredit news' AND datname = current_database()";
            let backend = connection.get_database_backend();
            connection.execute_raw(Statement::from_string(backend, end)).await.unwrap();
            // Changed without a word.
            connection
                .execute_unprepared(
                    "UPDATE credit_action_versions SET ai_credits_cost = 7 WHERE action_type = 'translate'",
                )
                .await
                .unwrap();
            let costs = async || app.admin.get("/v1/actions/translate").await.expect(200)["costs"]["ai"].clone();
            until(costs, &json!(7)).await;
        }),
    );
}

/// A server process over that Redis, with a key of an administrator, and whether it trusts its certificate.
async fn process_over(database_url: &str, redis: &Redis, trusting: bool) -> Server {
    let mut command = program(database_url, &["serve"]);
    command.env("REDIS_URL", format!("rediss://{}", redis.address())).env("MULTICREDIT_ADMIN_KEY", PROCESS_KEY);
    if trusting {
        command.env("SSL_CERT_FILE", redis.certificate());
    }
    let mut server = Server::spawn(command).await;
    server.client = server.client.with_key(PROCESS_KEY);
    server
}

const PROCESS_KEY: &str = "an-admin-key-of-this-test-0123456789";

#[test]
fn a_redis_behind_tls_is_used_if_its_certificate_is_trusted_and_not_otherwise() {
    run(Engine::Postgres, async |db| {
        let redis = Redis::start_with_tls().unwrap();
        let one = process_over(db.url(), &redis, true).await;
        until_it_hears(&one.client).await;
        let new = json!({ "name": "acme", "external_id": "acme" });
        let made = one.client.post("/v1/organizations").json(new).await.expect(201);
        let balance = format!("/v1/organizations/{}/balance", made["id"].as_str().unwrap());
        let available = async |client: &Client| client.get(&balance).await.expect(200)["available"].clone();
        let shown = available(&one.client).await;

        // What one has read and put there, another finds without asking the database.
        let other = process_over(db.url(), &redis, true).await;
        until_it_hears(&other.client).await;
        assert_eq!(available(&other.client).await, shown);
        let hits = [("cache", "balances"), ("result", "hit")];
        assert_eq!(scrape(&other.client).await.value("multicredit_cache_requests_total", &hits), Some(1.0));

        let suspicious = process_over(db.url(), &redis, false).await;
        assert_eq!(available(&suspicious.client).await, shown);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scrape(&suspicious.client).await.value("multicredit_caches_informed", &[]), Some(0.0));
        for server in [one, other, suspicious] {
            server.stop().await;
        }
    });
}
