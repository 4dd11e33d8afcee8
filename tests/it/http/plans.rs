//! `/v1/plans` and `/v1/organizations/{organization_id}/subscription`.

use chrono::TimeDelta;
use multicredit_store::clock::Clock;
use serde_json::{Value, json};
use tests::app::{Organization, TestApp, credits, instant, served, served_at};
use tests::both_engines;

use super::column;

const NOW: &str = "2026-11-22T09:00:00Z";

async fn put_plan(app: &TestApp, code: &str, plan: Value) -> Value {
    app.admin.put(&format!("/v1/plans/{code}")).json(plan).await.expect(200)
}

async fn subscribe(app: &TestApp, organization: &Organization, subscription: Value) -> Value {
    app.admin.put(&organization.path("/subscription")).json(subscription).await.expect(200)
}

/// Spends at an instant.
async fn spend_at(app: &TestApp, organization: &Organization, clock: &Clock, at: &str, quantity: i64) {
    clock.set(instant(at));
    let spend = json!({ "action": "ai_chat", "quantity": quantity });
    app.admin.post(&organization.path("/consume")).json(spend).await.expect(201);
}

both_engines!(
    a_plan_is_versioned_and_read_back,
    served_at(NOW, async |app, _| {
        let first = put_plan(app, "pro", json!({ "allowance": { "ai": 100 }, "interval": "month" })).await;
        let expected = json!({
            "code": "pro", "version": 1, "allowance": credits(100, 0, 0, 0), "interval": "month", "priority": 10,
            "created_at": NOW,
        });
        assert_eq!(first, expected);
        let plan = json!({
            "allowance": { "ai": 200 }, "interval": "year", "rollover": { "max": { "ai": 50 } }, "priority": 3,
        });
        let second = put_plan(app, "pro", plan).await;
        let expected = json!({
            "code": "pro", "version": 2, "allowance": credits(200, 0, 0, 0), "interval": "year", "priority": 3,
            "rollover": { "max": credits(50, 0, 0, 0) }, "created_at": NOW,
        });
        assert_eq!(second, expected);
        assert_eq!(app.admin.get("/v1/plans/pro").await.expect(200), expected);
        app.admin.get("/v1/plans/none").await.refused(404, "unknown_plan");
    })
);

both_engines!(
    what_is_no_plan_is_refused_by_field,
    served(async |app| {
        for (field, bad) in [
            ("allowance", json!({ "interval": "day" })),
            ("allowance", json!({ "allowance": {}, "interval": "day" })),
            ("interval", json!({ "allowance": { "ai": 1 } })),
            ("interval", json!({ "allowance": { "ai": 1 }, "interval": "hour" })),
            ("rollover.max", json!({ "allowance": { "ai": 1 }, "interval": "day", "rollover": {} })),
            ("priority", json!({ "allowance": { "ai": 1 }, "interval": "day", "priority": "high" })),
        ] {
            let problem = app.admin.put("/v1/plans/pro").json(bad).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], field);
        }
        app.admin.get("/v1/plans/pro").await.refused(404, "unknown_plan");
    })
);

both_engines!(
    every_period_is_granted_once_from_its_first_instant_on,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        put_plan(app, "daily", json!({ "allowance": { "ai": 10 }, "interval": "day" })).await;
        let subscription = subscribe(app, &acme, json!({ "plan": "daily" })).await;
        let expected = json!({
            "organization_id": acme.id, "plan": "daily", "version": 1,
            "current_period": { "start": NOW, "end": "2026-11-23T09:00:00Z" },
            "next": null, "anchor": NOW, "time_zone": "UTC", "created_at": NOW,
        });
        assert_eq!(subscription, expected);
        assert_eq!(app.admin.get(&acme.path("/subscription")).await.expect(200), expected);
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
        // The same again grants nothing again.
        assert_eq!(
            subscribe(app, &acme, json!({ "plan": "daily" })).await["current_period"],
            expected["current_period"]
        );
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));

        spend_at(app, &acme, clock, "2026-11-22T10:00:00Z", 4).await;
        clock.set(instant("2026-11-23T09:00:00Z") - TimeDelta::microseconds(1));
        assert_eq!(app.available(&acme).await, credits(6, 0, 0, 0));
        clock.set(instant("2026-11-23T09:00:00Z"));
        assert_eq!(
            app.available(&acme).await,
            credits(10, 0, 0, 0),
            "nothing rolls over, and the next period is there"
        );
        // Nobody looks for a week, and nothing runs in the background.
        clock.set(instant("2026-11-30T12:00:00Z"));
        let period = app.admin.get(&acme.path("/subscription")).await.expect(200)["current_period"].clone();
        assert_eq!(period, json!({ "start": "2026-11-30T09:00:00Z", "end": "2026-12-01T09:00:00Z" }));
        spend_at(app, &acme, clock, "2026-11-30T12:00:00Z", 10).await;
        let statement = app.admin.all(&acme.path("/ledger"), 100).await;
        let granted = statement.iter().filter(|line| line["kind"] == "period_grant");
        let mut starts: Vec<&str> = granted.map(|line| line["created_at"].as_str().unwrap()).collect();
        starts.reverse();
        let expected: Vec<String> = (22..=30).map(|day| format!("2026-11-{day}T09:00:00Z")).collect();
        assert_eq!(starts, expected);
    })
);

