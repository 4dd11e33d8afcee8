//! `multicredit bench`: a run so short that its figures mean nothing, and whether everything is there.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::scratch;
use tokio::process::Command;

use super::process::{finish, program};

/// A run of `bench` with a folder of its own for everything that it makes.
async fn bench(arguments: &[&str]) -> (Value, String) {
    let folder = scratch::shared_directory().unwrap().join(multicredit_store::clock::new_uuid().to_string());
    std::fs::create_dir(&folder).unwrap();
    // The throwaway server runs as somebody else where this is root's.
    let open = Command::new("chmod").arg("777").arg(&folder).status().await.unwrap();
    assert!(open.success());
    let tiny = ["bench", "--rounds", "1", "--seconds", "0.3", "--organizations", "100", "--clients", "8"];
    let mut command = program("", &[&tiny, arguments].concat());
    command.env_remove("DATABASE_URL").env("TMPDIR", &folder).env("PATH", std::env::var_os("PATH").unwrap());
    if let Some(bin) = std::env::var_os(tests::postgres::BIN_VARIABLE) {
        command.env("MULTICREDIT_POSTGRES_BIN", bin);
    }
    let ended = finish(command).await.succeeded();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing stays in {}", folder.display());
    let processes = Command::new("ps").args(["-eo", "args"]).output().await.unwrap();
    let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
    let folder = folder.to_str().unwrap();
    assert!(!processes.contains(folder), "nothing runs on: {processes}");
    (ended.json(), ended.stderr)
}

fn ids(report: &Value, list: &str) -> BTreeSet<String> {
    report[list].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_run_measures_every_row_and_every_ratio_and_leaves_nothing_behind() {
    let (report, stderr) = bench(&["--format", "json"]).await;
    assert!(stderr.contains("round 1: batch, 4 connections"), "{stderr}");
    assert_eq!(report["passed"], true, "{report}");
    assert_eq!(report["failures"], serde_json::json!([]));

    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 17);
    for row in rows {
        // Until the schema has the function, its rows say so.
        if row["note"].is_null() {
            assert!(row["rate"].as_f64().unwrap() > 0.0, "{row}");
            let [p50, p99, p999] = ["p50_us", "p99_us", "p999_us"].map(|name| row["latency"][name].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p99 && p99 <= p999, "{row}");
        } else {
            assert!(row["id"].as_str().unwrap().starts_with("rpc-"), "{row}");
        }
        let is_http =
            row["id"].as_str().unwrap().contains("nothing") || row["id"].as_str().unwrap().contains("consume");
        assert_eq!(row["open"].is_object(), is_http, "{row}");
    }
    let ratios = report["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 12);
    for ratio in ratios.iter().filter(|ratio| !ratio["id"].as_str().unwrap().starts_with("rpc-")) {
        assert!(ratio["value"].as_f64().unwrap() > 0.0, "{ratio}");
        assert_eq!(ratio["met"].is_boolean(), ratio["reach"].is_number(), "{ratio}");
    }
    let engines: Vec<_> =
        report["memory"].as_array().unwrap().iter().map(|it| it["engine"].as_str().unwrap()).collect();
    assert_eq!(engines, ["postgres", "sqlite"]);
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 3);
    for check in checks {
        assert_eq!(check["acknowledged"], check["charged"], "{check}");
        assert!(check["charged"].as_u64().unwrap() > 0, "{check}");
    }
}

#[tokio::test]
async fn a_run_can_be_of_some_rows_only_and_be_printed_for_people() {
    let only = ["--engine", "sqlite", "--only", "consume-one,nothing"];
    let (report, _) = bench(&[&only[..], &["--format", "json"]].concat()).await;
    assert_eq!(ids(&report, "rows"), BTreeSet::from(["sqlite-consume-one", "sqlite-nothing"].map(str::to_owned)));

    let mut command = program("", &[&["bench", "--rounds", "1", "--seconds", "0.3"], &only[..]].concat());
    command.args(["--organizations", "2", "--format", "markdown"]);
    command.env_remove("DATABASE_URL").env("PATH", std::env::var_os("PATH").unwrap());
    let text = finish(command).await.succeeded().stdout;
    assert!(text.contains("| sqlite-consume-one / sqlite-nothing, rate |"), "{text}");
    assert!(text.contains("every invariant of the ledger holds"), "{text}");
}
