//! `/v1/organizations/{organization_id}/holds`.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::app::{Answer, Organization, TestApp, credits, instant, served, served_at};
use tests::both_engines;

use super::{assert_is_id, column};

const NOW: &str = "2026-11-22T09:00:00Z";

async fn place(app: &TestApp, organization: &Organization, hold: Value) -> Value {
    app.admin.post(&organization.path("/holds")).json(hold).await.expect(201)
}

/// Does something to a hold.
async fn act(app: &TestApp, organization: &Organization, hold: &Value, action: &str, body: Value) -> Answer {
    app.admin.post(&path(organization, hold, action)).json(body).await
}

fn path(organization: &Organization, hold: &Value, action: &str) -> String {
    organization.path(&format!("/holds/{}{action}", hold["id"].as_str().unwrap()))
}

/// What can be spent and what is set aside of AI credits.
async fn balance(app: &TestApp, organization: &Organization) -> (i64, i64) {
    let balance = app.admin.get(&organization.path("/balance")).await.expect(200);
    (balance["available"]["ai"].as_i64().unwrap(), balance["held"]["ai"].as_i64().unwrap())
}

both_engines!(
    a_hold_sets_its_cost_aside_until_it_is_captured,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_tokens", "quantity": 3_500, "actor": "u" })).await;
        assert_is_id(&hold["id"]);
        let expected = json!({
            "id": hold["id"], "organization_id": acme.id, "action": "ai_tokens", "quantity": 3_500, "status": "open",
            "held": credits(4, 0, 0, 0), "available": credits(6, 0, 0, 0), "price_version": 1, "actor": "u",
            "expires_at": "2026-11-22T09:05:00Z", "created_at": NOW,
        });
        assert_eq!(hold, expected);
        assert_eq!(balance(app, &acme).await, (6, 4));
        assert_eq!(app.admin.all(&acme.path("/consumptions"), 10).await, Vec::<Value>::new());

        let captured = act(app, &acme, &hold, "/capture", json!({ "quantity": 1_200 })).await.expect(201);
        let expected = json!({
            "id": captured["id"], "organization_id": acme.id, "action": "ai_tokens", "quantity": 1_200,
            "hold_id": hold["id"], "consumed": credits(2, 0, 0, 0), "available": credits(8, 0, 0, 0), "sequence": 3,
            "created_at": NOW,
        });
        assert_eq!(captured, expected);
        assert_eq!(balance(app, &acme).await, (8, 0));
        let seen = app.admin.get(&path(&acme, &hold, "")).await.expect(200);
        assert_eq!(
            (&seen["status"], &seen["consumption_id"], &seen["finished_at"]),
            (&json!("captured"), &captured["id"], &json!(NOW))
        );
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(
            (column(&log, "id"), column(&log, "hold_id")),
            (vec![captured["id"].clone()], vec![hold["id"].clone()])
        );
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        assert_eq!(column(&statement, "kind"), ["capture", "hold", "grant"]);
        let changes: Vec<Value> = statement
            .iter()
            .map(|line| json!([line["change"]["available"]["ai"], line["change"]["held"]["ai"]]))
            .collect();
        assert_eq!(changes, [json!([2, -4]), json!([-4, 4]), json!([10, 0])]);
    })
);

both_engines!(
    a_capture_without_a_word_takes_what_was_held,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        for (number, body) in [None, Some(json!({}))].into_iter().enumerate() {
            let hold = place(app, &acme, json!({ "action": "ai_chat", "quantity": 3 })).await;
            let call = app.admin.post(&path(&acme, &hold, "/capture"));
            let call = match body {
                Some(body) => call.json(body),
                None => call,
            };
            assert_eq!(call.await.expect(201)["quantity"], 3, "{number}");
        }
        assert_eq!(balance(app, &acme).await, (4, 0));
    })
);

both_engines!(
    a_capture_of_more_than_was_held_takes_the_rest_from_what_is_available_or_leaves_the_hold_open,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_chat", "quantity": 4 })).await;
        let short =
            act(app, &acme, &hold, "/capture", json!({ "quantity": 11 })).await.refused(402, "insufficient_credits");
        assert_eq!(short["shortfall"], credits(1, 0, 0, 0));
        assert_eq!(balance(app, &acme).await, (6, 4));
        assert_eq!(app.admin.get(&path(&acme, &hold, "")).await.expect(200)["status"], "open");
        act(app, &acme, &hold, "/capture", json!({ "quantity": 10 })).await.expect(201);
        assert_eq!(balance(app, &acme).await, (0, 0));
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(column(&log, "success"), [true, false], "a capture that was short is an attempt");
    })
);

