//! The server killed at each point of a consumption, exactly: the proxy stands still there, and then the process is
//! killed. By the express path and by the portable one.
//!
//! Sent again with the same key to a new process, it is done once, whatever had become of the first; what had been
//! acknowledged is what is answered again.

use serde_json::{Value, json};
use tests::app::{Answer, Client};
use tests::proxy::{Proxy, Stop};
use tests::{Engine, TestDb, run};

use super::place::{ADMIN_KEY, verify};
use super::plant::plant;
use crate::cli::process::{Server, program};

/// By which way a consumption goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One statement that is a transaction of its own.
    Express,
    /// A transaction of many, as after a start, when no price is known yet.
    Portable,
}

/// When the process is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kill {
    At(Stop),
    /// The caller has its answer.
    Answered,
}

impl Kill {
    /// How many consumptions there may be when the server is dead.
    const fn kept(self) -> std::ops::RangeInclusive<i64> {
        match self {
            Self::At(Stop::BeforeBegin | Stop::AfterLock | Stop::AfterWrite) => 0..=0,
            // PostgreSQL may or may not have read it.
            Self::At(Stop::CommitSent) => 0..=1,
            Self::At(Stop::CommitDone) | Self::Answered => 1..=1,
        }
    }
}

async fn serve(url: &str) -> Server {
    let mut command = program(url, &["serve", "--admin-key", ADMIN_KEY]);
    command.env("MULTICREDIT_LOG", "error");
    Server::spawn(command).await
}

/// An organization with a hundred credits; the path of what is asked of it.
async fn path(admin: &Client) -> String {
    let made = admin.post("/v1/organizations").json(json!({ "name": "acme" })).await.expect(201);
    let path = format!("/v1/organizations/{}", made["id"].as_str().unwrap());
    let grant = json!({ "credits": { "ai": 100 }, "source": "purchase" });
    admin.post(&format!("{path}/grants")).json(grant).await.expect(201);
    path
}

async fn spend(admin: &Client, path: &str, key: &str) -> Option<Answer> {
    let body = json!({ "action": "ai_chat", "quantity": 3 });
    admin.post(&format!("{path}/consume")).json(body).once(key).try_send().await
}

async fn available(admin: &Client, path: &str) -> Value {
    admin.get(&format!("{path}/balance?fresh=true")).await.expect(200)["available"]["ai"].clone()
}

/// How many consumptions are in the ledger, once nobody can change that any more.
async fn kept(db: &TestDb) -> i64 {
    use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
    let connection = db.connect().await.unwrap();
    let count = async |sql: &str| -> i64 {
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    };
    let sessions = "SELECT COUNT(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'multicredit ledger'";
    for _ in 0..500 {
        if count(sessions).await == 0 {
            return count("SELECT COUNT(*) FROM credit_consumption_logs WHERE success").await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("a session of the ledger outlives its server");
}

/// Kills the server there, and has what was asked asked again of another one.
fn killed(way: Way, kill: Kill) {
    run(Engine::Postgres, async |db| {
        let (proxy, url) = Proxy::before_database(db.url()).await;
        plant(db.url(), Some(&proxy)).await;
        let server = serve(&url).await;
        let admin = server.client.with_key(ADMIN_KEY);
        let path = path(&admin).await;
        let mut before = 0;
        if way == Way::Express {
            // The first learns the price, the second prepares the call.
            for key in ["price", "call"] {
                spend(&admin, &path, key).await.unwrap().expect(201);
                before += 1;
            }
        }
        if let Kill::At(stop) = kill {
            proxy.stop(stop);
        }
        let asked = async || {
            let answer = spend(&admin, &path, "key").await;
            assert!(kill == Kill::Answered || answer.is_none(), "it was answered beyond the point: {answer:?}");
            answer
        };
        let dies = async || {
            if kill != Kill::Answered {
                proxy.stopped().await;
                server.kill().await;
                proxy.hang_up();
                return None;
            }
            Some(server)
        };
        let (answer, server) = tokio::join!(asked(), dies());
        if let Some(server) = server {
            server.kill().await;
        }
        let kept = kept(&db).await - before;
        assert!(kill.kept().contains(&kept), "{kept} were kept");

        let other = serve(db.url()).await;
        let admin = other.client.with_key(ADMIN_KEY);
        let again = spend(&admin, &path, "key").await.unwrap();
        let answered = again.expect(201);
        assert_eq!(again.is_replay(), kept == 1, "{again}");
        if let Some(answer) = answer {
            assert_eq!(answer.expect(201), answered);
        }
        assert_eq!(spend(&admin, &path, "key").await.unwrap().expect(201), answered);
        assert_eq!(available(&admin, &path).await, json!(100 - 3 * (before + 1)));
        other.stop().await;
        assert_eq!(verify(db.url()).await, None);
    });
}

macro_rules! kill_points {
    ($($name:ident: $way:ident, $kill:expr;)*) => {
        $(
            #[test]
            fn $name() {
                killed(Way::$way, $kill);
            }
        )*
    };
}

kill_points! {
    express_before_it_begins: Express, Kill::At(Stop::BeforeBegin);
    express_after_it_has_written: Express, Kill::At(Stop::AfterWrite);
    express_when_the_commit_is_sent: Express, Kill::At(Stop::CommitSent);
    express_when_the_commit_is_done: Express, Kill::At(Stop::CommitDone);
    express_when_it_is_answered: Express, Kill::Answered;
    portable_before_it_begins: Portable, Kill::At(Stop::BeforeBegin);
    portable_after_the_lock: Portable, Kill::At(Stop::AfterLock);
    portable_after_it_has_written: Portable, Kill::At(Stop::AfterWrite);
    portable_when_the_commit_is_sent: Portable, Kill::At(Stop::CommitSent);
    portable_when_the_commit_is_done: Portable, Kill::At(Stop::CommitDone);
    portable_when_it_is_answered: Portable, Kill::Answered;
}
