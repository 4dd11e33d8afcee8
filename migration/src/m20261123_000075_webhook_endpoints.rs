//! Endpoints of webhooks, and how far each was told of each organization.
//!
//! An endpoint without an organization is told of all of them. Secrets are stored as they are, because they are signed
//! with; a deleted endpoint keeps its row, for the deliveries that refer to it, and loses its secrets.
//!
//! A cursor is the next place of three streams: movements (`sequence` and `place` among the events of one, `told_at`
//! before which none of the rest lies), refused attempts (after `refused_at` and `refused_id`, before `refused_until`,
//! which is a fence), and raised events (`raised_number`). It is claimed by a lease, and left alone until it is due.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{ConditionalStatement, DbErr, Expr, ExprTrait, Index},
    schema::{
        big_integer, boolean, integer, text, text_null, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
        uuid_null,
    },
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const ENDPOINTS: &str = "webhook_endpoints";
const CURSORS: &str = "webhook_cursors";

/// Updated with every delivery: room for the next version beside the old one. No index may hold what changes.
const CURSORS_STORAGE: &str =
    "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200)";

/// Makes the tables.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // No check on the events: a later release knows others.
        TableDraft::new(ENDPOINTS)
            .column(uuid("id"))
            .column(uuid_null("organization_id"))
            .column(text("url"))
            .column(text_null("description"))
            .column(text_null("events"))
            .column(boolean("wants_consumed"))
            .column(boolean("wants_refused"))
            .column(boolean("enabled"))
            .column(boolean("is_gone"))
            .column(text("secret"))
            .column(timestamp_with_time_zone("secret_made_at"))
            .column(text_null("previous_secret"))
            .column(timestamp_with_time_zone_null("previous_until"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .column(timestamp_with_time_zone_null("deleted_at"))
            .check("deleted", "deleted_at IS NULL OR (NOT enabled AND secret = '')")
            .primary_key(&["id"])
            .references_organization()
            .create(manager)
            .await?;
        let of_owner = Index::create()
            .name("idx_webhook_endpoints_organization")
            .table(ENDPOINTS)
            .col("organization_id")
            .and_where(Expr::col("deleted_at").is_null())
            .take();
        manager.create_index(of_owner).await?;
        TableDraft::new(CURSORS)
            .column(uuid("organization_id"))
            .column(uuid("endpoint_id"))
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 1"))
            .checked_column(integer("place"), Expr::cust("place >= 0"))
            .column(timestamp_with_time_zone("told_at"))
            .column(timestamp_with_time_zone("refused_at"))
            .column(uuid("refused_id"))
            .column(timestamp_with_time_zone("refused_until"))
            .checked_column(big_integer("raised_number"), Expr::cust("raised_number >= 1"))
            .checked_column(integer("failures"), Expr::cust("failures >= 0"))
            .column(timestamp_with_time_zone("due_at"))
            .column(uuid_null("lease"))
            .column(timestamp_with_time_zone("leased_until"))
            .primary_key(&["organization_id", "endpoint_id"])
            .references_organization()
            .references(&["endpoint_id"], ENDPOINTS, &["id"])
            .on_postgres(CURSORS_STORAGE)
            .create(manager)
            .await?;
        let of_endpoint = Index::create().name("idx_webhook_cursors_endpoint").table(CURSORS).col("endpoint_id").take();
        manager.create_index(of_endpoint).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, CURSORS).await?;
        drop_table(manager, ENDPOINTS).await
    }
}