both_engines!(
    a_released_hold_gives_back_everything_and_to_release_it_again_changes_nothing,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_chat", "quantity": 4 })).await;
        let released = app.admin.post(&path(&acme, &hold, "/release")).await.expect(200);
        assert_eq!((&released["status"], &released["available"]), (&json!("released"), &credits(10, 0, 0, 0)));
        assert_eq!(balance(app, &acme).await, (10, 0));
        let again = act(app, &acme, &hold, "/release", json!({})).await.expect(200);
        assert_eq!((&again["status"], &again["finished_at"]), (&released["status"], &released["finished_at"]));
        assert_eq!(app.admin.all(&acme.path("/ledger"), 10).await.len(), 3);
        act(app, &acme, &hold, "/capture", json!({})).await.refused(409, "hold_finalized");
        act(app, &acme, &hold, "/extend", json!({ "ttl_seconds": 9 })).await.refused(409, "hold_finalized");
    })
);

both_engines!(
    a_captured_hold_has_come_to_its_end,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_chat", "quantity": 4 })).await;
        act(app, &acme, &hold, "/capture", json!({ "quantity": 1 })).await.expect(201);
        for (action, body) in
            [("/capture", json!({ "quantity": 1 })), ("/release", json!({})), ("/extend", json!({ "ttl_seconds": 9 }))]
        {
            act(app, &acme, &hold, action, body).await.refused(409, "hold_finalized");
        }
        assert_eq!(balance(app, &acme).await, (9, 0));
    })
);

both_engines!(
    a_hold_expires_by_itself_at_its_instant,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_chat", "quantity": 4, "ttl_seconds": 60 })).await;
        assert_eq!(hold["expires_at"], "2026-11-22T09:01:00Z");
        let end = instant("2026-11-22T09:01:00Z");
        clock.set(end - TimeDelta::microseconds(1));
        assert_eq!(balance(app, &acme).await, (6, 4));
        assert_eq!(app.admin.get(&path(&acme, &hold, "")).await.expect(200)["status"], "open");
        clock.set(end);
        assert_eq!(balance(app, &acme).await, (10, 0));
        assert_eq!(app.admin.get(&path(&acme, &hold, "")).await.expect(200)["status"], "expired");
        assert_eq!(column(&app.admin.all(&acme.path("/holds"), 10).await, "status"), ["expired"]);
        for (action, body) in
            [("/capture", json!({})), ("/release", json!({})), ("/extend", json!({ "ttl_seconds": 9 }))]
        {
            act(app, &acme, &hold, action, body).await.refused(410, "hold_expired");
        }
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        assert_eq!(column(&statement, "kind"), ["hold_expiry", "hold", "grant"]);
        assert_eq!(statement[0]["created_at"], hold["expires_at"]);
    })
);

both_engines!(
    an_extended_hold_lasts_that_long_from_now,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_chat", "ttl_seconds": 60 })).await;
        clock.set(instant("2026-11-22T09:00:30Z"));
        let extended = act(app, &acme, &hold, "/extend", json!({ "ttl_seconds": 86_400 })).await.expect(200);
        assert_eq!((&extended["expires_at"], &extended["status"]), (&json!("2026-11-23T09:00:30Z"), &json!("open")));
        clock.set(instant("2026-11-22T10:00:00Z"));
        assert_eq!(balance(app, &acme).await, (9, 1));
        let shorter = act(app, &acme, &hold, "/extend", json!({ "ttl_seconds": 1 })).await.expect(200);
        assert_eq!(shorter["expires_at"], "2026-11-22T10:00:01Z");
        clock.set(instant("2026-11-22T10:00:01Z"));
        assert_eq!(balance(app, &acme).await, (10, 0));
    })
);

