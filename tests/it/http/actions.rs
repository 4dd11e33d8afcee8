//! `/v1/actions`.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::app::{Client, credits, instant, served, served_at};
use tests::both_engines;

use super::{assert_is_instant, column};

const NOW: &str = "2026-11-22T09:00:00Z";

both_engines!(
    the_starting_catalogue_is_that_of_the_contract,
    served(async |app| {
        let listed = app.admin.all("/v1/actions", 3).await;
        let prices: Vec<Value> = listed
            .iter()
            .map(|action| json!([action["action_type"], action["costs"], action["unit_size"], action["active"]]))
            .collect();
        let one = |name: &str, costs: Value| json!([name, costs, 1, true]);
        let mut expected = vec![
            one("ai_chat", credits(1, 0, 0, 0)),
            json!(["ai_tokens", credits(1, 0, 0, 0), 1000, true]),
            one("ai_image", credits(5, 0, 0, 0)),
            one("whatsapp_message", credits(0, 1, 0, 0)),
            one("whatsapp_ai_reply", credits(1, 1, 0, 0)),
            one("email", credits(0, 0, 1, 0)),
            one("email_ai_draft", credits(1, 0, 1, 0)),
            one("sms", credits(0, 0, 0, 1)),
        ];
        expected.sort_by_key(|action| action[0].to_string());
        let mut sorted = prices.clone();
        sorted.sort_by_key(|action| action[0].to_string());
        assert_eq!(sorted, expected);
        // Whatever order the engine has, every page size has the same.
        assert_eq!(app.admin.all("/v1/actions", 100).await, listed);
    })
);

both_engines!(
    a_price_that_is_put_is_a_new_version_and_is_charged_at_once,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000, "sms": 1_000 })).await;
        let first = app.admin.put("/v1/actions/render").json(json!({ "costs": { "ai": 2 } })).await.expect(200);
        assert_is_instant(&first["effective_at"]);
        assert_eq!(
            (&first["action_type"], &first["version"], &first["costs"], &first["unit_size"], &first["active"]),
            (&json!("render"), &json!(1), &credits(2, 0, 0, 0), &json!(1), &json!(true))
        );
        let second = json!({ "costs": { "ai": 3, "sms": 1 }, "unit_size": 10, "description": "A picture" });
        let second = app.admin.put("/v1/actions/render").json(second).await.expect(200);
        assert_eq!(
            (&second["version"], &second["costs"], &second["unit_size"], &second["description"]),
            (&json!(2), &credits(3, 0, 0, 1), &json!(10), &json!("A picture"))
        );
        assert_eq!(app.admin.get("/v1/actions/render").await.expect(200), second);
        // ceil(21 / 10) * costs
        let spent = json!({ "action": "render", "quantity": 21 });
        let spent = app.admin.post(&acme.path("/consume")).json(spent).await.expect(201);
        assert_eq!(spent["consumed"], credits(9, 0, 0, 3));
    })
);

both_engines!(
    what_was_charged_keeps_its_price_when_another_takes_its_place,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let spend = json!({ "action": "ai_chat", "quantity": 4 });
        let before = app.admin.post(&acme.path("/consume")).json(spend.clone()).await.expect(201);
        app.admin.put("/v1/actions/ai_chat").json(json!({ "costs": { "ai": 7 } })).await.expect(200);
        let after = app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(column(&log, "id"), [after["id"].clone(), before["id"].clone()]);
        assert_eq!(column(&log, "price_version"), [2, 1]);
        assert_eq!(column(&log, "consumed"), [credits(28, 0, 0, 0), credits(4, 0, 0, 0)]);
    })
);

both_engines!(
    a_price_to_come_is_shown_before_and_charged_by_every_replica_from_its_instant_on,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let replica = app.replica().await;
        let spend = async || {
            let spend = |client: &Client| client.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" }));
            let (here, there) = (spend(&app.admin).await.expect(201), spend(&replica.admin).await.expect(201));
            [here["consumed"]["ai"].clone(), there["consumed"]["ai"].clone()]
        };
        let price = json!({ "costs": { "ai": 9 }, "effective_at": "2026-11-22T11:00:00+01:00" });
        let put = app.admin.put("/v1/actions/ai_chat").json(price).await.expect(200);
        assert_eq!((&put["version"], &put["effective_at"]), (&json!(2), &json!("2026-11-22T10:00:00Z")));
        let shown = app.admin.get("/v1/actions/ai_chat").await.expect(200);
        assert_eq!((&shown["version"], &shown["costs"]), (&json!(1), &credits(1, 0, 0, 0)));
        assert_eq!(column(shown["upcoming"].as_array().unwrap(), "version"), [2]);

        let from = instant("2026-11-22T10:00:00Z");
        clock.set(from - TimeDelta::microseconds(1));
        assert_eq!(spend().await, [1, 1]);
        clock.set(from);
        assert_eq!(spend().await, [9, 9]);
        let shown = app.admin.get("/v1/actions/ai_chat").await.expect(200);
        assert_eq!((&shown["version"], &shown["upcoming"]), (&json!(2), &json!([])));
        replica.stop().await;
    })
);

both_engines!(
    an_action_that_is_not_active_is_unknown_to_those_who_spend_and_stays_listed,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 10 })).await;
        let off = json!({ "costs": { "sms": 1 }, "active": false });
        assert_eq!(app.admin.put("/v1/actions/sms").json(off).await.expect(200)["active"], false);
        let spend = json!({ "action": "sms" });
        for call in ["/consume", "/quote", "/holds"] {
            app.admin.post(&acme.path(call)).json(spend.clone()).await.refused(404, "unknown_action");
        }
        assert_eq!(app.admin.get("/v1/actions/sms").await.expect(200)["active"], false);
        let listed = app.admin.all("/v1/actions", 100).await;
        assert!(listed.iter().any(|action| action["action_type"] == "sms"));
        let log = app.admin.all(&acme.path("/consumptions"), 10).await;
        assert_eq!(log, Vec::<Value>::new(), "only 201, 402 and 423 are logged");

        app.admin.put("/v1/actions/sms").json(json!({ "costs": { "sms": 1 } })).await.expect(200);
        app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
    })
);

both_engines!(
    a_price_cannot_be_put_into_the_past_and_an_action_that_is_not_there_is_unknown,
    served_at(NOW, async |app, _| {
        let past = json!({ "costs": { "ai": 1 }, "effective_at": "2026-11-22T08:59:59.999999Z" });
        let problem = app.admin.put("/v1/actions/ai_chat").json(past).await.refused(400, "invalid_request");
        assert_eq!(problem["errors"][0]["field"], "effective_at");
        assert_eq!(app.admin.get("/v1/actions/ai_chat").await.expect(200)["version"], 1);
        app.admin.get("/v1/actions/nothing").await.refused(404, "unknown_action");
    })
);

both_engines!(
    an_action_may_be_called_as_the_types_of_events_are,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        for (name, segment) in
            [("com.example.render-v2", "com.example.render-v2"), ("urn:x:1", "urn:x:1"), ("a/b", "a%2Fb")]
        {
            let path = format!("/v1/actions/{segment}");
            let put = app.admin.put(&path).json(json!({ "costs": { "ai": 1 } })).await.expect(200);
            assert_eq!(put["action_type"], name);
            assert_eq!(app.admin.get(&path).await.expect(200), put);
            app.admin.post(&acme.path("/consume")).json(json!({ "action": name })).await.expect(201);
        }
    })
);
