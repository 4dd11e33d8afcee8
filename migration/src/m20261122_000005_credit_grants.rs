//! Grants: the lots credits come in, each with its validity and its place in the burn order.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{ConditionalStatement, DbErr, Expr, ExprTrait, Index},
    schema::{integer, text_null, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "credit_grants";

/// Makes the table of grants and the index of the ones a settlement reads.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(uuid("id"))
            .credits("granted", Amounts::NonNegative)
            .credits("remaining", Amounts::NonNegative)
            .text_enum("state", &["pending", "active", "exhausted", "expired", "voided"])
            .text_enum("source", &["purchase", "promotion", "plan", "adjustment", "refund"])
            .column(integer("priority"))
            .column(timestamp_with_time_zone("effective_at"))
            .column(timestamp_with_time_zone_null("expires_at"))
            .column(text_null("reference"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone_null("voided_at"))
            .credits_within("remaining", "granted")
            .check("validity", "expires_at > effective_at")
            .primary_key(&["organization_id", "id"])
            .references_organization()
            .create(manager)
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_credit_grants_unspent")
                    .table(TABLE)
                    .col("organization_id")
                    .and_where(Expr::col("state").is_in(["pending", "active"]))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
