//! `/v1/webhook-endpoints`.

use serde_json::{Value, json};
use tests::app::{served, served_at};
use tests::both_engines;
use tests::receiver::{Answer, Receiver};

use super::{PATH, assert_signed, hook};
use crate::http::{assert_is_id, assert_is_instant, column, fields};

both_engines!(
    an_endpoint_is_made_shown_changed_and_deleted,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let new = json!({ "url": "https://example.com/a", "organization_id": acme.id, "description": "billing" });
        let made = app.admin.post(PATH).json(new).await.expect(201);
        assert_is_id(&made["id"]);
        let secret = made["secret"].as_str().unwrap().to_owned();
        assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
        let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
        let shown = app.admin.get(&path).await.expect(200);
        assert_eq!(shown, made["endpoint"]);
        assert_eq!((&shown["enabled"], &shown["gone"], &shown["events"]), (&json!(true), &json!(false), &Value::Null));
        assert_is_instant(&shown["created_at"]);
        let update = json!({ "url": "https://example.com/b", "events": ["credits.consumed"], "enabled": false });
        let changed = app.admin.patch(&path).json(update).await.expect(200);
        assert_eq!(
            (&changed["url"], &changed["events"]),
            (&json!("https://example.com/b"), &json!(["credits.consumed"]))
        );
        assert_eq!((&changed["enabled"], &changed["description"]), (&json!(false), &json!("billing")));
        assert_eq!(app.admin.get(&format!("{path}/secret")).await.expect(200)["secret"], secret);

        let second = app.admin.post(PATH).json(json!({ "url": "https://example.com/c" })).await.expect(201);
        let listed = app.admin.all(PATH, 1).await;
        assert_eq!(column(&listed, "id"), [second["id"].clone(), made["id"].clone()]);
        assert!(listed.iter().all(|it| !fields(it).contains(&"secret")));
        // A bound key sees its own, and not those of all.
        let bound = app.bound_key(&["admin"], &acme).await;
        assert_eq!(column(&bound.all(PATH, 5).await, "id"), [made["id"].clone()]);
        bound.get(&format!("{PATH}/{}", second["id"].as_str().unwrap())).await.refused(404, "not_found");
        let own = bound.post(PATH).json(json!({ "url": "https://example.com/d" })).await.expect(201);
        assert_eq!(own["endpoint"]["organization_id"], acme.id);

        app.admin.delete(&path).await.expect(204);
        app.admin.get(&path).await.refused(404, "not_found");
        app.admin.delete(&path).await.refused(404, "not_found");
        let stored = format!("{:?}", app.db().contents().await.unwrap().read().await.unwrap());
        assert!(!stored.contains(&secret), "the secret of what was deleted is kept");
    })
);

both_engines!(
    what_is_no_endpoint_is_refused_with_the_field,
    served(async |app| {
        let cases = [
            (json!({}), "url"),
            (json!({ "url": "example.com" }), "url"),
            (json!({ "url": "ftp://example.com" }), "url"),
            (json!({ "url": "https://user:pw@example.com/" }), "url"),
            (json!({ "url": "https://example.com/#x" }), "url"),
            (json!({ "url": "https://example.com/", "events": [] }), "events"),
            (json!({ "url": "https://example.com/", "events": ["grant.created", "grant.created"] }), "events"),
            (json!({ "url": "https://example.com/", "events": ["webhook.test"] }), "events"),
            (json!({ "url": "https://example.com/", "secret": "whsec_x" }), "secret"),
        ];
        for (body, field) in cases {
            let problem = app.admin.post(PATH).json(body.clone()).await.refused(400, "invalid_request");
            assert!(problem["errors"][0]["field"].as_str().unwrap().starts_with(field), "{body}: {problem}");
        }
        let acme = app.organization("acme", json!({})).await;
        let new = json!({ "url": "https://example.com/", "organization_id": acme.id });
        for _ in 0..20 {
            app.admin.post(PATH).json(new.clone()).await.expect(201);
        }
        app.admin.post(PATH).json(new).await.refused(409, "too_many_endpoints");
        app.admin.post(PATH).json(json!({ "url": "https://example.com/" })).await.expect(201);
    })
);

both_engines!(
    a_test_and_an_event_are_sent_by_hand,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let other = app.organization("other", json!({ "ai": 10 })).await;
        let receiver = Receiver::start().await;
        let hook = hook(app, &receiver, Some(&acme), None).await;
        let test = app.admin.post(&format!("{}/test", hook.path)).await.expect(201);
        assert_eq!((&test["outcome"], &test["status_code"]), (&json!("delivered"), &json!(204)));
        let received = receiver.received().remove(0);
        assert_signed(&received, &hook.secret);
        assert_eq!(received.json()["type"], "webhook.test");
        assert_eq!(received.json()["id"], received.id());
        // What was before the endpoint can be sent by hand.
        let event = |of: &tests::app::Organization| format!("evt_{}_1_0", of.id.replace('-', ""));
        let redeliver = format!("{}/redeliver", hook.path);
        let sent = app.admin.post(&redeliver).json(json!({ "event_id": event(&acme) })).await.expect(201);
        assert_eq!((&sent["outcome"], &sent["event_type"]), (&json!("delivered"), &json!("grant.created")));
        assert_signed(&receiver.received()[1], &hook.secret);
        // Another organization's cannot, and what never was neither.
        let foreign = json!({ "event_id": event(&other), "organization_id": other.id });
        app.admin.post(&redeliver).json(foreign).await.refused(404, "not_found");
        for never in ["_99_0", "_1_1", "_r1", ""] {
            let id = format!("evt_{}{never}", acme.id.replace('-', ""));
            app.admin.post(&redeliver).json(json!({ "event_id": id })).await.refused(404, "not_found");
        }
        app.admin.post(&redeliver).json(json!({ "event_id": "evt_x" })).await.refused(400, "invalid_request");
        receiver.behave(|_| Answer::Status(500));
        let failed = app.admin.post(&format!("{}/test", hook.path)).await.expect(201);
        assert_eq!((&failed["outcome"], &failed["error"]), (&json!("failed"), &json!("answered 500")));
        let log = app.admin.all(&format!("{}/deliveries", hook.path), 2).await;
        assert_eq!(column(&log, "reason"), ["test", "redelivery", "test"].map(Value::from));
        assert_eq!(log[0], failed);
        let of_event = format!("{}/deliveries?event_id={}", hook.path, event(&acme));
        assert_eq!(app.admin.all(&of_event, 2).await, [sent]);
    })
);

both_engines!(
    the_log_is_pruned_by_age,
    served_at("2026-11-22T09:30:00Z", async |app, clock| {
        let receiver = Receiver::start().await;
        let hook = hook(app, &receiver, None, None).await;
        let test = format!("{}/test", hook.path);
        app.admin.post(&test).await.expect(201);
        clock.set(tests::app::instant("2026-12-10T09:30:00Z"));
        app.admin.post(&test).await.expect(201);
        clock.set(tests::app::instant("2026-12-22T10:30:00Z"));
        let pruned = app.store.do_job(multicredit_store::Job::PruneDeliveries, None).await.unwrap();
        let expected = multicredit_store::JobDone::PrunedDeliveries { deliveries: 1 };
        assert_eq!(pruned, multicredit_store::JobRun::Done(expected));
        assert_eq!(app.admin.all(&format!("{}/deliveries", hook.path), 5).await.len(), 1);
    })
);
