//! What is older than what is kept, over HTTP: it is gone, and says so.

use multicredit_store::clock::Clock;
use multicredit_store::{Job, JobDone, JobRun, StoreConfig};
use sea_orm::ConnectionTrait;
use serde_json::json;
use tests::app::{TestApp, instant};
use tests::both_engines;

use super::walk::ABSENT;

both_engines!(what_lies_before_history_is_410_and_everything_else_answers_as_ever, async |db| {
    let clock = Clock::manual(instant("2026-11-20T00:00:00Z"));
    let config = StoreConfig { clock: clock.clone(), retention_months: Some(2), ..StoreConfig::new(db.url()) };
    let app = TestApp::configured(db, config).await;
    let acme = app.organization("acme", json!({ "ai": 100 })).await;
    let spend = async || {
        let spent = app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat", "quantity": 3 })).await;
        acme.path(&format!("/consumptions/{}", spent.expect(201)["id"].as_str().unwrap()))
    };
    clock.set(instant("2026-12-24T18:00:00Z"));
    let old = spend().await;
    clock.set(instant("2027-03-10T12:00:00Z"));
    let young = spend().await;
    let before = app.available(&acme).await;
    let JobRun::Done(JobDone::Dropped(dropped)) = app.store.do_job(Job::DropHistory, None).await.unwrap() else {
        panic!("history is dropped")
    };
    assert_eq!(dropped.attempts, 1);

    let gone = [
        old.clone(),
        acme.path("/balance?at=2026-12-25T00:00:00Z"),
        acme.path("/consumptions?to=2026-12-31T00:00:00Z"),
    ];
    for path in gone {
        app.admin.get(&path).await.refused(410, "beyond_retention");
    }
    let refund = |of: &str| app.admin.post(&format!("{of}/refund")).json(json!({ "reason": "it failed" }));
    refund(&old).await.refused(410, "beyond_retention");

    // Of what never was, nobody can say that it was dropped, unless its id tells of a time before history.
    app.admin.get(&acme.path(&format!("/consumptions/{ABSENT}"))).await.refused(410, "beyond_retention");
    let later = acme.path("/consumptions/01a5f0c0-0000-7000-8000-000000000000");
    app.admin.get(&later).await.refused(404, "unknown_consumption");

    assert_eq!(app.available(&acme).await, before);
    app.admin.get(&young).await.expect(200);
    app.admin.get(&acme.path("/balance?at=2027-03-10T12:00:00Z")).await.expect(200);
    let listed = app.admin.get(&acme.path("/consumptions")).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let usage =
        app.admin.get(&acme.path("/usage?bucket=month&from=2026-12-01T00:00:00Z&to=2027-04-01T00:00:00Z")).await;
    let counted: Vec<_> =
        usage.expect(200)["buckets"].as_array().unwrap().iter().map(|it| it["count"].clone()).collect();
    assert_eq!(counted, [1, 1], "what was used stays known");
    refund(&young).await.expect(201);
    app.finish().await;
});

both_engines!(a_key_that_outlived_its_consumption_is_not_charged_again, async |db| {
    let app = TestApp::start(db, Clock::default()).await;
    let acme = app.organization("acme", json!({ "ai": 100 })).await;
    let consume =
        || app.admin.post(&acme.path("/consume")).once("k-1").json(json!({ "action": "ai_chat", "quantity": 3 }));
    consume().await.expect(201);
    let left = app.available(&acme).await;
    // Nothing of ours does that: keys go long before the months of what they are bound to.
    let owner = app.db().connect().await.unwrap();
    owner.execute_unprepared("DELETE FROM credit_consumption_logs").await.unwrap();

    for _ in 0..2 {
        consume().await.refused(410, "beyond_retention");
        assert_eq!(app.available(&acme).await, left);
    }
    let batch = json!({ "items": [
        { "organization_id": acme.id, "action": "ai_chat", "quantity": 3, "idempotency_key": "k-1" },
        { "organization_id": acme.id, "action": "ai_chat", "quantity": 1, "idempotency_key": "k-2" },
    ] });
    let answers = app.admin.post("/v1/consume/batch").json(batch).await.expect(200);
    let codes: Vec<_> = answers["results"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
    assert_eq!(codes, [410, 201]);
    app.stop().await;
});
