//! Canaries: secrets that would be recognized wherever they came out, in everything that a server says and writes while
//! every operation is called, at the level of logging that tells most.

use std::collections::BTreeSet;

use hyper::Method;
use multicredit::auth;
use serde_json::json;
use tests::app::{Answer, Client};
use tests::fixtures::store;
use tests::{Engine, TestDb, both_engines};

use super::process::{Server, finish, program, run};
use crate::http::tokens;
use crate::http::walk::{Document, Operation, World};

const ADMIN_KEY: &str = "canary-admin-key-0123456789abcdefghijklm";
const BAD_KEY: &str = "canary-bad-key-0123456789abcdefghijklmno";
const DATABASE_PASSWORD: &str = "canary-database-password";
const REDIS_PASSWORD: &str = "canary-redis-password";
const JWT_SECRET: &str = "canary-jwt-secret-0123456789abcdefghijklm";

/// What callers sent, which is no secret and stands in no log for all that.
const BODY: &str = "canary-in-a-body";
const QUERY: &str = "canary-in-a-query";

/// Who answers with a secret, and in which field: once, or to whoever may ask for it.
const REVEALING: [(&str, &str); 4] = [
    ("createApiKey", "key"),
    ("createWebhookEndpoint", "secret"),
    ("getWebhookSecret", "secret"),
    ("rotateWebhookSecret", "secret"),
];

/// The pages of people who are logged in.
const PAGES: [&str; 3] = ["/dashboard", "/dashboard/organizations", "/dashboard/performance"];

/// What was answered, and what was secret in it.
#[derive(Default)]
struct Heard {
    answers: Vec<String>,
    secrets: BTreeSet<String>,
}

impl Heard {
    /// An answer that may hold no secret.
    fn note(&mut self, answer: &Answer) {
        // Without what was asked, which the test itself would tell.
        let body = String::from_utf8_lossy(&answer.body);
        self.answers.push(format!("{} {:?} {body}", answer.status, answer.headers));
    }

    /// An answer of an operation, of which the secret that it is there to tell is kept, and the rest is noted.
    fn note_of(&mut self, operation: &Operation, answer: &Answer) {
        let id = operation.described["operationId"].as_str().unwrap();
        let Some((_, field)) = REVEALING.iter().find(|(name, _)| *name == id) else {
            let has_one = String::from_utf8_lossy(&answer.body).contains("whsec_");
            assert!(!has_one, "a secret that is not expected here: {answer}");
            return self.note(answer);
        };
        assert!(answer.status < 300, "it tells its secret: {answer}");
        let mut body = answer.json();
        let secret = body.as_object_mut().unwrap().remove(*field).unwrap();
        self.keep(secret.as_str().unwrap());
        self.answers.push(format!("{id} {body} {:?}", answer.headers));
    }

