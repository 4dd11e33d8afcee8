//! The consumption log: one row an attempt, partitioned by month on PostgreSQL so that old months can be dropped.
//!
//! The table has no foreign keys: each would take a `KEY SHARE` lock and a look-up for every row of the hot path, and
//! organizations are never deleted. `multicredit verify` checks what they would.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr},
    schema::{
        big_integer, big_integer_null, boolean, integer, json_binary_null, text, text_null, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
    sea_orm::DeriveMigrationName,
};

use crate::helper::{
    credits::Amounts,
    engine::on_postgres,
    table::{TableDraft, drop_table},
};

const TABLE: &str = "credit_consumption_logs";

/// The rows of months without a partition land here instead of failing: a late `maintain` must not cost an attempt.
const DEFAULT_PARTITION: &str =
    "CREATE TABLE credit_consumption_logs_default PARTITION OF credit_consumption_logs DEFAULT";

/// Makes partitions while servers run.
///
/// `CREATE TABLE ... PARTITION OF` would lock the whole log against reading and writing; making the table first and
/// attaching it locks only the default partition, which is empty in a healthy database. Writers to other months go on.
/// The default partition is locked before it is searched, or a row could slip in between the search and the attachment,
/// which would then fail. The first lock makes callers queue, so that two at once do not both make a month.
const PARTITION_FUNCTION: &str = r#"
CREATE OR REPLACE FUNCTION ensure_consumption_log_partitions(first_month date, months integer) RETURNS integer
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
DECLARE
    months_max CONSTANT integer := 120;
    month_start timestamp;
    lower_bound timestamptz;
    upper_bound timestamptz;
    partition_name text;
    rows_are_in_default boolean;
    made integer := 0;
BEGIN
    IF first_month IS NULL OR months IS NULL OR months NOT BETWEEN 0 AND months_max THEN
        RAISE EXCEPTION 'ensure_consumption_log_partitions takes a month and a number from 0 to %', months_max
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    LOCK TABLE credit_consumption_logs IN SHARE UPDATE EXCLUSIVE MODE;

    FOR step IN 0 .. months - 1 LOOP
        month_start := date_trunc('month', first_month::timestamp) + make_interval(months => step);
        partition_name := to_char(month_start, '"credit_consumption_logs_y"YYYY"m"MM');
        CONTINUE WHEN to_regclass(partition_name) IS NOT NULL;

        lower_bound := month_start AT TIME ZONE 'UTC';
        upper_bound := (month_start + interval '1 month') AT TIME ZONE 'UTC';

        LOCK TABLE credit_consumption_logs_default IN ACCESS EXCLUSIVE MODE;
        rows_are_in_default := EXISTS (
            SELECT FROM credit_consumption_logs_default
            WHERE created_at >= lower_bound AND created_at < upper_bound
        );
        CONTINUE WHEN rows_are_in_default;

        EXECUTE format(
            'CREATE TABLE %I (LIKE credit_consumption_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)',
            partition_name
        );
        EXECUTE format(
            'ALTER TABLE credit_consumption_logs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition_name, lower_bound, upper_bound
        );
        made := made + 1;
    END LOOP;

    RETURN made;
END
$function$;

COMMENT ON FUNCTION ensure_consumption_log_partitions(date, integer) IS
    'Makes the partitions of credit_consumption_logs that are missing for that many months (UTC), beginning with the one of the date, and returns how many it made. Months whose rows already are in the default partition stay there.';
"#;

/// This month and the next three. The database's clock decides what this month is, as it does for the rows.
const FIRST_PARTITIONS: &str =
    "SELECT ensure_consumption_log_partitions(date_trunc('month', now() AT TIME ZONE 'UTC')::date, 4)";

const DROP_PARTITION_FUNCTION: &str = "DROP FUNCTION IF EXISTS ensure_consumption_log_partitions(date, integer)";

/// Makes the consumption log, its first partitions, and the function that makes the later ones.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        TableDraft::new(TABLE)
            .column(uuid("id"))
            .column(uuid("organization_id"))
            .column(text("action_type"))
            .checked_column(big_integer("quantity"), Expr::cust("quantity >= 1"))
            .credits("consumed", Amounts::NonNegative)
            .column(boolean("success"))
            .column(text_null("error_code"))
            .column(json_binary_null("metadata"))
            .column(timestamp_with_time_zone("created_at"))
            .column(timestamp_with_time_zone_null("occurred_at"))
            .column(big_integer_null("sequence"))
            .column(integer("price_version"))
            .credits("available_after", Amounts::NonNegativeOrNull)
            .column(uuid_null("hold_id"))
            .column(text_null("actor"))
            .check("success_has_sequence", "success = (sequence IS NOT NULL)")
            .check("refusal_has_error_code", "(error_code IS NULL) = success")
            .primary_key(&["organization_id", "id", "created_at"])
            .on_postgres("PARTITION BY RANGE (created_at)")
            .create(manager)
            .await?;
        on_postgres(manager, DEFAULT_PARTITION).await?;
        on_postgres(manager, PARTITION_FUNCTION).await?;
        on_postgres(manager, FIRST_PARTITIONS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DROP_PARTITION_FUNCTION).await?;
        drop_table(manager, TABLE).await
    }
}
