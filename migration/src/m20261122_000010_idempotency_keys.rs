//! Idempotency keys: which operation a key already stands for.
//!
//! A table of its own, because keys arrive in random order (their index touches all of itself, so it has to stay
//! small) and expire by themselves; and because a unique key on the partitioned log would have to contain its time.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Index},
    schema::{date, text, text_null, timestamp_with_time_zone, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "idempotency_keys";

/// Makes the table of idempotency keys and the index that expires them.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(uuid("key_id"))
            .column(uuid("fingerprint"))
            .column(text("operation"))
            .column(uuid("reference"))
            .column(timestamp_with_time_zone("reference_at"))
            .column(text_null("response"))
            .column(date("expires_on"))
            .primary_key(&["organization_id", "key_id"])
            .create(manager)
            .await?;
        manager
            .create_index(Index::create().name("idx_idempotency_keys_expires_on").table(TABLE).col("expires_on").take())
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
