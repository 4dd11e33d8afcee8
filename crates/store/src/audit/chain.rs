//! The hash chain: what a line's hash is made of, so that everybody can make it again.
//!
//! The hash of a line is the SHA-256, in lower-case hexadecimal digits, of a JSON array without white space, in UTF-8:
//!
//! ```text
//! ["multicredit audit 1", hash of the line before, organization_id, sequence, created_at, operation, subject,
//!  api_key_id, api_key_name, api_key_prefix, actor, request_id, before, after]
//! ```
//!
//! The first line's "hash of the line before" is 64 zeros. Ids are hyphenated and in lower case, the nil UUID where there
//! is no organization; `created_at` is in UTC with six digits and a `Z`; what is absent is `null`; the names of objects'
//! fields stand in the order of their code points. An array says where each value ends, so no two lines look the same, and
//! nothing of it depends on how a database stores JSON.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::entity::audit_log;

/// What a chain begins with.
pub(crate) const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What tells this encoding from those that may come.
const FORM: &str = "multicredit audit 1";

/// The hash of a line that follows one with the hash `previous`. The line's own `hash` does not count.
pub(crate) fn hash(previous: &str, line: &audit_log::Model) -> String {
    let texts = |value: &Option<String>| value.clone().map_or(Value::Null, Value::from);
    let json = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
    let values = [
        FORM.into(),
        previous.into(),
        line.organization_id.hyphenated().to_string().into(),
        line.sequence.into(),
        line.created_at.to_rfc3339_opts(SecondsFormat::Micros, true).into(),
        line.operation.as_str().into(),
        line.subject.as_str().into(),
        line.api_key_id.map_or(Value::Null, |id| id.hyphenated().to_string().into()),
        texts(&line.api_key_name),
        texts(&line.api_key_prefix),
        texts(&line.actor),
        texts(&line.request_id),
        json(&line.before),
        json(&line.after),
    ];
    let mut text = String::new();
    write(&Value::from(values.to_vec()), &mut text);
    let mut hash = String::with_capacity(START.len());
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing into a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

/// Writes a value with the fields of objects in order, whatever order it keeps them in.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, field)) in fields.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(field, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn line() -> audit_log::Model {
        audit_log::Model {
            organization_id: Uuid::from_u128(0x0199_a3d2_7c50_7b2e_8a41_5f0c_9d3e_1b27),
            sequence: 2,
            created_at: "2026-11-22T09:30:00.5Z".parse().unwrap(),
            operation: "putMember".to_owned(),
            subject: "user \"42\"".to_owned(),
            api_key_id: None,
            api_key_name: Some("chat".to_owned()),
            api_key_prefix: None,
            actor: None,
            request_id: Some("r-1".to_owned()),
            before: None,
            after: Some(json!({ "role": "owner", "a": { "z": 1, "b": [true, null] } })),
            hash: String::new(),
        }
    }

    #[test]
    fn the_hash_is_the_one_of_the_form_that_is_documented() {
        let text = r#"["multicredit audit 1","0000000000000000000000000000000000000000000000000000000000000000","0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27",2,"2026-11-22T09:30:00.500000Z","putMember","user \"42\"",null,"chat",null,null,"r-1",null,{"a":{"b":[true,null],"z":1},"role":"owner"}]"#;
        let expected =
            Sha256::digest(text.as_bytes()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(hash(START, &line()), expected);
    }

    #[test]
    fn whatever_a_line_says_changes_its_hash() {
        let others: [fn(&mut audit_log::Model); 12] = [
            |line| line.organization_id = Uuid::nil(),
            |line| line.sequence = 3,
            |line| line.created_at += chrono::TimeDelta::microseconds(1),
            |line| line.operation.push('s'),
            |line| line.subject.push('s'),
            |line| line.api_key_id = Some(Uuid::nil()),
            |line| line.api_key_name = None,
            |line| line.api_key_prefix = Some("mc_".to_owned()),
            |line| line.actor = Some("chat".to_owned()),
            |line| line.request_id = None,
            |line| line.before = Some(json!({})),
            |line| line.after = None,
        ];
        let unchanged = hash(START, &line());
        for (number, change) in others.into_iter().enumerate() {
            let mut other = line();
            change(&mut other);
            assert_ne!(hash(START, &other), unchanged, "change {number}");
        }
        assert_ne!(hash(&unchanged, &line()), unchanged, "the hash before it counts");
        assert_eq!(hash(START, &audit_log::Model { hash: "other".to_owned(), ..line() }), unchanged);
    }
}
