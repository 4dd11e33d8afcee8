//! Actions and their prices: a price never changes, a new version takes over, so that past rows keep their meaning.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr},
    schema::{big_integer, boolean, integer, text, text_null, timestamp_with_time_zone},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::{AMOUNT_MAX, Amounts},
    table::{TableDraft, drop_table},
};

const ACTIONS: &str = "credit_actions";
const VERSIONS: &str = "credit_action_versions";

/// Makes the tables of actions and of their versions.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(ACTIONS)
            .column(text("action_type"))
            .checked_column(integer("latest_version"), Expr::cust("latest_version >= 1"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .primary_key(&["action_type"])
            .create(manager)
            .await?;
        TableDraft::new(VERSIONS)
            .column(text("action_type"))
            .column(integer("version"))
            .credits("cost", Amounts::NonNegative)
            .checked_column(big_integer("unit_size"), Expr::cust(format!("unit_size BETWEEN 1 AND {AMOUNT_MAX}")))
            .column(text_null("description"))
            .column(boolean("active"))
            .column(timestamp_with_time_zone("effective_at"))
            .column(timestamp_with_time_zone("created_at"))
            .primary_key(&["action_type", "version"])
            .references(&["action_type"], ACTIONS, &["action_type"])
            .create(manager)
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, VERSIONS).await?;
        drop_table(manager, ACTIONS).await
    }
}
