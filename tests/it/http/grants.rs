//! `/v1/organizations/{organization_id}/grants`.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::app::{Organization, TestApp, credits, instant, served, served_at};
use tests::both_engines;

use super::{assert_is_id, column};

const NOW: &str = "2026-11-22T09:00:00Z";

async fn spend(app: &TestApp, organization: &Organization, quantity: i64) {
    let spend = json!({ "action": "ai_chat", "quantity": quantity });
    app.admin.post(&organization.path("/consume")).json(spend).await.expect(201);
}

/// What is left of each grant, by its reference.
async fn remaining(app: &TestApp, organization: &Organization) -> Value {
    let grants = app.admin.all(&organization.path("/grants"), 2).await;
    let by_reference =
        grants.iter().map(|grant| (grant["reference"].as_str().unwrap().to_owned(), grant["remaining"]["ai"].clone()));
    Value::Object(by_reference.collect())
}

both_engines!(
    a_grant_is_what_was_asked_for_and_all_of_it_remains,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({})).await;
        let grant = json!({
            "credits": { "ai": 3, "whatsapp": 1 },
            "source": "promotion",
            "priority": 5,
            "effective_at": "2026-11-22T09:00:00.5Z",
            "expires_at": "2027-01-01T01:00:00+01:00",
            "reference": "invoice 7",
        });
        let made = app.grant(&acme, grant).await;
        assert_is_id(&made["id"]);
        let expected = json!({
            "id": made["id"],
            "organization_id": acme.id,
            "credits": credits(3, 1, 0, 0),
            "remaining": credits(3, 1, 0, 0),
            "state": "pending",
            "source": "promotion",
            "priority": 5,
            "effective_at": "2026-11-22T09:00:00.500Z",
            "expires_at": "2027-01-01T00:00:00Z",
            "reference": "invoice 7",
            "created_at": NOW,
        });
        assert_eq!(made, expected);
        assert_eq!(app.admin.all(&acme.path("/grants"), 10).await, [expected]);
    })
);

both_engines!(
    every_source_of_the_contract_is_taken_and_the_priority_is_ten_where_nothing_is_said,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        for source in ["purchase", "promotion", "plan", "adjustment"] {
            let made = app.grant(&acme, json!({ "credits": { "sms": 1 }, "source": source })).await;
            assert_eq!(
                (&made["source"], &made["priority"], &made["state"]),
                (&json!(source), &json!(10), &json!("active"))
            );
        }
        assert_eq!(app.available(&acme).await, credits(0, 0, 0, 4));
    })
);

both_engines!(
    credits_can_be_spent_from_their_first_instant_until_right_before_their_last,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        let (from, until) = (instant("2026-11-23T00:00:00Z"), instant("2026-11-24T00:00:00Z"));
        let grant = json!({ "credits": { "ai": 7 }, "source": "plan", "effective_at": from, "expires_at": until });
        app.grant(&acme, grant).await;
        let step = TimeDelta::microseconds(1);
        for (at, available, state) in
            [(from - step, 0, "pending"), (from, 7, "active"), (until - step, 7, "active"), (until, 0, "expired")]
        {
            clock.set(at);
            assert_eq!(app.available(&acme).await, credits(available, 0, 0, 0), "at {at}");
            let grants = app.admin.all(&acme.path("/grants"), 10).await;
            assert_eq!(column(&grants, "state"), [state], "at {at}");
            let spend = app.admin.post(&acme.path("/quote")).json(json!({ "action": "ai_chat" })).await.expect(200);
            assert_eq!(spend["allowed"], available > 0, "at {at}");
        }
    })
);

/// Lots in an order in which they do not burn: the place at which each does, its priority, its source, its end.
const LOTS: [(usize, i32, &str, Option<&str>); 7] = [
    (4, 10, "purchase", None),
    (5, 10, "purchase", None),
    (3, 10, "promotion", None),
    (2, 10, "purchase", Some("2026-12-02T00:00:00Z")),
    (1, 10, "purchase", Some("2026-12-01T00:00:00Z")),
    (6, 11, "promotion", Some("2026-11-23T00:00:00Z")),
    (0, 1, "purchase", None),
];

