//! Every operation of the API, taken from its own document, with what is needed to call it: for what all operations
//! must keep to, the ones of tomorrow included.

use hyper::Method;
use multicredit_store::Store;
use serde_json::{Value, json};
use tests::app::{Call, Client, Organization, TestApp};

/// The ids that stand in the document's examples.
const EXAMPLE_ORGANIZATION: &str = "0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27";
const EXAMPLE_EXTERNAL_ID: &str = "acme-eu";

/// An id of nothing.
pub const ABSENT: &str = "0199a3d2-0000-7000-8000-000000000000";

/// The document of the API.
pub struct Document(Value);

/// One operation.
#[derive(Clone)]
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path, with the names of parameters in braces.
    pub path: String,
    /// What it says of itself.
    pub described: Value,
}

impl Document {
    /// The document that an application serves.
    pub async fn of(app: &TestApp) -> Self {
        Self::read_by(&app.stranger()).await
    }

    /// The document that somebody is given.
    pub async fn read_by(client: &Client) -> Self {
        Self(client.get("/openapi.json").await.expect(200))
    }

    /// Its operations below `/v1` that come to an end: a stream has tests of its own.
    pub fn operations(&self) -> Vec<Operation> {
        let paths = self.0["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1/"));
        let operations = paths.flat_map(|(path, operations)| {
            operations.as_object().unwrap().iter().map(|(method, described)| Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                described: described.clone(),
            })
        });
        let is_endless =
            |it: &Operation| it.described["responses"]["200"]["content"].get("text/event-stream").is_some();
        let operations: Vec<Operation> = operations.filter(|operation| !is_endless(operation)).collect();
        assert!(operations.len() >= 38, "only {} operations were found", operations.len());
        operations
    }

    /// The methods of every path.
    pub fn paths(&self) -> Vec<(String, Vec<String>)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let methods =
            |operations: &Value| operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        paths.map(|(path, operations)| (path.clone(), methods(operations))).collect()
    }

    /// The schema of that name.
    pub fn schema(&self, name: &str) -> &Value {
        let schema = &self.0["components"]["schemas"][name];
        assert!(schema.is_object(), "there is no schema {name}");
        schema
    }

    /// The schema that one refers to, however it does.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return self.resolve(&self.0["components"]["schemas"][name]);
        }
        match schema["allOf"].as_array() {
            Some(parts) => self.resolve(&parts[0]),
            None => schema,
        }
    }

    /// The media type and the schema of an operation's body, if it takes one.
    pub fn body<'a>(&'a self, operation: &'a Operation) -> Option<(&'a str, &'a Value)> {
        let content = operation.described["requestBody"]["content"].as_object()?;
        let (media_type, content) = content.iter().find(|(media_type, _)| !media_type.contains("batch"))?;
        Some((media_type, self.resolve(&content["schema"])))
    }

    /// Where a value is not what its schema says: fields that are missing, or there and not documented, or of another
    /// type.
    pub fn mismatches(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(schema, value, "", &mut found);
        found
    }

    fn compare(&self, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
        if value.is_null() && is_nullable(schema) {
            return;
        }
        let schema = self.resolve(schema);
        let is_right = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("boolean") => value.is_boolean(),
            _ => true,
        };
        if !is_right || schema["enum"].as_array().is_some_and(|names| !names.contains(value)) {
            found.push(format!("{place} is {value}"));
        }
        for item in value.as_array().into_iter().flatten() {
            self.compare(&schema["items"], item, &format!("{place}[]"), found);
        }
        let Some(properties) = schema["properties"].as_object() else { return };
        for (name, value) in value.as_object().into_iter().flatten() {
            match properties.get(name) {
                Some(property) => self.compare(property, value, &format!("{place}.{name}"), found),
                None => found.push(format!("{place}.{name} is not documented")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.get(name).is_none() {
                found.push(format!("{place}.{name} is missing"));
            }
        }
    }
}

fn is_nullable(schema: &Value) -> bool {
    let parts = schema["allOf"].as_array().into_iter().flatten();
    schema["nullable"] == true || parts.into_iter().any(is_nullable)
}

