//! `docs/ops/roles.sql`: what each role may do is enough for its work, and no more.

mod tenants;

use multicredit_domain::{AlertMeasure, AlertTerms, CreditType, NewGrant, NewHold, NewRefund, OnExpired, TopUpTerms};
use multicredit_store::performance::Thresholds;
use multicredit_store::{
    AlertRuleUpdate, AuditFilter, Author, Job, MemberRole, NewAlertRule, NewApiKey, NewPlan, OrganizationUpdate,
    PageRequest, Scope, Store, StoreConfig,
};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use tests::fixtures::{ai, amount, key, organization, purchase, request};
use tests::{Engine, TestDb, run};

const SCRIPT: &str = include_str!("../../docs/ops/roles.sql");

/// The roles, in an order in which they can be dropped.
const ROLES: [&str; 4] = ["tenant", "reader", "writer", "migrator"];

/// `insufficient_privilege`
const NO_RIGHT: &str = "42501";

/// The script with roles of this test's own, and their names. Roles are the cluster's, and other tests run beside.
struct Roles {
    script: String,
    prefix: String,
}

impl Roles {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "it names the roles of a test")]
        let id = uuid::Uuid::now_v7().simple().to_string();
        // Its end is random. A role's name has no more than 63 characters, of which an organization's id takes 32.
        let prefix = format!("t{}", &id[id.len() - 12..]);
        let script = ROLES.iter().fold(SCRIPT.to_owned(), |script, role| {
            script.replace(&format!("multicredit_{role}"), &format!("{prefix}_{role}"))
        });
        Self { script, prefix }
    }

    fn name(&self, role: &str) -> String {
        format!("{}_{role}", self.prefix)
    }

    /// Where the role reaches the database.
    fn url(&self, db: &TestDb, role: &str) -> String {
        let owner = db.url().split_once("://").unwrap().1;
        let rest = owner.split_once('@').map_or(owner, |(_, rest)| rest);
        format!("postgres://{}:of-a-test@{rest}", self.name(role))
    }

    /// Runs the script and sees to passwords.
    async fn apply(&self, superuser: &DatabaseConnection) {
        superuser.execute_unprepared(&self.script).await.unwrap();
        for role in ROLES {
            let password = format!("ALTER ROLE {} PASSWORD 'of-a-test'", self.name(role));
            superuser.execute_unprepared(&password).await.unwrap();
        }
    }

    async fn drop(&self, superuser: &DatabaseConnection) {
        for role in ROLES.map(|role| self.name(role)) {
            superuser.execute_unprepared(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
        }
    }
}

/// The SQLSTATE of what the database says to that.
async fn sqlstate(connection: &DatabaseConnection, sql: &str) -> Option<String> {
    let error = connection.execute_unprepared(sql).await.err()?;
    let (sea_orm::DbErr::Exec(sea_orm::RuntimeErr::SqlxError(error))
    | sea_orm::DbErr::Query(sea_orm::RuntimeErr::SqlxError(error))) = &error
    else {
        panic!("{sql}: {error}");
    };
    Some(error.as_database_error().unwrap().code().unwrap().into_owned())
}

