//! The bad inputs that the contract names, each with its status and code, at the operations that move credits.

use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use tests::app::{Call, Client, Organization, TestApp, served};
use tests::both_engines;

use super::Untouched;

/// What is sent, the status and code that answer it, and the field that they name.
type Case = (&'static str, Call, u16, &'static str, Option<&'static str>);

async fn assert_refused(app: &TestApp, cases: Vec<Case>) {
    let untouched = Untouched::new(app).await;
    for (what, call, status, code, field) in cases {
        let answer = call.await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{what}: {answer}");
        if let Some(field) = field {
            assert_eq!(super::field(&answer), field, "{what}: {answer}");
        }
        untouched.assert(what).await;
    }
}

fn text(call: Call, body: impl Into<Bytes>) -> Call {
    call.body("application/json", body)
}

fn consume(client: &Client, organization: &Organization) -> Call {
    client.post(&organization.path("/consume"))
}

both_engines!(
    no_quantity_but_a_whole_number_of_the_range_is_one,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000_000, "sms": 10 })).await;
        let mut cases: Vec<Case> = Vec::new();
        for quantity in [
            "0",
            "-1",
            "-0",
            "1.5",
            "1.0",
            "1e3",
            "1E0",
            "9007199254740992",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "1e400",
            "\"1\"",
            "true",
            "[]",
            "[1]",
            "{}",
            "null",
            "\"\"",
        ] {
            for path in ["/consume", "/quote", "/holds"] {
                let call = app.admin.post(&acme.path(path));
                let body = format!(r#"{{"action":"ai_chat","quantity":{quantity}}}"#);
                // A number that no double holds is no JSON to whoever reads numbers as doubles.
                let (code, field) =
                    if quantity == "1e400" { ("malformed_body", None) } else { ("invalid_request", Some("quantity")) };
                cases.push((quantity, text(call, body), 400, code, field));
            }
        }
        assert_refused(app, cases).await;
    })
);

