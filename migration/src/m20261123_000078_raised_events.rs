//! Raised events: what is told that is no movement of credits, such as that a balance has become low.
//!
//! What moves credits has its number in the ledger. What is raised has a number of its own, dense within its organization:
//! it is given under the lock of the organization's row in `alert_cursors` and committed before the next one is given, so
//! that whoever sees a number sees all smaller ones, and a reader with a cursor over `number` passes nothing over.
//! `last_number` says how far they go.
//!
//! A cursor says up to which movement an organization was looked at, when that was made, what could be spent after it, and
//! how large the last grant of each type was. Rows of organizations that no rule is about are not there, or stand still.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr},
    schema::{big_integer, json_binary, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const CURSORS: &str = "alert_cursors";
const EVENTS: &str = "raised_events";

/// Updated as long as the organization moves and a rule looks at it: room for the next version beside the old one.
const CURSORS_STORAGE: &str =
    "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200)";

/// Makes the tables.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(CURSORS)
            .column(uuid("organization_id"))
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 0"))
            .column(timestamp_with_time_zone("moved_at"))
            .credits("available", Amounts::NonNegative)
            .credits("base", Amounts::NonNegative)
            .checked_column(big_integer("last_number").default(0).take(), Expr::cust("last_number >= 0"))
            .column(timestamp_with_time_zone_null("forecast_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .primary_key(&["organization_id"])
            .references_organization()
            .on_postgres(CURSORS_STORAGE)
            .create(manager)
            .await?;
        // No check on the type: a later release raises others.
        TableDraft::new(EVENTS)
            .column(uuid("organization_id"))
            .checked_column(big_integer("number"), Expr::cust("number >= 1"))
            .column(text("event_type"))
            .column(timestamp_with_time_zone("occurred_at"))
            .column(json_binary("data"))
            .primary_key(&["organization_id", "number"])
            .references_organization()
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, EVENTS).await?;
        drop_table(manager, CURSORS).await
    }
}
