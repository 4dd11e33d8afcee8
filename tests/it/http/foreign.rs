//! What belongs to another organization, wherever a caller can name it: in a path, a query, a body, or by a cursor.
//!
//! It is answered as what does not exist: with the same body, and by as many statements of the database, so that nobody
//! learns from how long it took whether something is there. Statements are counted, not seconds: what takes the same way
//! takes the same time, and a count does not depend on who else uses the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::Method;
use multicredit_store::StoreConfig;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tests::app::{Client, TestApp, served_at};
use tests::proxy::{Lie, Proxy};
use tests::{Engine, both_engines, run};

use super::walk::{ABSENT, Document, Operation, World};

/// The examples of the document are of that day.
const NOW: &str = "2026-11-22T09:30:00Z";

/// Lists of which a page has a successor only where more has happened than here: deliveries are made by a deliverer, and
/// events are raised by rules that were crossed. Each has a test of its own for its pages.
const SHORT: [&str; 3] = [
    "/v1/webhook-endpoints/{endpoint_id}/deliveries",
    "/v1/organizations/{organization_id}/events",
    "/v1/organizations/{organization_id}/top-ups",
];

/// More of what a world has one of, so that its lists have pages.
async fn more_of_everything(app: &TestApp, world: &World) {
    let admin = &app.admin;
    let organization = &world.organization;
    let of_it = |mut body: Value| {
        body["organization_id"] = organization.id.as_str().into();
        body
    };
    let tokens = json!({ "action": "ai_tokens", "quantity": 1_000 });
    admin.post(&organization.path("/consume")).json(tokens.clone()).await.expect(201);
    admin.post(&organization.path("/holds")).json(tokens).await.expect(201);
    admin.put(&organization.path("/members/user-43")).await.expect(200);
    let rule = json!({ "threshold": 0, "amount": 5 });
    admin.put(&organization.path("/top-up-rules/sms")).json(rule).await.expect(200);
    admin.post("/v1/api-keys").json(of_it(json!({ "name": "more", "scopes": ["read"] }))).await.expect(201);
    let rule = json!({ "name": "more", "measure": "amount", "threshold": 0 });
    admin.post("/v1/alert-rules").json(of_it(rule)).await.expect(201);
    admin.post("/v1/webhook-endpoints").json(of_it(json!({ "url": "http://127.0.0.1:1/" }))).await.expect(201);
}

/// A world of one's own, one of somebody else, and a key that is bound to the first.
async fn two_worlds(app: &TestApp) -> (World, World, Client) {
    let (own, foreign) = (World::new(app, "own").await, World::new(app, "foreign-one").await);
    let bound = app.bound_key(&["admin"], &own.organization).await;
    (own, foreign, bound)
}

fn has_parameter(operation: &Operation, name: &str) -> bool {
    operation.parameters("query").iter().any(|parameter| parameter["name"] == name)
}

/// Asserts that an answer tells nothing of somebody's things.
#[track_caller]
fn assert_says_nothing(answer: &tests::app::Answer, world: &World) {
    let body = String::from_utf8_lossy(&answer.body);
    for secret in world.secrets() {
        assert!(!body.contains(secret), "{secret} stands in {answer}");
    }
}

/// The items of a list.
async fn items(client: &Client, path: &str) -> BTreeSet<String> {
    let page = client.get(&format!("{path}?limit=100")).await.expect(200);
    assert_eq!(page["next_cursor"], Value::Null, "{path} has more than a page");
    page["items"].as_array().unwrap().iter().map(Value::to_string).collect()
}

/// The cursors behind each of the first items of a list.
async fn cursors(client: &Client, path: &str) -> Vec<String> {
    let mut cursors = Vec::new();
    let mut page = client.get(&format!("{path}?limit=1")).await.expect(200);
    while let (Some(cursor), true) = (page["next_cursor"].as_str().map(str::to_owned), cursors.len() < 8) {
        page = client.get(&format!("{path}?limit=1&cursor={cursor}")).await.expect(200);
        cursors.push(cursor);
    }
    cursors
}

