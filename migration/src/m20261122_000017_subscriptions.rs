//! Subscriptions: which plan an organization is on, and which of its periods is to be granted next.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr},
    schema::{
        big_integer, integer, integer_null, text, text_null, timestamp_with_time_zone, timestamp_with_time_zone_null,
        uuid, uuid_null,
    },
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "subscriptions";

const PLAN_VERSIONS: &str = "plan_versions";
const PLAN_VERSIONS_KEY: &[&str] = &["code", "version"];

/// Makes the table of subscriptions.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(text("plan_code"))
            .column(integer("plan_version"))
            .column(text("time_zone"))
            .column(timestamp_with_time_zone("anchor"))
            // The number, counted from the anchor, of the next period to grant.
            .checked_column(big_integer("next_index"), Expr::cust("next_index >= 0"))
            // The current period and its lot: none before the first.
            .column(timestamp_with_time_zone_null("period_start"))
            .column(timestamp_with_time_zone_null("period_end"))
            .column(uuid_null("grant_id"))
            // A change of plan, which counts from the next period.
            .column(text_null("next_plan_code"))
            .column(integer_null("next_plan_version"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .check("next_plan", "(next_plan_code IS NULL) = (next_plan_version IS NULL)")
            .primary_key(&["organization_id"])
            .references_organization()
            .references(&["plan_code", "plan_version"], PLAN_VERSIONS, PLAN_VERSIONS_KEY)
            .references_as("next_plan", &["next_plan_code", "next_plan_version"], PLAN_VERSIONS, PLAN_VERSIONS_KEY)
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
