//! The types of credits are the same everywhere: in the enum, the columns, JSON and the document.
//!
//! A type that was added to the one and forgotten in another is found here, and named
//! (`docs/adding-a-credit-type.md`).

use std::collections::{BTreeMap, BTreeSet};

use multicredit_domain::CreditType;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use tests::app::served;
use tests::{Engine, both_engines};

fn names() -> BTreeSet<String> {
    CreditType::ALL.iter().map(|credit_type| credit_type.as_str().to_owned()).collect()
}

/// Every column of every table and view, as `table.column`.
const COLUMNS_POSTGRES: &str = "SELECT c.relname || '.' || a.attname FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    WHERE a.attnum > 0 AND NOT a.attisdropped";
const COLUMNS_SQLITE: &str = "SELECT m.name || '.' || i.name FROM sqlite_master m, pragma_table_info(m.name) i
    WHERE m.type IN ('table', 'view')";

both_engines!(each_vector_of_the_schema_has_a_column_for_every_type, async |db| {
    let sql = match db.engine() {
        Engine::Postgres => COLUMNS_POSTGRES,
        Engine::Sqlite => COLUMNS_SQLITE,
    };
    let connection = db.connect().await.unwrap();
    let rows = connection.query_all_raw(Statement::from_string(connection.get_database_backend(), sql)).await.unwrap();
    let mut vectors: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let column: String = row.try_get_by_index(0).unwrap();
        let (table, name) = column.split_once('.').unwrap();
        if let Some((credit_type, part)) = name.split_once("_credits_") {
            vectors.entry(format!("{table} {part}")).or_default().insert(credit_type.to_owned());
        }
    }
    assert!(vectors.len() >= 17, "only {} vectors were found: {vectors:?}", vectors.len());
    for (vector, types) in vectors {
        assert_eq!(types, names(), "{vector}");
    }
});

both_engines!(
    every_vector_that_is_answered_or_documented_has_every_type,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        app.admin.post(&acme.path("/holds")).json(json!({ "action": "ai_chat" })).await.expect(201);
        let answers = [
            app.admin.get(&acme.path("/balance")).await.expect(200),
            app.admin.get(&acme.path("/grants")).await.expect(200),
            app.admin.get(&acme.path("/ledger")).await.expect(200),
            app.admin.get(&acme.path("/holds")).await.expect(200),
            app.admin.get("/v1/actions").await.expect(200),
            app.admin.post(&acme.path("/quote")).json(json!({ "action": "sms" })).await.expect(200),
            app.admin
                .post(&acme.path("/consume"))
                .json(json!({ "action": "sms" }))
                .await
                .refused(402, "insufficient_credits"),
        ];
        let mut found = Vec::new();
        for answer in &answers {
            let before = found.len();
            vectors(answer, &mut found);
            assert!(found.len() > before, "{answer}");
        }
        let document = app.stranger().get("/openapi.json").await.expect(200);
        let answered = found.len();
        for schema in document["components"]["schemas"].as_object().unwrap().values() {
            vectors(&schema["properties"], &mut found);
        }
        assert!(found.len() > answered, "the document has no vector");
        for types in found {
            assert_eq!(types, names());
        }
    })
);

/// The fields of every object with a field that is named like a type of credit.
fn vectors(value: &Value, found: &mut Vec<BTreeSet<String>>) {
    match value {
        Value::Object(fields) => {
            if fields.keys().any(|field| CreditType::from_name(field).is_some()) {
                found.push(fields.keys().cloned().collect());
            }
            fields.values().for_each(|value| vectors(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| vectors(item, found)),
        _ => {}
    }
}
