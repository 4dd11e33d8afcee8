//! Usage: sums of the consumption log by the quarter of an hour, and how far they go.
//!
//! Both tables are made of the log and can be made of it again. Reports read them instead of all of history and add the
//! few rows that came after `through`. The totals are the sums over all of an organization's time: a report over all
//! organizations then costs a row for each, however long their history.
//!
//! Two indexes come with them. Refunds are added up by their time. And organizations that were only refused are found
//! through the refusals themselves, for nothing else about them moves; that index costs spending nothing.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{ConditionalStatement, DbErr, Expr, ExprTrait, Index, IndexOrder},
    schema::{big_integer, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    table::{TableDraft, drop_table},
};

const ROLLUPS: &str = "usage_rollups";
const TOTALS: &str = "usage_totals";
const REFUNDS_BY_DATE: &str = "idx_credit_refunds_org_date";
const REFUSED: &str = "idx_credits_txn_refused";

/// The rows of the present quarter are updated with every rollup: room for the next version beside the old one.
const ROLLUPS_STORAGE: &str = "WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05)";

/// One row an organization, updated with every rollup of it.
const TOTALS_STORAGE: &str =
    "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200)";

/// Makes the tables and their indexes.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(ROLLUPS)
            .column(uuid("organization_id"))
            .column(timestamp_with_time_zone("bucket_start"))
            .column(text("action_type"))
            .credits("consumed", Amounts::NonNegative)
            .credits("refunded", Amounts::NonNegative)
            .checked_column(big_integer("consumption_count").default(0).take(), Expr::cust("consumption_count >= 0"))
            .checked_column(big_integer("refused_count").default(0).take(), Expr::cust("refused_count >= 0"))
            .primary_key(&["organization_id", "bucket_start", "action_type"])
            .references_organization()
            .on_postgres(ROLLUPS_STORAGE)
            .create(manager)
            .await?;
        TableDraft::new(TOTALS)
            .column(uuid("organization_id"))
            .column(timestamp_with_time_zone("through"))
            .credits("consumed", Amounts::NonNegative)
            .credits("refunded", Amounts::NonNegative)
            .checked_column(big_integer("consumption_count").default(0).take(), Expr::cust("consumption_count >= 0"))
            .checked_column(big_integer("refused_count").default(0).take(), Expr::cust("refused_count >= 0"))
            .column(timestamp_with_time_zone_null("last_attempt_at"))
            .primary_key(&["organization_id"])
            .references_organization()
            .on_postgres(TOTALS_STORAGE)
            .create(manager)
            .await?;
        manager
            .create_index(
                Index::create()
                    .name(REFUNDS_BY_DATE)
                    .table("credit_refunds")
                    .col("organization_id")
                    .col(("created_at", IndexOrder::Desc))
                    .take(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name(REFUSED)
                    .table("credit_consumption_logs")
                    .col(("created_at", IndexOrder::Desc))
                    .and_where(Expr::col("success").eq(false))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in [REFUSED, REFUNDS_BY_DATE] {
            manager.drop_index(Index::drop().name(name).if_exists().to_owned()).await?;
        }
        drop_table(manager, TOTALS).await?;
        drop_table(manager, ROLLUPS).await
    }
}
