//! `Idempotency-Key`: sent again, nothing happens again.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::app::{Answer, Call, credits, served};
use tests::both_engines;

/// What a repeat must have in common with the first answer: the status and every byte of the body.
fn said(answer: &Answer) -> (u16, &[u8]) {
    (answer.status, &answer.body)
}

/// Sends the call twice and asserts that the second answer is the first.
async fn sent_twice(call: Call) -> Answer {
    let first = call.clone().await;
    assert!((200..300).contains(&first.status) && !first.is_replay(), "{first}");
    let again = call.await;
    assert_eq!(said(&again), said(&first));
    assert!(again.is_replay(), "{again}");
    first
}

both_engines!(
    every_money_post_sent_again_is_answered_byte_for_byte_and_moves_nothing,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
        let post = |path: &str, body: Value, key: &str| app.admin.post(&acme.path(path)).once(key).json(body);
        let id = |answer: Answer| answer.json()["id"].as_str().unwrap().to_owned();

        let spent = id(sent_twice(post("/consume", json!({ "action": "ai_chat", "quantity": 5 }), "1")).await);
        let refund = format!("/consumptions/{spent}/refund");
        sent_twice(post(&refund, json!({ "quantity": 1, "reason": "x" }), "2")).await;
        let grant = id(sent_twice(post("/grants", json!({ "credits": { "sms": 9 }, "source": "plan" }), "3")).await);
        sent_twice(post(&format!("/grants/{grant}/void"), json!({}), "4")).await;
        sent_twice(post("/adjustments", json!({ "change": { "ai": -10 }, "reason": "x" }), "5")).await;
        let hold = id(sent_twice(post("/holds", json!({ "action": "ai_chat", "quantity": 7 }), "6")).await);
        sent_twice(post(&format!("/holds/{hold}/extend"), json!({ "ttl_seconds": 600 }), "7")).await;
        sent_twice(post(&format!("/holds/{hold}/capture"), json!({ "quantity": 4 }), "8")).await;
        let hold = id(post("/holds", json!({ "action": "ai_chat" }), "9").await);
        sent_twice(post(&format!("/holds/{hold}/release"), json!({}), "10")).await;

        assert_eq!(app.available(&acme).await, credits(1_000 - 5 + 1 - 10 - 4, 0, 0, 0));
        let kinds: BTreeSet<String> = app
            .admin
            .all(&acme.path("/ledger"), 100)
            .await
            .iter()
            .map(|line| line["kind"].as_str().unwrap().to_owned())
            .collect();
        let expected = ["adjustment", "capture", "consumption", "grant", "hold", "refund", "release", "void"];
        assert_eq!(kinds, expected.map(str::to_owned).into());
    })
);

both_engines!(
    the_first_answer_stands_whatever_has_happened_since,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let spend =
            app.admin.post(&acme.path("/consume")).once("k").json(json!({ "action": "ai_chat", "quantity": 10 }));
        let first = spend.clone().await;
        first.expect(201);
        let assert_again = async || {
            let again = spend.clone().await;
            assert_eq!(said(&again), said(&first));
            assert!(again.is_replay());
        };
        assert_again().await;
        app.admin.put("/v1/actions/ai_chat").json(json!({ "costs": { "sms": 3 } })).await.expect(200);
        assert_again().await;
        app.admin.put("/v1/actions/ai_chat").json(json!({ "costs": { "ai": 1 }, "active": false })).await.expect(200);
        assert_again().await;
        app.grant(&acme, json!({ "credits": { "ai": 500 }, "source": "purchase" })).await;
        assert_again().await;
        app.set_status(&acme, "frozen").await;
        assert_again().await;
        app.set_status(&acme, "closed").await;
        assert_again().await;
    })
);

both_engines!(
    a_body_is_the_same_by_what_it_says_and_not_by_how,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let send =
            |body: &str| app.admin.post(&acme.path("/consume")).once("k").body("application/json", body.to_owned());
        let first = send(r#"{"action":"ai_chat","metadata":{"a":1,"b":[2.5,{"c":null}]}}"#).await;
        first.expect(201);
        for same in [
            " {\"metadata\" : { \"b\":[2.5, {\"c\":null}],\n\"a\":1 },\t\"action\":\"ai_chat\"} ",
            r#"{"action":"ai_chat","quantity":1,"metadata":{"a":1,"b":[2.5,{"c":null}]}}"#,
            r#"{"action":"\u0061i_chat","metadata":{"a":1,"b":[2.50,{"c":null}]}}"#,
            r#"{"action":"ai_chat","actor":null,"occurred_at":null,"metadata":{"a":1,"b":[2.5,{"c":null}]}}"#,
        ] {
            let again = send(same).await;
            assert!(again.is_replay(), "{same}: {again}");
            assert_eq!(said(&again), said(&first));
        }
        for other in [
            r#"{"action":"ai_chat"}"#,
            r#"{"action":"ai_chat","metadata":{"a":2,"b":[2.5,{"c":null}]}}"#,
            r#"{"action":"ai_chat","quantity":2,"metadata":{"a":1,"b":[2.5,{"c":null}]}}"#,
            r#"{"action":"ai_image","metadata":{"a":1,"b":[2.5,{"c":null}]}}"#,
            r#"{"action":"ai_chat","actor":"u","metadata":{"a":1,"b":[2.5,{"c":null}]}}"#,
        ] {
            send(other).await.refused(422, "idempotency_mismatch");
        }
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    a_key_is_bound_to_its_operation_and_path,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
        let post = |path: &str, body: Value| app.admin.post(&acme.path(path)).once("k").json(body);
        let hold = async || {
            let hold = json!({ "action": "ai_chat", "quantity": 3 });
            let hold = app.admin.post(&acme.path("/holds")).json(hold).await.expect(201);
            hold["id"].as_str().unwrap().to_owned()
        };
        let (one, other) = (hold().await, hold().await);
        post(&format!("/holds/{one}/capture"), json!({ "quantity": 1 })).await.expect(201);
        let before = app.admin.get(&acme.path("/balance")).await.expect(200);
        for (path, body) in [
            (format!("/holds/{other}/capture"), json!({ "quantity": 1 })),
            (format!("/holds/{other}/release"), json!({})),
            (format!("/holds/{other}/extend"), json!({ "ttl_seconds": 60 })),
            ("/holds".to_owned(), json!({ "action": "ai_chat" })),
            ("/consume".to_owned(), json!({ "action": "ai_chat" })),
            ("/grants".to_owned(), json!({ "credits": { "ai": 1 }, "source": "plan" })),
            ("/adjustments".to_owned(), json!({ "change": { "ai": 1 }, "reason": "x" })),
        ] {
            post(&path, body).await.refused(422, "idempotency_mismatch");
        }
        let after = app.admin.get(&acme.path("/balance")).await.expect(200);
        assert_eq!((&after["available"], &after["sequence"]), (&before["available"], &before["sequence"]));
        // Another organization has keys of its own.
        let third = app.organization("third", json!({ "ai": 10 })).await;
        let spent = app.admin.post(&third.path("/consume")).once("k").json(json!({ "action": "ai_chat" })).await;
        assert!(spent.expect(201)["sequence"] == 2 && !spent.is_replay());
    })
);

