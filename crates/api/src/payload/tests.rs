use multicredit_domain::{Credits, Metadata, Quantity, Timestamp};
use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::*;
use crate::problem::FieldError;
use crate::wire::{Line, Wire};

/// A body with one of everything.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Body {
    name: Wire<Line<5>>,
    quantity: Option<Wire<Quantity>>,
    priority: Option<i32>,
    credits: Option<Wire<Credits>>,
    at: Option<Wire<Timestamp>>,
    metadata: Option<Wire<Metadata>>,
    flag: Option<bool>,
    #[serde(default, deserialize_with = "batch_or_none")]
    items: Option<Vec<Item>>,
}

#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Item {
    quantity: Wire<Quantity>,
    #[serde(default, deserialize_with = "optional_object")]
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Inner {
    flag: bool,
}

impl Example for Body {
    fn example() -> Self {
        parse_object(r#"{"name":"a"}"#).unwrap()
    }
}

fn batch_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Item>>, D::Error> {
    batch(deserializer).map(Some)
}

fn refused(body: &str) -> FieldError {
    let problem = parse_object::<Body>(body).expect_err(body);
    assert_eq!(problem.code(), Code::InvalidRequest, "{body}");
    problem.into_field_errors().into_vec().remove(0)
}

fn error(field: &str, message: &str) -> FieldError {
    FieldError { field: field.to_owned(), message: message.to_owned() }
}

#[test]
fn a_good_body_is_read() {
    let body =
        r#" {"name":"a","quantity":9007199254740991,"items":[{"quantity":1,"inner":{"flag":true}},{"quantity":2}]} "#;
    let body: Body = parse_object(body).unwrap();
    assert_eq!(body.quantity, Some(Wire(Quantity::MAX)));
    let items = body.items.unwrap();
    assert_eq!((items.len(), items[1].quantity.0.get()), (2, 2));
    assert!(items[0].inner.as_ref().unwrap().flag && items[1].inner.is_none());
}

#[test]
fn the_field_that_is_wrong_is_named_with_what_it_should_be() {
    let quantity = "must be a whole number from 1 to 9007199254740991";
    for bad in ["0", "-1", "1.5", "1.0", "1e3", "9007199254740992", "1e300", "\"1\"", "[]", "true"] {
        assert_eq!(refused(&format!(r#"{{"name":"a","quantity":{bad}}}"#)), error("quantity", quantity), "{bad}");
    }
    assert_eq!(refused(r#"{"name":"a","priority":1.5}"#), error("priority", "must be a whole number"));
    assert_eq!(refused(r#"{"name":"a","priority":9999999999}"#), error("priority", "must be a whole number"));
    assert_eq!(refused(r#"{"name":"a","flag":1}"#), error("flag", "must be a boolean"));
    assert_eq!(refused(r#"{"name":7}"#), error("name", "must be a string"));
    assert_eq!(refused(r#"{"name":""}"#), error("name", "must be 1 to 5 characters: no control characters"));
    assert_eq!(refused(r#"{"name":"a\u0000"}"#).field, "name");
    assert_eq!(refused(r#"{"name":"a","at":"yesterday"}"#).field, "at");
    assert_eq!(refused(r#"{"name":"a","metadata":[]}"#).field, "metadata");
    assert_eq!(refused(r#"{"name":"a","metadata":{"x":{"y":"\u0000"}}}"#).field, "metadata.x.y");
    let amount = "must be a whole number from 0 to 9007199254740991";
    assert_eq!(refused(r#"{"name":"a","credits":{"ai":-1}}"#), error("credits.ai", amount));
    assert_eq!(refused(r#"{"name":"a","credits":{"ai":1.5}}"#), error("credits.ai", "must be a whole number"));
    assert_eq!(refused(r#"{"name":"a","credits":{"voice":1}}"#).field, "credits");
}

#[test]
fn places_inside_arrays_and_objects_are_named() {
    let within = |item: &str| refused(&format!(r#"{{"name":"a","items":[{{"quantity":1}},{item}]}}"#));
    assert_eq!(within(r#"{"quantity":0}"#).field, "items[1].quantity");
    assert_eq!(within("{}"), error("items[1].quantity", "is required"));
    assert_eq!(within(r#"{"quantity":1,"inner":{"flag":1}}"#).field, "items[1].inner.flag");
    assert_eq!(within("[1]"), error("items[1]", "must be an object"));
    assert_eq!(within("null"), error("items[1]", "must be an object"));
    assert_eq!(within(r#"{"quantity":1,"inner":[true]}"#), error("items[1].inner", "must be an object"));
}

#[test]
fn unknown_missing_and_repeated_fields_are_refused() {
    assert_eq!(refused(r#"{"name":"a","nmae":1}"#), error("nmae", "is not a known field"));
    assert_eq!(refused("{}"), error("name", "is required"));
    assert_eq!(refused(r#"{"name":"a","name":"a"}"#), error("name", "must not be given twice"));
    assert_eq!(refused(r#"{"name":"a","credits":{"ai":1,"ai":1}}"#).field, "credits");
    assert_eq!(refused(r#"{"name":"a","metadata":{"x":1,"x":1}}"#).field, "metadata");
}

#[test]
fn an_array_of_values_is_no_object() {
    assert_eq!(refused(r#"["a"]"#), error("", "must be an object"));
    assert_eq!(refused("7"), error("", "must be an object"));
    assert_eq!(refused("null"), error("", "must be an object"));
    assert_eq!(refused(""), error("", "a body is required"));
    assert_eq!(refused(" \n"), error("", "a body is required"));
}

#[test]
fn a_batch_has_1_to_1000_items() {
    let body = |items: usize| format!(r#"{{"name":"a","items":[{}]}}"#, vec![r#"{"quantity":1}"#; items].join(","));
    assert_eq!(parse_object::<Body>(&body(1000)).unwrap().items.unwrap().len(), 1000);
    for items in [0, 1001] {
        assert_eq!(refused(&body(items)), error("items", "must be an array of 1 to 1000 items"));
    }
}

#[test]
fn what_was_sent_is_not_said_back() {
    for body in [
        r#"{"name":"a","<script>alert</script>":1}"#,
        r#"{"name":"a","at":"<script>"}"#,
        r#"{"name":"<script>"}"#,
        r#"{"name":"a","quantity":"<script>"}"#,
        r#"{"name":"a","metadata":{"<script>":"\u0000"}}"#,
        r#"{"name":"a","credits":{"<script>":1}}"#,
    ] {
        let FieldError { field, message } = refused(body);
        assert!(!field.contains("script") && !message.contains("script"), "{body}: {field}: {message}");
    }
}

#[test]
fn what_is_no_json_is_malformed() {
    let deep = format!("{{\"name\":{}", "[".repeat(5000));
    let deep_and_closed = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for bad in
        ["{", "{\"name\":\"a\"} x", "{'name':'a'}", "{\"name\":\"\\ud800\"}", "\u{feff}{}", &deep, &deep_and_closed]
    {
        let problem = parse_object::<Body>(bad).unwrap_err();
        assert_eq!(problem.code(), Code::MalformedBody, "{}", &bad[..bad.len().min(40)]);
    }
    assert_eq!(text(b"{\"name\":\"\xff\"}").unwrap_err().code(), Code::MalformedBody);
}

async fn read(content_type: Option<&str>, body: &str) -> Result<String, Code> {
    let request = content_type.into_iter().fold(Request::builder(), poem::RequestBuilder::content_type);
    let (request, mut body) = request.body(body.to_owned()).split();
    match Json::<Body>::from_request(&request, &mut body, ExtractParamOptions::default()).await {
        Ok(Json(body)) => Ok(body.name.0.into_string()),
        Err(error) => Err(error.downcast_ref::<Problem>().unwrap().code()),
    }
}

#[tokio::test]
async fn only_json_is_read_whatever_its_parameters() {
    let body = r#"{"name":"a"}"#;
    for good in ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=\"utf-8\""] {
        assert_eq!(read(Some(good), body).await.as_deref(), Ok("a"), "{good}");
    }
    let others =
        ["text/plain", "application/problem+json", "application/jsonx", "", "json", "application/cloudevents+json"];
    for bad in others {
        assert_eq!(read(Some(bad), body).await, Err(Code::UnsupportedMediaType), "{bad}");
    }
    assert_eq!(read(None, body).await, Err(Code::UnsupportedMediaType));
    assert_eq!(read(None, "").await, Err(Code::InvalidRequest));
}

#[tokio::test]
async fn an_absent_body_is_enough_where_every_field_is_optional() {
    #[derive(Debug, Deserialize, Serialize, Object)]
    #[serde(deny_unknown_fields, expecting = "an object")]
    struct Optional {
        quantity: Option<Wire<Quantity>>,
    }

    impl Example for Optional {
        fn example() -> Self {
            Self { quantity: None }
        }
    }

    let (request, mut body) = Request::default().split();
    let read = Json::<Optional>::from_request(&request, &mut body, ExtractParamOptions::default()).await;
    assert!(read.unwrap().0.quantity.is_none());
    assert!(!Json::<Optional>::request_meta().unwrap().required);
    assert!(Json::<Body>::request_meta().unwrap().required);
}
