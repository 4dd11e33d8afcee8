//! Automatic top-up: the rules, and every request for credits that they made.
//!
//! A request is answered by a grant that names it. That there is one request under way at a time is a partial unique index;
//! that a request is answered once is its state, which changes under the lock of its row.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{ConditionalStatement, DbErr, Expr, ExprTrait, Index},
    schema::{big_integer, boolean, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const RULES: &str = "top_up_rules";
const TOP_UPS: &str = "top_ups";

/// Makes the tables and the index.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(RULES)
            .column(uuid("organization_id"))
            .column(text("credit_type"))
            .checked_column(big_integer("threshold"), Expr::cust("threshold >= 0"))
            .checked_column(big_integer("amount"), Expr::cust("amount >= 1"))
            .checked_column(big_integer("timeout_seconds"), Expr::cust("timeout_seconds >= 1"))
            .checked_column(big_integer("cooldown_seconds"), Expr::cust("cooldown_seconds >= 0"))
            .checked_column(big_integer("window_seconds"), Expr::cust("window_seconds >= 1"))
            .checked_column(big_integer("window_max"), Expr::cust("window_max >= 1"))
            .column(boolean("active"))
            .column(timestamp_with_time_zone_null("waits_until"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .primary_key(&["organization_id", "credit_type"])
            .references_organization()
            .create(manager)
            .await?;
        TableDraft::new(TOP_UPS)
            .column(uuid("organization_id"))
            .column(uuid("id"))
            .column(text("credit_type"))
            .checked_column(big_integer("amount"), Expr::cust("amount >= 1"))
            .text_enum("state", &["requested", "granted", "timed_out"])
            .column(timestamp_with_time_zone("requested_at"))
            .column(timestamp_with_time_zone("expires_at"))
            .column(uuid_null("grant_id"))
            .column(timestamp_with_time_zone_null("granted_at"))
            .check("granted_has_grant", "(state = 'granted') = (grant_id IS NOT NULL AND granted_at IS NOT NULL)")
            .primary_key(&["organization_id", "id"])
            .references_organization()
            .references(&["organization_id", "grant_id"], "credit_grants", &["organization_id", "id"])
            .create(manager)
            .await?;
        let open = Index::create()
            .name("uq_top_ups_open")
            .table(TOP_UPS)
            .col("organization_id")
            .col("credit_type")
            .unique()
            .and_where(Expr::col("state").eq("requested"))
            .take();
        manager.create_index(open).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TOP_UPS).await?;
        drop_table(manager, RULES).await
    }
}
