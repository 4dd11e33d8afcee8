//! What is told: everything that was asked for, in order, signed, and as the document says.

use std::collections::BTreeSet;
use std::time::Duration;

use multicredit_domain::EventType;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tests::app::{TestApp, credits, instant, served};
use tests::both_engines;
use tests::receiver::Receiver;

use super::{ai_available, all_kinds, assert_all_told, assert_signed, deliverer, expected_events, hook, id_of, types};
use crate::http::Document;

/// One of everything that makes an event, as far as it does not take time.
async fn live(app: &TestApp, organization: &tests::app::Organization) {
    let post = async |rest: &str, body: Value, status: u16| {
        app.admin.post(&organization.path(rest)).json(body).await.expect(status)
    };
    let grant = json!({ "credits": { "ai": 5 }, "source": "promotion", "reference": "welcome" });
    let first = json!({ "credits": { "ai": 100 }, "source": "purchase" });
    post("/grants", first, 201).await;
    let granted = post("/grants", grant, 201).await;
    post(&format!("/grants/{}/void", granted["id"].as_str().unwrap()), json!({}), 200).await;
    let spent = post("/consume", json!({ "action": "ai_chat", "metadata": { "chat": 7 } }), 201).await;
    let reason = json!({ "reason": "it failed" });
    post(&format!("/consumptions/{}/refund", spent["id"].as_str().unwrap()), reason, 201).await;
    let held = post("/holds", json!({ "action": "ai_chat", "actor": "user-42" }), 201).await;
    post(&format!("/holds/{}/capture", held["id"].as_str().unwrap()), json!({}), 201).await;
    let held = post("/holds", json!({ "action": "ai_chat" }), 201).await;
    post(&format!("/holds/{}/release", held["id"].as_str().unwrap()), json!({}), 200).await;
    post("/adjustments", json!({ "change": { "ai": -1 }, "reason": "a mistake" }), 201).await;
    let too_much = json!({ "action": "ai_chat", "quantity": 1_000_000_000 });
    app.admin.post(&organization.path("/consume")).json(too_much).await.refused(402, "insufficient_credits");
    post("/holds", json!({ "action": "ai_chat", "ttl_seconds": 1 }), 201).await;
    let ending = json!({ "credits": { "ai": 3 }, "source": "purchase", "expires_at": soon() });
    post("/grants", ending, 201).await;
    app.admin.put("/v1/plans/p").json(json!({ "allowance": { "ai": 1 }, "interval": "month" })).await.expect(200);
    app.admin.put(&organization.path("/subscription")).json(json!({ "plan": "p" })).await.expect(200);
}

fn soon() -> String {
    let at = multicredit_store::clock::now() + chrono::TimeDelta::seconds(2);
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

both_engines!(
    everything_is_told_in_order_signed_and_as_the_document_says,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let other = app.organization("other", json!({})).await;
        let (receiver, usual) = (Receiver::start().await, Receiver::start().await);
        let kinds = all_kinds();
        let kinds: BTreeSet<EventType> = kinds.into_iter().collect();
        let all = hook(app, &receiver, Some(&acme), Some(&kinds.iter().copied().collect::<Vec<_>>())).await;
        hook(app, &usual, Some(&acme), None).await;
        let deliverer = deliverer(&app.store);
        live(app, &acme).await;
        live(app, &other).await;
        tokio::time::sleep(Duration::from_millis(2_300)).await;
        app.store.sweep().await.unwrap();
        let told = |received: &[tests::receiver::Received]| {
            let types: BTreeSet<String> = types(received).iter().map(|it| it.as_str().unwrap().to_owned()).collect();
            kinds.iter().all(|kind| types.contains(kind.as_str()))
        };
        receiver.until("one of each kind", told).await;
        let (all_of_it, _) = expected_events(&app.store, id_of(&acme)).await;
        let received = receiver.until_taken(all_of_it.len() + 1).await;
        assert_all_told(&app.store, &[id_of(&acme)], &received).await;
        let document = Document::of(app).await;
        for one in &received {
            assert_signed(one, &all.secret);
            let event = one.json();
            assert_eq!(event["id"], one.id());
            assert_eq!(event["data"]["organization_id"], acme.id);
            assert_eq!(event["version"], 1);
            let read = app.admin.get(&acme.path(&format!("/events/{}", one.id()))).await.expect(200);
            assert_eq!(read, event, "read by its id it is the same");
            let schema = document.schema("WebhookEvent");
            assert_eq!(document.mismatches(schema, &event), Vec::<String>::new(), "{event}");
            let data = document.schema(data_schema(event["type"].as_str().unwrap()));
            assert_eq!(document.mismatches(data, &event["data"]), Vec::<String>::new(), "{event}");
        }
        // Who did not ask for consumptions gets everything else.
        let few = received.iter().filter(|it| it.json()["type"] != "credits.consumed").count();
        let usual = usual.until_taken(few).await;
        assert!(!types(&usual).contains(&json!("credits.consumed")));
        assert_eq!(usual.len(), few);
        deliverer.stop().await;
    })
);

fn data_schema(event_type: &str) -> &'static str {
    match event_type.split('.').next().unwrap() {
        "grant" | "subscription" => "WebhookGrantData",
        "hold" => "WebhookHoldData",
        _ if event_type == "credits.refunded" => "WebhookRefundData",
        _ => "WebhookConsumptionData",
    }
}

