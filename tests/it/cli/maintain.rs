//! `multicredit maintain`.

use serde_json::{Value, json};
use tests::both_engines;
use tests::fixtures::{ai, organization, request, store};

use super::process::run;

/// What is said of a job.
fn line<'a>(report: &'a Value, job: &str) -> &'a Value {
    let jobs = report["jobs"].as_array().unwrap();
    jobs.iter().find(|line| line["job"] == job).unwrap_or_else(|| panic!("no {job} in {report}"))
}

both_engines!(a_dry_run_says_what_there_is_to_do_and_maintaining_does_it_once, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "acme", ai(1_000)).await;
    for _ in 0..3 {
        store.consume(id, request("ai_chat", 1), None).await.unwrap();
    }
    store.close().await;
    let contents = db.contents().await.unwrap();
    let before = contents.read().await.unwrap();

    let planned = run(db.url(), &["maintain", "--dry-run", "--format", "json"]).await.succeeded();
    assert_eq!(contents.read().await.unwrap().differences(&before), Vec::<&str>::new());
    let report = planned.json();
    assert_eq!(report["dry_run"], true);
    let roll_up = line(&report, "roll_up_usage");
    assert_eq!((&roll_up["status"], &roll_up["detail"]["attempts"]), (&json!("planned"), &json!(3)), "{roll_up}");

    let done = run(db.url(), &["maintain", "--format", "json"]).await.succeeded();
    let report = done.json();
    let jobs = report["jobs"].as_array().unwrap();
    assert!(jobs.iter().all(|line| line["status"] == "done" && line["duration_ms"].is_u64()), "{report}");
    assert_eq!(line(&report, "roll_up_usage")["detail"]["attempts"], 3, "{report}");
    // A line each, as it goes on, beside the one object on standard output.
    for job in jobs {
        assert!(done.stderr.contains(job["job"].as_str().unwrap()), "{done:?}");
    }

    let again = run(db.url(), &["maintain"]).await.succeeded().stdout;
    assert_eq!(again.lines().count(), jobs.len(), "{again}");
    assert!(again.contains("0 attempts of 0 organizations"), "{again}");
});
