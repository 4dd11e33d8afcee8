//! `/v1/organizations/{organization_id}/ledger`.

use serde_json::{Value, json};
use tests::app::{credits, served, served_at};
use tests::both_engines;

use super::column;

const NOW: &str = "2026-11-22T09:00:00Z";

both_engines!(
    every_movement_is_a_line_highest_first_and_a_refused_attempt_is_none,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({})).await;
        let grant = app.grant(&acme, json!({ "credits": { "ai": 10, "sms": 4 }, "source": "purchase" })).await;
        app.admin
            .post(&acme.path("/consume"))
            .json(json!({ "action": "ai_image", "quantity": 3 }))
            .await
            .refused(402, "insufficient_credits");
        let paid = app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_image" })).await.expect(201);
        let line = |sequence: i64, kind: &str, change: Value, after: Value, reference: &Value| {
            json!({
                "sequence": sequence,
                "kind": kind,
                "change": { "available": change, "held": credits(0, 0, 0, 0) },
                "balance_after": { "available": after, "held": credits(0, 0, 0, 0) },
                "reference": reference,
                "created_at": NOW,
            })
        };
        let expected = [
            line(2, "consumption", credits(-5, 0, 0, 0), credits(5, 0, 0, 4), &paid["id"]),
            line(1, "grant", credits(10, 0, 0, 4), credits(10, 0, 0, 4), &grant["id"]),
        ];
        assert_eq!(app.admin.all(&acme.path("/ledger"), 10).await, expected);
    })
);

both_engines!(
    the_statement_of_many_operations_is_dense_and_adds_up,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 50 })).await;
        for round in 0..6 {
            let item = json!({ "organization_id": acme.id, "action": "ai_chat" });
            app.admin.post("/v1/consume/batch").json(json!({ "items": vec![item; 3] })).await.expect(200);
            app.grant(&acme, json!({ "credits": { "ai": round + 1 }, "source": "promotion" })).await;
        }
        let whole = app.admin.all(&acme.path("/ledger"), 100).await;
        assert_eq!(column(&whole, "sequence"), (1..=25).rev().map(Value::from).collect::<Vec<_>>());
        let mut balance = 0;
        for line in whole.iter().rev() {
            balance += line["change"]["available"]["ai"].as_i64().unwrap();
            assert_eq!(line["balance_after"]["available"]["ai"], balance, "{line}");
        }
        assert_eq!(app.available(&acme).await["ai"], balance);
        for limit in [1, 4, 7, 25] {
            assert_eq!(app.admin.all(&acme.path("/ledger"), limit).await, whole, "{limit} a page");
        }
    })
);

both_engines!(
    a_grant_that_starts_later_is_a_line_when_it_is_made_and_another_when_it_starts,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let later = "2026-11-22T10:00:00Z";
        app.grant(&acme, json!({ "credits": { "ai": 10 }, "source": "plan", "effective_at": later })).await;
        clock.set(tests::app::instant("2026-11-22T12:00:00Z"));
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        let lines: Vec<Value> = statement
            .iter()
            .map(|line| json!([line["kind"], line["change"]["available"]["ai"], line["created_at"]]))
            .collect();
        assert_eq!(lines, [json!(["activation", 10, later]), json!(["grant", 0, NOW])]);
    })
);
