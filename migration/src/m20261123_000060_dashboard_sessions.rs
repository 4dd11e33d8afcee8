//! Who is logged in to the dashboard: digests of session tokens, so that a copy of the database opens nothing.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr, Index},
    schema::{binary_len, timestamp_with_time_zone, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "dashboard_sessions";
const BY_EXPIRY: &str = "idx_dashboard_sessions_expires_at";

/// The length of a SHA-256 digest.
const DIGEST_BYTES: u32 = 32;

/// Makes the table of sessions. A session is valid as long as its key is, which is looked up with it.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .checked_column(
                binary_len("token_digest", DIGEST_BYTES),
                Expr::cust(format!("length(token_digest) = {DIGEST_BYTES}")),
            )
            .column(uuid("api_key_id"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("expires_at"))
            .primary_key(&["token_digest"])
            .references(&["api_key_id"], "api_keys", &["id"])
            .create(manager)
            .await?;
        manager.create_index(Index::create().name(BY_EXPIRY).table(TABLE).col("expires_at").take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
