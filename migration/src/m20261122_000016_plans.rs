//! Plans and what they grant each period: as with prices, a new version takes over and none ever changes.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr},
    schema::{integer, text, timestamp_with_time_zone},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const PLANS: &str = "plans";
const VERSIONS: &str = "plan_versions";

/// A plan has a rollover, with a limit for every type of credit, or it has none, and every limit is null.
const ALL_OR_NONE: &str = "(ai_credits_rollover_max IS NULL) = (whatsapp_credits_rollover_max IS NULL) \
                           AND (ai_credits_rollover_max IS NULL) = (email_credits_rollover_max IS NULL) \
                           AND (ai_credits_rollover_max IS NULL) = (sms_credits_rollover_max IS NULL)";

/// Makes the tables of plans and of their versions.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(PLANS)
            .column(text("code"))
            .checked_column(integer("latest_version"), Expr::cust("latest_version >= 1"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .primary_key(&["code"])
            .create(manager)
            .await?;
        TableDraft::new(VERSIONS)
            .column(text("code"))
            .checked_column(integer("version"), Expr::cust("version >= 1"))
            .credits("allowance", Amounts::NonNegative)
            .text_enum("period", &["day", "week", "month", "year"])
            .credits("rollover_max", Amounts::NonNegativeOrNull)
            .column(integer("priority"))
            .column(timestamp_with_time_zone("created_at"))
            .check("rollover_max_all_or_none", ALL_OR_NONE)
            .primary_key(&["code", "version"])
            .references(&["code"], PLANS, &["code"])
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, VERSIONS).await?;
        drop_table(manager, PLANS).await
    }
}