    /// A secret, without what everybody may know of it: what it begins with.
    fn keep(&mut self, secret: &str) {
        let unknown = secret.strip_prefix("whsec_").unwrap_or_else(|| &secret[auth::PREFIX_CHARS..]);
        self.secrets.insert(unknown.to_owned());
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Every operation as it should be called, those that delete at the end; then with another key, and broken.
async fn call_everything(heard: &mut Heard, admin: &Client, world: &World, document: &Document) {
    let mut operations = document.operations();
    operations.sort_by_key(|operation| operation.method == Method::DELETE);
    let mut done = 0;
    for operation in &operations {
        let call = world.call(admin, document, operation);
        let takes_key = operation.parameters("header").iter().any(|it| it["name"] == "Idempotency-Key");
        let call = if takes_key { call.once(operation.described["operationId"].as_str().unwrap()) } else { call };
        let answer = call.await;
        done += usize::from(answer.status < 300);
        heard.note_of(operation, &answer);
    }
    // What fails does so for want of another state, and its answer counts all the same.
    assert!(done * 10 >= operations.len() * 8, "only {done} of {} operations were done", operations.len());
    let stranger = admin.with_key(BAD_KEY);
    for operation in &operations {
        heard.note(&world.call(&stranger, document, operation).await);
        let path = world.path(operation);
        let broken = admin.call(operation.method.clone(), &path).header("X-Api-Key", ADMIN_KEY);
        heard.note(&broken.body("application/json", format!("{{\"name\": \"{BODY}\", \"key\": \"{ADMIN_KEY}\"")).await);
        heard.note(&admin.call(operation.method.clone(), &format!("{path}?key={ADMIN_KEY}&q={QUERY}")).await);
    }
}

/// A session of the dashboard, and what it looks at.
async fn look_around(heard: &mut Heard, client: &Client) {
    let log_in = |key: &str| {
        let form = format!("key={key}&next=");
        let call = client.post("/dashboard/login").header("Sec-Fetch-Site", "same-origin");
        call.body("application/x-www-form-urlencoded", form)
    };
    heard.note(&log_in(BAD_KEY).await);
    let let_in = log_in(ADMIN_KEY).await;
    let cookie = let_in.header("Set-Cookie").unwrap_or_else(|| panic!("{let_in}")).split(';').next().unwrap();
    let token = cookie.split_once('=').unwrap().1;
    heard.keep(token);
    for page in PAGES {
        let answer = client.get(page).header("Cookie", cookie).await;
        assert_eq!(answer.status, 200, "{answer}");
        heard.note(&answer);
    }
    // A token is no key.
    heard.note(&client.with_key(token).get("/v1/actions").await);
    heard
        .note(&client.post("/dashboard/logout").header("Cookie", cookie).header("Sec-Fetch-Site", "same-origin").await);
}

/// Everything else that is answered.
async fn read_the_rest(heard: &mut Heard, client: &Client) {
    for path in ["/metrics", "/openapi.json", "/docs", "/health/live", "/health/ready", "/nowhere"] {
        heard.note(&client.get(path).await);
    }
}

/// A user with a signed token, of which the signature is the secret.
async fn read_as_a_user(heard: &mut Heard, client: &Client, world: &World) {
    let path = world.organization.path("");
    for (seconds, status) in [(60, 200), (-60, 401)] {
        let claims = json!({
            "sub": "user-canary", "exp": tokens::in_seconds(seconds), "organization_id": world.organization.id
        });
        let token = tokens::by_secret(JWT_SECRET, &claims);
        heard.secrets.insert(token.rsplit_once('.').unwrap().1.to_owned());
        let answer = client.with_key(&token).get(&path).await;
        assert_eq!(answer.status, status, "{answer}");
        heard.note(&answer);
    }
}

/// Where the database is, with a password, which the throwaway server does not ask for.
fn with_password(db: &TestDb) -> String {
    match db.engine() {
        Engine::Postgres => db.url().replacen('@', &format!(":{DATABASE_PASSWORD}@"), 1),
        Engine::Sqlite => db.url().to_owned(),
    }
}

/// Where Redis is, for a user with a password.
async fn redis_url(name: &str) -> String {
    let url = tests::redis::shared_url().unwrap();
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut allow = redis::cmd("ACL");
    allow.arg("SETUSER").arg(name).arg("on").arg(format!(">{REDIS_PASSWORD}")).arg("~*").arg("&*").arg("+@all");
    let (): () = allow.query_async(&mut connection).await.unwrap();
    url.replacen("redis://", &format!("redis://{name}:{REDIS_PASSWORD}@"), 1)
}

async fn tell_everything(db: &TestDb, format: &str, redis_url: &str) {
    let mut serve = program(&with_password(db), &["serve", "--log-format", format, "--log", "trace"]);
    serve.env("MULTICREDIT_ADMIN_KEY", ADMIN_KEY).env("REDIS_URL", redis_url);
    serve
        .env("MULTICREDIT_JWT_SECRET", JWT_SECRET)
        .env("MULTICREDIT_WEBHOOK_ALLOW", "127.0.0.0/8")
        .env("RUST_BACKTRACE", "1");
    let server = Server::spawn(serve).await;
    let admin = server.client.with_key(ADMIN_KEY);
    let store = store(db).await;
    let mut heard = Heard::default();
    let document = Document::read_by(&server.client).await;
    let world = World::made_by(&admin, &store, &format!("of-{format}")).await;
    call_everything(&mut heard, &admin, &world, &document).await;
    admin.put(&world.organization.path("/members/user-canary")).await.expect(200);
    look_around(&mut heard, &server.client).await;
    read_the_rest(&mut heard, &server.client).await;
    read_as_a_user(&mut heard, &server.client, &world).await;
    store.close().await;
    let ended = server.stop().await;

    let secrets = heard.secrets.iter().map(String::as_str);
    let secrets: Vec<String> = secrets
        .chain([ADMIN_KEY, BAD_KEY, DATABASE_PASSWORD, REDIS_PASSWORD, JWT_SECRET])
        .flat_map(|secret| [secret.to_owned(), hexadecimal(&auth::digest(secret))])
        .collect();
    assert!(heard.secrets.len() >= 4, "{:?}", heard.secrets);
    let lines = ended.stderr.lines().filter(|line| line.contains("DEBUG") && line.contains("answered")).count();
    assert!(lines >= heard.answers.len(), "the log does not tell everything: {lines} lines");
    for secret in &secrets {
        let told: Vec<&String> = heard.answers.iter().filter(|answer| answer.contains(secret)).collect();
        assert!(told.is_empty(), "{secret} was answered: {told:#?}");
    }
    for secret in secrets.iter().map(String::as_str).chain([BODY, QUERY]) {
        let told: Vec<&str> =
            ended.stderr.lines().chain(ended.stdout.lines()).filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret} is in the log ({format}): {told:#?}");
    }
}

both_engines!(no_secret_comes_out_of_a_server_that_logs_everything, async |db| {
    let good = redis_url(&format!("canary-{:?}", db.engine())).await;
    // And one that Redis does not let in, which is something to log.
    let bad = good.replacen("canary-", "nobody-", 1);
    tell_everything(&db, "text", &good).await;
    tell_everything(&db, "json", &bad).await;
});

#[tokio::test]
async fn a_start_that_fails_names_the_setting_and_not_the_secret_in_it() {
    const SECRET: &str = "canary-of-a-start";
    let databases = [
        format!("postgres://somebody:{SECRET}@127.0.0.1:1/nothing"),
        format!("postgres://somebody:{SECRET}@127.0.0.1:port/nothing"),
        format!("postgres://somebody:{SECRET}@127.0.0.1:1/nothing?sslmode=none"),
        format!("postgres://somebody:{SECRET}@[127.0.0.1/nothing"),
        format!("mysql://somebody:{SECRET}@127.0.0.1/nothing"),
        SECRET.to_owned(),
    ];
    for url in &databases {
        for command in [&["serve"][..], &["keys", "list"]] {
            let ended = run(url, &[command, &["--log", "trace"]].concat()).await;
            assert_ne!(ended.code, Some(0), "{url}: {ended:?}");
            assert!(!ended.stderr.is_empty() && !format!("{ended:?}").contains(SECRET), "{url}: {ended:?}");
        }
    }
    let empty = TestDb::empty(Engine::Sqlite).await.unwrap();
    for (name, value) in [
        ("REDIS_URL", format!("redis://somebody:{SECRET}@127.0.0.1:port")),
        ("REDIS_URL", format!("http://somebody:{SECRET}@127.0.0.1")),
        ("REDIS_URL", SECRET.to_owned()),
        ("MULTICREDIT_ADMIN_KEY", SECRET.to_owned()),
        ("MULTICREDIT_JWT_SECRET", SECRET.to_owned()),
    ] {
        let mut serve = program(empty.url(), &["serve", "--log", "trace", "--listen", "127.0.0.1:0"]);
        serve.env(name, &value);
        let ended = finish(serve).await;
        assert_ne!(ended.code, Some(0), "{name}={value}: {ended:?}");
        assert!(!ended.stderr.is_empty() && !format!("{ended:?}").contains(SECRET), "{name}={value}: {ended:?}");
    }
    for command in [&["serve"][..], &["verify"], &["import"], &["bench"], &["keys", "create"]] {
        for asked in ["--help", "--nonsense"] {
            let mut program =
                program(&format!("postgres://somebody:{SECRET}@nowhere/x"), &[command, &[asked]].concat());
            for name in
                ["MULTICREDIT_ADMIN_KEY", "MULTICREDIT_JWT_SECRET", "REDIS_URL", "MULTICREDIT_BENCH_DATABASE_URL"]
            {
                program.env(name, SECRET);
            }
            let ended = finish(program).await;
            assert!(!format!("{ended:?}").contains(SECRET), "{command:?} {asked}: {ended:?}");
        }
    }
}