async fn names(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// Everything that changes something, once, and everything that the background does.
async fn a_day_at_work(store: &Store) {
    let store = store.acting_for(Author::default());
    let acme = organization(&store, "acme", ai(100)).await;
    let spent = store.consume(acme, request("ai_chat", 3), key("k")).await.unwrap().value;
    store.consume(acme, request("ai_chat", 3), None).await.unwrap();
    store.consume(acme, request("ai_chat", 1_000), None).await.unwrap_err();
    let reason = "a test".to_owned();
    let refund = NewRefund { consumption_id: spent.id, quantity: None, reason, on_expired: OnExpired::Refuse };
    store.refund(acme, refund, None).await.unwrap();
    let consume = request("ai_chat", 1);
    let hold = NewHold { action: consume.action, quantity: consume.quantity, ttl_seconds: 300, actor: None };
    let held = store.place_hold(acme, hold.clone(), None).await.unwrap().value.hold;
    store.extend_hold(acme, held.id, 600, None).await.unwrap();
    store.capture_hold(acme, held.id, None, None).await.unwrap();
    let held = store.place_hold(acme, hold, None).await.unwrap().value.hold;
    store.release_hold(acme, held.id, None).await.unwrap();
    let granted = store.grant(acme, purchase(ai(5)), None).await.unwrap().value;
    store.void_grant(acme, granted.lot.id, None).await.unwrap();
    let (period, allowance) = (multicredit_domain::PlanPeriod::Month, ai(1));
    let plan = NewPlan { allowance, period, rollover_max: None, priority: 10 };
    let code = multicredit_domain::PlanCode::new("p").unwrap();
    for _ in 0..2 {
        store.put_plan(code.clone(), plan.clone()).await.unwrap();
    }
    store.subscribe(acme, &code, None).await.unwrap();
    store.unsubscribe(acme).await.unwrap();
    let price = multicredit_store::NewPrice {
        costs: ai(2),
        unit_size: multicredit_domain::Quantity::ONE,
        description: None,
        active: true,
        effective_at: None,
    };
    store.put_action(request("sms", 1).action, price).await.unwrap();
    for role in [MemberRole::Member, MemberRole::Owner] {
        store.put_member(acme, "u", role).await.unwrap();
    }
    store.delete_member(acme, "u").await.unwrap();
    let name = Some("other".to_owned());
    store.update_organization(acme, OrganizationUpdate { name, ..Default::default() }).await.unwrap();
    let new = NewApiKey {
        name: "of a person".to_owned(),
        digest: [1; 32],
        prefix: "mc_".to_owned(),
        scopes: vec![Scope::Read],
        organization_id: None,
    };
    let person = store.create_api_key(new).await.unwrap();
    store.begin_session([2; 32], person.id, chrono::TimeDelta::hours(1)).await.unwrap();
    assert_eq!(store.session_key(&[2; 32]).await.unwrap(), Some(person));
    store.end_session(&[2; 32]).await.unwrap();
    for job in Job::ALL {
        store.do_job(job, None).await.unwrap_or_else(|error| panic!("{}: {error}", job.as_str()));
    }
    alerts_and_a_top_up(&store).await;
    store.drop_history_before(acme, store.now().await.unwrap()).await.unwrap();
    store.performance(None, &Thresholds::default()).await.unwrap();
    store.sweep().await.unwrap();
    assert!(store.verify().await.unwrap().passed());
    let lines = store.audit_log(AuditFilter::default(), PageRequest::first(100)).await.unwrap();
    assert_eq!(lines.items.len(), 27);
}

/// Everything that evaluating alerts and asking for credits takes: eight lines of the audit log.
async fn alerts_and_a_top_up(store: &Store) {
    let id = organization(store, "alerted", ai(10)).await;
    let terms = AlertTerms { measure: AlertMeasure::Amount, threshold: 5, recover_at: None };
    let new = NewAlertRule { organization_id: None, name: "low".to_owned(), credit_type: None, terms, active: true };
    let rule = store.create_alert_rule(new).await.unwrap();
    let terms = TopUpTerms {
        threshold: amount(5),
        amount: amount(50),
        timeout_seconds: 60,
        cooldown_seconds: 0,
        window_seconds: 60,
        window_max: 1,
        active: true,
    };
    store.put_top_up_rule(id, CreditType::Ai, terms).await.unwrap();
    store.consume(id, request("ai_chat", 6), None).await.unwrap();
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 2);
    store.evaluate_forecasts(std::time::Duration::ZERO).await.unwrap();
    let asked = store.top_ups(id, PageRequest::first(1)).await.unwrap().items.remove(0);
    store.grant(id, NewGrant { top_up_id: Some(asked.id), ..purchase(ai(1)) }, None).await.unwrap();
    // There is no room in the window, which is written down.
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0);
    let update = AlertRuleUpdate { threshold: Some(4), ..Default::default() };
    store.update_alert_rule(None, rule.id, update).await.unwrap();
    store.delete_alert_rule(None, rule.id).await.unwrap();
    store.delete_top_up_rule(id, CreditType::Ai).await.unwrap();
}

