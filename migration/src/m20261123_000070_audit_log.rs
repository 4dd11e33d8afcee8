//! The audit log: who changed what, for every change that is not a consumption, as a chain that shows where it was
//! tampered with.
//!
//! A chain is an organization's; what belongs to no organization has one of its own, under the nil UUID, since a key
//! takes no null. That is why there is no foreign key to organizations. `audit_chains` says how far each chain goes: it is
//! what is locked to append to one, and what tells that its end was cut off.
//!
//! Rows are only ever added. On PostgreSQL the role of servers has no right to do anything else
//! (`docs/ops/roles.sql`); SQLite has no roles, so triggers stand in for them there. Nothing is correct because of them.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr, Index},
    schema::{big_integer, json_binary_null, text, text_null, timestamp_with_time_zone, uuid, uuid_null},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    engine::{Engine, execute},
    table::{TableDraft, drop_table},
};

const TABLE: &str = "audit_log";

const CHAINS: &str = "audit_chains";

/// The length of a SHA-256 in hexadecimal digits.
const HASH_IS_WHOLE: &str = "length(hash) = 64";

const NO_CHANGE: &str = "
CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log
WHEN EXISTS (SELECT 1 FROM audit_log WHERE organization_id = NEW.organization_id AND sequence = NEW.sequence)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
";

/// Makes the tables, the indexes, and the triggers on SQLite.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(CHAINS)
            .column(uuid("organization_id"))
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 0"))
            .checked_column(text("hash"), Expr::cust(HASH_IS_WHOLE))
            .column(timestamp_with_time_zone("recorded_at"))
            .primary_key(&["organization_id"])
            .create(manager)
            .await?;
        TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 1"))
            .column(timestamp_with_time_zone("created_at"))
            .column(text("operation"))
            .column(text("subject"))
            .column(uuid_null("api_key_id"))
            .column(text_null("api_key_name"))
            .column(text_null("api_key_prefix"))
            .column(text_null("actor"))
            .column(text_null("request_id"))
            .column(json_binary_null("before"))
            .column(json_binary_null("after"))
            .checked_column(text("hash"), Expr::cust(HASH_IS_WHOLE))
            .primary_key(&["organization_id", "sequence"])
            .references(&["organization_id"], CHAINS, &["organization_id"])
            .create(manager)
            .await?;
        let index = |name: &str, columns: &[&'static str]| {
            let mut index = Index::create().name(name).table(TABLE).take();
            for column in columns {
                index.col(*column);
            }
            index
        };
        let of_all = index("idx_audit_log_date", &["created_at", "organization_id", "sequence"]);
        manager.create_index(of_all).await?;
        let of_one = index("idx_audit_log_org_date", &["organization_id", "created_at", "sequence"]);
        manager.create_index(of_one).await?;
        match Engine::of(manager.get_database_backend())? {
            Engine::Sqlite => execute(manager, NO_CHANGE).await,
            Engine::Postgres => Ok(()),
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_table(manager, TABLE).await?;
        drop_table(manager, CHAINS).await
    }
}
