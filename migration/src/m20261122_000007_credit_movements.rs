//! Movements: every change of a balance but plain consumptions, whose log row carries the movement's number itself.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr, Index, IndexOrder},
    schema::{big_integer, text_null, timestamp_with_time_zone, uuid, uuid_null},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "credit_movements";

const KINDS: &[&str] = &[
    "grant",
    "activation",
    "expiry",
    "void",
    "adjustment",
    "refund",
    "hold",
    "capture",
    "release",
    "hold_expiry",
    "period_grant",
];

/// Makes the table of movements and the index of their times.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 1"))
            .text_enum("kind", KINDS)
            .credits("available_change", Amounts::Signed)
            .credits("held_change", Amounts::Signed)
            .credits("available_after", Amounts::NonNegative)
            .credits("held_after", Amounts::NonNegative)
            .column(uuid_null("reference"))
            .column(text_null("note"))
            .column(timestamp_with_time_zone("created_at"))
            .primary_key(&["organization_id", "sequence"])
            .references_organization()
            .create(manager)
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_credit_movements_org_date")
                    .table(TABLE)
                    .col("organization_id")
                    .col(("created_at", IndexOrder::Desc))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
