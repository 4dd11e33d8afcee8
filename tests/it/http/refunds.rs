//! `/v1/organizations/{organization_id}/consumptions/{consumption_id}/refund`.

use serde_json::{Value, json};
use tests::app::{Answer, Organization, TestApp, credits, instant, served, served_at};
use tests::both_engines;

use super::{assert_is_id, column};

const NOW: &str = "2026-11-22T09:00:00Z";

async fn spend(app: &TestApp, organization: &Organization, action: &str, quantity: i64) -> Value {
    let spend = json!({ "action": action, "quantity": quantity });
    app.admin.post(&organization.path("/consume")).json(spend).await.expect(201)
}

async fn refund(app: &TestApp, organization: &Organization, consumption: &Value, body: Value) -> Answer {
    let path = organization.path(&format!("/consumptions/{}/refund", consumption["id"].as_str().unwrap()));
    app.admin.post(&path).json(body).await
}

both_engines!(
    a_refund_gives_back_what_a_part_cost_and_then_the_rest,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let paid = spend(app, &acme, "ai_tokens", 4_800).await;
        let part = refund(app, &acme, &paid, json!({ "quantity": 2_800, "reason": "cut off" })).await.expect(201);
        assert_is_id(&part["id"]);
        // cost(4800) - cost(2000)
        let expected = json!({
            "id": part["id"], "organization_id": acme.id, "consumption_id": paid["id"], "quantity": 2_800,
            "refunded": credits(3, 0, 0, 0), "available": credits(8, 0, 0, 0), "reason": "cut off", "sequence": 3,
            "created_at": NOW,
        });
        assert_eq!(part, expected);
        let rest = refund(app, &acme, &paid, json!({ "reason": "all of it" })).await.expect(201);
        assert_eq!((&rest["quantity"], &rest["refunded"]), (&json!(2_000), &credits(2, 0, 0, 0)));
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
        for body in [json!({ "reason": "once more" }), json!({ "quantity": 1, "reason": "once more" })] {
            refund(app, &acme, &paid, body).await.refused(409, "over_refund");
        }
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        assert_eq!(column(&statement, "kind"), ["refund", "refund", "consumption", "grant"]);
        assert_eq!(column(&statement[..2], "reason"), ["all of it", "cut off"]);
    })
);

both_engines!(
    parts_that_free_no_unit_give_back_nothing_and_count,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let paid = spend(app, &acme, "ai_tokens", 1_500).await;
        // cost(1500) = cost(1001) = 2, cost(1000) = 1
        for (quantity, refunded) in [(499, 0), (1, 1), (999, 0), (1, 1)] {
            let body = json!({ "quantity": quantity, "reason": "x" });
            let given = refund(app, &acme, &paid, body).await.expect(201);
            assert_eq!(given["refunded"], credits(refunded, 0, 0, 0), "{quantity}");
        }
        refund(app, &acme, &paid, json!({ "quantity": 1, "reason": "x" })).await.refused(409, "over_refund");
        assert_eq!(app.available(&acme).await, credits(10, 0, 0, 0));
    })
);

both_engines!(
    a_refund_is_at_the_price_that_was_charged,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100, "sms": 100 })).await;
        let paid = spend(app, &acme, "ai_image", 3).await;
        app.admin.put("/v1/actions/ai_image").json(json!({ "costs": { "sms": 9 }, "active": false })).await.expect(200);
        let given = refund(app, &acme, &paid, json!({ "quantity": 1, "reason": "x" })).await.expect(201);
        assert_eq!(given["refunded"], credits(5, 0, 0, 0));
        assert_eq!(app.available(&acme).await, credits(90, 0, 0, 100));
    })
);

