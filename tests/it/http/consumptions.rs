//! `/v1/organizations/{organization_id}/consumptions`.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::app::{Organization, TestApp, credits, instant, served, served_at};
use tests::both_engines;

use super::column;

const NOW: &str = "2026-11-22T09:00:00Z";

async fn spend(app: &TestApp, organization: &Organization, action: &str, quantity: i64) -> Value {
    let spend = json!({ "action": action, "quantity": quantity });
    app.admin.post(&organization.path("/consume")).json(spend).await.json()
}

both_engines!(
    every_attempt_that_was_paid_short_or_locked_is_in_the_history_and_nothing_else,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let paid = spend(app, &acme, "ai_chat", 2).await;
        spend(app, &acme, "ai_image", 2).await;
        spend(app, &acme, "nothing", 1).await;
        spend(app, &acme, "ai_image", 9_007_199_254_740_991).await;
        spend(app, &acme, "ai_image", 0).await;
        app.set_status(&acme, "frozen").await;
        spend(app, &acme, "ai_chat", 1).await;
        app.set_status(&acme, "closed").await;
        spend(app, &acme, "ai_chat", 1).await;
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(column(&log, "success"), [false, false, true]);
        assert_eq!(column(&log, "error_code")[..2], [json!("organization_frozen"), json!("insufficient_credits")]);
        let expected = json!({
            "id": paid["id"], "organization_id": acme.id, "action": "ai_chat", "quantity": 2, "success": true,
            "consumed": credits(2, 0, 0, 0), "available": credits(8, 0, 0, 0), "sequence": 2, "price_version": 1,
            "created_at": NOW,
        });
        assert_eq!(log[2], expected);
        let short = json!({
            "id": log[1]["id"], "organization_id": acme.id, "action": "ai_image", "quantity": 2, "success": false,
            "error_code": "insufficient_credits", "consumed": credits(0, 0, 0, 0), "price_version": 1,
            "created_at": NOW,
        });
        assert_eq!(log[1], short);
        for record in log {
            let path = acme.path(&format!("/consumptions/{}", record["id"].as_str().unwrap()));
            assert_eq!(app.admin.get(&path).await.expect(200), record);
        }
    })
);

both_engines!(
    the_history_is_filtered_by_action_success_and_time_and_paged_newest_first,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 100, "sms": 3 })).await;
        let start = instant(NOW);
        for hour in 0..8 {
            clock.set(start + TimeDelta::hours(hour));
            spend(app, &acme, if hour % 2 == 0 { "ai_chat" } else { "sms" }, 1).await;
        }
        let hours = async |filter: &str, limit: usize| {
            let found = app.admin.all(&acme.path(&format!("/consumptions?{filter}")), limit).await;
            let at = |record: &Value| instant(record["created_at"].as_str().unwrap());
            found.iter().map(|record| (at(record) - start).num_hours()).collect::<Vec<_>>()
        };
        for limit in [1, 2, 3, 100] {
            assert_eq!(hours("", limit).await, [7, 6, 5, 4, 3, 2, 1, 0]);
            assert_eq!(hours("action=sms", limit).await, [7, 5, 3, 1]);
            assert_eq!(hours("success=false", limit).await, [7]);
            assert_eq!(hours("success=true&action=sms", limit).await, [5, 3, 1]);
            assert_eq!(hours("from=2026-11-22T11:00:00Z", limit).await, [7, 6, 5, 4, 3, 2]);
            assert_eq!(hours("to=2026-11-22T11:00:00Z", limit).await, [1, 0]);
            assert_eq!(hours("from=2026-11-22T11:00:00Z&to=2026-11-22T14:00:00%2B01:00", limit).await, [3, 2]);
            assert_eq!(hours("action=nothing", limit).await, Vec::<i64>::new());
        }
        assert_eq!(hours(&format!("from={NOW}&to={NOW}"), 10).await, Vec::<i64>::new());
        let reversed = acme.path("/consumptions?from=2026-11-23T00:00:00Z&to=2026-11-22T00:00:00Z");
        let problem = app.admin.get(&reversed).await.refused(400, "invalid_request");
        assert_eq!(problem["errors"][0]["field"], "to");
    })
);

both_engines!(
    consumptions_of_the_same_instant_are_paged_without_loss,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "sms": 100 })).await;
        for _ in 0..9 {
            spend(app, &acme, "sms", 1).await;
        }
        let whole = column(&app.admin.all(&acme.path("/consumptions"), 100).await, "sequence");
        assert_eq!(whole, (2..=10).rev().map(Value::from).collect::<Vec<_>>());
        for limit in [1, 2, 4] {
            assert_eq!(column(&app.admin.all(&acme.path("/consumptions"), limit).await, "sequence"), whole);
        }
    })
);

both_engines!(
    a_consumption_is_found_in_its_own_organization_alone,
    served(async |app| {
        let (acme, other) =
            (app.organization("acme", json!({ "ai": 1 })).await, app.organization("other", json!({ "ai": 1 })).await);
        let paid = spend(app, &acme, "ai_chat", 1).await;
        let id = paid["id"].as_str().unwrap();
        app.admin.get(&acme.path(&format!("/consumptions/{id}"))).await.expect(200);
        let elsewhere = app.admin.get(&other.path(&format!("/consumptions/{id}"))).await;
        elsewhere.refused(404, "unknown_consumption");
        let absent = app.admin.get(&other.path("/consumptions/0199a3d4-51a8-7f2b-9c0e-7d4b3a526e18")).await;
        assert_eq!(elsewhere.without_request_id(), absent.without_request_id());
    })
);
