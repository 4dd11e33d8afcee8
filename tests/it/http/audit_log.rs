//! `/v1/audit-log`: that every change leaves its line, and what a line says.

use hyper::Method;
use serde_json::{Value, json};
use tests::app::{Call, Client, Organization, TestApp, credits, served};
use tests::both_engines;

use super::walk::{ABSENT, Document, World};
use super::{assert_is_instant, column, fields};

const PATH: &str = "/v1/audit-log";

/// Operations that change something, or look as if they did, and leave no line; and why that is right.
const EXEMPT: [(&str, &str); 5] = [
    ("consume", "a consumption: it has a log of its own"),
    ("consumeBatch", "consumptions"),
    ("reportEvents", "consumptions"),
    ("captureHold", "a consumption of what was held"),
    ("quote", "changes nothing"),
];

/// A call of one operation that changes something, and what its line must say.
struct Case {
    call: Call,
    /// Of which organization; `None` is nobody's.
    organization_id: Option<String>,
    /// Whether there is a `before` and an `after`.
    states: (bool, bool),
}

/// What is done by a key that does nothing else, to an organization with one of everything.
struct Scene<'a> {
    app: &'a TestApp,
    by: Client,
    organization: Organization,
}

/// Whether there is a `before` and an `after`.
const MADE: (bool, bool) = (false, true);
const CHANGED: (bool, bool) = (true, true);
const GONE: (bool, bool) = (true, false);

