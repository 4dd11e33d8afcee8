//! `/v1/alert-rules`, `/v1/organizations/{organization_id}/top-up-rules`, `.../top-ups` and `.../events`.

use serde_json::{Value, json};
use tests::app::{TestApp, served};
use tests::both_engines;

use super::walk::ABSENT;
use super::{assert_is_instant, column, fields};

const RULES: &str = "/v1/alert-rules";

fn rule(threshold: i64) -> Value {
    json!({ "name": "low", "measure": "amount", "threshold": threshold })
}

async fn evaluate(app: &TestApp) -> u64 {
    let evaluated = app.store.evaluate_alerts().await.unwrap();
    assert_eq!(evaluated.failed, 0);
    evaluated.events
}

both_engines!(
    rules_are_made_read_changed_and_deleted,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let of_all = app.admin.post(RULES).json(rule(5)).await.expect(201);
        assert_is_instant(&of_all["since"]);
        assert_eq!((&of_all["organization_id"], &of_all["credit_type"]), (&Value::Null, &Value::Null));
        let mut new = rule(7);
        new["organization_id"] = json!(acme.id);
        new["credit_type"] = json!("sms");
        new["recover_at"] = json!(9);
        let made = app.admin.post(RULES).json(new).await.expect(201);
        assert_eq!(fields(&made).len(), 11);
        let path = format!("{RULES}/{}", made["id"].as_str().unwrap());
        assert_eq!(app.admin.get(&path).await.expect(200), made);
        assert_eq!(app.admin.all(RULES, 1).await, [made.clone(), of_all.clone()]);
        let of_acme = format!("{RULES}?organization_id={}", acme.id);
        assert_eq!(app.admin.all(&of_acme, 1).await, std::slice::from_ref(&made));

        let same = app.admin.patch(&path).json(json!({ "threshold": 7 })).await.expect(200);
        assert_eq!(same, made, "nothing has changed");
        let named = app.admin.patch(&path).json(json!({ "name": "lower" })).await.expect(200);
        assert_eq!((&named["since"], &named["name"]), (&made["since"], &json!("lower")));
        let changed = app.admin.patch(&path).json(json!({ "threshold": 8, "recover_at": null })).await.expect(200);
        assert_eq!((&changed["threshold"], &changed["recover_at"]), (&json!(8), &Value::Null));
        assert_ne!(changed["since"], made["since"]);
        app.admin.delete(&path).await.expect(204);
        app.admin.get(&path).await.refused(404, "not_found");
        app.admin.delete(&path).await.refused(404, "not_found");
        assert_eq!(app.admin.all(&of_acme, 1).await, Vec::<Value>::new());
        app.admin.get(&format!("{RULES}?organization_id={ABSENT}")).await.refused(404, "unknown_organization");
    })
);

both_engines!(
    numbers_out_of_range_are_refused_by_field,
    served(async |app| {
        let refused = async |change: Value| {
            let mut new = rule(5);
            new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let refused = app.admin.post(RULES).json(new).await.refused(400, "invalid_request");
            refused["errors"][0]["field"].clone()
        };
        assert_eq!(refused(json!({ "threshold": -1 })).await, "threshold");
        assert_eq!(refused(json!({ "measure": "share", "threshold": 100 })).await, "threshold");
        assert_eq!(refused(json!({ "measure": "forecast_days", "threshold": 0 })).await, "threshold");
        assert_eq!(refused(json!({ "recover_at": 5 })).await, "recover_at");
        assert_eq!(refused(json!({ "measure": "days" })).await, "measure");
        assert_eq!(refused(json!({ "credit_type": "gold" })).await, "credit_type");
        let acme = app.organization("acme", json!({})).await;
        for (body, field) in [
            (json!({ "threshold": 0, "amount": 0 }), "amount"),
            (json!({ "threshold": -1, "amount": 1 }), "threshold"),
            (json!({ "threshold": 0, "amount": 1, "timeout_seconds": 0 }), "timeout_seconds"),
            (json!({ "threshold": 0, "amount": 1, "window_max": 1_001 }), "window_max"),
        ] {
            let put = app.admin.put(&acme.path("/top-up-rules/ai")).json(body).await;
            assert_eq!(put.refused(400, "invalid_request")["errors"][0]["field"], field);
        }
        let unknown =
            app.admin.put(&acme.path("/top-up-rules/gold")).json(json!({ "threshold": 0, "amount": 1 })).await;
        assert_eq!(unknown.refused(400, "invalid_request")["errors"][0]["field"], "credit_type");
    })
);

