//! The OpenAPI document: what poem-openapi makes of the handlers, and what it cannot know.
//!
//! Three things are put right on the way. The scope of an operation, which its [`Auth`](crate::auth::Auth) states as a
//! type, becomes a reference to the one security scheme. Objects in requests say that they take no other fields, and
//! `null` for those that may be left out. Numbers that are whole are written so.

use std::collections::{BTreeSet, HashMap};

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService, ServerObject, Tags};

use crate::auth::SECURITY_SCHEME;
use crate::payload::Node;
use crate::resource;

const TITLE: &str = "multicredit";

const DESCRIPTION: &str = "\
Prepaid credits of several types for organizations.

An organization receives credits by *grants* and spends them by *actions*, whose price is a number of credits of each \
type. A consumption is paid in full or refused as a whole; nothing is ever deducted in part.

* **Authentication**: `Authorization: Bearer KEY`. A key has scopes, and may be bound to one organization.
* **Repeating safely**: send an `Idempotency-Key` with whatever moves credits. The same key and body get the same answer, \
with `Idempotent-Replayed: true`. Any text will do; a UUIDv7 costs the least.
* **Saying who**: `X-Actor` (1 to 200 characters) names whoever causes a change, for the audit log.
* **Lists** take `limit` and `cursor` and answer `items` and `next_cursor`.
* **Bodies** are JSON of at most 1 MiB. A field that is not known, or there twice, is an error.
* **Errors** are `application/problem+json`; act on `code`.
* **Amounts** are whole numbers up to 9007199254740991, times RFC 3339 in UTC, ids UUIDs.";

/// What the operations are about.
#[derive(Debug, Tags)]
pub enum Tag {
    /// The tenants that hold credits.
    Organizations,
    /// What can be done, and what it costs.
    Actions,
    /// Credits that are given or corrected, and what is left of them.
    Grants,
    /// Allowances of credits for every period, and who subscribes to them.
    Plans,
    /// Spending, one at a time or many at once, what it would cost, and giving it back.
    Consumption,
    /// Credits set aside for what is known only afterwards.
    Holds,
    /// What there is, and every movement that led there.
    Ledger,
    /// What was consumed when, and what that leads to.
    Usage,
    /// What is told of balances, and asked for before they are gone.
    Alerts,
    /// Which users belong to which organizations.
    Members,
    /// Who may call, and what they may do.
    #[oai(rename = "API keys")]
    ApiKeys,
    /// What is told by itself, and to whom.
    Webhooks,
    /// Who changed what.
    #[oai(rename = "Audit log")]
    AuditLog,
    /// How the database is.
    Performance,
    /// Whether the service is alive and ready.
    Health,
}

/// An API whose operations refer to the security scheme instead of naming their scope.
pub struct Secured<T>(pub T);

impl<T: OpenApi> OpenApi for Secured<T> {
    fn meta() -> Vec<MetaApi> {
        let mut apis = T::meta();
        for operation in apis.iter_mut().flat_map(|api| &mut api.paths).flat_map(|path| &mut path.operations) {
            for requirement in &mut operation.security {
                *requirement = HashMap::from([(SECURITY_SCHEME, Vec::new())]);
            }
        }
        apis
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, routes: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {
        self.0.add_routes(routes);
    }
}

/// The document, as JSON and as a page to read and try it.
#[derive(Debug)]
pub struct Document {
    /// Pretty, in a fixed order.
    pub json: String,
    /// Swagger UI with everything that it needs inside.
    pub swagger_ui: String,
}

impl Document {
    /// The document of that version.
    ///
    /// # Panics
    ///
    /// Where poem-openapi writes a document that is not JSON.
    pub fn new(version: &str) -> Self {
        let service = OpenApiService::new(resource::api(), TITLE, version)
            .description(DESCRIPTION)
            .license(LicenseObject::new("MIT OR Apache-2.0"))
            .server(ServerObject::new("/").description("This server."));
        let raw = service.spec();
        let mut document: Node = serde_json::from_str(&raw).expect("poem-openapi writes JSON");
        close_request_objects(&mut document);
        write_whole_numbers_whole(&mut document);
        let json = serde_json::to_string_pretty(&document).expect("what was read can be written");
        let swagger_ui = service.swagger_ui_html().replacen(&raw, &json, 1).replacen("Swagger UI", TITLE, 1);
        Self { json, swagger_ui }
    }
}

/// Says of every object that requests are made of that it takes no other fields.
fn close_request_objects(document: &mut Node) {
    let mut names = BTreeSet::new();
    if let Some(paths) = document.get("paths") {
        let operations = paths.children().flat_map(Node::children);
        for body in operations.filter_map(|operation| operation.get("requestBody")) {
            collect_references(body, document, &mut names);
        }
    }
    let Some(schemas) = document.get_mut("components").and_then(|components| components.get_mut("schemas")) else {
        return;
    };
    for name in names {
        let Some(schema) = schemas.get_mut(&name) else { continue };
        take_null_for_nothing(schema);
        if name != OPEN
            && schema.get(ADDITIONAL).is_none()
            && let Node::Object(fields) = schema
        {
            fields.push((ADDITIONAL.to_owned(), Node::Bool(false)));
        }
    }
}

/// Says of the fields that may be left out that `null` is the same. Those with a default have to be left out for it.
fn take_null_for_nothing(schema: &mut Node) {
    let required: Vec<Node> = match schema.get("required") {
        Some(Node::List(names)) => names.clone(),
        _ => Vec::new(),
    };
    let Some(Node::Object(properties)) = schema.get_mut("properties") else { return };
    for (name, property) in properties {
        if required.contains(&Node::Text(name.clone())) || property.get("default").is_some() {
            continue;
        }
        // Nothing counts that stands beside a reference.
        if property.get("$ref").is_some() {
            *property = Node::Object(vec![("allOf".to_owned(), Node::List(vec![property.clone()]))]);
        }
        if property.get(NULLABLE).is_none()
            && let Node::Object(fields) = property
        {
            fields.push((NULLABLE.to_owned(), Node::Bool(true)));
        }
    }
}

const NULLABLE: &str = "nullable";

const ADDITIONAL: &str = "additionalProperties";

/// The one object of requests that takes fields of others: attributes of a CloudEvent.
const OPEN: &str = "CloudEvent";

/// The names of all schemas that a part of the document refers to, directly or through others.
fn collect_references(part: &Node, document: &Node, names: &mut BTreeSet<String>) {
    if let Some(name) = part.get("$ref").and_then(Node::as_text).and_then(|name| name.rsplit('/').next())
        && names.insert(name.to_owned())
        && let Some(schema) = document.get("components").and_then(|part| part.get("schemas")?.get(name))
    {
        collect_references(schema, document, names);
    }
    for child in part.children() {
        collect_references(child, document, names);
    }
}

/// Bounds are doubles in poem-openapi, and `9007199254740991.0` looks like a mistake.
fn write_whole_numbers_whole(part: &mut Node) {
    match part {
        Node::Float(value) => {
            // Within the bounds, a double without a fraction is written without one.
            if let Ok(whole) = format!("{value:.0}").parse::<i64>()
                && value.fract() == 0.0
            {
                *part = u64::try_from(whole).map_or(Node::Negative(whole), Node::Unsigned);
            }
        }
        Node::List(items) => items.iter_mut().for_each(write_whole_numbers_whole),
        Node::Object(fields) => fields.iter_mut().for_each(|(_, value)| write_whole_numbers_whole(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