impl Scene<'_> {
    fn at(&self, rest: &str) -> String {
        self.organization.path(rest)
    }

    /// The id of something that the admin makes there first.
    async fn made(&self, rest: &str, body: Value) -> String {
        let made = self.app.admin.post(&self.at(rest)).json(body).await.expect(201);
        made["id"].as_str().unwrap().to_owned()
    }

    fn rule(&self) -> Value {
        json!({ "name": "low", "organization_id": self.organization.id, "measure": "amount", "threshold": 5 })
    }

    async fn hold(&self) -> String {
        self.made("/holds", json!({ "action": "ai_chat" })).await
    }

    /// An endpoint where nobody listens.
    fn new_endpoint(&self) -> Value {
        json!({ "url": "http://127.0.0.1:1/", "organization_id": self.organization.id })
    }

    /// A change of an endpoint that the admin makes first.
    async fn of_endpoint(&self, operation: &str) -> (Call, (bool, bool)) {
        let made = self.app.admin.post("/v1/webhook-endpoints").json(self.new_endpoint()).await.expect(201);
        let at = format!("/v1/webhook-endpoints/{}", made["id"].as_str().unwrap());
        let event = format!("evt_{}_1_0", self.organization.id.replace('-', ""));
        match operation {
            "updateWebhookEndpoint" => (self.by.patch(&at).json(json!({ "enabled": false })), CHANGED),
            "deleteWebhookEndpoint" => (self.by.delete(&at), GONE),
            "rotateWebhookSecret" => (self.by.post(&format!("{at}/rotate-secret")), CHANGED),
            "testWebhookEndpoint" => (self.by.post(&format!("{at}/test")), MADE),
            _ => (self.by.post(&format!("{at}/redeliver")).json(json!({ "event_id": event })), MADE),
        }
    }

    async fn case(&self, operation: &str) -> Case {
        let grant = json!({ "credits": { "ai": 5 }, "source": "purchase" });
        let plan = json!({ "allowance": { "ai": 1 }, "interval": "month" });
        let (call, states) = match operation {
            "createOrganization" => (self.by.post("/v1/organizations").json(json!({ "name": "new" })), MADE),
            "updateOrganization" => (self.by.patch(&self.at("")).json(json!({ "name": "renamed" })), CHANGED),
            "putAction" => (self.by.put("/v1/actions/sms").json(json!({ "costs": { "sms": 2 } })), CHANGED),
            "putPlan" => (self.by.put("/v1/plans/audited").json(plan), MADE),
            "createGrant" => (self.by.post(&self.at("/grants")).json(grant), MADE),
            "voidGrant" => {
                let id = self.made("/grants", grant).await;
                (self.by.post(&self.at(&format!("/grants/{id}/void"))), CHANGED)
            }
            "createAdjustment" => {
                let change = json!({ "change": { "ai": -1 }, "reason": "a mistake" });
                (self.by.post(&self.at("/adjustments")).json(change), CHANGED)
            }
            "refundConsumption" => {
                let id = self.made("/consume", json!({ "action": "ai_chat" })).await;
                let reason = json!({ "reason": "it failed" });
                (self.by.post(&self.at(&format!("/consumptions/{id}/refund"))).json(reason), CHANGED)
            }
            "placeHold" => (self.by.post(&self.at("/holds")).json(json!({ "action": "ai_chat" })), MADE),
            "releaseHold" => {
                let id = self.hold().await;
                (self.by.post(&self.at(&format!("/holds/{id}/release"))), CHANGED)
            }
            "extendHold" => {
                let id = self.hold().await;
                let longer = json!({ "ttl_seconds": 900 });
                (self.by.post(&self.at(&format!("/holds/{id}/extend"))).json(longer), CHANGED)
            }
            "putSubscription" | "deleteSubscription" => {
                self.app.admin.put("/v1/plans/monthly").json(plan).await.expect(200);
                let subscription = json!({ "plan": "monthly" });
                if operation == "putSubscription" {
                    (self.by.put(&self.at("/subscription")).json(subscription), MADE)
                } else {
                    self.app.admin.put(&self.at("/subscription")).json(subscription).await.expect(200);
                    (self.by.delete(&self.at("/subscription")), GONE)
                }
            }
            "putMember" => (self.by.put(&self.at("/members/user-1")), MADE),
            "deleteMember" => {
                self.app.admin.put(&self.at("/members/user-2")).await.expect(200);
                (self.by.delete(&self.at("/members/user-2")), GONE)
            }
            "createApiKey" => {
                let new = json!({ "name": "new", "scopes": ["read"], "organization_id": self.organization.id });
                (self.by.post("/v1/api-keys").json(new), MADE)
            }
            "revokeApiKey" => {
                let new = json!({ "name": "old", "scopes": ["read"], "organization_id": self.organization.id });
                let made = self.app.admin.post("/v1/api-keys").json(new).await.expect(201);
                (self.by.delete(&format!("/v1/api-keys/{}", made["id"].as_str().unwrap())), CHANGED)
            }
            "createAlertRule" => (self.by.post("/v1/alert-rules").json(self.rule()), MADE),
            "updateAlertRule" | "deleteAlertRule" => {
                let made = self.app.admin.post("/v1/alert-rules").json(self.rule()).await.expect(201);
                let path = format!("/v1/alert-rules/{}", made["id"].as_str().unwrap());
                if operation == "updateAlertRule" {
                    (self.by.patch(&path).json(json!({ "threshold": 7 })), CHANGED)
                } else {
                    (self.by.delete(&path), GONE)
                }
            }
            "putTopUpRule" | "deleteTopUpRule" => {
                let (path, rule) = (self.at("/top-up-rules/ai"), json!({ "threshold": 1, "amount": 5 }));
                if operation == "putTopUpRule" {
                    (self.by.put(&path).json(rule), MADE)
                } else {
                    self.app.admin.put(&path).json(rule).await.expect(200);
                    (self.by.delete(&path), GONE)
                }
            }
            "createWebhookEndpoint" => (self.by.post("/v1/webhook-endpoints").json(self.new_endpoint()), MADE),
            "updateWebhookEndpoint"
            | "deleteWebhookEndpoint"
            | "rotateWebhookSecret"
            | "testWebhookEndpoint"
            | "redeliverEvent" => self.of_endpoint(operation).await,
            other => panic!("what line does {other} leave? If none, say why above"),
        };
        let is_nobodys = ["putAction", "putPlan"].contains(&operation);
        let organization_id = (!is_nobodys).then(|| self.organization.id.clone());
        Case { call, organization_id, states }
    }
}

