//! The program, as people and supervisors run it: a process with arguments, an environment, outputs and an exit code.

mod bench;
mod canaries;
mod import;
mod keys;
mod logs;
mod maintain;
pub mod process;
mod serve;
mod spans;
mod stopping;

use process::run;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tests::both_engines;
use tests::fixtures::{ai, organization, request, store};

both_engines!(verify_passes_on_what_is_sound_and_names_what_is_not, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "acme", ai(10)).await;
    store.consume(id, request("ai_chat", 3), None).await.unwrap();
    let sound = run(db.url(), &["verify", "--format", "json"]).await.succeeded().json();
    assert_eq!((&sound["passed"], &sound["organizations"]), (&json!(true), &json!(1)));
    assert!(sound["checks"].as_array().unwrap().iter().all(|check| check["violations"] == 0), "{sound}");
    let text = run(db.url(), &["verify"]).await.succeeded().stdout;
    assert!(text.ends_with("every invariant holds\n"), "{text}");

    let fault = "UPDATE organization_credits SET ai_credits_available = ai_credits_available + 1";
    db.connect().await.unwrap().execute_unprepared(fault).await.unwrap();
    let violated = run(db.url(), &["verify", "--format", "json"]).await;
    assert_eq!(violated.code, Some(1), "{violated:?}");
    let report = violated.json();
    let named = report["checks"].as_array().unwrap().iter().filter(|check| check["violations"] != 0);
    assert_eq!(report["passed"], false);
    assert!(named.count() > 0, "{report}");
    store.close().await;
});

#[tokio::test]
async fn the_document_of_the_api_needs_neither_server_nor_database() {
    let printed = run("sqlite:///nowhere/at/all.db", &["openapi"]).await.succeeded();
    assert_eq!(printed.stdout.trim_end(), multicredit::app::openapi_json().trim_end());
    assert!(printed.json()["openapi"].is_string());
}

#[tokio::test]
async fn every_command_says_what_it_does_with_an_example() {
    let commands: [&[&str]; 11] = [
        &[],
        &["serve"],
        &["import"],
        &["verify"],
        &["bench"],
        &["report"],
        &["maintain"],
        &["keys", "create"],
        &["keys", "list"],
        &["keys", "revoke"],
        &["openapi"],
    ];
    for command in commands {
        let help = run("", &[command, &["--help"]].concat()).await.succeeded().stdout;
        assert!(help.contains("Example") && help.contains("multicredit"), "{command:?}: {help}");
    }
}

#[tokio::test]
async fn a_command_line_that_is_wrong_is_told_from_work_that_failed() {
    for wrong in [&["nothing"][..], &["serve", "--port", "1"], &["import"], &["keys"], &["verify", "--format", "xml"]] {
        let ended = run("", wrong).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{wrong:?}: {ended:?}");
    }
    let unreachable = run("postgres://nobody@127.0.0.1:1/nothing", &["verify"]).await;
    assert_eq!((unreachable.code, unreachable.stdout.as_str()), (Some(1), ""), "{unreachable:?}");
    assert!(unreachable.stderr.contains("cannot open the database"), "{unreachable:?}");
    let unknown = run("mysql://localhost/x", &["verify"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("DATABASE_URL"), "{unknown:?}");
}

/// What is spent of AI credits, by the customer's name for the organization: the rule of the starting catalogue, one for
/// each thousand begun, in plain arithmetic.
fn spent_by_organization(events: &str) -> std::collections::BTreeMap<String, i64> {
    let mut spent = std::collections::BTreeMap::new();
    for event in events.lines().map(|line| line.parse::<Value>().unwrap()) {
        let quantity = event["data"]["quantity"].as_i64().unwrap();
        *spent.entry(event["subject"].as_str().unwrap().to_owned()).or_insert(0) += (quantity + 999) / 1_000;
    }
    spent
}
