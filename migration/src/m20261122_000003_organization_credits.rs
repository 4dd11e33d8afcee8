//! Balances: the one row an organization's spending locks and updates.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::DbErr,
    schema::{big_integer, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid},
    sea_orm::{DeriveMigrationName, sea_query::Expr},
};

use crate::helper::{
    ORGANIZATION_STATUSES,
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "organization_credits";

/// Keeps updates on their page (HOT) and the page small.
///
/// Every consumption updates its organization's row. Half-empty pages leave room for the next version beside the old
/// one, and no column that spending changes is ever to be indexed, or updates stop being HOT. A busy row leaves
/// thousands of dead versions a minute, in a table of few pages: vacuum early, often and without pauses, which is cheap
/// here.
const STORAGE: &str = "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, \
                       autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0)";

/// Makes the table of balances.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .credits("available", Amounts::NonNegative)
            .credits("held", Amounts::NonNegative)
            .text_enum("status", ORGANIZATION_STATUSES)
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 0"))
            .column(timestamp_with_time_zone("last_movement_at"))
            .column(timestamp_with_time_zone_null("next_boundary_at"))
            .column(big_integer("settled_sequence"))
            .check("settled_sequence", "settled_sequence >= 0 AND settled_sequence <= sequence")
            .primary_key(&["organization_id"])
            .references_organization()
            .on_postgres(STORAGE)
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await
    }
}
