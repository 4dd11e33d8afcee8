//! Background jobs: which process does one, and when it is due again.
//!
//! A row is a lease. It works on both engines and through any pooler, survives nothing that it should not (it ends by
//! itself), and tells people how a job ended and how old what it made is: `done_as_of` is when the last run began that came to its end. No correctness rests on it: a job that two
//! processes did at once would cost twice and mean the same.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::DbErr,
    schema::{text, text_null, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid_null},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "background_jobs";

/// Makes the table.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(text("name"))
            .column(uuid_null("holder"))
            .column(timestamp_with_time_zone("leased_until"))
            .column(timestamp_with_time_zone("due_at"))
            .column(timestamp_with_time_zone_null("started_at"))
            .column(timestamp_with_time_zone_null("done_as_of"))
            .column(text_null("outcome"))
            .primary_key(&["name"])
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
