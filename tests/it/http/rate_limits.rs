//! Rate limits: as many requests a second as were configured, for a key and for an organization, and not one for others.

use multicredit::app::AppSettings;
use multicredit::rate_limit::RateLimitSettings;
use multicredit_store::StoreConfig;
use serde_json::json;
use std::num::NonZeroU32;
use tests::TestDb;
use tests::app::TestApp;
use tests::both_engines;

async fn limited(db: TestDb, key: u32, organization: u32) -> TestApp {
    let rate_limits = RateLimitSettings { key: NonZeroU32::new(key), organization: NonZeroU32::new(organization) };
    let config = StoreConfig::new(db.url());
    TestApp::with_settings(db, config, AppSettings { rate_limits, ..AppSettings::default() }).await
}

both_engines!(a_key_that_sends_too_much_is_refused_and_nobody_else, async |db| {
    let app = limited(db, 20, 0).await;
    let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
    let (loud, quiet) = (app.key(&["consume", "read"]).await, app.key(&["read"]).await);
    let consume = || loud.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" }));
    let (mut charged, mut refused) = (0, 0);
    // More than what fills up again meanwhile, on the slowest machine.
    while refused < 5 {
        let answer = consume().await;
        assert_eq!(answer.header("ratelimit-policy"), Some(r#""key";q=20;w=1"#));
        if answer.status == 429 {
            assert!(charged >= 20, "a second's worth may come at once, and {charged} did");
            assert_eq!(answer.header("ratelimit"), Some(r#""key";r=0;t=1"#));
            assert_eq!(answer.header("retry-after"), Some("1"));
            answer.refused(429, "rate_limited");
            refused += 1;
        } else {
            answer.expect(201);
            charged += 1;
        }
        assert!(charged < 2_000, "nothing is refused");
    }
    let left = quiet.get(&acme.path("/balance")).await.expect(200)["available"]["ai"].as_i64().unwrap();
    assert_eq!(left, 1_000 - charged, "what is refused is not charged");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    consume().await.expect(201);
    let unknown = app.admin.with_key("mc_0123456789012345678901234567890123456789012").get("/v1/actions").await;
    assert_eq!((unknown.status, unknown.header("ratelimit")), (401, None));
    app.finish().await;
});

both_engines!(an_organization_gets_no_more_than_its_share_of_whatever_keys_and_item_by_item, async |db| {
    let app = limited(db, 0, 10).await;
    let (loud, quiet) =
        (app.organization("loud", json!({ "ai": 1_000 })).await, app.organization("quiet", json!({})).await);
    let item =
        |nth: u32| json!({ "organization_id": loud.id, "action": "ai_chat", "idempotency_key": format!("k-{nth}") });
    let items: Vec<_> = (0..200).map(item).collect();
    let answer = app.admin.post("/v1/consume/batch").json(json!({ "items": items })).await.expect(200);
    let statuses: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|it| it["status"].as_i64().unwrap()).collect();
    let charged = statuses.iter().filter(|status| **status == 201).count();
    assert_eq!(charged + statuses.iter().filter(|status| **status == 429).count(), 200);
    assert!((5..100).contains(&charged), "{charged}");
    let fresh = app.key(&["read"]).await;
    let answers: Vec<u16> =
        futures_util::future::join_all((0..50).map(|_| async { fresh.get(&loud.path("/balance")).await.status })).await;
    assert!(answers.contains(&429), "{answers:?}");
    let other = fresh.get(&quiet.path("/balance")).await;
    assert_eq!(other.header("ratelimit-policy"), Some(r#""organization";q=10;w=1"#));
    other.expect(200);
    app.finish().await;
});
