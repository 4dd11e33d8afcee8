//! How the database finds what every operation of the API asks for, held line by line: a query that loses its index, or a
//! new one that has none, changes a file.
//!
//! The files are `tests/data/explained/*.txt`: under each operation, how each table is read. PostgreSQL tells how it
//! really did it (`auto_explain`), on tables with thousands of rows and with statistics. SQLite is asked for the plan of
//! every statement that was run. With `MULTICREDIT_WRITE_EXPLAINED=1` the files are written anew, to be read and
//! committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use chrono::{SecondsFormat, TimeDelta};
use hyper::Method;
use multicredit_domain::Timestamp;
use multicredit_store::{StoreConfig, clock};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};
use serde_json::Value;
use tests::app::TestApp;
use tests::{Engine, TestDb};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::walk::{Document, Operation, World};

const ROWS: &str = include_str!("../../data/explained/rows.sql");

/// Every plan as a notice to whoever runs the statement.
const EXPLAIN_EVERYTHING: [&str; 6] = [
    "session_preload_libraries = 'auto_explain'",
    "auto_explain.log_min_duration = 0",
    "auto_explain.log_level = 'notice'",
    "auto_explain.log_format = 'json'",
    "auto_explain.log_nested_statements = on",
    "client_min_messages = 'notice'",
];

/// A table with fewer rows may be read whole: the performance report does not count it either.
const SMALL_ROWS: f32 = 1_000.0;

const WHOLE: &str = " read whole";

/// How operations are called beside once as the document's example shows it.
const MORE: &[(&str, &[&str])] = &[
    (
        "/v1/organizations/{organization_id}/consumptions",
        &[
            "?limit=1",
            "?action=ai_chat",
            "?success=false",
            "?success=true",
            "?from={ago}&to={now}",
            "?action=ai_chat&success=true&from={ago}&limit=1",
        ],
    ),
    ("/v1/organizations/{organization_id}/balance", &["?at={ago}", "?fresh=true"]),
    (
        "/v1/organizations/{organization_id}/usage",
        &["?bucket=hour", "?bucket=month&group_by=action", "?time_zone=Asia/Kolkata&group_by=action"],
    ),
    (
        "/v1/audit-log",
        &[
            "?limit=1",
            "?organization_id={organization_id}",
            "?operation=createGrant",
            "?from={ago}",
            "?organization_id={organization_id}&from={ago}&operation=createGrant&limit=1",
        ],
    ),
    ("/v1/usage/summary", &["?limit=1"]),
    ("/v1/organizations", &["?limit=1"]),
    ("/v1/organizations/{organization_id}/grants", &["?limit=1"]),
    ("/v1/organizations/{organization_id}/holds", &["?limit=1"]),
    ("/v1/organizations/{organization_id}/ledger", &["?limit=1"]),
    ("/v1/organizations/{organization_id}/members", &["?limit=1"]),
    ("/v1/users/{user_id}/organizations", &["?limit=1"]),
    ("/v1/actions", &["?limit=1"]),
    ("/v1/alert-rules", &["?limit=1"]),
    ("/v1/webhook-endpoints", &["?limit=1"]),
    ("/v1/webhook-endpoints/{endpoint_id}/deliveries", &["?limit=1"]),
    ("/v1/organizations/{organization_id}/events", &["?limit=1"]),
    ("/v1/organizations/{organization_id}/top-ups", &["?limit=1"]),
    ("/v1/plans", &["?limit=1"]),
    ("/v1/api-keys", &["?limit=1"]),
];

/// What is read whole on purpose: who changes an endpoint of webhooks has it counted what all of them want, and an endpoint
/// of all organizations begins with a cursor for each.
const WHOLE_ON_PURPOSE: [&str; 2] = ["webhook_endpoints read whole", "organization_credits read whole"];

/// What SQLite names and does not read. The first are written into the program of an `INSERT` or an `UPDATE` for the case
/// that a transaction has broken a foreign key and might mend it; the summary is a view there, over what organizations
/// there are.
const NAMED_BY_SQLITE: [&str; 6] = [
    "api_keys",
    "dashboard_sessions",
    "subscriptions",
    "webhook_endpoints",
    "usage_totals",
    "mv_organization_usage_summary",
];

/// Asks the database what it does, and is not what is looked at here.
const MEASURING: &str = "/v1/performance";

/// What the stores of this process have been told by their drivers, in order.
static HEARD: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    tracing_subscriber::registry().with(Listener).init();
    Mutex::default()
});

/// One of the tests at a time: all that is heard is heard in one place.
static TURN: Mutex<()> = Mutex::new(());

struct Listener;

