//! Lists as CSV: whole, in the order of the pages, with the same values.

use serde_json::{Value, json};
use tests::app::{Answer, Client, served, served_at};
use tests::both_engines;

use super::walk::ABSENT;

async fn table(client: &Client, path: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let answer: Answer = client.get(path).header("Accept", "text/csv").await;
    assert_eq!(answer.status, 200, "{answer}");
    assert!(answer.header("Content-Type").unwrap().starts_with("text/csv"), "{answer}");
    assert_eq!(answer.header("Vary"), Some("Accept"), "{answer}");
    let mut reader = csv::Reader::from_reader(&answer.body[..]);
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    (header, rows)
}

/// A value as a cell of a table.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

both_engines!(
    the_consumptions_are_sent_whole_with_what_the_pages_say,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        for number in 0..130_i64 {
            let metadata = json!({ "note": "a \"quoted\", line\nof text", "number": number });
            let spend = json!({ "action": "ai_chat", "metadata": metadata, "actor": "=1+1" });
            let status = if number < 100 { 201 } else { 402 };
            let answer = app.admin.post(&acme.path("/consume")).json(spend).await;
            assert_eq!(answer.status, status, "{answer}");
        }
        for filter in ["", "?success=false", "?action=sms"] {
            let path = acme.path(&format!("/consumptions{filter}"));
            let items = app.admin.all(&path, 100).await;
            let (header, rows) = table(&app.admin, &path).await;
            assert_eq!(rows.len(), items.len(), "{filter}");
            for (item, row) in items.iter().zip(&rows) {
                for (name, value) in header.iter().zip(row) {
                    let expected = match name.split_once('_') {
                        Some((credit_type, side @ ("consumed" | "available"))) => cell(&item[side][credit_type]),
                        _ => cell(&item[name.as_str()]),
                    };
                    if name == "metadata" {
                        assert_eq!(&value.parse::<Value>().unwrap(), &item["metadata"]);
                    } else {
                        assert_eq!(value, &expected, "{name} of {item}");
                    }
                }
            }
        }
    })
);

both_engines!(
    the_statement_is_sent_whole_with_what_the_pages_say,
    served_at("2026-11-22T09:00:00Z", async |app, _| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        for _ in 0..30 {
            app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
        }
        app.admin.post(&acme.path("/holds")).json(json!({ "action": "ai_chat", "quantity": 5 })).await.expect(201);
        let items = app.admin.all(&acme.path("/ledger"), 100).await;
        let (header, rows) = table(&app.admin, &acme.path("/ledger")).await;
        assert_eq!((items.len(), rows.len()), (32, 32));
        for (item, row) in items.iter().zip(&rows) {
            for (name, value) in header.iter().zip(row) {
                let expected = match name.splitn(3, '_').collect::<Vec<_>>()[..] {
                    [credit_type, side, "change"] => cell(&item["change"][side][credit_type]),
                    [credit_type, side, "after"] => cell(&item["balance_after"][side][credit_type]),
                    _ => cell(&item[name.as_str()]),
                };
                assert_eq!(value, &expected, "{name} of {item}");
            }
        }
    })
);

both_engines!(
    a_list_of_many_pages_is_sent_to_its_end,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 3_000 })).await;
        let item = json!({ "organization_id": acme.id, "action": "ai_chat" });
        for _ in 0..3 {
            app.admin.post("/v1/consume/batch").json(json!({ "items": vec![item.clone(); 800] })).await.expect(200);
        }
        let (_, rows) = table(&app.admin, &acme.path("/consumptions")).await;
        let sequences: Vec<i64> = rows.iter().map(|row| row[13].parse().unwrap()).collect();
        let mut sorted = sequences.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (2..=2_401).collect::<Vec<_>>());
        let (_, rows) = table(&app.admin, &acme.path("/ledger")).await;
        let sequences: Vec<i64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
        assert_eq!(sequences, (1..=2_401).rev().collect::<Vec<_>>());
    })
);

both_engines!(
    a_table_of_nobody_is_not_found,
    served(async |app| {
        for path in ["consumptions", "ledger", "usage"] {
            let path = format!("/v1/organizations/{ABSENT}/{path}");
            let call = app.admin.get(&path).header("Accept", "text/csv");
            call.await.refused(404, "unknown_organization");
        }
    })
);
