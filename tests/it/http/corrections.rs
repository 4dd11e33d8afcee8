//! `/v1/organizations/{organization_id}/adjustments` and `/grants/{grant_id}/void`.

use serde_json::{Value, json};
use tests::app::{Organization, TestApp, credits, served, served_at};
use tests::both_engines;

use super::{assert_is_id, column};

const NOW: &str = "2026-11-22T09:00:00Z";

fn void_path(organization: &Organization, grant: &Value) -> String {
    organization.path(&format!("/grants/{}/void", grant["id"].as_str().unwrap()))
}

async fn spend(app: &TestApp, organization: &Organization, quantity: i64) {
    let spend = json!({ "action": "ai_chat", "quantity": quantity });
    app.admin.post(&organization.path("/consume")).json(spend).await.expect(201);
}

both_engines!(
    an_adjustment_gives_and_takes_at_once,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let body = json!({ "change": { "ai": -4, "sms": 3 }, "reason": "Charged twice" });
        let made = app.admin.post(&acme.path("/adjustments")).json(body).await.expect(201);
        assert_is_id(&made["id"]);
        let expected = json!({
            "id": made["id"], "organization_id": acme.id, "change": credits(-4, 0, 0, 3), "reason": "Charged twice",
            "grant_id": made["grant_id"], "available": credits(6, 0, 0, 3), "sequence": 2, "created_at": NOW,
        });
        assert_eq!(made, expected);
        let grants = app.admin.all(&acme.path("/grants"), 10).await;
        assert_eq!(
            (&grants[0]["id"], &grants[0]["credits"], &grants[0]["source"]),
            (&made["grant_id"], &credits(0, 0, 0, 3), &json!("adjustment"))
        );
        assert_eq!(grants[1]["remaining"], credits(6, 0, 0, 0));
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        assert_eq!(column(&statement, "kind"), ["adjustment", "grant"], "one movement an operation");
        assert_eq!(statement[0]["change"]["available"], credits(-4, 0, 0, 3));
        assert_eq!((&statement[0]["reason"], &statement[1]["reason"]), (&json!("Charged twice"), &Value::Null));
    })
);

both_engines!(
    an_adjustment_never_takes_what_is_not_there,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let body = json!({ "change": { "ai": -11, "sms": 5 }, "reason": "x" });
        let short = app.admin.post(&acme.path("/adjustments")).json(body).await.refused(402, "insufficient_credits");
        assert_eq!((&short["required"], &short["shortfall"]), (&credits(11, 0, 0, 0), &credits(1, 0, 0, 0)));
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
        assert_eq!(app.admin.all(&acme.path("/consumptions"), 10).await, Vec::<Value>::new());
        let body = json!({ "change": { "ai": -10 }, "reason": "x" });
        app.admin.post(&acme.path("/adjustments")).json(body).await.expect(201);
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 0));
    })
);

both_engines!(
    a_frozen_organization_can_be_corrected_and_a_closed_one_cannot,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let body = json!({ "change": { "ai": -1 }, "reason": "x" });
        app.set_status(&acme, "frozen").await;
        app.admin.post(&acme.path("/adjustments")).json(body.clone()).await.expect(201);
        app.set_status(&acme, "closed").await;
        app.admin.post(&acme.path("/adjustments")).json(body).await.refused(409, "organization_closed");
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    an_adjustment_of_nothing_or_without_a_reason_or_beyond_the_range_is_none,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 9_007_199_254_740_990_i64 })).await;
        for (field, bad) in [
            ("change", json!({ "change": {}, "reason": "x" })),
            ("change", json!({ "change": { "ai": 0 }, "reason": "x" })),
            ("change", json!({ "change": { "ai": -9_007_199_254_740_992_i64 }, "reason": "x" })),
            ("change", json!({ "change": { "voice": 1 }, "reason": "x" })),
            ("change.ai", json!({ "change": { "ai": 0.5 }, "reason": "x" })),
            ("reason", json!({ "change": { "ai": 1 } })),
            ("reason", json!({ "change": { "ai": 1 }, "reason": "" })),
            ("reason", json!({ "change": { "ai": 1 }, "reason": "a\u{0}b" })),
        ] {
            let problem = app.admin.post(&acme.path("/adjustments")).json(bad).await.refused(400, "invalid_request");
            assert!(problem["errors"][0]["field"].as_str().unwrap().starts_with(field), "{problem}");
        }
        let body = json!({ "change": { "ai": 2 }, "reason": "x" });
        app.admin.post(&acme.path("/adjustments")).json(body).await.refused(400, "out_of_range");
        assert_eq!(app.admin.all(&acme.path("/ledger"), 10).await.len(), 1);
    })
);

both_engines!(
    to_void_a_grant_takes_what_is_left_of_it_and_what_was_spent_stays_spent,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "sms": 2 })).await;
        let grant = app.grant(&acme, json!({ "credits": { "ai": 10 }, "source": "purchase" })).await;
        spend(app, &acme, 3).await;
        let voided = app.admin.post(&void_path(&acme, &grant)).await.expect(200);
        assert_eq!(
            (&voided["id"], &voided["state"], &voided["credits"], &voided["remaining"], &voided["voided_at"]),
            (&grant["id"], &json!("voided"), &credits(10, 0, 0, 0), &credits(0, 0, 0, 0), &json!(NOW))
        );
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 2));
        // Again, with a body and without, nothing more happens.
        assert_eq!(app.admin.post(&void_path(&acme, &grant)).await.expect(200), voided);
        assert_eq!(app.admin.post(&void_path(&acme, &grant)).json(json!({})).await.expect(200), voided);
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        assert_eq!(column(&statement, "kind"), ["void", "consumption", "grant", "grant"]);
        assert_eq!(
            (&statement[0]["change"]["available"], &statement[0]["reference"]),
            (&credits(-7, 0, 0, 0), &grant["id"])
        );
    })
);

both_engines!(
    a_grant_that_has_not_begun_can_be_voided_and_never_begins,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let later = "2026-11-23T00:00:00Z";
        let grant = app.grant(&acme, json!({ "credits": { "ai": 10 }, "source": "plan", "effective_at": later })).await;
        assert_eq!(app.admin.post(&void_path(&acme, &grant)).await.expect(200)["state"], "voided");
        clock.set(tests::app::instant("2026-11-24T00:00:00Z"));
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 0));
    })
);

both_engines!(
    a_grant_that_is_not_there_or_anothers_is_not_voided,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let other = app.organization("other", json!({})).await;
        let grant = app.grant(&acme, json!({ "credits": { "ai": 10 }, "source": "purchase" })).await;
        let elsewhere = app.admin.post(&void_path(&other, &grant)).await;
        elsewhere.refused(404, "unknown_grant");
        let absent = json!({ "id": "0199a3d2-9e14-7c63-b7d5-2a6e8f014c39" });
        let absent = app.admin.post(&void_path(&other, &absent)).await;
        assert_eq!(absent.without_request_id(), elsewhere.without_request_id());
        app.admin.post(&void_path(&acme, &grant)).json(json!({ "reason": "x" })).await.refused(400, "invalid_request");
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
        app.set_status(&acme, "closed").await;
        app.admin.post(&void_path(&acme, &grant)).await.refused(409, "organization_closed");
    })
);
