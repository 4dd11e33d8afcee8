//! `/v1/organizations/{organization_id}/quote`.

use serde_json::{Value, json};
use tests::app::{credits, served};
use tests::both_engines;

both_engines!(
    a_quote_says_what_consuming_would_say_and_changes_nothing,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10, "email": 2 })).await;
        let quote = async |quantity: i64| {
            let asked = json!({ "action": "email_ai_draft", "quantity": quantity });
            app.admin.post(&acme.path("/quote")).json(asked).await.expect(200)
        };
        let expected = |allowed: bool, quantity: i64, short: i64| {
            json!({
                "allowed": allowed,
                "required": credits(quantity, 0, quantity, 0),
                "available": credits(10, 0, 2, 0),
                "shortfall": credits(0, 0, short, 0),
                "max_affordable_quantity": 2,
            })
        };
        assert_eq!(quote(2).await, expected(true, 2, 0));
        assert_eq!(quote(5).await, expected(false, 5, 3));
        assert_eq!(app.available(&acme).await, credits(10, 0, 2, 0));
        assert_eq!(app.admin.all(&acme.path("/consumptions"), 10).await, Vec::<Value>::new());
        assert_eq!(app.admin.all(&acme.path("/ledger"), 10).await.len(), 1);
    })
);

both_engines!(
    a_quote_takes_the_whole_body_of_a_consumption,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        let asked = json!({
            "action": "ai_tokens", "quantity": 900, "occurred_at": multicredit_store::clock::now(),
            "metadata": { "a": 1 }, "actor": "u",
        });
        assert_eq!(app.admin.post(&acme.path("/quote")).json(asked).await.expect(200)["allowed"], true);
        let late = json!({ "action": "ai_tokens", "occurred_at": "2020-01-01T00:00:00Z" });
        app.admin.post(&acme.path("/quote")).json(late).await.refused(400, "invalid_request");
    })
);

both_engines!(
    nothing_is_allowed_to_an_organization_that_may_not_spend,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 9 })).await;
        for status in ["frozen", "closed"] {
            app.set_status(&acme, status).await;
            let quote = app.admin.post(&acme.path("/quote")).json(json!({ "action": "sms" })).await.expect(200);
            assert_eq!((&quote["allowed"], &quote["shortfall"]), (&json!(false), &credits(0, 0, 0, 0)), "{status}");
        }
    })
);