both_engines!(
    periods_follow_the_calendar_of_the_organizations_time_zone,
    served_at("2026-01-31T12:00:00Z", async |app, clock| {
        let new = json!({ "name": "Berlin", "time_zone": "Europe/Berlin" });
        let made = app.admin.post("/v1/organizations").json(new).await.expect(201);
        let berlin = Organization { id: made["id"].as_str().unwrap().to_owned() };
        put_plan(app, "monthly", json!({ "allowance": { "ai": 5 }, "interval": "month" })).await;
        let anchor = json!({ "plan": "monthly", "anchor": "2026-01-31T00:00:00+01:00" });
        let subscription = subscribe(app, &berlin, anchor).await;
        let period = |start: &str, end: &str| json!({ "start": start, "end": end });
        assert_eq!(subscription["current_period"], period("2026-01-30T23:00:00Z", "2026-02-27T23:00:00Z"));
        for (at, expected) in [
            ("2026-02-28T00:00:00Z", period("2026-02-27T23:00:00Z", "2026-03-30T22:00:00Z")),
            ("2026-04-01T00:00:00Z", period("2026-03-30T22:00:00Z", "2026-04-29T22:00:00Z")),
        ] {
            clock.set(instant(at));
            let subscription = app.admin.get(&berlin.path("/subscription")).await.expect(200);
            assert_eq!(subscription["current_period"], expected, "at {at}");
        }
    })
);

both_engines!(
    what_is_left_rolls_over_up_to_the_maximum,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let plan =
            json!({ "allowance": { "ai": 10, "sms": 10 }, "interval": "day", "rollover": { "max": { "ai": 6 } } });
        put_plan(app, "daily", plan).await;
        subscribe(app, &acme, json!({ "plan": "daily" })).await;
        spend_at(app, &acme, clock, "2026-11-22T10:00:00Z", 7).await;
        clock.set(instant("2026-11-23T10:00:00Z"));
        assert_eq!(app.available(&acme).await, credits(13, 0, 0, 10));
        clock.set(instant("2026-11-24T10:00:00Z"));
        assert_eq!(app.available(&acme).await, credits(16, 0, 0, 10));
    })
);

both_engines!(
    another_plan_counts_from_the_next_period_on,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        put_plan(app, "small", json!({ "allowance": { "ai": 10 }, "interval": "day" })).await;
        put_plan(app, "large", json!({ "allowance": { "ai": 100 }, "interval": "week" })).await;
        subscribe(app, &acme, json!({ "plan": "small" })).await;
        let changed = subscribe(app, &acme, json!({ "plan": "large" })).await;
        assert_eq!((&changed["plan"], &changed["next"]), (&json!("small"), &json!({ "plan": "large", "version": 1 })));
        // A version that was made later does not count for those who had subscribed.
        put_plan(app, "large", json!({ "allowance": { "ai": 999 }, "interval": "week" })).await;
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
        clock.set(instant("2026-11-23T09:00:00Z"));
        assert_eq!(app.available(&acme).await, credits(100, 0, 0, 0));
        let now = app.admin.get(&acme.path("/subscription")).await.expect(200);
        assert_eq!((&now["plan"], &now["version"], &now["next"]), (&json!("large"), &json!(1), &Value::Null));
        assert_eq!(now["current_period"], json!({ "start": "2026-11-23T09:00:00Z", "end": "2026-11-30T09:00:00Z" }));
    })
);

both_engines!(
    a_subscription_that_has_ended_leaves_its_period_and_no_other_follows,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let path = acme.path("/subscription");
        app.admin.get(&path).await.refused(404, "unknown_subscription");
        app.admin.delete(&path).await.refused(404, "unknown_subscription");
        put_plan(app, "daily", json!({ "allowance": { "ai": 10 }, "interval": "day" })).await;
        subscribe(app, &acme, json!({ "plan": "daily" })).await;
        clock.set(instant("2026-11-22T12:00:00Z"));
        app.admin.delete(&path).await.expect(204);
        app.admin.get(&path).await.refused(404, "unknown_subscription");
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
        clock.set(instant("2026-11-23T09:00:00Z"));
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 0));
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        assert_eq!(column(&statement, "kind"), ["expiry", "period_grant"]);
    })
);

both_engines!(
    a_period_that_lies_ahead_grants_nothing_before,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        put_plan(app, "daily", json!({ "allowance": { "ai": 10 }, "interval": "day" })).await;
        let ahead = json!({ "plan": "daily", "anchor": "2026-12-01T00:00:00Z" });
        assert_eq!(subscribe(app, &acme, ahead).await["current_period"], Value::Null);
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 0));
        clock.set(instant("2026-12-01T00:00:00Z"));
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
    })
);

both_engines!(
    who_may_not_receive_does_not_subscribe_and_neither_does_anybody_to_nothing,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let put = |body: Value| app.admin.put(&acme.path("/subscription")).json(body);
        put(json!({ "plan": "none" })).await.refused(404, "unknown_plan");
        put(json!({})).await.refused(400, "invalid_request");
        put_plan(app, "daily", json!({ "allowance": { "ai": 10 }, "interval": "day" })).await;
        put(json!({ "plan": "daily", "anchor": "tomorrow" })).await.refused(400, "invalid_request");
        app.set_status(&acme, "frozen").await;
        put(json!({ "plan": "daily" })).await.expect(200);
        app.set_status(&acme, "closed").await;
        put(json!({ "plan": "daily" })).await.refused(409, "organization_closed");
        app.admin.delete(&acme.path("/subscription")).await.refused(409, "organization_closed");
    })
);
