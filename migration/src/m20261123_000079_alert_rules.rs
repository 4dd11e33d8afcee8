//! Alert rules, and how it stands with each: whether it waits for a balance to fall, or has told that one fell.
//!
//! A rule is about one organization or, without one, about all. A state counts only for the definition that it was made
//! for, which `since` names: who changes what a rule means, moves `since`, and the rule begins anew without anybody having
//! to find its states. They go with the rule, which is what the index on them is for.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr, Index},
    schema::{big_integer, big_integer_null, boolean, text, text_null, timestamp_with_time_zone, uuid, uuid_null},
    sea_orm::DeriveMigrationName,
};

use crate::helper::table::{TableDraft, drop_table};

const RULES: &str = "alert_rules";
const STATES: &str = "alert_states";

/// Makes the tables and their indexes.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(RULES)
            .column(uuid("id"))
            .column(uuid_null("organization_id"))
            .column(text("name"))
            .column(text_null("credit_type"))
            .text_enum("measure", &["amount", "share", "forecast_days"])
            .checked_column(big_integer("threshold"), Expr::cust("threshold >= 0"))
            .column(big_integer_null("recover_at"))
            .column(boolean("active"))
            .column(timestamp_with_time_zone("since"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone("updated_at"))
            .check("recovers_above", "recover_at IS NULL OR recover_at > threshold")
            .primary_key(&["id"])
            .references_organization()
            .create(manager)
            .await?;
        let of_one =
            Index::create().name("idx_alert_rules_organization").table(RULES).col("organization_id").col("id").take();
        manager.create_index(of_one).await?;
        TableDraft::new(STATES)
            .column(uuid("organization_id"))
            .column(uuid("rule_id"))
            .column(text("credit_type"))
            .text_enum("state", &["idle", "armed", "fired"])
            .column(timestamp_with_time_zone("since"))
            .column(timestamp_with_time_zone("changed_at"))
            .primary_key(&["organization_id", "rule_id", "credit_type"])
            .references_organization()
            .references(&["rule_id"], RULES, &["id"])
            .create(manager)
            .await?;
        manager.create_index(Index::create().name("idx_alert_states_rule").table(STATES).col("rule_id").take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, STATES).await?;
        drop_table(manager, RULES).await
    }
}
