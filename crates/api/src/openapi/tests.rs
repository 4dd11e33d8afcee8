use std::panic::catch_unwind;

use poem_openapi::registry::{MetaOperation, MetaParamIn};
use serde_json::Value;

use super::*;

fn document() -> Value {
    serde_json::from_str(&Document::new("1.2.3").json).unwrap()
}

/// Every operation of the document, by its id.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|path| path.as_object().unwrap().values());
    operations.map(|operation| (operation["operationId"].as_str().expect("an id").to_owned(), operation)).collect()
}

fn stated() -> Vec<MetaOperation> {
    resource::stated().into_iter().flat_map(|api| api.paths).flat_map(|path| path.operations).collect()
}

fn is_health(operation: &Value) -> bool {
    operation["tags"][0] == "Health"
}

/// The schema that a schema refers to, if it does.
fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(reference) => &document["components"]["schemas"][reference.rsplit('/').next().unwrap()],
        None => schema,
    }
}

#[test]
fn every_operation_has_an_id_of_its_own_a_tag_and_words() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (id, operation) in operations(&document) {
        assert!(ids.insert(id.clone()), "{id} twice");
        let tag = &operation["tags"][0];
        let tags = document["tags"].as_array().unwrap();
        let described = tags.iter().any(|known| &known["name"] == tag && known["description"].is_string());
        assert!(described, "{id}: the tag is described");
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 3), "{id}: a summary");
        assert!(operation["description"].as_str().is_some_and(|text| text.len() > 10), "{id}: a description");
    }
    assert_eq!(ids.len(), stated().len());
}

#[test]
fn every_operation_states_its_scope_in_words_and_refers_to_the_one_scheme() {
    let document = document();
    for operation in stated() {
        let id = operation.operation_id.unwrap();
        let Some(scopes) = operation.security.first() else {
            assert_eq!(operation.tags, ["Health"], "{id} needs no key");
            continue;
        };
        let scope = scopes.keys().next().unwrap();
        let text = operation.description.unwrap();
        assert!(text.contains(&format!("Scope: `{scope}`")), "{id} needs {scope} and says: {text}");
    }
    for (id, operation) in operations(&document).into_iter().filter(|(_, operation)| !is_health(operation)) {
        assert_eq!(operation["security"], serde_json::json!([{ SECURITY_SCHEME: [] }]), "{id}");
    }
    let scheme = &document["components"]["securitySchemes"][SECURITY_SCHEME];
    assert_eq!((scheme["type"].as_str(), scheme["scheme"].as_str()), (Some("http"), Some("bearer")));
}

#[test]
fn every_operation_documents_its_problems() {
    let document = document();
    for (id, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        let mut failures = Vec::new();
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{id} {status}");
            if status.starts_with('2') {
                continue;
            }
            failures.push(status.as_str());
            let content = response["content"].as_object().unwrap();
            assert_eq!(content.keys().collect::<Vec<_>>(), ["application/problem+json"], "{id} {status}");
        }
        if is_health(operation) {
            continue;
        }
        for status in ["400", "401", "403", "500", "503"] {
            assert!(failures.contains(&status), "{id} documents {status}");
        }
        if operation.get("requestBody").is_some() {
            for status in ["413", "415"] {
                assert!(failures.contains(&status), "{id} documents {status}");
            }
        }
    }
}

#[test]
fn every_body_has_an_example_that_fits_its_schema() {
    let document = document();
    for (id, operation) in operations(&document) {
        let request = operation.get("requestBody").into_iter();
        let bodies = request.chain(operation["responses"].as_object().unwrap().values());
        for content in bodies.filter_map(|body| body["content"].as_object()) {
            for (media_type, content) in content {
                let schema = resolve(&document, &content["schema"]);
                let schema = if schema["type"] == "array" { resolve(&document, &schema["items"]) } else { schema };
                let example = schema.get("example").unwrap_or_else(|| panic!("{id} {media_type}: an example"));
                assert_fits(&document, schema, example, &format!("{id} {media_type}"));
            }
        }
    }
}

