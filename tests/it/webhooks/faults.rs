//! Receivers that do not do what they should: nothing is lost, nobody else waits, and it is tried as it says.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use multicredit_domain::webhook::retry_delay;
use multicredit_store::clock::now;
use serde_json::{Value, json};
use tests::app::{TestApp, served, served_at};
use tests::both_engines;
use tests::receiver::{Answer, Received, Receiver};

use super::{all_kinds, assert_all_told, assert_signed, deliverer, hook, id_of};
use crate::http::column;

async fn log(app: &TestApp, hook: &super::Hook) -> Vec<Value> {
    app.admin.all(&format!("{}/deliveries", hook.path), 7).await
}

both_engines!(
    whatever_a_receiver_does_it_gets_everything_when_it_comes_back,
    served(async |app| {
        let receiver = Receiver::start().await;
        let elsewhere = Receiver::start().await;
        let url = elsewhere.url();
        let first = app.organization("o0", json!({})).await;
        let hook = hook(app, &receiver, None, Some(&all_kinds())).await;
        // The first attempt at an event of each organization fails, each in a way of its own.
        let ways = [
            Answer::Status(500),
            Answer::Redirect(url),
            Answer::Reset,
            Answer::Endless,
            Answer::Status(404),
            Answer::Hang,
        ];
        let mut failed: BTreeMap<String, usize> = BTreeMap::new();
        receiver.behave(move |received| {
            let of = received.json()["data"]["organization_id"].as_str().unwrap().to_owned();
            let place = failed.len();
            if failed.insert(of, place).is_some() {
                return Answer::Status(200);
            }
            ways[place % ways.len()].clone()
        });
        let deliverer = deliverer(&app.store);
        let mut organizations = vec![first];
        for number in 1..6 {
            organizations.push(app.organization(&format!("o{number}"), json!({})).await);
        }
        for organization in &organizations {
            for _ in 0..3 {
                app.grant(organization, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
            }
        }
        let taken = receiver.until_taken(6 * 3).await;
        let ids: Vec<_> = organizations.iter().map(id_of).collect();
        assert_all_told(&app.store, &ids, &taken).await;
        assert_eq!(receiver.received().len(), 6 * 3 + 6);
        assert_eq!(elsewhere.connections(), 0, "redirects are not followed");
        let log = log(app, &hook).await;
        let failures: Vec<&Value> = log.iter().filter(|line| line["outcome"] == "failed").collect();
        // What a connection that was kept has broken is sent over another one at once.
        assert!((5..=6).contains(&failures.len()), "{failures:?}");
        assert!(failures.iter().all(|line| line["error"].is_string() && line["attempt"] == 1));
        let hung = failures.iter().filter(|line| line["duration_ms"].as_i64().unwrap() >= 14_000).count();
        assert!(hung >= 1, "one hung: {failures:?}");
        deliverer.stop().await;
    })
);

both_engines!(
    a_failing_event_holds_up_its_own_pair_and_no_other,
    served(async |app| {
        let (good, bad) = (app.organization("good", json!({})).await, app.organization("bad", json!({})).await);
        let (receiver, other) = (Receiver::start().await, Receiver::start().await);
        hook(app, &receiver, None, None).await;
        hook(app, &other, None, None).await;
        let of_bad = bad.id.clone();
        receiver.behave(move |received| {
            let is_bad = received.json()["data"]["organization_id"] == of_bad;
            Answer::Status(if is_bad { 503 } else { 200 })
        });
        let deliverer = deliverer(&app.store);
        for _ in 0..3 {
            for organization in [&bad, &good] {
                app.grant(organization, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
            }
        }
        assert_all_told(&app.store, &[id_of(&good)], &receiver.until_taken(3).await).await;
        assert_all_told(&app.store, &[id_of(&good), id_of(&bad)], &other.until_taken(6).await).await;
        let received = receiver.received();
        let of_bad: Vec<&str> = received.iter().filter(|it| !it.is_taken()).map(Received::id).collect();
        assert!(of_bad.iter().all(|id| id.ends_with("_1_0")), "nothing passes by: {of_bad:?}");
        deliverer.stop().await;
    })
);

both_engines!(
    an_event_is_tried_ten_times_over_three_days_then_given_up_and_the_next_one_goes,
    served_at("2026-11-22T09:30:00Z", async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let receiver = Receiver::start().await;
        let hook = hook(app, &receiver, Some(&acme), None).await;
        receiver.behave(|received| Answer::Status(if received.id().ends_with("_1_0") { 500 } else { 200 }));
        app.grant(&acme, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
        app.grant(&acme, json!({ "credits": { "ai": 2 }, "source": "purchase" })).await;
        let deliverer = deliverer(&app.store);
        let mut at = tests::app::instant("2026-11-22T09:30:00Z");
        for failures in 1_u32..=9 {
            let count = failures as usize;
            receiver.until("an attempt", |received| received.len() >= count).await;
            // Until it is recorded. Then a little too early.
            while log(app, &hook).await.len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            at += retry_delay(failures, 0).unwrap() - TimeDelta::seconds(1);
            clock.set(at);
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            assert_eq!(receiver.received().len(), count, "before it was due");
            at += retry_delay(failures, u16::MAX).unwrap() - retry_delay(failures, 0).unwrap() + TimeDelta::seconds(2);
            clock.set(at);
        }
        receiver.until("the next event", |received| received.len() >= 11).await;
        let received = receiver.received();
        assert!(received[..10].iter().all(|it| it.id() == received[0].id() && it.body == received[0].body));
        assert!(received[10].is_taken() && received[10].id().ends_with("_2_0"));
        while log(app, &hook).await.len() < 11 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = log(app, &hook).await;
        assert_eq!(column(&log, "attempt"), [1, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1].map(Value::from));
        assert_eq!(column(&log[..3], "outcome"), [json!("delivered"), json!("given_up"), json!("failed")]);
        let given_up = app.admin.all(&format!("{}/deliveries?outcome=given_up", hook.path), 5).await;
        assert_eq!(given_up.len(), 1);
        // It can be told all the same.
        receiver.behave(|_| Answer::Status(200));
        let again = json!({ "event_id": given_up[0]["event_id"] });
        let again = app.admin.post(&format!("{}/redeliver", hook.path)).json(again).await.expect(201);
        assert_eq!((&again["outcome"], &again["reason"]), (&json!("delivered"), &json!("redelivery")));
        let last = receiver.received().pop().unwrap();
        assert_eq!((last.id(), &last.body), (received[0].id(), &received[0].body));
        deliverer.stop().await;
    })
);

both_engines!(
    who_says_410_is_told_nothing_until_it_is_enabled_again,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let receiver = Receiver::start().await;
        let hook = hook(app, &receiver, Some(&acme), None).await;
        receiver.behave(|_| Answer::Status(410));
        let deliverer = deliverer(&app.store);
        app.grant(&acme, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
        receiver.until("the answer", |received| received.len() == 1).await;
        while app.admin.get(&hook.path).await.expect(200)["enabled"] == true {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(app.admin.get(&hook.path).await.expect(200)["gone"], true);
        app.grant(&acme, json!({ "credits": { "ai": 2 }, "source": "purchase" })).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(receiver.received().len(), 1, "it was told something");
        receiver.behave(|_| Answer::Status(200));
        app.admin.patch(&hook.path).json(json!({ "enabled": true })).await.expect(200);
        assert_all_told(&app.store, &[id_of(&acme)], &receiver.until_taken(2).await).await;
        assert_eq!(app.admin.get(&hook.path).await.expect(200)["gone"], false);
        deliverer.stop().await;
    })
);

both_engines!(
    while_a_secret_is_replaced_both_sign,
    served_at(&now().to_rfc3339(), async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let receiver = Receiver::start().await;
        let hook = hook(app, &receiver, Some(&acme), None).await;
        let deliverer = deliverer(&app.store);
        let grant = async || app.grant(&acme, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
        let rotate = json!({ "previous_for_seconds": 60 });
        let rotated = app.admin.post(&format!("{}/rotate-secret", hook.path)).json(rotate).await.expect(200);
        let second = rotated["secret"].as_str().unwrap();
        assert_ne!(second, hook.secret);
        assert_eq!(rotated["previous_secret"], hook.secret);
        grant().await;
        let received = receiver.until_taken(1).await;
        assert_signed(&received[0], &hook.secret);
        assert_signed(&received[0], second);
        clock.set(now() + TimeDelta::seconds(100));
        grant().await;
        let received = receiver.until_taken(2).await;
        assert_signed(&received[1], second);
        assert_eq!(received[1].header("webhook-signature").split(' ').count(), 1);
        let read = app.admin.get(&format!("{}/secret", hook.path)).await.expect(200);
        assert_eq!((&read["secret"], &read["previous_secret"]), (&json!(second), &Value::Null));
        deliverer.stop().await;
    })
);

both_engines!(
    a_deliverer_that_is_stopped_leaves_nothing_undone_for_the_next_one,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let receiver = Receiver::start().await;
        hook(app, &receiver, Some(&acme), None).await;
        receiver.behave(|_| Answer::Hang);
        let first = deliverer(&app.store);
        app.grant(&acme, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
        receiver.until("the first attempt", |received| received.len() == 1).await;
        let asked_at = std::time::Instant::now();
        first.stop().await;
        assert!(asked_at.elapsed() < Duration::from_secs(3), "it waited for a receiver that hangs");
        receiver.behave(|_| Answer::Status(200));
        let second = deliverer(&app.store);
        let began = std::time::Instant::now();
        let taken = receiver.until_taken(1).await;
        assert!(began.elapsed() < Duration::from_secs(10), "the lease was not given back");
        assert_all_told(&app.store, &[id_of(&acme)], &taken).await;
        second.stop().await;
    })
);
