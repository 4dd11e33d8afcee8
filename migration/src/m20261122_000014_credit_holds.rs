//! Holds: credits set aside for a cost that is known only afterwards, until captured, released or expired.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{ConditionalStatement, DbErr, Expr, ExprTrait, Index},
    schema::{
        big_integer, integer, text, text_null, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "credit_holds";

/// Makes the table of holds and the index of the open ones.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(uuid("id"))
            .column(text("action_type"))
            .checked_column(big_integer("quantity"), Expr::cust("quantity >= 1"))
            .column(integer("price_version"))
            .credits("held", Amounts::NonNegative)
            .text_enum("state", &["open", "captured", "released", "expired"])
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 1"))
            .column(text_null("actor"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("expires_at"))
            .column(timestamp_with_time_zone_null("finished_at"))
            .column(uuid_null("consumption_id"))
            .check("open_until_finished", "(state = 'open') = (finished_at IS NULL)")
            .check("validity", "expires_at > created_at")
            .primary_key(&["organization_id", "id"])
            .references_organization()
            .create(manager)
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_credit_holds_open")
                    .table(TABLE)
                    .col("organization_id")
                    .and_where(Expr::col("state").eq("open"))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
