//! The log of webhooks: every attempt to deliver one, and what became of it. Kept for some weeks.
//!
//! What belongs to no organization, as the test of an endpoint of all of them, stands under the nil UUID, since a key
//! takes no null. That is why there is no foreign key to organizations.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr, Index},
    schema::{big_integer, integer, integer_null, text, text_null, timestamp_with_time_zone, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const TABLE: &str = "webhook_deliveries";

/// Makes the table.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(uuid("endpoint_id"))
            .column(uuid("id"))
            .column(text("event_id"))
            .column(text("event_type"))
            .text_enum("reason", &["event", "redelivery", "test"])
            .checked_column(integer("attempt"), Expr::cust("attempt >= 1"))
            .text_enum("outcome", &["delivered", "failed", "given_up", "gone"])
            .column(integer_null("status_code"))
            .column(text_null("error"))
            .checked_column(big_integer("duration_ms"), Expr::cust("duration_ms >= 0"))
            .column(timestamp_with_time_zone("created_at"))
            .primary_key(&["organization_id", "endpoint_id", "id"])
            .references(&["endpoint_id"], "webhook_endpoints", &["id"])
            .create(manager)
            .await?;
        let of_endpoint =
            Index::create().name("idx_webhook_deliveries_endpoint").table(TABLE).col("endpoint_id").col("id").take();
        manager.create_index(of_endpoint).await?;
        let by_date = Index::create().name("idx_webhook_deliveries_date").table(TABLE).col("created_at").take();
        manager.create_index(by_date).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