/// A key of a name, with a client for it.
async fn key(app: &TestApp, name: &str) -> (Value, Client) {
    let made = app.admin.post("/v1/api-keys").json(json!({ "name": name, "scopes": ["admin"] })).await.expect(201);
    let client = app.admin.with_key(made["key"].as_str().unwrap());
    (made, client)
}

async fn lines(app: &TestApp, query: &str) -> Vec<Value> {
    app.admin.all(&format!("{PATH}?{query}"), 7).await
}

both_engines!(
    every_operation_that_changes_something_leaves_its_line,
    served(async |app| {
        let document = Document::of(app).await;
        let operations = document.operations().into_iter().filter(|operation| operation.method != Method::GET);
        let mut exempt: Vec<&str> = EXEMPT.iter().map(|(name, _)| *name).collect();
        let (made, by) = key(app, "the only one").await;
        for operation in operations {
            let name = operation.described["operationId"].as_str().unwrap();
            if let Some(place) = exempt.iter().position(|exempt| *exempt == name) {
                exempt.remove(place);
                continue;
            }
            let organization = app.organization(name, json!({ "ai": 100 })).await;
            let scene = Scene { app, by: by.clone(), organization };
            let Case { call, organization_id, states } = scene.case(name).await;
            let answer = call.header("X-Request-Id", format!("case-{name}")).header("X-Actor", "Jürgen").await;
            assert!((200..300).contains(&answer.status), "{answer}");
            let found = lines(app, &format!("operation={name}&api_key_id={}", made["id"].as_str().unwrap())).await;
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            let line = &found[0];
            assert_eq!(line["request_id"], format!("case-{name}"), "{line}");
            assert_eq!(line["actor"], "Jürgen", "{line}");
            assert_eq!((&line["api_key_id"], &line["api_key_name"]), (&made["id"], &made["name"]), "{line}");
            assert_eq!(line["api_key_prefix"], made["prefix"], "{line}");
            assert_is_instant(&line["created_at"]);
            assert_eq!((line["before"].is_object(), line["after"].is_object()), states, "{line}");
            assert_ne!(line["before"], line["after"], "{line}");
            // A new organization's first line is its own.
            let of = if name == "createOrganization" { answer.json()["id"].clone() } else { json!(organization_id) };
            assert_eq!(line["organization_id"], of, "{line}");
            let secret = &made["key"].as_str().unwrap()[12..];
            let answered = String::from_utf8_lossy(&answer.body);
            let new_secret = answered.split("\"mc_").nth(1).map(|rest| &rest[12..40]);
            assert!(!line.to_string().contains(secret), "{line}");
            assert!(new_secret.is_none_or(|new_secret| !line.to_string().contains(new_secret)), "{line}");
        }
        assert_eq!(exempt, Vec::<&str>::new(), "operations that are not in the document");
    })
);

both_engines!(
    consumptions_leave_no_line,
    served(async |app| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let before = lines(app, "").await;
        for operation in document.operations() {
            let name = operation.described["operationId"].as_str().unwrap();
            if EXEMPT.iter().any(|(exempt, _)| *exempt == name) {
                let answer = world.call(&app.admin, &document, &operation).await;
                assert!((200..300).contains(&answer.status), "{answer}");
            }
        }
        assert_eq!(lines(app, "").await, before);
    })
);

