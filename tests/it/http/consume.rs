//! `/v1/organizations/{organization_id}/consume`.

use chrono::TimeDelta;
use futures_util::future::{join, join_all};
use multicredit_store::clock;
use serde_json::{Value, json};
use tests::app::{credits, served};
use tests::both_engines;

use super::{assert_is_id, assert_is_instant};

both_engines!(
    a_consumption_is_answered_as_the_contract_shows_it,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10, "whatsapp": 7 })).await;
        let spend = json!({ "action": "whatsapp_ai_reply", "quantity": 3 });
        let spent = app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
        assert_is_id(&spent["id"]);
        assert_is_instant(&spent["created_at"]);
        let expected = json!({
            "id": spent["id"],
            "organization_id": acme.id,
            "action": "whatsapp_ai_reply",
            "quantity": 3,
            "consumed": credits(3, 3, 0, 0),
            "available": credits(7, 4, 0, 0),
            "sequence": 2,
            "created_at": spent["created_at"],
        });
        assert_eq!(spent, expected);
    })
);

both_engines!(
    one_is_consumed_where_nothing_is_said_and_a_started_unit_is_paid_whole,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        for (body, quantity, cost) in [
            (json!({ "action": "ai_chat" }), 1, 1),
            (json!({ "action": "ai_tokens" }), 1, 1),
            (json!({ "action": "ai_tokens", "quantity": 1_000 }), 1_000, 1),
            (json!({ "action": "ai_tokens", "quantity": 1_001 }), 1_001, 2),
        ] {
            let spent = app.admin.post(&acme.path("/consume")).json(body).await.expect(201);
            assert_eq!((&spent["quantity"], &spent["consumed"]), (&json!(quantity), &credits(cost, 0, 0, 0)));
        }
    })
);

both_engines!(
    where_one_type_is_short_nothing_is_taken_and_the_refusal_says_what_was_missing,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10, "whatsapp": 2 })).await;
        let spend = json!({ "action": "whatsapp_ai_reply", "quantity": 3 });
        let problem = app.admin.post(&acme.path("/consume")).json(spend).await.refused(402, "insufficient_credits");
        assert_eq!(
            (&problem["required"], &problem["available"], &problem["shortfall"], &problem["max_affordable_quantity"]),
            (&credits(3, 3, 0, 0), &credits(10, 2, 0, 0), &credits(0, 1, 0, 0), &json!(2))
        );
        assert_eq!(app.available(&acme).await, credits(10, 2, 0, 0));
        // What would have been affordable is.
        let spend = json!({ "action": "whatsapp_ai_reply", "quantity": 2 });
        app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
    })
);

both_engines!(
    the_largest_affordable_quantity_fills_its_last_unit,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 3 })).await;
        let spend = |quantity: i64| json!({ "action": "ai_tokens", "quantity": quantity });
        let call = app.admin.post(&acme.path("/consume"));
        let problem = call.clone().json(spend(3_001)).await.refused(402, "insufficient_credits");
        assert_eq!(problem["max_affordable_quantity"], 3_000);
        call.json(spend(3_000)).await.expect(201);
        let problem = app.admin.post(&acme.path("/consume")).json(spend(1)).await.refused(402, "insufficient_credits");
        assert_eq!(problem["max_affordable_quantity"], 0);
    })
);

both_engines!(
    a_frozen_organization_does_not_spend_until_it_is_thawed_and_a_closed_one_never,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 5 })).await;
        let spend = async || app.admin.post(&acme.path("/consume")).json(json!({ "action": "sms" })).await;
        app.set_status(&acme, "frozen").await;
        spend().await.refused(423, "organization_frozen");
        app.set_status(&acme, "active").await;
        spend().await.expect(201);
        app.set_status(&acme, "closed").await;
        spend().await.refused(409, "organization_closed");
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 4));
    })
);