/// A field of an event as text.
struct Texts(HashMap<&'static str, String>);

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("sqlx::")
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut texts = Texts(HashMap::new());
        event.record(&mut texts);
        let heard = match event.metadata().target() {
            "sqlx::query" => {
                ["db.statement", "summary"].iter().find_map(|name| texts.0.remove(name).filter(|it| !it.is_empty()))
            }
            "sqlx::postgres::notice" => texts.0.remove("message"),
            _ => None,
        };
        lock(&HEARD).extend(heard);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a database's tables are read, by operation.
type Accesses = BTreeMap<String, BTreeSet<String>>;

/// Calls every operation in every way and collects what `explain` makes of what was heard meanwhile.
async fn walk(app: &TestApp, mut explain: impl AsyncFnMut(Vec<String>) -> BTreeSet<String>) -> Accesses {
    let document = Document::of(app).await;
    let mut accesses = Accesses::new();
    for operation in document.operations().into_iter().filter(|operation| operation.path != MEASURING) {
        // An organization of its own for each, so that none finds what another has used up.
        let external_id = operation.name().replace(['{', '}', '/', ' '], "-");
        let world = World::new(app, &external_id).await;
        lock(&HEARD).clear();
        call(app, &document, &world, &operation).await;
        let heard = std::mem::take(&mut *lock(&HEARD));
        accesses.insert(operation.name(), explain(heard).await);
    }
    accesses
}

async fn call(app: &TestApp, document: &Document, world: &World, operation: &Operation) {
    let repeated = operation.parameters("header").iter().any(|header| header["name"] == "Idempotency-Key");
    let mut call = world.call(&app.admin, document, operation);
    if repeated {
        call = call.once(&world.external_id);
    }
    let answer = call.clone().await;
    assert!(answer.status < 300, "{}: {}", operation.name(), String::from_utf8_lossy(&answer.body));
    if repeated {
        assert!(call.await.status < 300, "{} again", operation.name());
    }
    let more = MORE.iter().find(|(path, _)| operation.method == Method::GET && *path == operation.path);
    for query in more.into_iter().flat_map(|(_, queries)| *queries) {
        let now = clock::now();
        let text = |at: Timestamp| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let query = query
            .replace("{organization_id}", &world.organization.id)
            .replace("{ago}", &text(now - TimeDelta::days(7)))
            .replace("{now}", &text(now));
        let path = world.path(operation);
        let page = app.admin.get(&format!("{path}{query}")).await.expect(200);
        if let Some(cursor) = page["next_cursor"].as_str() {
            app.admin.get(&format!("{path}{query}&cursor={cursor}")).await.expect(200);
        }
    }
}

/// Compares with the file, or writes it.
fn hold(engine: &str, accesses: &Accesses) {
    let mut text = String::new();
    for (operation, lines) in accesses {
        let _ = writeln!(text, "{operation}");
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/explained/{engine}.txt"));
    if std::env::var_os("MULTICREDIT_WRITE_EXPLAINED").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    let (expected_lines, lines): (Vec<_>, Vec<_>) = (expected.lines().collect(), text.lines().collect());
    let missing: Vec<_> = expected_lines.iter().filter(|line| !lines.contains(line)).collect();
    let new: Vec<_> = lines.iter().filter(|line| !expected_lines.contains(line)).collect();
    assert!(expected == text, "on {engine}, missing: {missing:#?}\nnew: {new:#?}\nall:\n{text}");
}

async fn served(db: TestDb) -> TestApp {
    let config = StoreConfig { log_statements: true, ..StoreConfig::new(db.url()) };
    TestApp::configured(db, config).await
}

/// What is known of a table or an index, or of a part of one: partitions are called by the name of the whole.
struct Relation {
    name: String,
    /// Of which table, for an index.
    table: Option<String>,
    rows: f32,
}

type Relations = HashMap<String, Relation>;

async fn relations(database: &DatabaseConnection) -> Relations {
    let sql = "SELECT c.relname AS part, coalesce(p.relname, c.relname) AS name, c.reltuples AS rows, \
        coalesce(tp.relname, t.relname) AS table_name FROM pg_class AS c \
        LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid LEFT JOIN pg_class AS p ON p.oid = i.inhparent \
        LEFT JOIN pg_index AS x ON x.indexrelid = c.oid LEFT JOIN pg_class AS t ON t.oid = x.indrelid \
        LEFT JOIN pg_inherits AS ti ON ti.inhrelid = t.oid LEFT JOIN pg_class AS tp ON tp.oid = ti.inhparent";
    let rows = database.query_all_raw(Statement::from_string(database.get_database_backend(), sql)).await.unwrap();
    let relation = |row: &QueryResult| Relation {
        name: row.try_get("", "name").unwrap(),
        table: row.try_get("", "table_name").unwrap(),
        rows: row.try_get("", "rows").unwrap(),
    };
    rows.iter().map(|row| (row.try_get("", "part").unwrap(), relation(row))).collect()
}

/// How a plan reads tables. Small ones do not count: there is nothing that an index could spare.
fn read(plan: &Value, relations: &Relations, found: &mut BTreeSet<String>) {
    let relation = |key: &str| plan[key].as_str().and_then(|name| relations.get(name));
    if let Some(index) = relation("Index Name") {
        found.insert(format!("{} by {}", index.table.as_deref().unwrap(), index.name));
    } else if let Some(table) = relation("Relation Name")
        && plan["Node Type"] == "Seq Scan"
        && table.rows >= SMALL_ROWS
    {
        found.insert(format!("{}{WHOLE}", table.name));
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        read(child, relations, found);
    }
}

#[test]
fn every_operation_reads_by_an_index_on_postgres() {
    let _turn = lock(&TURN);
    LazyLock::force(&HEARD);
    tests::run(Engine::Postgres, async |db| {
        let owner = db.connect().await.unwrap();
        let database = db.url().rsplit('/').next().unwrap().to_owned();
        for setting in EXPLAIN_EVERYTHING {
            owner.execute_unprepared(&format!("ALTER DATABASE \"{database}\" SET {setting}")).await.unwrap();
        }
        let app = served(db).await;
        World::new(&app, "first").await;
        owner.execute_unprepared(ROWS).await.unwrap();
        owner.execute_unprepared("ANALYZE").await.unwrap();
        let relations = relations(&owner).await;
        let mut accesses = walk(&app, async |heard| {
            let mut found = BTreeSet::new();
            for plan in heard.iter().filter_map(|message| message.split_once("plan:\n")) {
                let plan: Value = plan.1.parse().unwrap();
                read(&plan["Plan"], &relations, &mut found);
            }
            found
        })
        .await;
        // Whose key it is, is asked once and remembered for a while: when, is chance.
        for lines in accesses.values_mut() {
            lines.remove("api_keys by uq_api_keys_digest");
        }
        hold("postgres", &accesses);
        let of_endpoints = |operation: &str| operation.contains("/webhook-endpoints") && !operation.starts_with("GET");
        let is_on_purpose = |operation: &str, line: &str| of_endpoints(operation) && WHOLE_ON_PURPOSE.contains(&line);
        let lines = accesses.iter().flat_map(|(operation, lines)| lines.iter().map(move |line| (operation, line)));
        let whole: Vec<_> =
            lines.filter(|(operation, line)| line.ends_with(WHOLE) && !is_on_purpose(operation, line)).collect();
        assert!(whole.is_empty(), "{whole:?}");
        app.stop().await;
    });
}

#[test]
fn every_operation_reads_by_an_index_on_sqlite() {
    let _turn = lock(&TURN);
    LazyLock::force(&HEARD);
    tests::run(Engine::Sqlite, async |db| {
        let connection = db.connect().await.unwrap();
        let app = served(db).await;
        let mut accesses = walk(&app, async |heard| {
            let mut found = BTreeSet::new();
            for sql in heard.into_iter().collect::<BTreeSet<_>>() {
                found.extend(plan(&connection, &sql).await);
            }
            found
        })
        .await;
        for lines in accesses.values_mut() {
            lines.retain(|line| !line.contains("(key_digest=?)"));
        }
        hold("sqlite", &accesses);
        let tables = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')";
        let tables = connection.query_all_raw(Statement::from_string(connection.get_database_backend(), tables)).await;
        let tables: Vec<String> = tables.unwrap().iter().map(|row| row.try_get("", "name").unwrap()).collect();
        let scanned = accesses.values().flatten().filter_map(|line| line.strip_prefix("SCAN "));
        let whole = scanned.filter(|what| tables.iter().any(|table| table == what));
        let whole: BTreeSet<_> = whole.filter(|what| !NAMED_BY_SQLITE.contains(what)).collect();
        assert!(whole.is_empty(), "{whole:?}");
        app.stop().await;
    });
}

/// How SQLite would read tables for a statement.
async fn plan(database: &DatabaseConnection, sql: &str) -> Vec<String> {
    let first = sql.trim_start().split([' ', '\n']).next().unwrap_or_default().to_uppercase();
    if !["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&first.as_str()) {
        return Vec::new();
    }
    let explain = format!("EXPLAIN QUERY PLAN {sql}");
    let rows = database.query_all_raw(Statement::from_string(database.get_database_backend(), explain)).await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let details = rows.iter().map(|row| row.try_get::<String>("", "detail").unwrap());
    // What stands in parentheses, in JSON or in no table at all was read before.
    let is_of_a_table = |detail: &String| {
        let read = detail.strip_prefix("SEARCH ").or_else(|| detail.strip_prefix("SCAN "));
        read.is_some_and(|what| !["(", "json_each ", "CONSTANT ROW"].iter().any(|other| what.starts_with(other)))
    };
    details.filter(is_of_a_table).collect()
}
