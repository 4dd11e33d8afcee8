//! Who may do what: every operation, with every kind of key.
//!
//! The rule stands here once more, in the contract's words, so that an operation that is added without a thought for its
//! scope fails here.

use hyper::Method;
use serde_json::{Value, json};
use tests::app::{Client, TestApp, served_at};
use tests::{ContentsReader, both_engines};

use super::walk::{ABSENT, Document, Operation, World};

/// The examples of the document are of that day.
const NOW: &str = "2026-11-22T09:30:00Z";

const SCOPES: [&str; 4] = ["read", "consume", "credit", "admin"];

/// `read`: every GET but that of a secret, and quote; `consume`: consume, batch, events, holds; `credit`: grants, adjustments, refunds,
/// subscription; `admin`: everything.
pub fn scope_of(operation: &Operation) -> &'static str {
    let path = operation.path.as_str();
    if path.ends_with("/secret") {
        return "admin";
    }
    if operation.method == Method::GET || path.ends_with("/quote") {
        return "read";
    }
    let consume = ["/consume", "/consume/batch", "/events", "/holds"];
    let credit = ["/grants", "/void", "/adjustments", "/refund", "/subscription"];
    if consume.iter().any(|end| path.ends_with(end)) || path.contains("/holds/") {
        "consume"
    } else if credit.iter().any(|end| path.ends_with(end)) {
        "credit"
    } else {
        "admin"
    }
}

/// Whether it is about what all organizations have in common.
fn concerns_all(operation: &Operation) -> bool {
    let catalogue = ["/v1/organizations", "/v1/actions/{action_type}", "/v1/plans/{code}"];
    let is_of_all = operation.path == "/v1/performance";
    is_of_all || (operation.method != Method::GET && catalogue.contains(&operation.path.as_str()))
}

async fn assert_unchanged(reader: &ContentsReader, before: &tests::Contents, what: &str) {
    let after = reader.read().await.unwrap();
    assert_eq!(after.differences(before), Vec::<&str>::new(), "changed by {what}");
}

both_engines!(
    without_a_valid_key_every_operation_says_the_same_and_does_nothing,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let revoked = json!({ "name": "revoked", "scopes": ["admin"] });
        let revoked = app.admin.post("/v1/api-keys").json(revoked).await.expect(201);
        let path = format!("/v1/api-keys/{}", revoked["id"].as_str().unwrap());
        app.admin.delete(&path).await.expect(204);
        let callers = [
            ("no key", app.stranger()),
            ("an unknown key", app.admin.with_key("mc_0123456789012345678901234567890123456789012")),
            ("a revoked key", app.admin.with_key(revoked["key"].as_str().unwrap())),
        ];
        let reader = app.db().contents().await.unwrap();
        let before = reader.read().await.unwrap();
        let expected = app.stranger().get("/v1/actions").await.without_request_id();
        for operation in document.operations() {
            for (kind, client) in &callers {
                let answer = world.call(client, &document, &operation).await;
                answer.refused(401, "unauthorized");
                assert_eq!(answer.without_request_id(), expected, "{} with {kind}", operation.name());
                let absent = world.path_in(&operation, ABSENT);
                let absent = world.call_at(client, &document, &operation, &absent).await;
                assert_eq!(absent.without_request_id(), expected, "{} of nobody with {kind}", operation.name());
            }
        }
        assert_unchanged(&reader, &before, "callers without a key").await;
    })
);

both_engines!(
    a_key_without_the_scope_of_an_operation_is_refused_before_anything_else_is_looked_at,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let mut keys = Vec::new();
        for scope in SCOPES {
            keys.push((scope, app.key(&[scope]).await));
            keys.push((scope, app.bound_key(&[scope], &world.organization).await));
        }
        let reader = app.db().contents().await.unwrap();
        let before = reader.read().await.unwrap();
        let operations = document.operations();
        for operation in &operations {
            let needed = scope_of(operation);
            for (scope, client) in keys.iter().filter(|(scope, _)| *scope != needed && *scope != "admin") {
                let name = format!("{} with {scope}", operation.name());
                let answer = world.call(client, &document, operation).await;
                answer.refused(403, "forbidden_scope");
                assert!(operation.documents(403), "{name}");
                let absent = world.path_in(operation, ABSENT);
                let absent = world.call_at(client, &document, operation, &absent).await;
                assert_eq!(absent.without_request_id(), answer.without_request_id(), "{name}, of nobody");
                let broken = client.call(operation.method.clone(), &world.path(operation)).body("text/plain", "{");
                assert_eq!(broken.await.without_request_id(), answer.without_request_id(), "{name}, broken");
            }
        }
        assert_unchanged(&reader, &before, "keys without the scope").await;
        // And not for want of anything else: with the scope the same calls are let through.
        for operation in &operations {
            let needed = scope_of(operation);
            for (scope, client) in keys.iter().filter(|(scope, _)| *scope == needed || *scope == "admin") {
                let answer = world.call(client, &document, operation).await;
                let is_bound = answer.status == 403 && answer.json()["code"] == "forbidden_bound_key";
                let let_through = !matches!(answer.status, 401 | 403) || (is_bound && concerns_all(operation));
                assert!(let_through, "with {scope}: {answer}");
                assert!(operation.documents(answer.status), "not in the document: {answer}");
            }
        }
    })
);

