//! Members: which users belong to which organizations, asked from both sides.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Index},
    schema::{text, timestamp_with_time_zone, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "organization_members";

/// Makes the table of members and the index that finds a user's organizations.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(text("user_id"))
            .text_enum("role", &["owner", "admin", "member", "billing"])
            .column(timestamp_with_time_zone("created_at"))
            .primary_key(&["organization_id", "user_id"])
            .references_organization()
            .create(manager)
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx_organization_members_user")
                    .table(TABLE)
                    .col("user_id")
                    .col("organization_id")
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