both_engines!(
    what_is_replayed_refused_or_changes_nothing_leaves_no_line,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let grant = json!({ "credits": { "ai": 5 }, "source": "purchase" });
        let grant = || app.admin.post(&acme.path("/grants")).json(grant.clone()).once("grant");
        let made = grant().await.expect(201);
        let hold = app.admin.post(&acme.path("/holds")).json(json!({ "action": "ai_chat" })).await.expect(201);
        let release = acme.path(&format!("/holds/{}/release", hold["id"].as_str().unwrap()));
        let void = acme.path(&format!("/grants/{}/void", made["id"].as_str().unwrap()));
        app.admin.post(&release).await.expect(200);
        app.admin.post(&void).await.expect(200);
        app.admin.put(&acme.path("/members/u")).await.expect(200);
        app.admin.put("/v1/plans/p").json(json!({ "allowance": { "ai": 1 }, "interval": "day" })).await.expect(200);
        let subscription = json!({ "plan": "p" });
        app.admin.put(&acme.path("/subscription")).json(subscription.clone()).await.expect(200);
        let spare = json!({ "name": "spare", "scopes": ["read"] });
        let spare = app.admin.post("/v1/api-keys").json(spare).await.expect(201);
        let spare = format!("/v1/api-keys/{}", spare["id"].as_str().unwrap());
        app.admin.delete(&spare).await.expect(204);
        let before = lines(app, "").await;
        // One for each call, and for the test's own admin key. The grant of the subscription's period is nobody's doing.
        assert_eq!(before.len(), 12, "{:?}", column(&before, "operation"));

        assert!(grant().await.is_replay());
        app.admin.post(&release).await.expect(200);
        app.admin.post(&void).await.expect(200);
        app.admin.put(&acme.path("/members/u")).await.expect(200);
        app.admin.put(&acme.path("/subscription")).json(subscription).await.expect(200);
        app.admin.delete(&spare).await.expect(204);
        let same = json!({ "name": "acme", "time_zone": "UTC", "status": "active" });
        app.admin.patch(&acme.path("")).json(same).await.expect(200);

        let too_much = json!({ "change": { "ai": -1_000 }, "reason": "too much" });
        app.admin.post(&acme.path("/adjustments")).json(too_much).await.refused(402, "insufficient_credits");
        let unknown = json!({ "action": "unknown" });
        app.admin.post(&acme.path("/holds")).json(unknown).await.refused(404, "unknown_action");
        let taken = json!({ "name": "other", "external_id": "acme" });
        app.admin.post("/v1/organizations").json(taken).await.refused(409, "external_id_taken");
        app.admin.delete(&acme.path("/members/nobody")).await.refused(404, "not_found");
        let past = json!({ "costs": { "ai": 1 }, "effective_at": "2020-01-01T00:00:00Z" });
        app.admin.put("/v1/actions/sms").json(past).await.refused(400, "invalid_request");
        assert_eq!(lines(app, "").await, before);
    })
);

both_engines!(
    a_line_says_how_things_were_and_are,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let line = async |operation: &str| {
            let found = lines(app, &format!("operation={operation}&organization_id={}", acme.id)).await;
            (found[0]["subject"].clone(), found[0]["before"].clone(), found[0]["after"].clone())
        };
        let created = json!({ "name": "acme", "external_id": "acme", "time_zone": "UTC", "status": "active" });
        assert_eq!(line("createOrganization").await, (json!(acme.id), Value::Null, created));

        let update = json!({ "name": "Acme", "time_zone": "Europe/Berlin" });
        app.admin.patch(&acme.path("")).json(update.clone()).await.expect(200);
        let before = json!({ "name": "acme", "time_zone": "UTC" });
        assert_eq!(line("updateOrganization").await, (json!(acme.id), before, update));

        app.set_status(&acme, "frozen").await;
        let (_, before, after) = line("updateOrganization").await;
        assert_eq!((before, after), (json!({ "status": "active" }), json!({ "status": "frozen" })));

        let adjustment = json!({ "change": { "ai": -3 }, "reason": "a mistake" });
        let made = app.admin.post(&acme.path("/adjustments")).json(adjustment).await.expect(201);
        let (subject, before, after) = line("createAdjustment").await;
        assert_eq!((subject, before), (made["id"].clone(), json!({ "available": credits(10, 0, 0, 0) })));
        assert_eq!((&after["available"], &after["reason"]), (&credits(7, 0, 0, 0), &json!("a mistake")));

        let put = async |role: &str| {
            app.admin.put(&acme.path("/members/u")).json(json!({ "role": role })).await.expect(200);
        };
        put("billing").await;
        put("owner").await;
        let expected = (json!("u"), json!({ "role": "billing" }), json!({ "role": "owner" }));
        assert_eq!(line("putMember").await, expected);

        // Its end ends the subscription, which nobody asked for by itself.
        app.set_status(&acme, "active").await;
        app.admin.put("/v1/plans/p").json(json!({ "allowance": { "ai": 1 }, "interval": "day" })).await.expect(200);
        app.admin.put(&acme.path("/subscription")).json(json!({ "plan": "p" })).await.expect(200);
        app.set_status(&acme, "closed").await;
        let (subject, before, after) = line("deleteSubscription").await;
        assert_eq!((subject, &before["plan"], after), (json!(acme.id), &json!("p"), Value::Null));
    })
);

