//! What the tenant role reads: the rows of one organization, of every table there is, and nothing else.
//!
//! Tables, columns and rights are the catalogue's, so that a table that is added tomorrow is held to this as well.

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use tests::{Engine, TestDb, run};

use super::{NO_RIGHT, Roles, names, sqlstate};

/// Two thousand organizations with rows in every table.
const ROWS: &str = include_str!("../../data/explained/rows.sql");

/// What the planner's rows leave out, and what belongs to no organization.
const MORE_ROWS: &str = "
INSERT INTO retention_checkpoints (organization_id, through, sequence, spent_count, captured_count, refused_count,
    refund_count, sealed_at) SELECT id, now(), 0, 0, 0, 0, 0, now() FROM organizations;
INSERT INTO audit_chains SELECT '00000000-0000-0000-0000-000000000000', 1, repeat('0', 64), now();
INSERT INTO audit_log (organization_id, sequence, created_at, operation, subject, hash)
    SELECT '00000000-0000-0000-0000-000000000000', 1, now(), 'putPlan', 'of all', repeat('0', 64);
INSERT INTO alert_rules (id, name, measure, threshold, active, since, created_at, updated_at)
    SELECT gen_random_uuid(), 'of all', 'amount', 10, true, now(), now(), now();
INSERT INTO api_keys SELECT gen_random_uuid(), 'of all', sha256('of all'), 'mc_', 'admin', NULL, now(), NULL;
ANALYZE;
";

/// All that a tenant may read, once more: what comes to it is to be thought about here.
const READABLE: [&str; 18] = [
    "alert_rules",
    "audit_log",
    "credit_consumption_logs",
    "credit_draws",
    "credit_grants",
    "credit_holds",
    "credit_movements",
    "credit_refunds",
    "organization_credits",
    "organization_members",
    "organizations",
    "raised_events",
    "retention_checkpoints",
    "subscriptions",
    "top_up_rules",
    "top_ups",
    "usage_rollups",
    "usage_totals",
];

/// Tables, partitions and views.
const RELATIONS: &str = "SELECT relname::text FROM pg_class \
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'm', 'v') ORDER BY 1";

/// A database with organizations, and roles of its own.
struct Stage {
    db: TestDb,
    superuser: DatabaseConnection,
    roles: Roles,
    ours: String,
    theirs: String,
}

impl Stage {
    async fn new(db: TestDb) -> Self {
        let superuser = db.connect().await.unwrap();
        superuser.execute_unprepared(ROWS).await.unwrap();
        superuser.execute_unprepared(MORE_ROWS).await.unwrap();
        let roles = Roles::new();
        // Twice, since it may be run as often as one likes.
        roles.apply(&superuser).await;
        roles.apply(&superuser).await;
        let ids = names(&superuser, "SELECT id::text FROM organizations ORDER BY id LIMIT 2").await;
        let [ours, theirs] = <[String; 2]>::try_from(ids).unwrap();
        Self { db, superuser, roles, ours, theirs }
    }

    /// One session, whose settings stay.
    async fn session(&self, role: &str) -> DatabaseConnection {
        let mut options = ConnectOptions::new(self.roles.url(&self.db, role));
        options.max_connections(1);
        Database::connect(options).await.unwrap()
    }

    /// A session of the tenant role that has said whose it is.
    async fn tenant_of(&self, organization_id: &str) -> DatabaseConnection {
        let session = self.session("tenant").await;
        say(&session, organization_id).await;
        session
    }

    async fn end(self, sessions: impl IntoIterator<Item = DatabaseConnection>) {
        for session in sessions {
            session.close().await.unwrap();
        }
        self.roles.drop(&self.superuser).await;
    }
}

async fn say(session: &DatabaseConnection, organization_id: &str) {
    let set = format!("SET multicredit.organization_id = '{organization_id}'");
    session.execute_unprepared(&set).await.unwrap();
}

async fn count(connection: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// The column that says whose a row is.
fn whose(relation: &str) -> &'static str {
    if relation == "organizations" { "id" } else { "organization_id" }
}

/// How many rows of a relation there are of an organization, as that connection sees it.
async fn rows_of(connection: &DatabaseConnection, relation: &str, organization_id: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {relation} WHERE {} = '{organization_id}'", whose(relation));
    count(connection, &sql).await
}

/// Asserts that everything that can be read has the rows of that organization, and no other.
async fn assert_sees_its_own(stage: &Stage, tenant: &DatabaseConnection, ours: &str, theirs: &str) {
    for relation in READABLE {
        let there_are = rows_of(&stage.superuser, relation, ours).await;
        assert!(there_are > 0, "nobody would notice anything: {relation} has no rows");
        assert!(rows_of(&stage.superuser, relation, theirs).await > 0, "{relation} has no rows of others");
        assert_eq!(rows_of(tenant, relation, ours).await, there_are, "its own rows of {relation}");
        let all = format!("SELECT count(*) FROM {relation}");
        assert_eq!(count(tenant, &all).await, there_are, "{relation} shows what is of others");
    }
}