impl Operation {
    /// What to call it.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether it is about one organization, by its path.
    pub fn is_of_an_organization(&self) -> bool {
        self.path.starts_with("/v1/organizations/{organization_id}")
    }

    /// Whether an answer's status is one that the document tells of.
    pub fn documents(&self, status: u16) -> bool {
        self.described["responses"].get(status.to_string()).is_some()
    }

    /// The schema of its answer with that status.
    pub fn answer(&self, status: u16) -> &Value {
        &self.described["responses"][status.to_string()]["content"]["application/json"]["schema"]
    }

    /// Its parameters that stand there.
    pub fn parameters(&self, place: &str) -> Vec<&Value> {
        let parameters = self.described["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        parameters.iter().filter(|parameter| parameter["in"] == place).collect()
    }
}

/// A request for credits of an organization, by a rule that asks for more than it has.
async fn top_up_id(admin: &Client, store: &Store, organization: &Organization) -> String {
    let rule = json!({ "threshold": 1_000_000, "amount": 5 });
    admin.put(&organization.path("/top-up-rules/ai")).json(rule).await.expect(200);
    // A server that does so by itself may have the organization in hand just now.
    for _ in 0..100 {
        store.evaluate_alerts().await.unwrap();
        let asked = admin.get(&organization.path("/top-ups")).await.expect(200);
        if let Some(id) = asked["items"][0]["id"].as_str() {
            return id.to_owned();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("nobody asked for credits")
}

/// An organization with one of everything, so that every operation can be called and succeeds.
pub struct World {
    /// The organization.
    pub organization: Organization,
    /// What the customer calls it.
    pub external_id: String,
    grant_id: String,
    consumption_id: String,
    hold_id: String,
    api_key_id: String,
    alert_rule_id: String,
    top_up_id: String,
    endpoint_id: String,
    event_id: String,
}

/// The id of an organization's first event: its first movement was a grant.
fn event_id(organization_id: &str) -> String {
    format!("evt_{}_1_0", organization_id.replace('-', ""))
}

impl World {
    /// A new one.
    pub async fn new(app: &TestApp, external_id: &str) -> Self {
        Self::made_by(&app.admin, &app.store, external_id).await
    }

    /// A new one of whatever server that is, which works on the store's database.
    pub async fn made_by(admin: &Client, store: &Store, external_id: &str) -> Self {
        let id = async |path: &str, body: Value| {
            let made = admin.post(path).json(body).await.expect(201);
            made["id"].as_str().unwrap().to_owned()
        };
        let new = json!({ "name": external_id, "external_id": external_id });
        let organization = Organization { id: id("/v1/organizations", new).await };
        let credits = json!({ "credits": { "ai": 1_000, "whatsapp": 1_000 }, "source": "purchase" });
        id(&organization.path("/grants"), credits).await;
        let grant = json!({ "credits": { "ai": 50 }, "source": "purchase", "reference": external_id });
        let tokens = |quantity: i64| json!({ "action": "ai_tokens", "quantity": quantity, "actor": external_id });
        let key = json!({ "name": external_id, "scopes": ["read"], "organization_id": organization.id });
        let rule = json!({
            "name": external_id, "organization_id": organization.id, "measure": "amount", "threshold": 0
        });
        // Nobody listens there.
        let endpoint = json!({ "url": "http://127.0.0.1:1/", "organization_id": organization.id });
        let plan = json!({ "allowance": { "ai": 1 }, "interval": "month" });
        admin.put("/v1/plans/pro-monthly").json(plan).await.expect(200);
        // From where the document's example counts: it cannot be moved afterwards.
        let subscription = json!({ "plan": "pro-monthly", "anchor": "2026-11-01T00:00:00+01:00" });
        admin.put(&organization.path("/subscription")).json(subscription).await.expect(200);
        admin.put(&organization.path("/members/user-42")).await.expect(200);
        Self {
            grant_id: id(&organization.path("/grants"), grant).await,
            consumption_id: id(&organization.path("/consume"), tokens(4_818)).await,
            hold_id: id(&organization.path("/holds"), tokens(8_000)).await,
            api_key_id: id("/v1/api-keys", key).await,
            alert_rule_id: id("/v1/alert-rules", rule).await,
            top_up_id: top_up_id(admin, store, &organization).await,
            endpoint_id: id("/v1/webhook-endpoints", endpoint).await,
            external_id: external_id.to_owned(),
            event_id: event_id(&organization.id),
            organization,
        }
    }

    /// The operation's path, about this organization and what belongs to it.
    pub fn path(&self, operation: &Operation) -> String {
        self.path_in(operation, &self.organization.id)
    }

    /// One that has nothing: the ids of things that do not exist.
    pub fn of_nobody() -> Self {
        let absent = || ABSENT.to_owned();
        Self {
            organization: Organization { id: absent() },
            external_id: "nobody".to_owned(),
            grant_id: absent(),
            consumption_id: absent(),
            hold_id: absent(),
            api_key_id: absent(),
            alert_rule_id: absent(),
            top_up_id: absent(),
            endpoint_id: absent(),
            event_id: event_id(ABSENT),
        }
    }

    /// What that name stands for, where it is the id of something that belongs to this organization.
    pub fn value(&self, name: &str) -> Option<&str> {
        Some(match name {
            "organization_id" => &self.organization.id,
            "grant_id" => &self.grant_id,
            "consumption_id" => &self.consumption_id,
            "hold_id" => &self.hold_id,
            "api_key_id" => &self.api_key_id,
            "endpoint_id" => &self.endpoint_id,
            "event_id" => &self.event_id,
            "alert_rule_id" => &self.alert_rule_id,
            "top_up_id" => &self.top_up_id,
            _ => return None,
        })
    }

    /// What nobody else is to be told.
    pub fn secrets(&self) -> [&str; 10] {
        [
            &self.organization.id,
            &self.external_id,
            &self.grant_id,
            &self.consumption_id,
            &self.hold_id,
            &self.api_key_id,
            &self.endpoint_id,
            &self.event_id,
            &self.alert_rule_id,
            &self.top_up_id,
        ]
    }

    /// The operation's path, about another organization and what belongs to this one.
    pub fn path_in(&self, operation: &Operation, organization_id: &str) -> String {
        // What all organizations have in common, or each in its own way.
        let common =
            [("action_type", "ai_tokens"), ("credit_type", "ai"), ("code", "pro-monthly"), ("user_id", "user-42")];
        let mut path = operation.path.replace("{organization_id}", organization_id);
        for (name, value) in common {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        while let Some((before, rest)) = path.split_once('{') {
            let (name, after) = rest.split_once('}').unwrap();
            let value = self.value(name).unwrap_or_else(|| panic!("a parameter that nobody knows: {name}"));
            path = format!("{before}{value}{after}");
        }
        path
    }

    /// The body of the document's example, about this organization.
    pub fn example(&self, document: &Document, operation: &Operation) -> Option<(String, Value)> {
        let (media_type, schema) = document.body(operation)?;
        let example = &schema["example"];
        assert!(example.is_object(), "{} has no example", operation.name());
        let simple = |id: &str| id.replace('-', "");
        let example = example.to_string().replace(EXAMPLE_ORGANIZATION, &self.organization.id);
        let example = example.replace(&simple(EXAMPLE_ORGANIZATION), &simple(&self.organization.id));
        let mut example: Value = example.parse().unwrap();
        if example["subject"] == EXAMPLE_EXTERNAL_ID {
            example["subject"] = self.external_id.as_str().into();
        }
        Some((media_type.to_owned(), example))
    }

    /// A call of the operation as the document's example shows it, about this organization.
    pub fn call(&self, client: &Client, document: &Document, operation: &Operation) -> Call {
        self.call_at(client, document, operation, &self.path(operation))
    }

    /// The same at another path.
    pub fn call_at(&self, client: &Client, document: &Document, operation: &Operation, path: &str) -> Call {
        let call = client.call(operation.method.clone(), path);
        match self.example(document, operation) {
            Some((media_type, example)) => call.body(&media_type, example.to_string()),
            None => call,
        }
    }
}
