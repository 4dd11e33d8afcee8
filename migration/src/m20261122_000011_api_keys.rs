//! API keys: only their digests, so that a copy of the database opens nothing.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr},
    schema::{binary_len, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "api_keys";

/// The length of a SHA-256 digest.
const DIGEST_BYTES: u32 = 32;

/// Makes the table of API keys.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("id"))
            .column(text("name"))
            .checked_column(
                binary_len("key_digest", DIGEST_BYTES),
                Expr::cust(format!("length(key_digest) = {DIGEST_BYTES}")),
            )
            .column(text("prefix"))
            .column(text("scopes"))
            .column(uuid_null("organization_id"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone_null("revoked_at"))
            .primary_key(&["id"])
            .unique("digest", &["key_digest"])
            .references_organization()
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