both_engines!(
    a_bound_key_makes_and_sees_rules_about_its_own_organization,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let of_all = app.admin.post(RULES).json(rule(5)).await.expect(201);
        let bound = app.bound_key(&["admin"], &acme).await;
        let made = bound.post(RULES).json(rule(6)).await.expect(201);
        assert_eq!(made["organization_id"], acme.id);
        assert_eq!(bound.all(RULES, 5).await, [made]);
        let path = format!("{RULES}/{}", of_all["id"].as_str().unwrap());
        bound.get(&path).await.refused(404, "not_found");
        bound.patch(&path).json(json!({ "threshold": 1 })).await.refused(404, "not_found");
        bound.delete(&path).await.refused(404, "not_found");
    })
);

both_engines!(
    what_is_told_is_listed_newest_first,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        app.admin.post(RULES).json(rule(5)).await.expect(201);
        app.admin.post(RULES).json(rule(0)).await.expect(201);
        for _ in 0..10 {
            app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
        }
        assert_eq!(evaluate(app).await, 2);
        let events = app.admin.all(&acme.path("/events"), 1).await;
        assert_eq!(column(&events, "type"), ["balance.depleted", "balance.low"]);
        let id = format!("evt_{}_r1", acme.id.replace('-', ""));
        assert_eq!((&events[1]["id"], &events[1]["number"]), (&json!(id), &json!(1)));
        assert_eq!(events[1]["data"]["available"], 5);
        let crossing = app.admin.get(&acme.path("/ledger?limit=6")).await.expect(200)["items"][5].clone();
        assert_eq!(events[1]["data"]["consumption_id"], crossing["reference"]);
        assert_eq!(events[1]["occurred_at"], crossing["created_at"]);
        app.admin.get(&acme.path("/events").replace(&acme.id, ABSENT)).await.refused(404, "unknown_organization");
    })
);

both_engines!(
    credits_are_asked_for_and_a_grant_answers_once,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let path = acme.path("/top-up-rules/ai");
        app.admin.get(&path).await.refused(404, "not_found");
        let put = app.admin.put(&path).json(json!({ "threshold": 10, "amount": 500 })).await.expect(200);
        assert_eq!(
            (&put["timeout_seconds"], &put["window_max"], &put["active"]),
            (&json!(86_400), &json!(10), &json!(true))
        );
        assert_eq!(app.admin.get(&path).await.expect(200), put);
        assert_eq!(app.admin.all(&acme.path("/top-up-rules"), 1).await, [put]);
        assert_eq!(evaluate(app).await, 1);
        let asked = app.admin.all(&acme.path("/top-ups"), 1).await.remove(0);
        assert_eq!(
            (&asked["status"], &asked["amount"], &asked["late"]),
            (&json!("requested"), &json!(500), &json!(false))
        );
        let event = app.admin.all(&acme.path("/events"), 1).await.remove(0);
        assert_eq!((&event["type"], &event["data"]["top_up_id"]), (&json!("topup.requested"), &asked["id"]));

        let grant = |id: &Value| json!({ "credits": { "ai": 500 }, "source": "purchase", "top_up_id": id });
        let answer = |body: Value, key: &str| app.admin.post(&acme.path("/grants")).json(body).once(key);
        answer(grant(&json!(ABSENT)), "absent").await.refused(404, "unknown_top_up");
        let granted = answer(grant(&asked["id"]), "a").await.expect(201);
        let again = answer(grant(&asked["id"]), "a").await;
        assert!(again.is_replay());
        answer(grant(&asked["id"]), "b").await.refused(409, "top_up_granted");
        let top_up = acme.path(&format!("/top-ups/{}", asked["id"].as_str().unwrap()));
        let answered = app.admin.get(&top_up).await.expect(200);
        assert_eq!((&answered["status"], &answered["grant_id"]), (&json!("granted"), &granted["id"]));
        assert_eq!(app.available(&acme).await["ai"], 510);
        app.admin.get(&acme.path(&format!("/top-ups/{ABSENT}"))).await.refused(404, "unknown_top_up");
        app.admin.delete(&path).await.expect(204);
        app.admin.delete(&path).await.refused(404, "not_found");
    })
);