both_engines!(
    a_cursor_of_anothers_page_leads_to_nothing_but_ones_own,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let (own, foreign, bound) = two_worlds(app).await;
        for world in [&own, &foreign] {
            more_of_everything(app, world).await;
        }
        if app.store.engine() == multicredit_store::Engine::Postgres {
            let refresh = "REFRESH MATERIALIZED VIEW mv_organization_usage_summary";
            app.db().connect().await.unwrap().execute_unprepared(refresh).await.unwrap();
        }
        let lists =
            document.operations().into_iter().filter(|it| it.method == Method::GET && has_parameter(it, "cursor"));
        let mut short = BTreeSet::new();
        let mut used = 0;
        for operation in lists {
            let path = own.path(&operation);
            let visible = items(&bound, &path).await;
            let cursors = cursors(&app.admin, &foreign.path(&operation)).await;
            if cursors.is_empty() {
                short.insert(operation.path.clone());
            }
            for cursor in cursors {
                let answer = bound.get(&format!("{path}?limit=100&cursor={cursor}")).await;
                let page = answer.expect(200);
                assert_says_nothing(&answer, &foreign);
                for item in page["items"].as_array().unwrap() {
                    assert!(visible.contains(&item.to_string()), "{} shows {item}", operation.name());
                }
                used += 1;
            }
        }
        assert_eq!(short, SHORT.map(str::to_owned).into());
        assert!(used >= 30, "{used}");
    })
);

both_engines!(
    anothers_id_in_a_query_is_answered_like_one_of_nothing,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let (own, foreign, bound) = two_worlds(app).await;
        let nobody = World::of_nobody();
        let mut asked = BTreeSet::new();
        for operation in document.operations() {
            let parameters = operation.parameters("query");
            let names = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap());
            for name in names.filter(|name| name.ends_with("_id")) {
                let ask = async |world: &World| {
                    let id = world.value(name).unwrap_or_else(|| panic!("a parameter that nobody knows: {name}"));
                    own.call_at(&bound, &document, &operation, &format!("{}?{name}={id}", own.path(&operation))).await
                };
                let (answer, of_nobody) = (ask(&foreign).await, ask(&nobody).await);
                let what = format!("{} by {name}", operation.name());
                assert_says_nothing(&answer, &foreign);
                assert_eq!(answer.without_request_id(), of_nobody.without_request_id(), "{what}");
                let is_empty = answer.status == 200 && answer.json()["items"] == json!([]);
                assert!(is_empty || matches!(answer.status, 403 | 404), "{what}: {answer}");
                asked.insert(what);
            }
        }
        assert!(asked.len() >= 4, "{asked:?}");
    })
);

/// The fields of a body, by their names, that say which thing is meant.
fn ids_of(document: &Document, operation: &Operation) -> Vec<String> {
    let Some((_, schema)) = document.body(operation) else { return Vec::new() };
    let names = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name);
    // What a customer calls an organization is a new name there, and says nothing of another one.
    names.filter(|name| name.ends_with("_id") && *name != "external_id").cloned().collect()
}

both_engines!(
    anothers_id_in_a_body_is_answered_like_one_of_nothing_and_does_nothing,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let (own, foreign, bound) = two_worlds(app).await;
        let nobody = World::of_nobody();
        let reader = app.db().contents().await.unwrap();
        let before = reader.read().await.unwrap();
        let mut asked = BTreeSet::new();
        for operation in document.operations() {
            for name in ids_of(&document, &operation) {
                let (media_type, example) = own.example(&document, &operation).unwrap();
                let ask = async |world: &World| {
                    let mut body = example.clone();
                    body[&name] =
                        world.value(&name).unwrap_or_else(|| panic!("a field that nobody knows: {name}")).into();
                    bound
                        .call(operation.method.clone(), &own.path(&operation))
                        .body(&media_type, body.to_string())
                        .await
                };
                let (answer, of_nobody) = (ask(&foreign).await, ask(&nobody).await);
                let what = format!("{} by {name}", operation.name());
                assert_says_nothing(&answer, &foreign);
                assert_eq!(answer.without_request_id(), of_nobody.without_request_id(), "{what}");
                assert!(matches!(answer.status, 403 | 404), "{what}: {answer}");
                asked.insert(what);
            }
        }
        assert!(asked.len() >= 2, "{asked:?}");
        let after = reader.read().await.unwrap();
        assert_eq!(after.differences(&before), Vec::<&str>::new());
    })
);

/// The paths of an operation by which a thing of another is named, each with the one that names nothing.
fn pairs(operation: &Operation, own: &World, foreign: &World, nobody: &World) -> Vec<(String, String)> {
    let mut pairs = vec![(foreign.path(operation), foreign.path_in(operation, ABSENT))];
    if !operation.is_of_an_organization() {
        pairs = vec![(foreign.path(operation), nobody.path(operation))];
    }
    pairs.push((foreign.path_in(operation, &own.organization.id), nobody.path_in(operation, &own.organization.id)));
    pairs.dedup();
    pairs.retain(|(foreign, absent)| foreign != absent);
    pairs
}

