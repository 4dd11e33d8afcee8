//! Checkpoints: what stands for the attempts of an organization that the log no longer has.
//!
//! The log is the one table that grows with every attempt, and the only one of which anything is dropped. A checkpoint
//! says up to which instant that may be, the balance there, and the sums of what lay before: so that the balance of an
//! instant after it still follows, and what was dropped can be held against everything that is kept.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr},
    schema::{big_integer, timestamp_with_time_zone, uuid},
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    engine::on_postgres,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "retention_checkpoints";

const COUNTS: [(&str, &str); 4] = [
    ("spent_count", "spent_count >= 0"),
    ("captured_count", "captured_count >= 0"),
    ("refused_count", "refused_count >= 0"),
    ("refund_count", "refund_count >= 0"),
];

/// Dropping a partition takes the whole log away from everybody for an instant. Whoever reads it for long is not waited
/// for, since all others would wait behind: the caller comes again later. The function has its owner's rights, so that a
/// server need not own the schema, and lets nobody drop what a checkpoint does not stand for.
const DROP_FUNCTION: &str = r#"
CREATE OR REPLACE FUNCTION drop_sealed_consumption_log_partition(before timestamptz) RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET lock_timeout = '250ms'
AS $function$
DECLARE
    partition record;
    unsealed boolean;
BEGIN
    FOR partition IN
        SELECT c.relname AS name
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'credit_consumption_logs'::regclass
            AND c.relname ~ '^credit_consumption_logs_y\d{4,}m\d{2}$'
            AND (to_date(substring(c.relname FROM 'y(\d+m\d+)$'), 'YYYY"m"MM') + interval '1 month')
                AT TIME ZONE 'UTC' <= before
        ORDER BY c.relname
    LOOP
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM %I l LEFT JOIN retention_checkpoints k ON k.organization_id = l.organization_id
             WHERE k.through IS NULL OR l.created_at >= k.through)',
            partition.name
        ) INTO unsealed;
        CONTINUE WHEN unsealed;
        EXECUTE format('DROP TABLE %I', partition.name);
        RETURN partition.name;
    END LOOP;
    RETURN NULL;
END
$function$;

COMMENT ON FUNCTION drop_sealed_consumption_log_partition(timestamptz) IS
    'Drops the oldest partition of credit_consumption_logs that ends at or before the instant and has only rows that a retention checkpoint stands for, and returns its name; NULL if there is none. Fails with lock_not_available where somebody reads the log for long.';
"#;

/// Deleting rows, for those that have no month of their own. The same rights, and the same limits.
const DELETE_FUNCTION: &str = r"
CREATE OR REPLACE FUNCTION delete_sealed_consumption_logs(
    organization uuid, only_default boolean, rows_max integer
) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
AS $function$
DECLARE
    deleted bigint;
BEGIN
    DELETE FROM credit_consumption_logs WHERE (organization_id, id, created_at) IN (
        SELECT l.organization_id, l.id, l.created_at
        FROM retention_checkpoints k
        JOIN credit_consumption_logs l ON l.organization_id = k.organization_id AND l.created_at < k.through
        WHERE k.organization_id = organization
            AND (NOT only_default OR l.tableoid = 'credit_consumption_logs_default'::regclass)
        ORDER BY l.created_at LIMIT rows_max
    );
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$function$;

COMMENT ON FUNCTION delete_sealed_consumption_logs(uuid, boolean, integer) IS
    'Deletes at most so many rows of an organization that its retention checkpoint stands for, of the default partition alone if that is said, and returns how many it deleted.';
";

const DROP_DELETE_FUNCTION: &str = "DROP FUNCTION IF EXISTS delete_sealed_consumption_logs(uuid, boolean, integer)";

const DROP_DROP_FUNCTION: &str = "DROP FUNCTION IF EXISTS drop_sealed_consumption_log_partition(timestamptz)";

/// Makes the table of checkpoints, and the functions that take rows away.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = TableDraft::new(TABLE)
            .column(uuid("organization_id"))
            .column(timestamp_with_time_zone("through"))
            .checked_column(big_integer("sequence"), Expr::cust("sequence >= 0"))
            .credits("available", Amounts::NonNegative)
            .credits("held", Amounts::NonNegative)
            .credits("spent", Amounts::NonNegative)
            .credits("captured", Amounts::NonNegative)
            .credits("refunded", Amounts::NonNegative);
        COUNTS
            .into_iter()
            .fold(table, |table, (name, check)| table.checked_column(big_integer(name), Expr::cust(check)))
            .column(timestamp_with_time_zone("sealed_at"))
            .primary_key(&["organization_id"])
            .references_organization()
            .create(manager)
            .await?;
        on_postgres(manager, DROP_FUNCTION).await?;
        on_postgres(manager, DELETE_FUNCTION).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DROP_DELETE_FUNCTION).await?;
        on_postgres(manager, DROP_DROP_FUNCTION).await?;
        drop_table(manager, TABLE).await
    }
}