both_engines!(
    more_than_was_consumed_is_never_given_back_even_by_many_at_once,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let paid = spend(app, &acme, "ai_chat", 5).await;
        refund(app, &acme, &paid, json!({ "quantity": 6, "reason": "x" })).await.refused(409, "over_refund");
        let each = |_| refund(app, &acme, &paid, json!({ "quantity": 2, "reason": "x" }));
        let answers = futures_util::future::join_all((0..8).map(each)).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![201; 2], vec![409; 6]].concat());
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    what_was_refused_or_is_not_there_or_is_anothers_is_not_refunded,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        let other = app.organization("other", json!({ "ai": 1 })).await;
        let paid = spend(app, &acme, "ai_chat", 1).await;
        app.admin
            .post(&acme.path("/consume"))
            .json(json!({ "action": "ai_chat" }))
            .await
            .refused(402, "insufficient_credits");
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(log[0]["success"], false);
        let body = json!({ "reason": "x" });
        refund(app, &acme, &log[0], body.clone()).await.refused(409, "over_refund");
        refund(app, &other, &paid, body.clone()).await.refused(404, "unknown_consumption");
        let absent = json!({ "id": "0199a3d4-51a8-7f2b-9c0e-7d4b3a526e18" });
        refund(app, &acme, &absent, body).await.refused(404, "unknown_consumption");
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 0));
    })
);

both_engines!(
    credits_of_a_lot_that_has_ended_are_refused_or_become_a_lot,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let ending = json!({ "credits": { "ai": 5 }, "source": "promotion", "expires_at": "2026-11-23T00:00:00Z" });
        app.grant(&acme, ending).await;
        let paid = spend(app, &acme, "ai_chat", 8).await;
        clock.set(instant("2026-11-24T00:00:00Z"));
        for body in [json!({ "reason": "x" }), json!({ "reason": "x", "on_expired": "refuse" })] {
            refund(app, &acme, &paid, body).await.refused(409, "lot_expired");
        }
        assert_eq!(app.available(&acme).await, credits(97, 0, 0, 0));
        // The reverse of the order in which they burnt: first what came from the lot that lives.
        let given = refund(app, &acme, &paid, json!({ "quantity": 3, "reason": "x" })).await.expect(201);
        assert_eq!(given["available"], credits(100, 0, 0, 0));
        let given = refund(app, &acme, &paid, json!({ "reason": "x", "on_expired": "grant" })).await.expect(201);
        assert_eq!((&given["refunded"], &given["available"]), (&credits(5, 0, 0, 0), &credits(105, 0, 0, 0)));
        let grants = app.admin.all(&acme.path("/grants"), 10).await;
        assert_eq!((&grants[0]["id"], &grants[0]["remaining"]), (&given["grant_id"], &credits(5, 0, 0, 0)));
        assert!(grants[0].get("expires_at").is_none(), "{}", grants[0]);
    })
);

both_engines!(
    a_refund_needs_a_reason_and_a_frozen_organization_gets_it_and_a_closed_one_does_not,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let paid = spend(app, &acme, "ai_chat", 4).await;
        for bad in [
            json!({}),
            json!({ "reason": "" }),
            json!({ "reason": "x", "quantity": 0 }),
            json!({ "reason": "x", "on_expired": "keep" }),
        ] {
            refund(app, &acme, &paid, bad).await.refused(400, "invalid_request");
        }
        let body = json!({ "quantity": 1, "reason": "x" });
        app.set_status(&acme, "frozen").await;
        refund(app, &acme, &paid, body.clone()).await.expect(201);
        app.set_status(&acme, "closed").await;
        refund(app, &acme, &paid, body).await.refused(409, "organization_closed");
        assert_eq!(app.available(&acme).await, credits(7, 0, 0, 0));
    })
);

both_engines!(
    what_a_report_says_was_consumed_stays_so_after_a_refund,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let paid = spend(app, &acme, "ai_chat", 4).await;
        let path = acme.path(&format!("/consumptions/{}", paid["id"].as_str().unwrap()));
        let before = app.admin.get(&path).await.expect(200);
        refund(app, &acme, &paid, json!({ "reason": "x" })).await.expect(201);
        assert_eq!(app.admin.get(&path).await.expect(200), before);
    })
);