both_engines!(
    an_actor_is_named_by_the_header_or_by_the_hold_itself,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let hold = json!({ "action": "ai_chat", "actor": "user-42" });
        app.admin.post(&acme.path("/holds")).json(hold).header("X-Actor", "backend").await.expect(201);
        app.admin.put(&acme.path("/members/u")).await.expect(200);
        let found = lines(app, &format!("organization_id={}", acme.id)).await;
        assert_eq!(column(&found[..2], "actor"), [Value::Null, json!("user-42")]);
        let bad =
            app.admin.put(&acme.path("/members/v")).header("X-Actor", "a\tb").await.refused(400, "invalid_request");
        assert_eq!(bad["errors"][0]["field"], "X-Actor");
        assert_eq!(lines(app, "").await[0], found[0], "nothing was changed");
    })
);

both_engines!(
    lines_are_listed_newest_first_filtered_and_in_pages,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let other = app.organization("other", json!({ "ai": 10 })).await;
        let (made, by) = key(app, "second").await;
        for user in 0..5 {
            by.put(&acme.path(&format!("/members/{user}"))).await.expect(200);
            app.admin.put(&other.path(&format!("/members/{user}"))).await.expect(200);
        }
        let all = app.admin.all(PATH, 100).await;
        assert_eq!(all, app.admin.all(PATH, 3).await, "however it is paged");
        let times = column(&all, "created_at");
        assert!(times.is_sorted_by(|a, b| a.as_str() >= b.as_str()), "{times:?}");
        let of_acme = lines(app, &format!("organization_id={}", acme.id)).await;
        assert_eq!(column(&of_acme, "sequence"), (1..=7).rev().map(Value::from).collect::<Vec<_>>());
        assert_eq!(fields(&of_acme[0]).len(), 13);
        let by_second = lines(app, &format!("api_key_id={}", made["id"].as_str().unwrap())).await;
        assert_eq!(by_second, of_acme[..5]);
        assert_eq!(lines(app, "operation=putMember").await.len(), 10);
        let third = of_acme[4]["created_at"].as_str().unwrap();
        let split = [lines(app, &format!("to={third}")).await, lines(app, &format!("from={third}")).await];
        assert_eq!([&split[1][..], &split[0][..]].concat(), all);

        for bad in ["operation=consume", "operation=", "from=x", "to=2026-01-01T00:00:00Z&from=2026-01-02T00:00:00Z"] {
            app.admin.get(&format!("{PATH}?{bad}")).await.refused(400, "invalid_request");
        }
        app.admin.get(&format!("{PATH}?organization_id={ABSENT}")).await.refused(404, "unknown_organization");
    })
);

both_engines!(
    a_bound_key_sees_the_lines_of_its_organization_alone,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let other = app.organization("other", json!({ "ai": 10 })).await;
        let bound = app.bound_key(&["admin"], &acme).await;
        let seen = bound.all(PATH, 2).await;
        assert_eq!(seen, lines(app, &format!("organization_id={}", acme.id)).await);
        assert_eq!(column(&seen, "operation"), ["createApiKey", "createGrant", "createOrganization"]);
        bound.get(&format!("{PATH}?organization_id={}", acme.id)).await.expect(200);
        bound.get(&format!("{PATH}?organization_id={}", other.id)).await.refused(404, "unknown_organization");
        // To read is enough, and shows no more.
        let reader = app.bound_key(&["read"], &acme).await;
        assert_eq!(reader.all(PATH, 2).await, lines(app, &format!("organization_id={}", acme.id)).await);
        app.key(&["consume"]).await.get(PATH).await.refused(403, "forbidden_scope");
    })
);
