//! Organizations: whose credits they are.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::DbErr,
    schema::{text, text_null, timestamp_with_time_zone, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    ORGANIZATION_STATUSES,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "organizations";

/// Makes the table of organizations.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("id"))
            .column(text("name"))
            .column(text_null("external_id"))
            .column(text("time_zone"))
            .text_enum("status", ORGANIZATION_STATUSES)
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .primary_key(&["id"])
            .unique("external_id", &["external_id"])
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
