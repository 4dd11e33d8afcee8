//! `/v1/organizations/{organization_id}/forecast`.

use serde_json::{Value, json};
use tests::app::{credits, instant, served_at};
use tests::both_engines;

use super::fields;

both_engines!(
    an_organization_learns_when_its_credits_run_out_and_what_will_expire_unused,
    served_at("2026-11-01T00:00:00Z", async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 670 })).await;
        let ending = json!({ "credits": { "sms": 30 }, "source": "promotion", "expires_at": "2026-12-31T00:00:00Z" });
        app.grant(&acme, ending).await;
        // Seventy AI credits in the last week, one of them given back; nothing in the weeks before.
        clock.set(instant("2026-11-30T00:00:00Z"));
        let spend = json!({ "action": "ai_chat", "quantity": 71 });
        let spent = app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
        let refund = json!({ "quantity": 1, "reason": "a mistake" });
        let path = acme.path(&format!("/consumptions/{}/refund", spent["id"].as_str().unwrap()));
        app.admin.post(&path).json(refund).await.expect(201);
        clock.set(instant("2026-12-01T00:00:00Z"));
        for _ in 0..2 {
            let found = app.admin.get(&acme.path("/forecast")).await.expect(200);
            assert_eq!(fields(&found), ["as_of", "available", "forecasts", "organization_id"]);
            assert_eq!(found["available"], credits(600, 0, 0, 30));
            let now = "2026-12-01T00:00:00Z";
            let expected = json!({
                "days": 7,
                "consumed": credits(70, 0, 0, 0),
                "per_day": credits(10, 0, 0, 0),
                "runs_out_at": { "ai": "2027-01-30T00:00:00Z", "whatsapp": now, "email": now, "sms": "2026-12-31T00:00:00Z" },
                "expiring_unused": [{ "at": "2026-12-31T00:00:00Z", "credits": credits(0, 0, 0, 30) }],
            });
            assert_eq!(found["forecasts"][0], expected);
            assert_eq!(found["forecasts"][1]["days"], 30);
            assert_eq!(found["forecasts"][1]["consumed"], credits(70, 0, 0, 0));
            assert_eq!(found["forecasts"][1]["runs_out_at"]["ai"], "2027-08-15T03:25:42.857143Z");
            app.store.roll_up_usage(None).await.unwrap();
        }
    })
);

both_engines!(
    nobody_knows_when_what_is_not_used_runs_out,
    served_at("2026-11-01T00:00:00Z", async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 5 })).await;
        let found = app.admin.get(&acme.path("/forecast")).await.expect(200);
        assert_eq!(found["forecasts"][0]["runs_out_at"]["ai"], Value::Null);
        assert_eq!(found["forecasts"][0]["expiring_unused"], json!([]));
    })
);