async fn assert_sees_nothing(tenant: &DatabaseConnection, why: &str) {
    for relation in READABLE {
        assert_eq!(count(tenant, &format!("SELECT count(*) FROM {relation}")).await, 0, "{relation} {why}");
    }
}

#[test]
fn a_tenant_reads_the_rows_of_its_organization_and_nothing_else() {
    run(Engine::Postgres, async |db| {
        let stage = Stage::new(db).await;
        let tenant = stage.session("tenant").await;
        assert_sees_nothing(&tenant, "without a setting").await;
        let nobodys = "00000000-0000-0000-0000-000000000000";
        let simple = stage.ours.replace('-', "");
        let malformed = ["", " ", "x", nobodys, "%", &simple, &format!("{} ", stage.ours), "NULL", "'' OR true"];
        for malformed in malformed {
            say(&tenant, &malformed.replace('\'', "''")).await;
            assert_sees_nothing(&tenant, &format!("with the setting {malformed:?}")).await;
        }
        say(&tenant, &stage.ours).await;
        assert_sees_its_own(&stage, &tenant, &stage.ours, &stage.theirs).await;
        say(&tenant, &stage.theirs.to_uppercase()).await;
        assert_sees_its_own(&stage, &tenant, &stage.theirs, &stage.ours).await;
        tenant.execute_unprepared("RESET multicredit.organization_id").await.unwrap();
        assert_sees_nothing(&tenant, "once the setting was taken back").await;

        say(&tenant, &stage.ours).await;
        for relation in names(&stage.superuser, RELATIONS).await {
            let mut denied = vec![
                format!("INSERT INTO {relation} SELECT * FROM {relation}"),
                format!("INSERT INTO {relation} DEFAULT VALUES"),
                format!("DELETE FROM {relation}"),
                format!("TRUNCATE {relation}"),
            ];
            if !READABLE.contains(&&*relation) {
                denied.push(format!("SELECT FROM {relation}"));
                denied.push(format!("COPY {relation} TO STDOUT"));
            }
            for sql in denied {
                let said = sqlstate(&tenant, &sql).await;
                // A materialized view cannot be written by anybody.
                let is_denied = said.as_deref() == Some(NO_RIGHT)
                    || (relation.starts_with("mv_") && matches!(said.as_deref(), Some("42809" | "55000")));
                assert!(is_denied, "{sql}: {said:?}");
            }
        }
        stage.end([tenant]).await;
    });
}

#[test]
fn a_tenant_cannot_leave_its_policies_by_anything_that_sql_has() {
    run(Engine::Postgres, async |db| {
        let stage = Stage::new(db).await;
        let tenant = stage.tenant_of(&stage.ours).await;
        let name = stage.roles.name("tenant");
        for sql in [
            &*format!("SET ROLE {}", stage.roles.name("reader")),
            &format!("SET SESSION AUTHORIZATION {}", stage.roles.name("reader")),
            &format!("ALTER ROLE {name} BYPASSRLS"),
            "ALTER TABLE credit_grants DISABLE ROW LEVEL SECURITY",
            "DROP POLICY of_a_tenant ON credit_grants",
            "CREATE POLICY mine ON credit_grants USING (true)",
            "CREATE FUNCTION theirs() RETURNS int RETURN 1",
            // It may ask that nothing be left out, and is then told that something would be.
            "SET row_security = off; SELECT count(*) FROM credit_grants",
        ] {
            assert_eq!(sqlstate(&tenant, sql).await.as_deref(), Some(NO_RIGHT), "{sql}");
        }
        tenant.execute_unprepared("RESET row_security").await.unwrap();

        // A function of its own that costs nothing is run on no row before the policy has been.
        let listener = "CREATE TEMPORARY TABLE heard (organization_id text); \
             CREATE FUNCTION pg_temp.hears(id text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \
             $$ BEGIN INSERT INTO heard VALUES (id); RETURN true; END $$";
        tenant.execute_unprepared(listener).await.unwrap();
        for relation in READABLE {
            let whose = whose(relation);
            let listened = count(
                &tenant,
                &format!("SELECT count(*) FROM {relation} WHERE pg_temp.hears({whose}::text) OR {whose} IS NULL"),
            )
            .await;
            assert!(listened > 0, "{relation}");
        }
        let heard = names(&tenant, "SELECT DISTINCT organization_id FROM heard").await;
        assert_eq!(heard, [&*stage.ours]);

        let told = "SELECT count(*) FROM pg_stats WHERE schemaname = 'public'";
        assert!(count(&stage.superuser, told).await > 0);
        assert_eq!(count(&tenant, told).await, 0, "statistics tell of values");
        let callable = "SELECT p.oid::regprocedure::text FROM pg_proc p \
             WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege(p.oid, 'EXECUTE') \
             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')";
        assert_eq!(names(&tenant, callable).await, Vec::<String>::new(), "functions that a tenant may call");
        stage.end([tenant]).await;
    });
}

