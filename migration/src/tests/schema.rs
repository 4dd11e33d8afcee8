//! What the schema holds.

use std::collections::BTreeSet;

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    sea_orm::{
        ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
        Statement,
        prelude::{Date, DateTimeUtc, Json, Uuid},
    },
};

use super::{AT, LATER, migrated, number, objects};
use crate::{
    helper::credits::{AMOUNT_MAX, CREDIT_TYPES},
    m20261122_000013_starting_catalogue,
};

/// The longest name PostgreSQL keeps; it cuts longer ones without failing.
const POSTGRES_NAME_BYTES_MAX: usize = 63;

const TABLES: [&str; 35] = [
    "alert_cursors",
    "alert_rules",
    "alert_states",
    "api_keys",
    "audit_chains",
    "audit_log",
    "background_jobs",
    "credit_action_versions",
    "credit_actions",
    "credit_consumption_logs",
    "credit_draws",
    "credit_grants",
    "credit_holds",
    "credit_movements",
    "credit_refunds",
    "dashboard_sessions",
    "idempotency_keys",
    "mv_organization_usage_summary",
    "organization_credits",
    "organization_members",
    "organizations",
    "performance_reports",
    "plan_versions",
    "plans",
    "raised_events",
    "retention_checkpoints",
    "seaql_migrations",
    "subscriptions",
    "top_up_rules",
    "top_ups",
    "usage_rollups",
    "usage_totals",
    "webhook_cursors",
    "webhook_deliveries",
    "webhook_endpoints",
];

const INDEXES: [&str; 22] = [
    "idx_alert_rules_organization",
    "idx_alert_states_rule",
    "idx_audit_log_date",
    "idx_audit_log_org_date",
    "idx_credit_grants_unspent",
    "idx_credit_holds_open",
    "idx_credit_movements_org_date",
    "idx_credit_refunds_consumption",
    "idx_credit_refunds_org_date",
    "idx_credits_txn_multi_credit",
    "idx_credits_txn_org_date_composite",
    "idx_credits_txn_refused",
    "idx_credits_txn_success",
    "idx_dashboard_sessions_expires_at",
    "idx_idempotency_keys_expires_on",
    "idx_organization_credits_due",
    "idx_organization_members_user",
    "idx_webhook_cursors_endpoint",
    "idx_webhook_deliveries_date",
    "idx_webhook_deliveries_endpoint",
    "idx_webhook_endpoints_organization",
    "uq_top_ups_open",
];

#[tokio::test]
async fn the_schema_has_the_tables_and_indexes_decided_on_and_no_others() {
    let (_file, db) = migrated().await;

    let objects = objects(&db).await.into_iter().filter(|(kind, ..)| kind != "trigger");
    let (indexes, tables): (Vec<_>, Vec<_>) = objects.partition(|(kind, ..)| kind == "index");

    assert_eq!(tables.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(), TABLES);
    assert_eq!(indexes.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(), INDEXES);
}

#[tokio::test]
async fn every_constraint_has_a_name_that_postgresql_keeps_whole_and_no_two_share_one() {
    let (_file, db) = migrated().await;
    let mut names = BTreeSet::new();

    for (_, table, sql) in objects(&db).await {
        let sql = sql.unwrap_or_default();
        assert_eq!(sql.matches("CHECK (").count(), sql.matches("\" CHECK (").count(), "an unnamed check on {table}");
        for name in sql.split("CONSTRAINT \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(name.len() <= POSTGRES_NAME_BYTES_MAX, "{name}");
            assert!(names.insert(name.to_owned()), "{name} twice");
        }
    }

    assert!(names.contains("ck_credit_consumption_logs_whatsapp_credits_available_after"), "{names:?}");
}