both_engines!(
    lots_burn_by_priority_then_by_expiry_then_promotions_first_then_by_age,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({})).await;
        for (second, (place, priority, source, end)) in LOTS.into_iter().enumerate() {
            clock.set(instant(NOW) + TimeDelta::seconds(second.try_into().unwrap()));
            let mut grant = json!({ "credits": { "ai": 10 }, "source": source, "priority": priority, "reference": place.to_string() });
            if let Some(end) = end {
                grant["expires_at"] = end.into();
            }
            app.grant(&acme, grant).await;
        }
        for spent in 1..=LOTS.len() {
            spend(app, &acme, 10).await;
            let expected = (0..LOTS.len()).map(|place| (place.to_string(), json!(if place < spent { 0 } else { 10 })));
            assert_eq!(remaining(app, &acme).await, Value::Object(expected.collect()), "after {spent} times 10");
        }
    })
);

both_engines!(
    a_lot_that_ends_takes_its_own_rest_along_and_the_statement_says_so,
    served_at(NOW, async |app, clock| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let until = "2026-11-23T00:00:00Z";
        let ending = json!({ "credits": { "ai": 50, "sms": 2 }, "source": "promotion", "expires_at": until });
        let ending = app.grant(&acme, ending).await;
        spend(app, &acme, 20).await;
        clock.set(instant("2026-11-25T00:00:00Z"));
        assert_eq!(app.available(&acme).await, credits(100, 0, 0, 0));
        let statement = app.admin.all(&acme.path("/ledger"), 10).await;
        let expiry = json!({
            "sequence": 4,
            "kind": "expiry",
            "change": { "available": credits(-30, 0, 0, -2), "held": credits(0, 0, 0, 0) },
            "balance_after": { "available": credits(100, 0, 0, 0), "held": credits(0, 0, 0, 0) },
            "reference": ending["id"],
            "created_at": until,
        });
        assert_eq!(statement[0], expiry);
        assert_eq!(column(&statement, "kind"), ["expiry", "consumption", "grant", "grant"]);
    })
);

both_engines!(
    credits_that_would_be_spendable_never_are_refused,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({})).await;
        for (field, grant) in [
            ("credits", json!({ "credits": {}, "source": "purchase" })),
            ("credits", json!({ "credits": { "ai": 0, "sms": 0 }, "source": "purchase" })),
            ("expires_at", json!({ "credits": { "ai": 1 }, "source": "plan", "expires_at": NOW })),
            ("expires_at", json!({ "credits": { "ai": 1 }, "source": "plan", "expires_at": "2020-01-01T00:00:00Z" })),
            (
                "expires_at",
                json!({
                    "credits": { "ai": 1 }, "source": "plan",
                    "effective_at": "2027-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",
                }),
            ),
        ] {
            let call = app.admin.post(&acme.path("/grants")).json(grant);
            let problem = call.await.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], field);
        }
        assert_eq!(app.admin.all(&acme.path("/grants"), 10).await, Vec::<Value>::new());
    })
);

both_engines!(
    a_balance_cannot_grow_beyond_what_json_can_say,
    served(async |app| {
        const MOST: i64 = 9_007_199_254_740_991;
        let acme = app.organization("acme", json!({ "ai": MOST })).await;
        let more = json!({ "credits": { "ai": 1 }, "source": "purchase" });
        app.admin.post(&acme.path("/grants")).json(more).await.refused(400, "out_of_range");
        // Of another type there is room, and of this one when it was spent.
        app.grant(&acme, json!({ "credits": { "sms": MOST }, "source": "purchase" })).await;
        spend(app, &acme, MOST).await;
        app.grant(&acme, json!({ "credits": { "ai": MOST }, "source": "purchase" })).await;
        assert_eq!(app.available(&acme).await, credits(MOST, 0, 0, MOST));
    })
);

both_engines!(
    a_frozen_organization_receives_and_a_closed_one_does_not,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let grant = json!({ "credits": { "email": 4 }, "source": "purchase" });
        app.set_status(&acme, "frozen").await;
        app.grant(&acme, grant.clone()).await;
        app.set_status(&acme, "closed").await;
        app.admin.post(&acme.path("/grants")).json(grant).await.refused(409, "organization_closed");
        assert_eq!(app.available(&acme).await, credits(0, 0, 4, 0));
    })
);

both_engines!(
    grants_of_one_organization_are_none_of_anothers,
    served(async |app| {
        let (acme, other) =
            (app.organization("acme", json!({ "ai": 1 })).await, app.organization("other", json!({})).await);
        assert_eq!(app.admin.all(&acme.path("/grants"), 10).await.len(), 1);
        assert_eq!(app.admin.all(&other.path("/grants"), 10).await, Vec::<Value>::new());
        assert_eq!(app.available(&other).await, credits(0, 0, 0, 0));
    })
);
