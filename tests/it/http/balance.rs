//! `/v1/organizations/{organization_id}/balance`.

use serde_json::{Value, json};
use tests::app::{credits, instant, served, served_at};
use tests::both_engines;

use super::assert_is_instant;

const NOW: &str = "2026-11-22T09:00:00Z";

both_engines!(
    a_new_organization_has_nothing_and_nothing_happened,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({})).await;
        let expected = json!({
            "organization_id": acme.id,
            "available": credits(0, 0, 0, 0),
            "held": credits(0, 0, 0, 0),
            "expiring_next": null,
            "sequence": 0,
            "as_of": NOW,
        });
        assert_eq!(app.admin.get(&acme.path("/balance")).await.expect(200), expected);
    })
);

both_engines!(
    a_balance_follows_every_movement_at_once,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10, "sms": 5 })).await;
        for quantity in 1..=4 {
            let spend = json!({ "action": "ai_chat", "quantity": quantity });
            let spent = app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
            let balance = app.admin.get(&acme.path("/balance")).await.expect(200);
            let fresh = app.admin.get(&acme.path("/balance?fresh=true")).await.expect(200);
            for balance in [balance, fresh] {
                assert_eq!(
                    (&balance["available"], &balance["sequence"]),
                    (&spent["available"], &spent["sequence"]),
                    "after {quantity}"
                );
                assert_is_instant(&balance["as_of"]);
            }
        }
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 5));
    })
);

both_engines!(
    what_expires_next_is_what_is_left_of_the_lots_that_end_first,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let until = |day: u32| format!("2026-12-{day:02}T00:00:00Z");
        let ending =
            |ai: i64, until: &str| json!({ "credits": { "ai": ai, "sms": 1 }, "source": "plan", "expires_at": until });
        for (ai, day) in [(30, 2), (10, 1), (5, 1)] {
            app.grant(&acme, ending(ai, &until(day))).await;
        }
        let next = async || app.admin.get(&acme.path("/balance")).await.expect(200)["expiring_next"].clone();
        assert_eq!(next().await, json!({ "credits": credits(15, 0, 0, 2), "at": until(1) }));
        let spend = json!({ "action": "ai_chat", "quantity": 12 });
        app.admin.post(&acme.path("/consume")).json(spend).await.expect(201);
        assert_eq!(next().await, json!({ "credits": credits(3, 0, 0, 2), "at": until(1) }));
        clock.set(instant(&until(1)));
        assert_eq!(next().await, json!({ "credits": credits(30, 0, 0, 1), "at": until(2) }));
        clock.set(instant(&until(2)));
        assert_eq!(next().await, Value::Null);
        assert_eq!(app.available(&acme).await, credits(100, 0, 0, 0));
    })
);

both_engines!(
    a_balance_of_the_past_is_the_one_that_was_answered_then,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let path = acme.path("/balance");
        let mut then = vec![app.admin.get(&path).await.expect(200)];
        for (hour, grants) in [(10, 5), (11, 7), (12, 0), (13, 9)] {
            clock.set(instant(&format!("2026-11-22T{hour}:00:00Z")));
            if grants > 0 {
                let grant =
                    json!({ "credits": { "ai": grants }, "source": "plan", "expires_at": "2026-11-22T12:30:00Z" });
                let grant = if hour < 12 { grant } else { json!({ "credits": { "ai": grants }, "source": "plan" }) };
                app.grant(&acme, grant).await;
            } else {
                app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_image" })).await.expect(201);
            }
            then.push(app.admin.get(&path).await.expect(200));
        }
        assert_eq!(then.iter().map(|then| then["available"]["ai"].clone()).collect::<Vec<_>>(), [0, 5, 12, 7, 9]);
        for then in then {
            let at = then["as_of"].as_str().unwrap();
            let past = app.admin.get(&format!("{path}?at={at}")).await.expect(200);
            for field in ["organization_id", "available", "held", "sequence", "as_of"] {
                assert_eq!(past[field], then[field], "{field} at {at}");
            }
        }
        // Right before and right after what ended by itself.
        let at =
            async |at: &str| app.admin.get(&format!("{path}?at={at}")).await.expect(200)["available"]["ai"].clone();
        assert_eq!(at("2026-11-22T12:29:59.999999Z").await, 7);
        assert_eq!(at("2026-11-22T12:30:00Z").await, 0);
        assert_eq!(at("2026-11-22T13:30:00%2B01:00").await, 0, "any offset will do");
        assert_eq!(at("2020-01-01T00:00:00Z").await, 0, "before there was anything");
    })
);

both_engines!(
    nobody_knows_a_balance_of_the_future,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        for at in ["2026-11-22T09:00:00.000001Z", "9999-01-01T00:00:00Z"] {
            let call = app.admin.get(&acme.path(&format!("/balance?at={at}")));
            let problem = call.await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], "at");
        }
        app.admin.get(&acme.path(&format!("/balance?at={NOW}"))).await.expect(200);
    })
);
