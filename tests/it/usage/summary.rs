//! The summary of usage: what the performance report defines, by other means.

use chrono::TimeDelta;
use multicredit_domain::{CreditType, OrganizationId};
use multicredit_store::{Job, JobDone, JobRun, PageRequest, Store};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tests::fixtures::{credits, organization, request, store};
use tests::{Engine, TestDb, both_engines, run};

/// The view's definition as the performance report has it, run as a query.
const SEED: &str = "SELECT organization_id, SUM(ai_credits_consumed) as total_ai, \
                    SUM(whatsapp_credits_consumed) as total_wa, COUNT(*) as transaction_count \
                    FROM credit_consumption_logs GROUP BY organization_id";

type Row = (uuid::Uuid, i64, i64, i64);

async fn rows(db: &DatabaseConnection, relation: &str) -> Vec<Row> {
    let sql = format!(
        "SELECT organization_id, CAST(total_ai AS BIGINT), CAST(total_wa AS BIGINT), CAST(transaction_count AS BIGINT) \
         FROM {relation} AS s ORDER BY organization_id"
    );
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    rows.iter().map(|row| row.try_get_many_by_index().unwrap()).collect()
}

async fn refresh(db: &TestDb, look: &DatabaseConnection, how: &str) {
    if db.engine() == Engine::Postgres {
        look.execute_unprepared(&format!("REFRESH MATERIALIZED VIEW {how} mv_organization_usage_summary"))
            .await
            .unwrap();
    }
}

async fn spend(store: &Store, organizations: &[OrganizationId], round: i64) {
    for (index, id) in organizations.iter().enumerate() {
        let index = i64::try_from(index).unwrap();
        let action = ["ai_chat", "whatsapp_ai_reply", "sms"][usize::try_from((index + round) % 3).unwrap()];
        // Whoever comes last has not so many, and is refused.
        let _ = store.consume(*id, request(action, 1 + index * round), None).await;
    }
}

both_engines!(a_plain_refresh_gives_what_the_reports_own_definition_gives_however_much_is_rolled_up, async |db| {
    let store = store(&db).await;
    let look = db.connect().await.unwrap();
    let mut organizations = Vec::new();
    for number in 0..7 {
        let some = credits([(CreditType::Ai, 30), (CreditType::Whatsapp, 30), (CreditType::Sms, 9)]);
        organizations.push(organization(&store, &format!("organization-{number}"), some).await);
    }
    // One that never does anything is in neither.
    organization(&store, "idle", credits([(CreditType::Ai, 1)])).await;
    for round in 0..6 {
        spend(&store, &organizations, round).await;
        refresh(&db, &look, if round % 2 == 0 { "CONCURRENTLY" } else { "" }).await;
        let seed = rows(&look, &format!("({SEED})")).await;
        assert_eq!(rows(&look, "mv_organization_usage_summary").await, seed, "round {round}");
        assert_eq!(seed.len(), 7);
        if round % 2 == 1 {
            store.roll_up_usage(None).await.unwrap();
            refresh(&db, &look, "").await;
            assert_eq!(rows(&look, "mv_organization_usage_summary").await, seed, "rolled up in round {round}");
        }
    }
    store.do_job(Job::RefreshSummary, None).await.unwrap();
    let page = store.usage_summary(None, PageRequest::first(100)).await.unwrap();
    let shown: Vec<Row> = page
        .page
        .items
        .iter()
        .map(|row| (row.organization_id.uuid(), row.totals[0], row.totals[1], row.transaction_count))
        .collect();
    assert_eq!(shown, rows(&look, &format!("({SEED})")).await);
    assert!(page.page.items.iter().any(|row| row.refused_count > 0), "somebody was refused");
    assert!(page.refreshed_at > store.now().await.unwrap() - TimeDelta::minutes(5));
});

/// What is looked at is as old as the last refresh, and the schedule makes it anew.
#[test]
fn the_summary_is_as_of_its_refresh() {
    run(Engine::Postgres, async |db| {
        let store = store(&db).await;
        let acme = organization(&store, "acme", credits([(CreditType::Ai, 30)])).await;
        let total = async || {
            let page = store.usage_summary(None, PageRequest::first(10)).await.unwrap();
            (page.page.items.iter().map(|row| row.totals[0]).sum::<i64>(), page.refreshed_at)
        };
        store.consume(acme, request("ai_chat", 3), None).await.unwrap();
        let (first, refreshed_at) = total().await;
        assert_eq!(first, 0, "it was made with the schema");
        assert!(refreshed_at < store.now().await.unwrap());
        store.consume(acme, request("ai_chat", 4), None).await.unwrap();
        assert_eq!(total().await, (0, refreshed_at));
        let done = store.do_job(Job::RefreshSummary, None).await.unwrap();
        assert_eq!(done, JobRun::Done(JobDone::Refreshed { materialized: true }));
        let (last, later) = total().await;
        assert_eq!(last, 7);
        assert!(later > refreshed_at);
    });
}

/// The plan of a refresh: the tail of each organization is a range of an index, and the log is never read as a whole.
#[test]
fn a_refresh_reads_tails_and_not_the_log() {
    run(Engine::Postgres, async |db| {
        let look = db.connect().await.unwrap();
        let backend = look.get_database_backend();
        let definition = "SELECT pg_get_viewdef('mv_organization_usage_summary'::regclass) AS sql";
        let row = look.query_one_raw(Statement::from_string(backend, definition)).await.unwrap().unwrap();
        let definition: String = row.try_get("", "sql").unwrap();
        // Many rows of few organizations: the statistics in which reading all of it looks cheapest.
        look.execute_unprepared(
            "INSERT INTO organizations (id, name, time_zone, status, created_at, updated_at) \
             SELECT gen_random_uuid(), 'o' || n, 'UTC', 'active', now(), now() FROM generate_series(1, 20) n; \
             INSERT INTO organization_credits (organization_id, status, sequence, last_movement_at, settled_sequence) \
             SELECT id, 'active', 0, now(), 0 FROM organizations; \
             INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, created_at, sequence, \
             price_version, ai_credits_consumed) SELECT id, gen_random_uuid(), 'ai_chat', 1, true, \
             now() - n * interval '1 second', n, 1, 1 FROM organizations, generate_series(1, 1000) n; \
             INSERT INTO usage_totals (organization_id, through) SELECT id, now() FROM organizations; \
             ANALYZE",
        )
        .await
        .unwrap();
        let explain = format!("EXPLAIN {definition}");
        let rows = look.query_all_raw(Statement::from_string(backend, explain)).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        let plan = plan.join("\n");
        // Seen from each organization, by organization and time; never joined as a whole. Empty months may be scanned.
        assert!(plan.contains("Index Cond: ((organization_id = c.organization_id) AND (created_at >= "), "{plan}");
        assert!(!plan.contains("Hash Join") && !plan.contains("Merge Join"), "{plan}");
    });
}
