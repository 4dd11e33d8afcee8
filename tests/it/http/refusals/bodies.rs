//! Bodies that are not valid, of every operation of the document: each field of each body with what it must not be, as
//! the document's own schemas say.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tests::app::{Call, TestApp, served_at};
use tests::both_engines;

use super::super::walk::{Document, Operation, World};
use super::{Untouched, assert_invalid};

const NOW: &str = "2026-11-22T09:30:00Z";

/// Where a value stands in for another that JSON values cannot be.
const HOLE: &str = "@hole@";

/// Texts that are no value of the schema, whatever else the field is about.
fn wrong_values(schema: &Value) -> Vec<String> {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let mut wrong = vec![deep, r#""\ud800""#.to_owned()];
    let mut add = |values: &[&str]| wrong.extend(values.iter().map(|value| (*value).to_owned()));
    match schema["type"].as_str() {
        Some("integer") => {
            add(&["\"1\"", "1.5", "1.0", "1e3", "true", "[]", "{}", "9007199254740992", "-9007199254740992", "1e30"]);
            for (bound, step) in [("minimum", -1), ("maximum", 1)] {
                if let Some(bound) = schema[bound].as_i64() {
                    wrong.push((bound + step).to_string());
                }
            }
        }
        Some("string") => {
            add(&["7", "true", "[]", "{}", r#""\u0000""#, r#""a\u0000b""#]);
            if schema["minLength"] == 1 || schema["enum"].is_array() || schema["format"].is_string() {
                add(&["\"\""]);
            }
            if schema["enum"].is_array() || schema["format"].is_string() {
                add(&["\"nonsense\"", "\" \""]);
            }
            if schema["format"] == "date-time" {
                add(&["\"2026-02-30T00:00:00Z\"", "\"2026-11-22\"", "\"2026-11-22T09:30:00\"", "1763800000"]);
            }
            if let Some(length) = schema["maxLength"].as_u64() {
                wrong.push(format!("\"{}\"", "a".repeat(usize::try_from(length).unwrap() + 1)));
            }
        }
        Some("boolean") => add(&["\"true\"", "0", "1", "[]", "{}"]),
        Some("array") => add(&["7", "\"x\"", "{}", "true", "[[]]"]),
        Some("object") => add(&["7", "\"x\"", "[]", "true", r#"{"a":1,"a":1}"#]),
        other => panic!("a schema of type {other:?}: {schema}"),
    }
    wrong
}

/// Bodies that are the example with one field wrong, each with a word about it.
fn with_a_wrong_field(document: &Document, schema: &Value, example: &Value) -> Vec<(String, String)> {
    let mut bodies = Vec::new();
    collect(document, schema, example, &mut Vec::new(), &mut bodies);
    bodies
}

fn collect(
    document: &Document,
    schema: &Value,
    root: &Value,
    place: &mut Vec<String>,
    bodies: &mut Vec<(String, String)>,
) {
    let schema = document.resolve(schema);
    if !place.is_empty() {
        let body = with_hole(root.clone(), place);
        for wrong in wrong_values(schema) {
            let shown: String = wrong.chars().take(40).collect();
            bodies.push((format!("{shown} as {}", place.join(".")), body.replace(&format!("\"{HOLE}\""), &wrong)));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        place.push(name.clone());
        collect(document, property, root, place, bodies);
        place.pop();
    }
    if schema["items"].is_object() {
        place.push("0".to_owned());
        collect(document, &schema["items"], root, place, bodies);
        place.pop();
    }
    if schema["additionalProperties"] == false {
        place.push("no_field_of_that_name".to_owned());
        bodies.push((place.join("."), with_hole(root.clone(), place)));
        place.pop();
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let mut without = root.clone();
        let parent = place.iter().try_fold(&mut without, |value, name| child(value, name));
        if let Some(Value::Object(fields)) = parent
            && fields.remove(name.as_str().unwrap()).is_some()
        {
            bodies.push((format!("{}.{name} left out", place.join(".")), without.to_string()));
        }
    }
}

fn child<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    match value {
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        value => value.get_mut(name),
    }
}

/// The body with a hole at that place, which is made if it is not there.
fn with_hole(mut root: Value, place: &[String]) -> String {
    let mut value = &mut root;
    for name in place {
        value = match value {
            Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
            Value::Object(fields) => fields.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())),
            other => panic!("{other} has no {name}"),
        };
    }
    *value = HOLE.into();
    root.to_string()
}

/// The body with its first field there twice.
fn with_a_field_twice(example: &Value) -> Option<String> {
    let (name, value) = example.as_object()?.iter().next()?;
    let field = json!({ name: value }).to_string();
    Some(format!("{},{}", field.trim_end_matches('}'), &example.to_string()[1..]))
}

/// What is no body of the operation, whatever its fields are.
fn no_bodies(good: &str) -> Vec<(&'static str, Bytes)> {
    let mut bytes = good.as_bytes().to_vec();
    bytes.insert(1, 0xff);
    let texts = [
        ("null", "null".to_owned()),
        ("an array", "[]".to_owned()),
        ("a text", "\"x\"".to_owned()),
        ("something after it", format!("{good} x")),
        ("half of it", good[..good.len() - 1].to_owned()),
        ("5,000 arrays", "[".repeat(5_000)),
        ("a byte order mark", format!("\u{feff}{good}")),
    ];
    let texts = texts.into_iter().map(|(what, text)| (what, text.into()));
    texts.chain([("no UTF-8", bytes.into())]).collect()
}

/// A call of the operation with another body.
fn call_with(app: &TestApp, world: &World, operation: &Operation, media_type: &str, body: impl Into<Bytes>) -> Call {
    app.admin.call(operation.method.clone(), &world.path(operation)).body(media_type, body)
}

both_engines!(
    no_body_with_a_field_that_is_not_as_documented_is_accepted,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let untouched = Untouched::new(app).await;
        let mut refused = 0;
        for operation in document.operations() {
            let Some((media_type, schema)) = document.body(&operation) else { continue };
            let (_, example) = world.example(&document, &operation).unwrap();
            for (what, body) in with_a_wrong_field(&document, schema, &example) {
                let call = call_with(app, &world, &operation, media_type, body);
                assert_invalid(call, &format!("{}: {what}", operation.name())).await;
                refused += 1;
            }
            if let Some(twice) = with_a_field_twice(&example) {
                let call = call_with(app, &world, &operation, media_type, twice);
                assert_invalid(call, &format!("{}: a field twice", operation.name())).await;
            }
            untouched.assert(&operation.name()).await;
        }
        assert!(refused > 700, "only {refused} bodies were tried");
    })
);

both_engines!(
    what_is_no_body_of_an_operation_is_refused_by_every_operation,
    served_at(NOW, async |app, _| {
        let document = Document::of(app).await;
        let world = World::new(app, "acme").await;
        let untouched = Untouched::new(app).await;
        for operation in document.operations() {
            let Some((media_type, example)) = world.example(&document, &operation) else { continue };
            let good = example.to_string();
            for (what, body) in no_bodies(&good) {
                let call = call_with(app, &world, &operation, &media_type, body);
                assert_invalid(call, &format!("{}: {what}", operation.name())).await;
            }
            for wrong in
                ["text/plain", "application/xml", "application/x-www-form-urlencoded", "json", "", "a/b; c=\u{e9}"]
            {
                let call = call_with(app, &world, &operation, wrong, good.clone());
                call.await.refused(415, "unsupported_media_type");
            }
            let call = app.admin.call(operation.method.clone(), &world.path(&operation)).bare(good.clone());
            call.await.refused(415, "unsupported_media_type");
            let call = call_with(app, &world, &operation, &media_type, good.clone() + &" ".repeat(1 << 20));
            call.await.refused(413, "payload_too_large");
            if operation.described["requestBody"]["required"] == true {
                let call = call_with(app, &world, &operation, &media_type, "");
                assert_invalid(call, &format!("{}: nothing", operation.name())).await;
                let status = app.admin.call(operation.method.clone(), &world.path(&operation)).await.status;
                let expected = if media_type == "application/json" { 400 } else { 415 };
                assert_eq!(status, expected, "{}: nothing at all", operation.name());
            }
            untouched.assert(&operation.name()).await;
        }
    })
);