both_engines!(
    a_cost_that_no_number_holds_is_out_of_range_and_leaves_no_trace,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 5 })).await;
        let spend = json!({ "action": "ai_image", "quantity": 9_007_199_254_740_991_i64 });
        app.admin.post(&acme.path("/consume")).json(spend).await.refused(400, "out_of_range");
        assert_eq!(app.admin.all(&acme.path("/consumptions"), 10).await, Vec::<Value>::new());
        // As long as it can be said, it can be asked for.
        let spend = json!({ "action": "ai_chat", "quantity": 9_007_199_254_740_991_i64 });
        let problem = app.admin.post(&acme.path("/consume")).json(spend).await.refused(402, "insufficient_credits");
        assert_eq!(problem["shortfall"], credits(9_007_199_254_740_986, 0, 0, 0));
    })
);

both_engines!(
    what_happened_may_be_reported_up_to_35_days_later_and_5_minutes_ahead,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let now = clock::now();
        let minute = TimeDelta::minutes(1);
        let at = |at: chrono::DateTime<chrono::Utc>| json!({ "action": "ai_chat", "occurred_at": at });
        for inside in [now - TimeDelta::days(35) + minute, now, now + TimeDelta::minutes(4)] {
            let spent = app.admin.post(&acme.path("/consume")).json(at(inside)).await.expect(201);
            let path = acme.path(&format!("/consumptions/{}", spent["id"].as_str().unwrap()));
            assert_eq!(app.admin.get(&path).await.expect(200)["occurred_at"], json!(inside));
        }
        for outside in [now - TimeDelta::days(35) - minute, now + TimeDelta::minutes(6)] {
            let problem =
                app.admin.post(&acme.path("/consume")).json(at(outside)).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], "occurred_at");
        }
        assert_eq!(app.available(&acme).await, credits(7, 0, 0, 0));
    })
);

both_engines!(
    metadata_and_actor_are_remembered_as_they_were_said,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let metadata = json!({
            "text": "ü € 😀 \" \\ \n", "float": 0.1, "large": 18_446_744_073_709_551_615_u64, "small": -9_223_372_036_854_775_808_i64,
            "nested": { "list": [1, null, true, { "": [] }] },
        });
        let spend = json!({ "action": "ai_chat", "metadata": metadata, "actor": "Jürgen, 7th" });
        let spent = app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
        let path = acme.path(&format!("/consumptions/{}", spent["id"].as_str().unwrap()));
        let kept = app.admin.get(&path).await.expect(200);
        assert_eq!((&kept["metadata"], &kept["actor"]), (&metadata, &json!("Jürgen, 7th")));
    })
);

both_engines!(
    many_at_once_take_each_credit_once,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 50 })).await;
        let spend = async |_| app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.status;
        let mut statuses = join_all((0..80).map(spend)).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![201; 50], vec![402; 30]].concat());
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 0));
        assert_eq!(app.admin.all(&acme.path("/consumptions"), 100).await.len(), 80);
    })
);

both_engines!(
    a_thousand_and_twenty_four_that_wait_for_one_organization_are_all_served,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 2_000 })).await;
        let item = json!({ "organization_id": acme.id, "action": "sms" });
        let batch = app.admin.post("/v1/consume/batch").json(json!({ "items": vec![item; 1_000] }));
        let single = |_| app.admin.post(&acme.path("/consume")).json(json!({ "action": "sms" })).into_future();
        let (batch, singles) = join(batch.into_future(), join_all((0..24).map(single))).await;
        let results = batch.expect(200)["results"].as_array().unwrap().clone();
        assert!(results.iter().all(|result| result["status"] == 201), "{batch}");
        for single in singles {
            single.expect(201);
        }
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 2_000 - 1_024));
    })
);

both_engines!(
    when_freezing_is_answered_nothing_is_spent_any_more,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100_000 })).await;
        let spend = async |_| {
            let mut spent = 0;
            loop {
                let answer = app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await;
                if answer.status != 201 {
                    answer.refused(423, "organization_frozen");
                    return spent;
                }
                spent += 1;
            }
        };
        let freeze = async {
            while app.available(&acme).await["ai"] == 100_000 {}
            app.set_status(&acme, "frozen").await;
            app.available(&acme).await
        };
        let (spent, at_once) = join(join_all((0..16).map(spend)), freeze).await;
        assert_eq!(app.available(&acme).await, at_once);
        assert_eq!(at_once["ai"], 100_000 - spent.into_iter().sum::<i64>());
    })
);