both_engines!(
    twenty_at_once_are_charged_once_and_all_get_the_answer,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
        for (path, body) in [
            ("/consume", json!({ "action": "ai_chat", "quantity": 7 })),
            ("/grants", json!({ "credits": { "ai": 7 }, "source": "purchase" })),
            ("/holds", json!({ "action": "ai_chat", "quantity": 7 })),
        ] {
            let before = app.admin.get(&acme.path("/balance")).await.expect(200)["sequence"].as_i64().unwrap();
            let send = |_| app.admin.post(&acme.path(path)).once(path).json(body.clone()).into_future();
            let answers = join_all((0..20).map(send)).await;
            answers[0].expect(201);
            let different: BTreeSet<_> = answers.iter().map(said).collect();
            assert_eq!(different.len(), 1, "{path}");
            assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1, "{path}");
            let after = app.admin.get(&acme.path("/balance")).await.expect(200)["sequence"].clone();
            assert_eq!(after, before + 1, "{path}");
        }
    })
);

both_engines!(
    replicas_that_are_asked_at_once_charge_once_and_give_the_same_answer,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
        let replica = app.replica().await;
        for round in 0..5 {
            let send = |number: i32| {
                let client = if number % 2 == 0 { &app.admin } else { &replica.admin };
                let call = client.post(&acme.path("/consume")).once(&format!("k{round}"));
                call.json(json!({ "action": "ai_chat", "quantity": 7 })).into_future()
            };
            let answers = join_all((0..10).map(send)).await;
            answers[0].expect(201);
            let different: BTreeSet<_> = answers.iter().map(said).collect();
            assert_eq!(different.len(), 1);
            assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
        }
        assert_eq!(app.available(&acme).await, credits(1_000 - 5 * 7, 0, 0, 0));
        replica.stop().await;
    })
);

both_engines!(
    a_refusal_binds_no_key,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        let spend = |quantity: i64| {
            let body = json!({ "action": "ai_chat", "quantity": quantity });
            app.admin.post(&acme.path("/consume")).once("k").json(body)
        };
        spend(5).await.refused(402, "insufficient_credits");
        spend(6).await.refused(402, "insufficient_credits");
        app.set_status(&acme, "frozen").await;
        spend(1).await.refused(423, "organization_frozen");
        app.set_status(&acme, "active").await;
        spend(9_007_199_254_740_991).await.refused(402, "insufficient_credits");
        app.grant(&acme, json!({ "credits": { "ai": 4 }, "source": "purchase" })).await;
        let paid = spend(5).await;
        assert!(paid.expect(201)["available"] == credits(0, 0, 0, 0) && !paid.is_replay());
        assert!(spend(5).await.is_replay());
        spend(6).await.refused(422, "idempotency_mismatch");
    })
);

both_engines!(
    a_key_is_one_header_of_1_to_255_visible_characters,
    served(async |app| {
        let acme = app.organization("acme", json!({ "sms": 10 })).await;
        let spend = || app.admin.post(&acme.path("/consume")).json(json!({ "action": "sms" }));
        let visible: String = ('!'..='~').collect();
        for good in ["k", &visible, &"k".repeat(255)] {
            assert!(!spend().once(good).await.is_replay());
            assert!(spend().once(good).await.is_replay(), "{good}");
        }
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 7));
        let control = "a\tb";
        for bad in ["", &"k".repeat(256), "a b", control, "\u{e9}", "\u{1f600}"] {
            let problem = spend().once(bad).await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], "Idempotency-Key", "{bad}");
        }
        spend().header("Idempotency-Key", b"\xff\xfe").await.refused(400, "invalid_request");
        spend().once("one").once("other").await.refused(400, "invalid_request");
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 7));
        // It has no blanks around it, and its letters are small or capital.
        spend().once("case").await.expect(201);
        assert!(spend().once(" case ").await.is_replay());
        assert!(!spend().once("CASE").await.is_replay());
    })
);
