//! Performance reports that were saved, to be compared with later ones.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::DbErr,
    schema::{json_binary, text, text_null, timestamp_with_time_zone, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "performance_reports";

/// Makes the table of reports. `period` names what a report was saved for on the schedule; being unique, it lets one of
/// several servers that try save it.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("id"))
            .column(timestamp_with_time_zone("created_at"))
            .column(text_null("period"))
            .column(text("grade"))
            .column(json_binary("content"))
            .primary_key(&["id"])
            .unique("period", &["period"])
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
