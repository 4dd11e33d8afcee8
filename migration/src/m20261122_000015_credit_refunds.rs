//! Refunds: how much of a consumption was taken back, so that together they never exceed it.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr, Index},
    schema::{big_integer, text, timestamp_with_time_zone, uuid, uuid_null},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "credit_refunds";

/// Makes the table of refunds and the index that finds those of a consumption.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(uuid("id"))
            .column(uuid("consumption_id"))
            .checked_column(big_integer("quantity"), Expr::cust("quantity >= 1"))
            .credits("refunded", Amounts::NonNegative)
            // The lot that was made where the old ones had ended.
            .column(uuid_null("grant_id"))
            .column(text("reason"))
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 1"))
            .column(timestamp_with_time_zone("created_at"))
            .primary_key(&["organization_id", "id"])
            .references_organization()
            .references(&["organization_id", "grant_id"], "credit_grants", &["organization_id", "id"])
            .create(manager)
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_credit_refunds_consumption")
                    .table(TABLE)
                    .col("organization_id")
                    .col("consumption_id")
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