both_engines!(
    what_an_event_says_is_what_happened,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let receiver = Receiver::start().await;
        hook(app, &receiver, None, Some(&[EventType::CreditsConsumed, EventType::GrantVoided])).await;
        let deliverer = deliverer(&app.store);
        let body = json!({ "action": "ai_chat", "quantity": 2, "metadata": { "chat": 7 }, "actor": "user-42" });
        let spent = app.admin.post(&acme.path("/consume")).json(body).await.expect(201);
        let grant = app.grant(&acme, json!({ "credits": { "ai": 5 }, "source": "promotion" })).await;
        let void = acme.path(&format!("/grants/{}/void", grant["id"].as_str().unwrap()));
        app.admin.post(&void).await.expect(200);
        let received = receiver.until_taken(2).await;
        let (consumed, voided) = (received[0].json(), received[1].json());
        assert_eq!((&consumed["type"], &voided["type"]), (&json!("credits.consumed"), &json!("grant.voided")));
        let expected = json!({
            "organization_id": acme.id, "sequence": 2, "consumption_id": spent["id"], "action": "ai_chat",
            "quantity": 2, "consumed": spent["consumed"], "available": spent["available"],
            "metadata": { "chat": 7 }, "actor": "user-42",
        });
        assert_eq!(consumed["data"], expected);
        assert_eq!(instant(consumed["timestamp"].as_str().unwrap()), instant(spent["created_at"].as_str().unwrap()));
        assert_eq!(voided["data"]["grant_id"], grant["id"]);
        assert_eq!(voided["data"]["change"]["available"], credits(-5, 0, 0, 0));
        assert_eq!(ai_available(&voided["data"]), ai_available(&spent));
        assert_eq!(received[0].header("content-type"), "application/json");
        deliverer.stop().await;
    })
);

both_engines!(
    an_endpoint_of_all_is_told_of_organizations_that_come_later_and_of_nothing_before_it,
    served(async |app| {
        let early = app.organization("early", json!({ "ai": 10 })).await;
        let receiver = Receiver::start().await;
        hook(app, &receiver, None, None).await;
        let deliverer = deliverer(&app.store);
        let late = app.organization("late", json!({ "ai": 10 })).await;
        app.grant(&early, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
        let received = receiver.until_taken(2).await;
        let of: BTreeSet<String> =
            received.iter().map(|it| it.json()["data"]["organization_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(of, BTreeSet::from([early.id.clone(), late.id.clone()]));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(receiver.received().len(), 2, "nothing from before");
        deliverer.stop().await;
    })
);

both_engines!(
    raised_events_are_told_by_their_numbers,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let receiver = Receiver::start().await;
        hook(app, &receiver, Some(&acme), None).await;
        let deliverer = deliverer(&app.store);
        let connection = app.db().connect().await.unwrap();
        let id = match app.store.engine() {
            multicredit_store::Engine::Postgres => format!("'{}'", acme.id),
            multicredit_store::Engine::Sqlite => format!("X'{}'", acme.id.replace('-', "")),
        };
        let (low, later) = ("balance.low", "of.a.later.release");
        for (number, event_type) in [(1, low), (2, later), (3, "topup.requested")] {
            let event = format!(
                "INSERT INTO raised_events (organization_id, number, event_type, occurred_at, data) \
                 VALUES ({id}, {number}, '{event_type}', '2026-11-22T09:30:00+00:00', '{{\"left\": {number}}}')"
            );
            connection.execute_unprepared(&event).await.unwrap();
        }
        let head = format!(
            "INSERT INTO alert_cursors (organization_id, sequence, moved_at, last_number, updated_at, \
             ai_credits_available, whatsapp_credits_available, email_credits_available, sms_credits_available, ai_credits_base, \
             whatsapp_credits_base, email_credits_base, sms_credits_base) \
             VALUES ({id}, 1, '2026-11-22T09:30:00+00:00', 3, '2026-11-22T09:30:00+00:00', 0, 0, 0, 0, 0, 0, 0, 0) \
             ON CONFLICT (organization_id) DO UPDATE SET last_number = 3"
        );
        connection.execute_unprepared(&head).await.unwrap();
        let received = receiver.until_taken(2).await;
        assert_eq!(types(&received), [json!(low), json!("topup.requested")]);
        assert_eq!(received[0].json()["data"], json!({ "organization_id": acme.id, "left": 1 }));
        assert!(received[1].id().ends_with("_r3"), "{}", received[1].id());
        let read = app.admin.get(&acme.path(&format!("/events/{}", received[1].id()))).await.expect(200);
        assert_eq!(read, received[1].json());
        deliverer.stop().await;
    })
);

both_engines!(
    two_servers_tell_everything_once_and_in_order,
    served(async |app| {
        let receiver = Receiver::start().await;
        hook(app, &receiver, None, Some(&all_kinds())).await;
        let other = app.other_store().await;
        let deliverers = [deliverer(&app.store), deliverer(&other)];
        let mut organizations = Vec::new();
        for number in 0..6 {
            organizations.push(app.organization(&format!("o{number}"), json!({ "ai": 100 })).await);
        }
        for round in 0..15 {
            let calls = organizations.iter().map(|organization| async move {
                let quantity = if round % 5 == 4 { 1_000_000 } else { 1 };
                let spend = json!({ "action": "ai_chat", "quantity": quantity });
                app.admin.post(&organization.path("/consume")).json(spend).await
            });
            futures_util::future::join_all(calls).await;
        }
        let received = receiver.until_taken(6 * 16).await;
        let ids: Vec<_> = organizations.iter().map(id_of).collect();
        assert_all_told(&app.store, &ids, &received).await;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(receiver.received().len(), 6 * 16, "nothing was told twice");
        let [one, two] = deliverers;
        one.stop().await;
        two.stop().await;
        other.close().await;
    })
);