/// Where a bound key may succeed with what names another organization's things: each says nothing of them.
fn assert_says_nothing(answer: &tests::app::Answer, world: &World) {
    let body = String::from_utf8_lossy(&answer.body);
    assert!(!body.contains(&world.organization.id), "{answer}");
    assert!(!body.contains(&world.external_id), "{answer}");
}

/// Asserts that the foreign and the absent are answered alike, with 404.
async fn assert_alike(
    client: &Client,
    document: &Document,
    operation: &Operation,
    (foreign, absent): (&World, &str),
) -> (u16, Value) {
    let name = operation.name();
    let answer = foreign.call(client, document, operation).await;
    answer.refused(404, "unknown_organization");
    assert!(operation.documents(404), "{name}");
    let path = foreign.path_in(operation, absent);
    let of_nobody = foreign.call_at(client, document, operation, &path).await;
    assert_eq!(answer.without_request_id(), of_nobody.without_request_id(), "{name}");
    answer.without_request_id()
}

both_engines!(
    another_tenants_organization_is_answered_like_one_that_does_not_exist,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let (own, foreign) = (World::new(app, "own").await, World::new(app, "foreign-one").await);
        let bound = app.bound_key(&["admin"], &own.organization).await;
        let reader = app.db().contents().await.unwrap();
        let before = reader.read().await.unwrap();
        let operations = document.operations();
        for operation in operations.iter().filter(|operation| operation.is_of_an_organization()) {
            let said = assert_alike(&bound, &document, operation, (&foreign, ABSENT)).await;
            // An unbound key is told the same of one that does not exist.
            let path = foreign.path_in(operation, ABSENT);
            let absent = foreign.call_at(&app.admin, &document, operation, &path).await;
            assert_eq!(absent.without_request_id(), said, "{}", operation.name());
            // What belongs to another is not found by way of one's own either.
            let path = foreign.path_in(operation, &own.organization.id);
            if path != own.path(operation) {
                let crossed = foreign.call_at(&bound, &document, operation, &path).await;
                assert_eq!(crossed.status, 404, "{crossed}");
                assert_says_nothing(&crossed, &foreign);
            }
        }
        assert_unchanged(&reader, &before, "a key of another organization").await;
    })
);

both_engines!(
    a_bound_key_finds_nothing_of_others_where_no_organization_stands_in_the_path,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let (own, foreign) = (World::new(app, "own").await, World::new(app, "foreign-one").await);
        let bound = app.bound_key(&["admin"], &own.organization).await;
        let reader = app.db().contents().await.unwrap();
        let before = reader.read().await.unwrap();
        let operations = document.operations();
        let elsewhere = operations.iter().filter(|operation| !operation.is_of_an_organization());
        for operation in elsewhere {
            let answer = foreign.call(&bound, &document, operation).await;
            if concerns_all(operation) {
                answer.refused(403, "forbidden_bound_key");
                continue;
            }
            assert_says_nothing(&answer, &foreign);
            let path = operation.path.as_str();
            match (&operation.method, path) {
                (&Method::POST, "/v1/events" | "/v1/consume/batch") => {
                    assert_every_result_is_unknown(&answer.expect(200));
                }
                (&Method::POST, "/v1/api-keys" | "/v1/alert-rules" | "/v1/webhook-endpoints") => {
                    drop(answer.refused(404, "unknown_organization"));
                }
                (_, path) if path.starts_with("/v1/webhook-endpoints/") => drop(answer.refused(404, "not_found")),
                (&Method::DELETE | &Method::PATCH, _) | (&Method::GET, "/v1/alert-rules/{alert_rule_id}") => {
                    drop(answer.refused(404, "not_found"));
                }
                (&Method::GET, _) => drop(answer.expect(200)),
                _ => panic!("what is a bound key to do with {}?", operation.name()),
            }
        }
        assert_unchanged(&reader, &before, "a key of another organization").await;
    })
);

fn assert_every_result_is_unknown(answer: &Value) {
    let results = answer["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        assert_eq!((&result["status"], &result["problem"]["code"]), (&json!(404), &json!("unknown_organization")));
    }
}

/// A bound key and an unbound one get the same of what belongs to the organization.
async fn seen_by(client: &Client, app: &TestApp, world: &World, operation: &Operation) -> (u16, Vec<u8>) {
    let answer = client.get(&world.path(operation)).await;
    assert_eq!(answer.status, 200, "{answer}");
    let by_admin = app.admin.get(&world.path(operation)).await;
    assert_eq!(by_admin.status, 200, "{by_admin}");
    (answer.status, answer.body.to_vec())
}

both_engines!(
    a_bound_key_sees_of_its_own_organization_what_an_unbound_one_sees,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let bound = app.bound_key(&["read"], &world.organization).await;
        let reader = app.key(&["read"]).await;
        for operation in document.operations() {
            if operation.method == Method::GET && operation.is_of_an_organization() {
                let by_bound = seen_by(&bound, app, &world, &operation).await;
                assert_eq!(by_bound, seen_by(&reader, app, &world, &operation).await, "{}", operation.name());
            }
        }
    })
);