both_engines!(
    anothers_id_in_a_path_is_answered_like_one_of_nothing,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let (own, foreign, bound) = two_worlds(app).await;
        let nobody = World::of_nobody();
        let mut asked = 0;
        for operation in document.operations() {
            for (path, absent) in pairs(&operation, &own, &foreign, &nobody) {
                let answer = own.call_at(&bound, &document, &operation, &path).await;
                let of_nobody = own.call_at(&bound, &document, &operation, &absent).await;
                assert_says_nothing(&answer, &foreign);
                assert_eq!(
                    answer.without_request_id(),
                    of_nobody.without_request_id(),
                    "{} at {path}",
                    operation.name()
                );
                assert!(matches!(answer.status, 403 | 404), "{answer}");
                asked += 1;
            }
        }
        assert!(asked >= 50, "{asked}");
    })
);

/// How often the database is waited for while each of two things is asked, as it is most of the time: what is prepared, kept
/// or told in the background comes on top now and then, and what is late falls to the next. More often where they differ,
/// since what is really different stays so. Both are asked in turn, so that neither has it better.
async fn round_trips(proxy: &Proxy, ask: impl AsyncFn(&str) -> u16, paths: [&str; 2]) -> [(u16, usize); 2] {
    let mut counts: [BTreeMap<(u16, usize), usize>; 2] = Default::default();
    for round in 0..30 {
        if round >= 6 && usual(&counts[0]) == usual(&counts[1]) {
            break;
        }
        for (path, counts) in paths.into_iter().zip(&mut counts) {
            let before = quiet(proxy).await;
            let status = ask(path).await;
            *counts.entry((status, quiet(proxy).await - before)).or_default() += 1;
        }
    }
    counts.each_ref().map(usual)
}

/// What was counted most often.
fn usual(counts: &BTreeMap<(u16, usize), usize>) -> (u16, usize) {
    counts.iter().max_by_key(|(_, times)| **times).map(|(counted, _)| *counted).unwrap_or_default()
}

/// How many round trips there were, once there are no more: a connection is tried when it goes back to its pool, behind
/// the answer.
async fn quiet(proxy: &Proxy) -> usize {
    loop {
        let before = proxy.round_trips();
        tokio::time::sleep(Duration::from_millis(4)).await;
        if proxy.round_trips() == before {
            return before;
        }
    }
}

/// Two look-ups that have forgotten whose the thing is that they look for: what this test is there to find, planted from
/// outside with `MULTICREDIT_FAULT_PLANT=forgotten_tenant`.
const FORGOTTEN_TENANT: [Lie; 2] = [
    Lie { of: r#""alert_rules"."organization_id" = $2"#, instead: "$2::uuid IS NOT NULL" },
    Lie { of: r#""credit_holds"."organization_id" = $1"#, instead: "$1::uuid IS NOT NULL" },
];

/// `PostgreSQL` alone: the proxy counts there, and the statements are the same.
#[test]
fn anothers_id_takes_as_many_round_trips_as_one_of_nothing() {
    run(Engine::Postgres, async |db| {
        let (proxy, url) = Proxy::before_database(db.url()).await;
        let clock = multicredit_store::clock::Clock::manual(tests::app::instant(NOW));
        let config = StoreConfig { max_connections: 1, clock, ..StoreConfig::new(url) };
        if std::env::var("MULTICREDIT_FAULT_PLANT").is_ok_and(|plant| plant == "forgotten_tenant") {
            for lie in FORGOTTEN_TENANT {
                proxy.lie(lie);
            }
        }
        let app = TestApp::configured(db, config).await;
        let document = Document::of(&app).await;
        let (own, foreign, bound) = two_worlds(&app).await;
        let nobody = World::of_nobody();
        let mut different = Vec::new();
        let (mut asked, mut most) = (0, 0);
        for operation in document.operations() {
            for (path, absent) in pairs(&operation, &own, &foreign, &nobody) {
                let ask = async |path: &str| own.call_at(&bound, &document, &operation, path).await.status;
                let [of_another, of_nothing] = round_trips(&proxy, ask, [&path, &absent]).await;
                if of_another != of_nothing {
                    different.push(format!("{} at {path}: {of_another:?}, not {of_nothing:?}", operation.name()));
                }
                asked += 1;
                most = most.max(of_nothing.1);
            }
        }
        assert_eq!(different, Vec::<String>::new());
        assert!(asked >= 50 && most >= 1, "{asked}, {most}: nothing was counted");
        app.finish().await;
    });
}