#[tokio::test]
async fn the_starting_catalogue_is_the_one_documented_and_in_force_since_2026() {
    let (_file, db) = migrated().await;
    let columns = CREDIT_TYPES.map(|credit_type| format!("{credit_type}_credits_cost")).join(", ");
    let sql = format!(
        "SELECT action_type, {columns}, unit_size FROM credit_action_versions JOIN credit_actions USING (action_type) \
         WHERE version = 1 AND latest_version = 1 AND active AND length(description) > 0 \
         AND effective_at = '2026-01-01T00:00:00+00:00' ORDER BY action_type"
    );

    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();

    let rows: Vec<(String, i64, i64, i64, i64, i64)> =
        rows.iter().map(|row| row.try_get_many_by_index().unwrap()).collect();
    let expected = [
        ("ai_chat", 1, 0, 0, 0, 1),
        ("ai_image", 5, 0, 0, 0, 1),
        ("ai_tokens", 1, 0, 0, 0, 1000),
        ("email", 0, 0, 1, 0, 1),
        ("email_ai_draft", 1, 0, 1, 0, 1),
        ("sms", 0, 0, 0, 1, 1),
        ("whatsapp_ai_reply", 1, 1, 0, 0, 1),
        ("whatsapp_message", 0, 1, 0, 0, 1),
    ];
    assert_eq!(
        rows,
        expected.map(|(name, ai, whatsapp, email, sms, unit)| (name.into(), ai, whatsapp, email, sms, unit))
    );
}

#[tokio::test]
async fn taking_the_catalogue_out_keeps_what_users_edited_and_added() {
    let (_file, db) = migrated().await;
    db.execute_unprepared(
        "INSERT INTO credit_action_versions SELECT action_type, 2, 7, 0, 0, 0, unit_size, description, active, \
         effective_at, created_at FROM credit_action_versions WHERE action_type = 'sms'; \
         UPDATE credit_actions SET latest_version = 2 WHERE action_type = 'sms'; \
         INSERT INTO credit_actions SELECT 'mine', 1, created_at, updated_at FROM credit_actions LIMIT 1",
    )
    .await
    .unwrap();

    let catalogue = m20261122_000013_starting_catalogue::Migration;
    let manager = SchemaManager::new(&db);

    catalogue.down(&manager).await.unwrap();
    assert_eq!(number(&db, "SELECT COUNT(*) FROM credit_actions WHERE action_type IN ('sms', 'mine')").await, 2);
    assert_eq!(number(&db, "SELECT COUNT(*) FROM credit_actions").await, 2);
    assert_eq!(number(&db, "SELECT COUNT(*) FROM credit_action_versions").await, 2);

    catalogue.up(&manager).await.unwrap();
    assert_eq!(number(&db, "SELECT COUNT(*) FROM credit_actions").await, 9);
    assert_eq!(number(&db, "SELECT latest_version FROM credit_actions WHERE action_type = 'sms'").await, 2);
}

#[tokio::test]
async fn the_summary_counts_refusals_but_sums_only_what_was_consumed() {
    let (_file, db) = migrated().await;
    let insert = "INSERT INTO credit_consumption_logs (id, organization_id, action_type, quantity, success, error_code, \
                  created_at, sequence, price_version, ai_credits_consumed, sms_credits_consumed) VALUES";
    db.execute_unprepared(&format!(
        "INSERT INTO organizations (id, name, time_zone, status, created_at, updated_at) \
         VALUES (x'00', 'a', 'UTC', 'active', {AT}, {AT}); \
         INSERT INTO organization_credits (organization_id, status, sequence, last_movement_at, settled_sequence) \
         VALUES (x'00', 'active', 2, {LATER}, 0); \
         INSERT INTO usage_totals (organization_id, through, ai_credits_consumed, consumption_count, refused_count, \
         last_attempt_at) VALUES (x'00', {LATER}, 2, 1, 1, {AT}); \
         {insert} (x'01', x'00', 'sms', 1, true, NULL, {AT}, 1, 1, 2, 0), \
         (x'02', x'00', 'sms', 1, true, NULL, {LATER}, 2, 1, 5, 3), \
         (x'03', x'00', 'sms', 1, false, 'insufficient_credits', {AT}, NULL, 1, 0, 0)"
    ))
    .await
    .unwrap();

    let sql = "SELECT total_ai, total_wa, total_email, total_sms, transaction_count, refused_count, last_attempt_at \
               FROM mv_organization_usage_summary";
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();

    let summary: (i64, i64, i64, i64, i64, i64, DateTimeUtc) = row.try_get_many_by_index().unwrap();
    assert_eq!(summary, (7, 0, 0, 3, 3, 1, "2026-02-01T00:00:00.500Z".parse().unwrap()));
}