both_engines!(
    no_credits_but_whole_numbers_of_the_range_by_type_are_granted,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        let grant = |credits: &str| {
            let body = format!(r#"{{"credits":{credits},"source":"purchase"}}"#);
            text(app.admin.post(&acme.path("/grants")), body)
        };
        let mut cases: Vec<Case> = Vec::new();
        for (what, field) in [
            (r#"{"ai":-1}"#, "credits.ai"),
            (r#"{"ai":1.5}"#, "credits.ai"),
            (r#"{"ai":1e3}"#, "credits.ai"),
            (r#"{"ai":9007199254740992}"#, "credits.ai"),
            (r#"{"ai":"1"}"#, "credits.ai"),
            (r#"{"ai":null}"#, "credits.ai"),
            (r#"{"ai":1,"voice":1}"#, "credits"),
            (r#"{"ai":1,"ai":1}"#, "credits"),
            (r#"{"AI":1}"#, "credits"),
            (r#"{"ai":0}"#, "credits"),
            ("{}", "credits"),
            ("[1,0,0,0]", "credits"),
            ("5", "credits"),
            ("null", "credits"),
        ] {
            let named = if field == "credits" { None } else { Some(field) };
            cases.push((what, grant(what), 400, "invalid_request", named));
        }
        assert_refused(app, cases).await;
    })
);

both_engines!(
    a_field_that_is_unknown_or_there_twice_or_missing_is_named,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let call = |body: &'static str| text(consume(&app.admin, &acme), body);
        let case = |what: &'static str, field: &'static str| (what, call(what), 400, "invalid_request", Some(field));
        let cases = vec![
            case(r#"{"action":"ai_chat","amount":1}"#, "amount"),
            case(r#"{"action":"ai_chat","Quantity":1}"#, "Quantity"),
            case(r#"{"action":"ai_chat","action":"ai_chat"}"#, "action"),
            case(r#"{"action":"ai_chat","quantity":1,"quantity":1}"#, "quantity"),
            case(r#"{"action":"ai_chat","metadata":{"a":1,"a":1}}"#, "metadata"),
            case(r#"{"quantity":1}"#, "action"),
            case("{}", "action"),
            case(r#"{"action":null}"#, "action"),
            case(r#"{"action":["ai_chat"]}"#, "action"),
            case(r#"{"action":"ai chat"}"#, "action"),
            case(r#"{"action":""}"#, "action"),
            case(r#"{"action":"ai_chat","metadata":[]}"#, "metadata"),
            case(r#"{"action":"ai_chat","metadata":"x"}"#, "metadata"),
            case(r#"{"action":"ai_chat","actor":7}"#, "actor"),
            case(r#"{"action":"ai_chat","occurred_at":"yesterday"}"#, "occurred_at"),
            case(r#"{"action":"ai_chat","occurred_at":1763800000}"#, "occurred_at"),
        ];
        assert_refused(app, cases).await;
    })
);

both_engines!(
    text_that_no_database_holds_is_refused_before_it_gets_there,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let spend = |body: &'static [u8]| text(consume(&app.admin, &acme), body);
        let make = |body: &'static str| text(app.admin.post("/v1/organizations"), body);
        let grant = |body: &'static str| text(app.admin.post(&acme.path("/grants")), body);
        let invalid = |call: Call, field: &'static str| (field, call, 400, "invalid_request", Some(field));
        let malformed = |what: &'static str, call: Call| (what, call, 400, "malformed_body", None);
        let cases = vec![
            invalid(spend(br#"{"action":"ai\u0000chat"}"#), "action"),
            invalid(spend(br#"{"action":"ai_chat","actor":"a\u0000b"}"#), "actor"),
            invalid(spend(br#"{"action":"ai_chat","metadata":{"a":"\u0000"}}"#), "metadata.a"),
            invalid(spend(br#"{"action":"ai_chat","metadata":{"a":[{"b":"x\u0000"}]}}"#), "metadata.a[0].b"),
            (
                "a key of metadata",
                spend(br#"{"action":"ai_chat","metadata":{"\u0000":1}}"#),
                400,
                "invalid_request",
                None,
            ),
            invalid(make(r#"{"name":"a\u0000b"}"#), "name"),
            invalid(make(r#"{"name":"a","external_id":"a\u0000b"}"#), "external_id"),
            invalid(make(r#"{"name":"a","time_zone":"Europe/\u0000"}"#), "time_zone"),
            invalid(make(r#"{"name":"a","time_zone":"Mars/Olympus"}"#), "time_zone"),
            invalid(grant(r#"{"credits":{"ai":1},"source":"purchase","reference":"\u0000"}"#), "reference"),
            malformed("a lone surrogate", spend(br#"{"action":"ai_chat","actor":"\ud800"}"#)),
            malformed("a lone low surrogate", spend(br#"{"action":"ai_chat","actor":"\udc00x"}"#)),
            malformed("a surrogate in metadata", spend(br#"{"action":"ai_chat","metadata":{"a":"\ud83d"}}"#)),
            malformed("a raw control character", spend(b"{\"action\":\"ai_chat\",\"actor\":\"a\0b\"}")),
            malformed("a raw line break", spend(b"{\"action\":\"ai_chat\",\"actor\":\"a\nb\"}")),
            malformed("Latin-1", spend(b"{\"action\":\"ai_chat\",\"actor\":\"\xe9\"}")),
            malformed("a byte that is never UTF-8", spend(b"{\"action\":\"ai_chat\xff\"}")),
            malformed("an encoded surrogate", spend(b"{\"action\":\"\xed\xa0\x80\"}")),
            malformed("UTF-16", spend(b"\xff\xfe{\x00}\x00")),
        ];
        assert_refused(app, cases).await;
    })
);

both_engines!(
    what_is_no_json_object_of_that_type_and_size_is_refused,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let good = r#"{"action":"ai_chat"}"#;
        let padded = |length: usize| good.to_owned() + &" ".repeat(length - good.len());
        let call = || consume(&app.admin, &acme);
        let deep = |open: &str, close: &str| format!("{}{}", open.repeat(5_000), close.repeat(5_000));
        let within = |deep: String| format!(r#"{{"action":"ai_chat","metadata":{{"a":{deep}}}}}"#);
        let malformed = |what: &'static str, body: String| (what, text(call(), body), 400, "malformed_body", None);
        let invalid =
            |what: &'static str, body: &'static str| (what, text(call(), body), 400, "invalid_request", Some(""));
        let media = |what: &'static str, call: Call| (what, call, 415, "unsupported_media_type", None);
        let cases = vec![
            invalid("an empty body", ""),
            invalid("blanks", " \r\n\t"),
            ("no body at all", call(), 400, "invalid_request", Some("action")),
            invalid("null", "null"),
            invalid("a number", "7"),
            invalid("a text", "\"{}\""),
            invalid("an array", r#"[{"action":"ai_chat"}]"#),
            malformed("half an object", good[..10].to_owned()),
            malformed("two objects", format!("{good}{good}")),
            malformed("something after it", format!("{good} x")),
            malformed("a byte order mark", format!("\u{feff}{good}")),
            malformed("a comma too many", r#"{"action":"ai_chat",}"#.to_owned()),
            malformed("a comment", format!("/* */ {good}")),
            malformed("single quotes", good.replace('"', "'")),
            malformed("no number", r#"{"action":"ai_chat","quantity":NaN}"#.to_owned()),
            malformed("a leading zero", r#"{"action":"ai_chat","quantity":01}"#.to_owned()),
            malformed("5,000 arrays", deep("[", "]")),
            malformed("5,000 arrays that are not closed", deep("[", "")),
            malformed("5,000 objects", deep("{\"a\":", "}")),
            malformed("5,000 arrays in metadata", within(deep("[", "]"))),
            (
                "17 arrays in metadata",
                text(call(), within("[".repeat(17) + &"]".repeat(17))),
                400,
                "invalid_request",
                None,
            ),
            (
                "too much metadata",
                text(call(), within(format!("\"{}\"", "x".repeat(8_192)))),
                400,
                "invalid_request",
                None,
            ),
            media("plain text", call().body("text/plain", good)),
            media("a form", call().body("application/x-www-form-urlencoded", "action=ai_chat")),
            media("a problem", call().body("application/problem+json", good)),
            media("an event", call().body("application/cloudevents+json", good)),
            media("nearly JSON", call().body("application/jsonx", good)),
            media("nothing said", call().bare(good)),
            media("an empty word", call().body("", good)),
            ("2 MiB", text(call(), padded(2 << 20)), 413, "payload_too_large", None),
            ("one byte too many", text(call(), padded((1 << 20) + 1)), 413, "payload_too_large", None),
        ];
        assert_refused(app, cases).await;
        // Exactly a mebibyte is enough, and the name of the type has no case.
        text(call(), padded(1 << 20)).await.expect(201);
        call().body("Application/JSON; Charset=\"utf-8\"", good).await.expect(201);
    })
);

both_engines!(
    who_may_not_or_asks_for_what_is_not_there_changes_nothing,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let other = app.organization("other", json!({ "ai": 10 })).await;
        let bound = app.bound_key(&["consume"], &other).await;
        let reader = app.key(&["read"]).await;
        let body = json!({ "action": "ai_chat" });
        let absent = "/v1/organizations/0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27/consume";
        let spend = |client: &Client| consume(client, &acme).json(body.clone());
        let cases = vec![
            ("no key", spend(&app.stranger()), 401, "unauthorized", None),
            ("an unknown key", spend(&app.admin.with_key("mc_x")), 401, "unauthorized", None),
            ("the wrong scope", spend(&reader), 403, "forbidden_scope", None),
            ("another's organization", spend(&bound), 404, "unknown_organization", None),
            ("no organization", bound.post(absent).json(body.clone()), 404, "unknown_organization", None),
            ("no organization", app.admin.post(absent).json(body.clone()), 404, "unknown_organization", None),
            ("no action", consume(&app.admin, &acme).json(json!({ "action": "x" })), 404, "unknown_action", None),
            (
                "no id",
                app.admin.post("/v1/organizations/acme/consume").json(body.clone()),
                400,
                "invalid_request",
                Some("organization_id"),
            ),
            ("no such path", app.admin.post("/v1/consume").json(body.clone()), 404, "unknown_path", None),
            (
                "no such method",
                app.admin.call(Method::PUT, &acme.path("/consume")).json(body.clone()),
                405,
                "method_not_allowed",
                None,
            ),
            (
                "a query",
                app.admin.post(&acme.path("/consume?dry_run=true")).json(body.clone()),
                400,
                "invalid_request",
                Some("dry_run"),
            ),
        ];
        let foreign = spend(&bound).await.without_request_id();
        assert_eq!(foreign, bound.post(absent).json(json!({ "action": "ai_chat" })).await.without_request_id());
        assert_refused(app, cases).await;
    })
);
