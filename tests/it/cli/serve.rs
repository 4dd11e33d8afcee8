//! `multicredit serve`: from nothing to a server that answers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Engine, TestDb, both_engines, scratch};
use tokio::process::Command;

use super::process::{Ended, Server, finish, program, run};

const ADMIN_KEY: &str = "an-admin-key-of-this-test-0123456789";

/// A folder of this test alone.
fn folder() -> PathBuf {
    let folder = scratch::shared_directory().unwrap().join(multicredit_store::clock::new_uuid().to_string());
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// `serve --demo` in that folder, with nothing said about the database.
async fn demo(folder: &Path) -> Server {
    let mut command = program("", &["serve", "--demo"]);
    command.env_remove("DATABASE_URL").current_dir(folder);
    Server::spawn(command).await
}

/// Has a shell do what was printed for people to paste.
async fn paste(line: &str) -> (String, Value) {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("curl {line} --silent --show-error")]);
    let Ended { stdout, .. } = finish_in_shell(shell).await;
    let (head, body) = stdout.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.parse().unwrap())
}

async fn finish_in_shell(mut shell: Command) -> Ended {
    shell.kill_on_drop(true);
    finish(shell).await.succeeded()
}

#[tokio::test]
async fn the_demo_prints_a_command_that_consumes_once_however_often_it_is_pasted() {
    let folder = folder();
    let mut server = demo(&folder).await;
    let api = server.line("  API         ").await;
    let docs = server.line("  Swagger UI  ").await;
    let key = server.line("  Admin key   ").await;
    let curl = server.line("curl ").await;

    let (head, first) = paste(&curl).await;
    assert!(head.starts_with("http/1.1 201") && !head.contains("idempotent-replayed"), "{head}");
    assert_eq!((&first["action"], &first["quantity"]), (&json!("ai_chat"), &json!(3)));
    let (head, again) = paste(&curl).await;
    assert!(head.starts_with("http/1.1 201") && head.contains("idempotent-replayed: true"), "{head}");
    assert_eq!(again, first);

    let path_of = |url: &str| url.split_once(&server.client.address().to_string()).unwrap().1.to_owned();
    let client = server.client.with_key(&key);
    let listed = client.get(&(path_of(&api) + "/organizations")).await.expect(200);
    let demo_path = format!("/v1/organizations/{}/balance", listed["items"][0]["id"].as_str().unwrap());
    let balance = client.get(&demo_path).await.expect(200);
    assert_eq!((&balance["available"], &balance["sequence"]), (&first["available"], &json!(2)));
    assert_eq!(server.client.get(&path_of(&docs)).await.status, 200);

    let key_file = folder.join("data/admin-key");
    assert_eq!(std::fs::read_to_string(&key_file).unwrap().trim(), key);
    assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(folder.join("data/multicredit.db").exists());
    server.stop().await;

    let mut server = demo(&folder).await;
    assert_eq!(server.line("  Admin key   ").await, key, "a restart makes no other key");
    let fresh = server.line("curl ").await;
    assert_ne!(fresh.split("Idempotency-Key: ").nth(1), curl.split("Idempotency-Key: ").nth(1));
    let balance = server.client.with_key(&key).get(&demo_path).await.expect(200);
    assert_eq!(balance["available"], first["available"], "and grants nothing again");
    server.stop().await;
}

#[tokio::test]
async fn on_postgres_a_schema_that_is_behind_is_refused_until_it_is_told_to_migrate() {
    let db = TestDb::empty(Engine::Postgres).await.unwrap();
    let refused = run(db.url(), &["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("schema is behind") && refused.stderr.contains("--migrate"), "{refused:?}");

    let server = Server::start(db.url(), &["--migrate"]).await;
    server.client.get("/health/ready").await.expect(200);
    server.stop().await;
    // From then on it is not needed any more.
    Server::start(db.url(), &[]).await.stop().await;
}

#[tokio::test]
async fn replicas_that_migrate_at_once_all_serve() {
    let db = TestDb::empty(Engine::Postgres).await.unwrap();
    let arguments = ["--migrate", "--admin-key", ADMIN_KEY];
    let servers = futures_util::future::join_all((0..3).map(|_| Server::start(db.url(), &arguments))).await;
    for server in servers {
        server.client.with_key(ADMIN_KEY).get("/v1/actions").await.expect(200);
        server.stop().await;
    }
}

both_engines!(without_a_command_and_without_a_key_it_serves_and_shows_a_key_once, async |db| {
    let empty = TestDb::empty(db.engine()).await.unwrap();
    let mut command = program(empty.url(), &["--migrate"]);
    command.env("MULTICREDIT_LISTEN", "127.0.0.1:0");
    let mut process = command.spawn().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(process.stdout.take().unwrap()));
    let line = lines.next_line().await.unwrap().unwrap();
    let key = line.strip_prefix("admin key, shown only now: ").expect("a key is shown first").to_owned();
    let listening = lines.next_line().await.unwrap().unwrap();
    assert!(listening.starts_with("listening on http://127.0.0.1:"), "{listening}");
    process.kill().await.unwrap();

    let server = Server::start(empty.url(), &[]).await;
    server.client.with_key(&key).post("/v1/organizations").json(json!({ "name": "first" })).await.expect(201);
    let ended = server.stop().await;
    assert!(!ended.stdout.contains("admin key") && !ended.stderr.contains(&key), "{ended:?}");
});

both_engines!(a_configured_admin_key_is_registered_once_and_a_revoked_one_stays_revoked, async |db| {
    let spawn = async || {
        let mut command = program(db.url(), &["serve"]);
        command.env("MULTICREDIT_ADMIN_KEY", ADMIN_KEY);
        Server::spawn(command).await
    };
    let server = spawn().await;
    let client = server.client.with_key(ADMIN_KEY);
    let listed = client.get("/v1/api-keys").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    server.stop().await;
    let server = spawn().await;
    let client = server.client.with_key(ADMIN_KEY);
    assert_eq!(client.get("/v1/api-keys").await.expect(200), listed);
    let path = format!("/v1/api-keys/{}", listed["items"][0]["id"].as_str().unwrap());
    client.delete(&path).await.expect(204);
    server.stop().await;
    let server = spawn().await;
    server.client.with_key(ADMIN_KEY).get("/v1/api-keys").await.refused(401, "unauthorized");
    server.stop().await;
});

both_engines!(what_cannot_be_served_is_said_and_leaves_nothing, async |db| {
    let running = Server::start(db.url(), &["--admin-key", ADMIN_KEY]).await;
    let taken = running.client.address().to_string();
    let keys = async || run(db.url(), &["keys", "list", "--format", "json"]).await.succeeded().json();
    let before = keys().await;
    for (arguments, part) in [
        (["--listen", &taken[..]], taken.as_str()),
        (["--listen", "nowhere"], "nowhere"),
        (["--admin-key", "short"], "MULTICREDIT_ADMIN_KEY"),
    ] {
        let ended = run(db.url(), &[&["serve"], &arguments[..]].concat()).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(part) && !ended.stderr.contains("short"), "{ended:?}");
    }
    assert_eq!(keys().await, before);
    running.client.with_key(ADMIN_KEY).get("/v1/actions").await.expect(200);
    running.stop().await;
});
