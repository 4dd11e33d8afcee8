//! `multicredit bench`: a run so short that its figures mean nothing, and whether everything is there.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::process::{Ended, finish, program};

/// A folder that goes with the test. Not in the scratch directory, which is closed to the account that PostgreSQL runs
/// as where the tests are root's.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("multicredit-bench-{}", multicredit_store::clock::new_uuid()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        Self(folder)
    }

    /// That nothing of a run is in it any more, or runs there.
    async fn assert_nothing_stays(&self) {
        let left: Vec<_> = std::fs::read_dir(&self.0).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let processes = Command::new("ps").args(["-eo", "args"]).output().await.unwrap();
        assert!(processes.status.success());
        let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
        assert!(!processes.contains(self.0.to_str().unwrap()), "{processes}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `bench` with these arguments, whose throwaway things are in that folder.
fn bench_in(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = program("", &[&["bench"], arguments].concat());
    command.env_remove("DATABASE_URL").env("TMPDIR", &folder.0).env("PATH", std::env::var_os("PATH").unwrap());
    if let Some(bin) = std::env::var_os(tests::postgres::BIN_VARIABLE) {
        command.env("MULTICREDIT_POSTGRES_BIN", bin);
    }
    command
}

/// A run of `bench` as short as it can be.
async fn bench(arguments: &[&str]) -> Ended {
    let folder = Folder::new();
    let tiny = ["--rounds", "1", "--seconds", "0.5", "--organizations", "100", "--clients", "8"];
    let ended = finish(bench_in(&folder, &[&tiny, arguments].concat())).await;
    folder.assert_nothing_stays().await;
    ended.succeeded()
}

fn ids(report: &Value, list: &str) -> BTreeSet<String> {
    report[list].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_run_measures_every_row_and_every_ratio_and_leaves_nothing_behind() {
    let ended = bench(&["--format", "json"]).await;
    let (report, stderr) = (ended.json(), &ended.stderr);
    assert!(stderr.contains("round 1: batch, 4 connections"), "{stderr}");
    assert_eq!(report["passed"], true, "{report}");
    assert_eq!(report["failures"], serde_json::json!([]));

    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 21);
    for row in rows {
        assert!(row["rate"].as_f64().unwrap() > 0.0 && row["note"].is_null(), "{row}");
        let [p50, p99, p999] = ["p50_us", "p99_us", "p999_us"].map(|name| row["latency"][name].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99 && p99 <= p999, "{row}");
        let is_http =
            row["id"].as_str().unwrap().contains("nothing") || row["id"].as_str().unwrap().contains("consume");
        assert_eq!(row["open"].is_object(), is_http, "{row}");
    }
    let told = rows.iter().find(|row| row["id"] == "consume-told").unwrap();
    assert!(told["webhooks"].as_f64().unwrap() > 0.0, "{told}");
    let ratios = report["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 14);
    for ratio in ratios {
        assert!(ratio["value"].as_f64().unwrap() > 0.0, "{ratio}");
        assert_eq!(ratio["met"].is_boolean(), ratio["reach"].is_number(), "{ratio}");
    }
    let engines: Vec<_> = report["memory"].as_array().unwrap().iter().map(|it| it["place"].as_str().unwrap()).collect();
    assert_eq!(engines, ["postgres", "postgres and redis", "postgres and webhooks", "sqlite"]);
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 5);
    for check in checks {
        assert_eq!(check["acknowledged"], check["charged"], "{check}");
        assert_eq!(check["charged"].as_u64().unwrap() > 0, check["database"] != "postgres and redis", "{check}");
    }
}

#[tokio::test]
async fn a_run_can_be_of_some_rows_only_and_be_printed_for_people() {
    let only = ["--engine", "sqlite", "--only", "consume-one,nothing"];
    let report = bench(&[&only[..], &["--format", "json"]].concat()).await.json();
    assert_eq!(ids(&report, "rows"), BTreeSet::from(["sqlite-consume-one", "sqlite-nothing"].map(str::to_owned)));

    let text = bench(&[&only[..], &["--format", "markdown"]].concat()).await.stdout;
    assert!(text.contains("| sqlite-consume-one / sqlite-nothing, rate |"), "{text}");
    assert!(text.contains("every invariant of the ledger holds"), "{text}");
}

#[tokio::test]
async fn a_history_is_loaded_twice_and_measured_side_by_side() {
    let report = bench(&["--history", "20000", "--format", "json"]).await.json();
    assert_eq!(report["passed"], true, "{report}");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9);
    for row in rows {
        assert!(row["rate"].as_f64().unwrap() > 0.0 && row["note"].is_null(), "{row}");
    }
    let expected = ["consume-long-to-short", "page-long-to-short", "usage-long-to-short", "refresh-long-to-short"];
    assert_eq!(ids(&report, "ratios"), BTreeSet::from(expected.map(str::to_owned)));
    assert!(report["ratios"].as_array().unwrap().iter().all(|ratio| ratio["value"].as_f64().unwrap() > 0.0));
    assert_eq!(report["limits"][0]["row"], "long-look-up");
    let charged: Vec<_> =
        report["checks"].as_array().unwrap().iter().map(|it| it["charged"].as_u64().unwrap()).collect();
    // What was loaded, and a day's rows for the refresh in whole batch calls, beside what was consumed.
    assert!(charged.len() == 2 && charged[0] > 200 + 1_000 && charged[1] > 20_000 + 1_000, "{charged:?}");
}

#[tokio::test]
async fn a_run_that_is_ended_by_a_signal_leaves_nothing_behind() {
    for signal in ["-TERM", "-INT"] {
        let folder = Folder::new();
        let endless = ["--rounds", "100", "--seconds", "0.2", "--organizations", "10", "--only", "nothing,consume-1"];
        let mut process = bench_in(&folder, &[&endless[..], &["--engine", "postgres"]].concat()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        while let line = lines.next_line().await.unwrap().expect("it measures")
            && !line.starts_with("round 1: consume-1")
        {}
        let id = process.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
        let mut rest = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            rest.push_str(&line);
        }
        assert_eq!(process.wait().await.unwrap().code(), Some(1), "{rest}");
        assert!(rest.contains("ended by SIG"), "{rest}");
        folder.assert_nothing_stays().await;
    }
}