#[test]
fn each_role_can_do_its_work_and_nobody_can_change_the_audit_log() {
    run(Engine::Postgres, async |used| {
        drop(used);
        let db = TestDb::empty(Engine::Postgres).await.unwrap();
        let superuser = db.connect().await.unwrap();
        let roles = Roles::new();
        roles.apply(&superuser).await;
        let migrator = Database::connect(roles.url(&db, "migrator")).await.unwrap();
        migration::migrate_up(&migrator).await.unwrap();
        roles.apply(&superuser).await;

        let config = StoreConfig { retention_months: Some(2), ..StoreConfig::new(roles.url(&db, "writer")) };
        let store = Store::open(config).await.unwrap();
        a_day_at_work(&store).await;
        let writer = Database::connect(roles.url(&db, "writer")).await.unwrap();
        for sql in [
            "UPDATE audit_log SET actor = 'nobody'",
            "UPDATE audit_log SET hash = hash WHERE false",
            "DELETE FROM audit_log",
            "TRUNCATE audit_log",
            "INSERT INTO audit_log SELECT * FROM audit_log ON CONFLICT (organization_id, sequence) DO UPDATE SET actor = 'x'",
            "DELETE FROM audit_chains",
            "ALTER TABLE audit_log DROP COLUMN actor",
            "DROP TABLE audit_log",
            "UPDATE credit_movements SET note = 'x'",
            "DELETE FROM credit_consumption_logs",
            "DELETE FROM credit_consumption_logs_default",
            "CREATE TABLE of_mine ()",
        ] {
            assert_eq!(sqlstate(&writer, sql).await.as_deref(), Some(NO_RIGHT), "{sql}");
        }
        assert!(store.verify().await.unwrap().passed());

        let reader = Database::connect(roles.url(&db, "reader")).await.unwrap();
        for sql in
            ["SELECT * FROM audit_log", "SELECT name, prefix FROM api_keys", "SELECT * FROM organization_credits"]
        {
            assert_eq!(sqlstate(&reader, sql).await, None, "{sql}");
        }
        for sql in [
            "SELECT * FROM dashboard_sessions",
            "SELECT key_digest FROM api_keys",
            "SELECT * FROM idempotency_keys",
            "INSERT INTO plans SELECT * FROM plans",
            "SELECT refresh_organization_usage_summary()",
            "SELECT consume_credits_rpc(gen_random_uuid(), 'sms', 1)",
        ] {
            assert_eq!(sqlstate(&reader, sql).await.as_deref(), Some(NO_RIGHT), "{sql}");
        }

        store.close().await;
        for pool in [writer, reader, migrator] {
            pool.close().await.unwrap();
        }
        roles.drop(&superuser).await;
    });
}

#[test]
fn the_script_knows_every_table_and_function_and_may_be_run_on_what_another_role_made() {
    run(Engine::Postgres, async |db| {
        let superuser = db.connect().await.unwrap();
        superuser
            .execute_unprepared("CREATE TABLE somebody_elses (); CREATE FUNCTION theirs() RETURNS int RETURN 1")
            .await
            .unwrap();
        let roles = Roles::new();
        roles.apply(&superuser).await;
        let migrator = roles.name("migrator");
        let others = names(
            &superuser,
            &format!(
                "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace \
                 AND c.relkind IN ('r', 'p', 'm', 'v') AND pg_get_userbyid(c.relowner) <> '{migrator}' UNION ALL \
                 SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace \
                 AND pg_get_userbyid(p.proowner) <> '{migrator}' \
                 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') UNION ALL \
                 SELECT t.typname::text FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c' \
                 WHERE t.typnamespace = 'public'::regnamespace AND pg_get_userbyid(t.typowner) <> '{migrator}'"
            ),
        )
        .await;
        assert_eq!(others, ["somebody_elses", "theirs"], "unknown to docs/ops/roles.sql");
        // The new owner can go on where the old one was.
        let pool = Database::connect(roles.url(&db, "migrator")).await.unwrap();
        migration::down(&pool, Some(1)).await.unwrap();
        migration::migrate_up(&pool).await.unwrap();
        pool.close().await.unwrap();
        roles.drop(&superuser).await;
    });
}
