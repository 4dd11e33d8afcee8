//! The express path over two arrays of records instead of twenty-seven arrays of values.
//!
//! A call that spends once took a fifth of its time to make its arrays ready: each is a function that is set up, called for
//! each row and taken apart again, and an argument that is read by itself. Now an organization is one value and an item is
//! one value, whose fields are the columns.
//!
//! And how its statements are planned is said once for a connection by who calls the function (the ledger's own, which has
//! no other statements), and no longer set and taken back around every call.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::{
    credits::{credit_column, each},
    engine::on_postgres,
};
use crate::m20261122_000019_express_path::{DROP, LOCK_AND_CHECK_PRICES};
use crate::m20261123_000041_express_keys::function as over_arrays;

const DROP_TYPES: &str = "DROP TYPE IF EXISTS express_item; DROP TYPE IF EXISTS express_demand";

/// An organization of a call, with the number of its items and their cost in total; and an item. `nth` counts from 1 within
/// the organization, and `<type>_so_far` is the organization's cost up to and including the item, from which its balance
/// afterwards follows.
fn types() -> String {
    format!(
        "CREATE TYPE express_demand AS (organization_id uuid, item_count integer, {totals});
         CREATE TYPE express_item AS (organization_id uuid, nth integer, id uuid, action_type text, quantity bigint,
            version integer, metadata text, occurred_at timestamptz, actor text, key_id uuid, fingerprint uuid, days integer,
            {costs})",
        totals = each(", ", |t| format!("{t} bigint")),
        costs = each(", ", |t| format!("{t} bigint, {t}_so_far bigint")),
    )
}

/// The function's text. `screen`: whether keys are looked for first. `p_*` are the prices that the items were calculated
/// with. `demands` stand in the order of the organizations' ids.
fn function() -> String {
    let column = |credit_type: &str| credit_column(credit_type, "available");
    // What has the locks' order, and the prices, is the same for organizations that come as an array of ids.
    let lock_and_check_prices = LOCK_AND_CHECK_PRICES.replace("(o_id)", "(ids)");
    format!(
        r"
CREATE FUNCTION consume_credits_express(
    price_lock bigint, clock timestamptz, screen boolean, p_action text[], p_version integer[],
    ids uuid[], demands express_demand[], items express_item[]
) RETURNS TABLE (organization_id uuid, sequence bigint, created_at timestamptz, {returned})
LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    at_instant timestamptz;
    known uuid[] := '{{}}';
BEGIN
{lock_and_check_prices}
    IF screen THEN
        known := ARRAY (
            SELECT DISTINCT i.organization_id FROM unnest(items) AS i
            JOIN LATERAL (
                SELECT 1 FROM idempotency_keys k
                WHERE k.organization_id = i.organization_id AND k.key_id = i.key_id LIMIT 1
            ) AS bound ON true
        );
    END IF;

    RETURN QUERY
    WITH taken AS (
        UPDATE organization_credits AS c
        SET {spend}, sequence = c.sequence + o.item_count, last_movement_at = at_instant
        FROM unnest(demands) AS o
        WHERE c.organization_id = o.organization_id AND c.status = 'active' AND {affordable}
            AND (c.next_boundary_at IS NULL OR c.next_boundary_at > at_instant)
            AND c.last_movement_at <= at_instant
            AND c.organization_id <> ALL (known)
        RETURNING c.organization_id, c.sequence, c.sequence - o.item_count AS sequence_before, {after}
    ), logged AS (
        INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, metadata, created_at,
            occurred_at, sequence, price_version, actor, {consumed}, {available_after})
        SELECT i.organization_id, i.id, i.action_type, i.quantity, true, i.metadata::jsonb, at_instant,
            i.occurred_at, t.sequence_before + i.nth, i.version, i.actor, {i_cost}, {i_after}
        FROM unnest(items) AS i
        JOIN taken t ON t.organization_id = i.organization_id
    ), bound AS (
        INSERT INTO idempotency_keys (organization_id, key_id, fingerprint, operation, reference, reference_at, expires_on)
        SELECT i.organization_id, i.key_id, i.fingerprint, 'consume', i.id, at_instant,
            ((at_instant AT TIME ZONE 'UTC')::date + i.days)
        FROM unnest(items) AS i
        JOIN taken t ON t.organization_id = i.organization_id
        WHERE i.key_id IS NOT NULL
    )
    SELECT t.organization_id, t.sequence, at_instant, {t_after} FROM taken t;
END
$function$;
",
        returned = each(", ", |t| format!("{} bigint", column(t))),
        spend = each(", ", |t| format!("{0} = c.{0} - o.{t}", column(t))),
        affordable = each(" AND ", |t| format!("c.{} >= o.{t}", column(t))),
        after = each(", ", |t| format!("c.{} AS {t}_after, o.{t} AS {t}_total", column(t))),
        consumed = each(", ", |t| credit_column(t, "consumed")),
        available_after = each(", ", |t| credit_column(t, "available_after")),
        i_cost = each(", ", |t| format!("i.{t}")),
        i_after = each(", ", |t| format!("t.{t}_after + t.{t}_total - i.{t}_so_far")),
        t_after = each(", ", |t| format!("t.{t}_after")),
    )
}

/// Makes the types and the function. A server of before finds no function with its arguments meanwhile, and takes the
/// portable path.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for sql in [DROP, DROP_TYPES, &types(), &function()] {
            on_postgres(manager, sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for sql in [DROP, DROP_TYPES, &over_arrays()] {
            on_postgres(manager, sql).await?;
        }
        Ok(())
    }
}