/// Checks an example against as much of a schema as is used here.
fn assert_fits(document: &Value, schema: &Value, example: &Value, at: &str) {
    let schema = resolve(document, schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        assert_fits(document, part, example, at);
    }
    if let Some(kinds) = schema["anyOf"].as_array() {
        let fits = |kind: &Value| catch_unwind(|| assert_fits(document, kind, example, at)).is_ok();
        assert!(kinds.iter().any(fits), "{at} is one of its kinds");
        return;
    }
    if example.is_null() {
        assert_eq!(schema["nullable"], true, "{at} is null");
        return;
    }
    match schema["type"].as_str() {
        Some("object") => {
            let (fields, properties) = (example.as_object().expect(at), &schema["properties"]);
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{at}.{name} is required");
            }
            for (name, value) in fields {
                let known =
                    properties.get(name).or_else(|| schema.get("additionalProperties").filter(|any| any.is_object()));
                assert_fits(
                    document,
                    known.unwrap_or_else(|| panic!("{at}.{name} is known")),
                    value,
                    &format!("{at}.{name}"),
                );
            }
        }
        Some("array") => {
            for item in example.as_array().expect(at) {
                assert_fits(document, &schema["items"], item, &format!("{at}[]"));
            }
        }
        Some("string") => {
            let text = example.as_str().expect(at);
            let names = schema["enum"].as_array();
            assert!(names.is_none_or(|names| names.contains(example)), "{at}: {text} is one of the names");
            let max = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
            assert!(text.len() as u64 <= max, "{at}: {text} is short enough");
        }
        Some("integer") => {
            let number = example.as_i64().expect(at);
            let bound = |name: &str, default| schema[name].as_i64().unwrap_or(default);
            assert!((bound("minimum", i64::MIN)..=bound("maximum", i64::MAX)).contains(&number), "{at}: {number}");
        }
        Some("boolean") => assert!(example.is_boolean(), "{at}"),
        other => assert!(other.is_none(), "{at} has the type {other:?}"),
    }
}

#[test]
fn objects_of_requests_are_closed_and_those_of_answers_are_not() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for closed in ["Consume", "Batch", "BatchItem", "NewGrant", "NewOrganization", "CloudEventData", "Credits"] {
        assert_eq!(schemas[closed]["additionalProperties"], false, "{closed}");
    }
    for open in ["CloudEvent", "Consumption", "Problem", "Organization"] {
        assert_eq!(schemas[open].get("additionalProperties"), None, "{open}");
    }
    assert_eq!(schemas["Metadata"]["additionalProperties"], serde_json::json!({}));
}

#[test]
fn every_parameter_of_a_path_is_documented_and_named_in_braces() {
    let document = document();
    for (path, operations) in document["paths"].as_object().unwrap() {
        assert!(!path.contains(':'), "{path}");
        let in_path: Vec<&str> =
            path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
        for operation in operations.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let documented: Vec<&str> = parameters
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(documented, in_path, "{path}");
        }
    }
}

#[test]
fn parameters_are_described_and_the_key_is_where_it_counts() {
    for operation in stated() {
        let id = operation.operation_id.unwrap();
        for parameter in &operation.params {
            assert!(parameter.description.is_some(), "{id}: {} is described", parameter.name);
            assert_eq!(parameter.required, parameter.in_type == MetaParamIn::Path, "{id}: {}", parameter.name);
        }
        let keys = operation.params.iter().filter(|parameter| parameter.in_type == MetaParamIn::Header);
        let keys: Vec<&str> = keys.map(|parameter| parameter.name.as_str()).collect();
        let counts = [
            "consume",
            "createGrant",
            "voidGrant",
            "createAdjustment",
            "refundConsumption",
            "placeHold",
            "captureHold",
            "releaseHold",
            "extendHold",
        ]
        .contains(&id);
        let expected = match id {
            "streamBalance" => vec![crate::param::LAST_EVENT_ID],
            _ if counts => vec![crate::param::IDEMPOTENCY_KEY],
            _ => vec![],
        };
        assert_eq!(keys, expected, "{id}");
    }
}

#[test]
fn the_document_is_the_same_every_time_and_says_its_version() {
    let json = Document::new("1.2.3").json;
    assert_eq!(json, Document::new("1.2.3").json);
    assert!(json.starts_with("{\n  \"openapi\": \"3.0.0\",\n  \"info\": {"), "the order is kept");
    assert!(json.contains("\"version\": \"1.2.3\"") && json.contains("\"maximum\": 9007199254740991,"));
}
