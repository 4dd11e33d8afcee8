//! The express path without a look for its keys.
//!
//! Nearly every key is new. Looking each up before it is inserted costs as much as inserting it, and says nothing that
//! the primary key of the table does not: if one of the batch is bound already, the insert fails, nothing of the call has
//! happened, and the caller calls again with `screen`, which looks first and leaves the organizations of known keys out.
//!
//! And arrays are unnested in the select list rather than in FROM, where each would be copied into a store of its own.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::{
    credits::{credit_column, each},
    engine::on_postgres,
};
use crate::m20261122_000019_express_path::{DROP, LOCK_AND_CHECK_PRICES, function as screened};

/// The function's text. Its arguments are those of the function that it takes the place of, behind `screen`: whether keys
/// are looked for first.
pub(crate) fn function() -> String {
    let column = |credit_type: &str| credit_column(credit_type, "available");
    format!(
        r"
CREATE FUNCTION consume_credits_express(
    price_lock bigint, clock timestamptz, screen boolean,
    p_action text[], p_version integer[],
    o_id uuid[], o_items integer[], {o_arguments},
    i_organization uuid[], i_nth integer[], i_id uuid[], i_action text[], i_quantity bigint[], i_version integer[],
    i_metadata text[], i_occurred_at timestamptz[], i_actor text[], i_key uuid[], i_fingerprint uuid[], i_days integer[],
    {i_arguments}
) RETURNS TABLE (organization_id uuid, sequence bigint, created_at timestamptz, {returned})
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    at_instant timestamptz;
    known uuid[] := '{{}}';
BEGIN
{LOCK_AND_CHECK_PRICES}
    IF screen THEN
        known := ARRAY (
            SELECT DISTINCT i.organization_id FROM unnest(i_organization, i_key) AS i(organization_id, key_id)
            JOIN LATERAL (
                SELECT 1 FROM idempotency_keys k
                WHERE k.organization_id = i.organization_id AND k.key_id = i.key_id LIMIT 1
            ) AS bound ON true
        );
    END IF;

    RETURN QUERY
    WITH taken AS (
        UPDATE organization_credits AS c
        SET {spend}, sequence = c.sequence + o.items, last_movement_at = at_instant
        FROM (SELECT unnest(o_id) AS id, unnest(o_items) AS items, {o_unnested}) AS o
        WHERE c.organization_id = o.id AND c.status = 'active' AND {affordable}
            AND (c.next_boundary_at IS NULL OR c.next_boundary_at > at_instant)
            AND c.last_movement_at <= at_instant
            AND c.organization_id <> ALL (known)
        RETURNING c.organization_id, c.sequence, c.sequence - o.items AS sequence_before, {after}
    ), logged AS (
        INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, metadata, created_at,
            occurred_at, sequence, price_version, actor, {consumed}, {available_after})
        SELECT i.organization_id, i.id, i.action_type, i.quantity, true, i.metadata::jsonb, at_instant,
            i.occurred_at, t.sequence_before + i.nth, i.version, i.actor, {i_cost}, {i_after}
        FROM (SELECT unnest(i_organization) AS organization_id, unnest(i_nth) AS nth, unnest(i_id) AS id,
            unnest(i_action) AS action_type, unnest(i_quantity) AS quantity, unnest(i_version) AS version,
            unnest(i_metadata) AS metadata, unnest(i_occurred_at) AS occurred_at, unnest(i_actor) AS actor,
            {i_unnested}) AS i
        JOIN taken t ON t.organization_id = i.organization_id
    ), bound AS (
        INSERT INTO idempotency_keys (organization_id, key_id, fingerprint, operation, reference, reference_at, expires_on)
        SELECT i.organization_id, i.key_id, i.fingerprint, 'consume', i.id, at_instant,
            ((at_instant AT TIME ZONE 'UTC')::date + i.days)
        FROM (SELECT unnest(i_organization) AS organization_id, unnest(i_id) AS id, unnest(i_key) AS key_id,
            unnest(i_fingerprint) AS fingerprint, unnest(i_days) AS days) AS i
        JOIN taken t ON t.organization_id = i.organization_id
        WHERE i.key_id IS NOT NULL
    )
    SELECT t.organization_id, t.sequence, at_instant, {t_after} FROM taken t;
END
$function$;
",
        o_arguments = each(", ", |t| format!("o_{t} bigint[]")),
        i_arguments = each(", ", |t| format!("i_{t} bigint[], i_{t}_so_far bigint[]")),
        returned = each(", ", |t| format!("{} bigint", column(t))),
        spend = each(", ", |t| format!("{0} = c.{0} - o.{t}", column(t))),
        o_unnested = each(", ", |t| format!("unnest(o_{t}) AS {t}")),
        affordable = each(" AND ", |t| format!("c.{} >= o.{t}", column(t))),
        after = each(", ", |t| format!("c.{} AS {t}_after, o.{t} AS {t}_total", column(t))),
        consumed = each(", ", |t| credit_column(t, "consumed")),
        available_after = each(", ", |t| credit_column(t, "available_after")),
        i_cost = each(", ", |t| format!("i.{t}")),
        i_after = each(", ", |t| format!("t.{t}_after + t.{t}_total - i.{t}_so_far")),
        i_unnested = each(", ", |t| format!("unnest(i_{t}) AS {t}, unnest(i_{t}_so_far) AS {t}_so_far")),
        t_after = each(", ", |t| format!("t.{t}_after")),
    )
}

/// Makes the function anew. A server of before finds none with its arguments meanwhile, and takes the portable path.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DROP).await?;
        on_postgres(manager, &function()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DROP).await?;
        on_postgres(manager, &screened()).await
    }
}