mod log_row {
    //! A row with most of the types the schema uses.

    use sea_orm_migration::sea_orm::{self, entity::prelude::*};

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "credit_consumption_logs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organization_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub created_at: DateTimeUtc,
        pub action_type: String,
        pub quantity: i64,
        pub success: bool,
        pub error_code: Option<String>,
        pub metadata: Option<Json>,
        pub occurred_at: Option<DateTimeUtc>,
        pub sequence: Option<i64>,
        pub price_version: i32,
        pub hold_id: Option<Uuid>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod key_row {
    //! A row with the remaining types, bytes and a date.

    use sea_orm_migration::sea_orm::{self, entity::prelude::*};

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotency_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organization_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub key_id: Uuid,
        pub fingerprint: Uuid,
        pub operation: String,
        pub reference: Uuid,
        pub reference_at: DateTimeUtc,
        pub response: Option<String>,
        pub expires_on: Date,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::test]
async fn entities_read_back_what_they_wrote_and_find_it_by_time_and_id() {
    let (_file, db) = migrated().await;
    let instant: DateTimeUtc = "2026-02-03T04:05:06.789012Z".parse().unwrap();
    let success = log_row::Model {
        organization_id: Uuid::from_u128(1),
        id: Uuid::from_u128(u128::MAX),
        created_at: instant,
        action_type: "ai_chat".into(),
        quantity: AMOUNT_MAX,
        success: true,
        error_code: None,
        metadata: Some(Json::from(vec![Json::from("text"), Json::Null, Json::from(1.5)])),
        occurred_at: Some(instant),
        sequence: Some(i64::MAX),
        price_version: i32::MAX,
        hold_id: Some(Uuid::from_u128(7)),
    };
    let refusal = log_row::Model {
        id: Uuid::from_u128(2),
        created_at: "2026-02-03T04:05:06Z".parse().unwrap(),
        success: false,
        error_code: Some("insufficient_credits".into()),
        metadata: None,
        occurred_at: None,
        sequence: None,
        hold_id: None,
        ..success.clone()
    };
    for row in [&success, &refusal] {
        row.clone().into_active_model().insert(&db).await.unwrap();
    }

    let id = (success.organization_id, success.id, success.created_at);
    assert_eq!(log_row::Entity::find_by_id(id).one(&db).await.unwrap().as_ref(), Some(&success));
    let newest_first = log_row::Entity::find().order_by_desc(log_row::Column::CreatedAt);
    let before = newest_first.clone().filter(log_row::Column::CreatedAt.lt(instant));
    assert_eq!(newest_first.all(&db).await.unwrap(), [success, refusal.clone()], "times sort as instants");
    assert_eq!(before.all(&db).await.unwrap(), [refusal], "times compare as instants");
}

#[tokio::test]
async fn dates_and_digests_read_back_as_they_were_written() {
    let (_file, db) = migrated().await;
    let key = key_row::Model {
        organization_id: Uuid::from_u128(1),
        key_id: Uuid::from_u128(2),
        fingerprint: Uuid::from_u128(3),
        operation: "consume".into(),
        reference: Uuid::from_u128(4),
        reference_at: "2026-02-03T04:05:06Z".parse().unwrap(),
        response: None,
        expires_on: Date::from_ymd_opt(2026, 2, 10).unwrap(),
    };
    key.clone().into_active_model().insert(&db).await.unwrap();
    assert_eq!(key_row::Entity::find().all(&db).await.unwrap(), [key]);

    let digest: Vec<u8> = (0..32).collect();
    let insert = format!("INSERT INTO api_keys VALUES (x'03', 'n', ?, 'p', 'read', NULL, {AT}, NULL)");
    let backend = db.get_database_backend();
    db.execute_raw(Statement::from_sql_and_values(backend, insert, [digest.clone().into()])).await.unwrap();
    let row = db.query_one_raw(Statement::from_string(backend, "SELECT key_digest FROM api_keys")).await.unwrap();
    assert_eq!(row.unwrap().try_get_by_index::<Vec<u8>>(0).unwrap(), digest);
}
