//! What a server may do of its jobs though it does not own the schema: make partitions, and make the summary anew.
//!
//! Both are the owner's alone on PostgreSQL. As functions with the owner's rights they do that one thing and no other, so
//! that the role of servers needs no more rights. Neither changes what anybody can read.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::engine::on_postgres;

const UP: &str = "
CREATE OR REPLACE FUNCTION refresh_organization_usage_summary() RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
AS $function$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY mv_organization_usage_summary;
END
$function$;

COMMENT ON FUNCTION refresh_organization_usage_summary() IS
    'Makes mv_organization_usage_summary anew with the rights of its owner, which whoever may call this need not have.';

ALTER FUNCTION ensure_consumption_log_partitions(date, integer) SECURITY DEFINER;
";

const DOWN: &str = "
DROP FUNCTION IF EXISTS refresh_organization_usage_summary();

DO $block$
BEGIN
    IF to_regprocedure('ensure_consumption_log_partitions(date, integer)') IS NOT NULL THEN
        ALTER FUNCTION ensure_consumption_log_partitions(date, integer) SECURITY INVOKER;
    END IF;
END
$block$;
";

/// Makes the functions.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DOWN).await
    }
}