both_engines!(
    a_hold_lasts_from_a_second_to_a_day,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_chat" })).await;
        for good in [1, 300, 86_400] {
            place(app, &acme, json!({ "action": "ai_chat", "ttl_seconds": good })).await;
        }
        for bad in
            [json!(0), json!(-1), json!(86_401), json!(1.5), json!("60"), json!(null), json!(9_007_199_254_740_992_i64)]
        {
            let new = json!({ "action": "ai_chat", "ttl_seconds": bad });
            let problem = app.admin.post(&acme.path("/holds")).json(new).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], "ttl_seconds");
            let call = act(app, &acme, &hold, "/extend", json!({ "ttl_seconds": bad }));
            call.await.refused(400, "invalid_request");
        }
        act(app, &acme, &hold, "/extend", json!({})).await.refused(400, "invalid_request");
        app.admin.post(&path(&acme, &hold, "/extend")).await.refused(400, "invalid_request");
        assert_eq!(balance(app, &acme).await, (6, 4));
    })
);

both_engines!(
    a_hold_is_captured_at_the_price_at_which_it_was_placed,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let hold = place(app, &acme, json!({ "action": "ai_image", "quantity": 2 })).await;
        app.admin.put("/v1/actions/ai_image").json(json!({ "costs": { "ai": 50 }, "active": false })).await.expect(200);
        let captured = act(app, &acme, &hold, "/capture", json!({ "quantity": 3 })).await.expect(201);
        assert_eq!(captured["consumed"], credits(15, 0, 0, 0));
        assert_eq!(balance(app, &acme).await, (85, 0));
    })
);

both_engines!(
    a_hold_is_refused_as_a_consumption_is_and_leaves_no_trace,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 3 })).await;
        let new = |action: &str, quantity: i64| {
            app.admin.post(&acme.path("/holds")).json(json!({ "action": action, "quantity": quantity }))
        };
        let short = new("ai_image", 1).await.refused(402, "insufficient_credits");
        assert_eq!((&short["shortfall"], &short["max_affordable_quantity"]), (&credits(2, 0, 0, 0), &json!(0)));
        new("nothing", 1).await.refused(404, "unknown_action");
        new("ai_image", 9_007_199_254_740_991).await.refused(400, "out_of_range");
        app.set_status(&acme, "frozen").await;
        new("ai_chat", 1).await.refused(423, "organization_frozen");
        app.set_status(&acme, "closed").await;
        new("ai_chat", 1).await.refused(409, "organization_closed");
        assert_eq!(app.admin.all(&acme.path("/holds"), 10).await, Vec::<Value>::new());
        assert_eq!(app.admin.all(&acme.path("/consumptions"), 10).await, Vec::<Value>::new());
        assert_eq!(balance(app, &acme).await, (3, 0));
    })
);

both_engines!(
    a_frozen_organization_finishes_its_holds_as_far_as_they_go,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = async || place(app, &acme, json!({ "action": "ai_chat", "quantity": 2 })).await;
        let (within, over, released) = (hold().await, hold().await, hold().await);
        app.set_status(&acme, "frozen").await;
        act(app, &acme, &over, "/capture", json!({ "quantity": 3 })).await.refused(423, "organization_frozen");
        act(app, &acme, &within, "/capture", json!({ "quantity": 2 })).await.expect(201);
        act(app, &acme, &released, "/release", json!({})).await.expect(200);
        assert_eq!(balance(app, &acme).await, (6, 2));
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(column(&log, "error_code"), [Value::Null, json!("organization_frozen")]);
        app.set_status(&acme, "closed").await;
        for (action, body) in
            [("/capture", json!({})), ("/release", json!({})), ("/extend", json!({ "ttl_seconds": 5 }))]
        {
            act(app, &acme, &over, action, body).await.refused(409, "organization_closed");
        }
    })
);

both_engines!(
    holds_are_listed_newest_first_and_belong_to_their_organization,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let other = app.organization("other", json!({ "ai": 10 })).await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.insert(0, place(app, &acme, json!({ "action": "ai_chat" })).await["id"].clone());
        }
        for limit in [1, 2, 100] {
            assert_eq!(column(&app.admin.all(&acme.path("/holds"), limit).await, "id"), ids);
        }
        assert_eq!(app.admin.all(&other.path("/holds"), 10).await, Vec::<Value>::new());
        let hold = json!({ "id": ids[0] });
        app.admin.get(&path(&other, &hold, "")).await.refused(404, "unknown_hold");
        for (action, body) in
            [("/capture", json!({})), ("/release", json!({})), ("/extend", json!({ "ttl_seconds": 5 }))]
        {
            act(app, &other, &hold, action, body).await.refused(404, "unknown_hold");
        }
        assert_eq!(balance(app, &acme).await, (5, 5));
    })
);