#[test]
fn a_role_that_is_named_after_an_organization_sees_that_one_whatever_it_says() {
    run(Engine::Postgres, async |db| {
        let stage = Stage::new(db).await;
        let own = format!("tenant_{}", stage.ours.replace('-', ""));
        let (role, group) = (stage.roles.name(&own), stage.roles.name("tenant"));
        let make = format!("CREATE ROLE {role} LOGIN PASSWORD 'of-a-test' IN ROLE {group}");
        stage.superuser.execute_unprepared(&make).await.unwrap();
        let session = stage.session(&own).await;
        for set in ["", &stage.theirs, "x"] {
            say(&session, set).await;
            assert_sees_its_own(&stage, &session, &stage.ours, &stage.theirs).await;
        }
        // As the group it is still who has logged in.
        let to_group = format!("SET ROLE {group}");
        session.execute_unprepared(&to_group).await.unwrap();
        say(&session, &stage.theirs).await;
        assert_sees_its_own(&stage, &session, &stage.ours, &stage.theirs).await;
        session.close().await.unwrap();
        stage.superuser.execute_unprepared(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
        stage.end([]).await;
    });
}

#[test]
fn partitions_that_are_made_later_show_a_tenant_its_own_rows_as_well() {
    run(Engine::Postgres, async |db| {
        let stage = Stage::new(db).await;
        let writer = stage.session("writer").await;
        let made = "SELECT ensure_consumption_log_partitions('2031-05-01', 2)";
        let before = names(&stage.superuser, RELATIONS).await;
        writer.execute_unprepared(made).await.unwrap();
        let after = names(&stage.superuser, RELATIONS).await;
        let new: Vec<&String> = after.iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(new.len(), 2, "{new:?}");
        for id in [&stage.ours, &stage.theirs] {
            let log = format!(
                "INSERT INTO credit_consumption_logs (id, organization_id, action_type, quantity, price_version, success, \
                 error_code, created_at) VALUES (gen_random_uuid(), '{id}', 'ai_chat', 1, 1, false, \
                 'insufficient_credits', '2031-05-05')"
            );
            writer.execute_unprepared(&log).await.unwrap();
        }
        let tenant = stage.tenant_of(&stage.ours).await;
        let of_then = "SELECT count(*) FROM credit_consumption_logs WHERE created_at >= '2031-01-01'";
        assert_eq!((count(&writer, of_then).await, count(&tenant, of_then).await), (2, 1));
        for name in new {
            assert_eq!(sqlstate(&tenant, &format!("SELECT FROM {name}")).await.as_deref(), Some(NO_RIGHT), "{name}");
        }
        stage.end([writer, tenant]).await;
    });
}

/// How a statement is done, line by line.
async fn plan(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    names(connection, &format!("EXPLAIN (VERBOSE, COSTS OFF) {sql}")).await
}

#[test]
fn servers_and_readers_pay_nothing_for_what_tenants_may_see() {
    run(Engine::Postgres, async |db| {
        let stage = Stage::new(db).await;
        let (writer, reader) = (stage.session("writer").await, stage.session("reader").await);
        for relation in READABLE {
            let is_active = format!("SELECT row_security_active('{relation}')::int::bigint");
            let tenant = stage.session("tenant").await;
            assert_eq!(count(&tenant, &is_active).await, 1, "{relation}");
            tenant.close().await.unwrap();
            let select = format!("SELECT * FROM {relation} WHERE {} = '{}'", whose(relation), stage.ours);
            let as_superuser = plan(&stage.superuser, &select).await;
            for session in [&writer, &reader] {
                assert_eq!(count(session, &is_active).await, 0, "{relation}");
                assert_eq!(plan(session, &select).await, as_superuser, "{relation}");
            }
        }
        // A role that has the writer's rights by being a member of it has not its way past policies, and works.
        let application = stage.roles.name("application");
        let make = format!(
            "CREATE ROLE {application} LOGIN PASSWORD 'of-a-test' IN ROLE {}, {}",
            stage.roles.name("writer"),
            stage.roles.name("reader")
        );
        stage.superuser.execute_unprepared(&make).await.unwrap();
        let member = stage.session("application").await;
        for relation in READABLE {
            let all = format!("SELECT count(*) FROM {relation}");
            assert_eq!(count(&member, &all).await, count(&stage.superuser, &all).await, "{relation}");
        }
        let spend =
            format!("SELECT (consume_credits_rpc('{}', 'ai_chat', 1) ->> 'success')::boolean::int::bigint", stage.ours);
        assert_eq!(count(&member, &spend).await, 1);
        member.close().await.unwrap();
        stage
            .superuser
            .execute_unprepared(&format!("DROP OWNED BY {application}; DROP ROLE {application}"))
            .await
            .unwrap();
        stage.end([writer, reader]).await;
    });
}
