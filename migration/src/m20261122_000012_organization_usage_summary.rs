//! The usage summary: totals for each organization over the whole log, materialized where the engine can.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::engine::{Engine, execute};

/// The sum of bigints is numeric on PostgreSQL, which readers of whole credits would have to convert: hence the casts.
const QUERY: &str = "
    SELECT organization_id,
           CAST(SUM(ai_credits_consumed) AS bigint) AS total_ai,
           CAST(SUM(whatsapp_credits_consumed) AS bigint) AS total_wa,
           CAST(SUM(email_credits_consumed) AS bigint) AS total_email,
           CAST(SUM(sms_credits_consumed) AS bigint) AS total_sms,
           COUNT(*) AS transaction_count,
           COUNT(*) FILTER (WHERE NOT success) AS refused_count,
           MAX(created_at) AS last_attempt_at
    FROM credit_consumption_logs
    GROUP BY organization_id
";

/// `REFRESH MATERIALIZED VIEW CONCURRENTLY` needs a unique index without a condition.
const UNIQUE_INDEX: &str =
    "CREATE UNIQUE INDEX uq_mv_organization_usage_summary ON mv_organization_usage_summary (organization_id)";

/// Makes the summary as it first was.
pub async fn create_summary(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    match Engine::of(manager.get_database_backend())? {
        Engine::Postgres => {
            let view = format!("CREATE MATERIALIZED VIEW mv_organization_usage_summary AS {QUERY} WITH DATA");
            execute(manager, &view).await?;
            execute(manager, UNIQUE_INDEX).await
        }
        Engine::Sqlite => execute(manager, &format!("CREATE VIEW mv_organization_usage_summary AS {QUERY}")).await,
    }
}

/// Drops the summary, whichever it is.
pub async fn drop_summary(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let drop = match Engine::of(manager.get_database_backend())? {
        Engine::Postgres => "DROP MATERIALIZED VIEW IF EXISTS mv_organization_usage_summary",
        Engine::Sqlite => "DROP VIEW IF EXISTS mv_organization_usage_summary",
    };
    execute(manager, drop).await
}

/// Makes the summary.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_summary(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_summary(manager).await
    }
}
