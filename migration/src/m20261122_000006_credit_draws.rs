//! Draws: what a settlement, hold or capture took from each lot, which is what refunds and releases give back to.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::DbErr,
    schema::{big_integer, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "credit_draws";

/// Makes the table of draws. Its key to the lots holds the organization, and so implies one to organizations.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(big_integer("sequence"))
            .column(uuid("grant_id"))
            .credits("drawn", Amounts::NonNegative)
            .credits("returned", Amounts::NonNegative)
            .credits_within("returned", "drawn")
            .primary_key(&["organization_id", "sequence", "grant_id"])
            .references(&["organization_id", "grant_id"], "credit_grants", &["organization_id", "id"])
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
