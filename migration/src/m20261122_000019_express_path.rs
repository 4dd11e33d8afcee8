//! The express path of spending, PostgreSQL only: one function call decides and writes a whole batch of consumptions
//! that their organizations can afford.
//!
//! It is an optimization with the same meaning as the ledger's portable path and never decides anything else: an
//! organization for which anything is out of the ordinary (short, not active, a boundary due, a key known, a price no
//! longer current) is left out of the answer and untouched, and the caller takes the portable path for it.
//!
//! It is a function rather than one large statement because every statement inside it takes a snapshot of its own: what
//! is read after waiting for the locks is what was committed before they were granted. The lock order is that of the
//! organizations' ids, as everywhere.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::{
    credits::{credit_column, each},
    engine::on_postgres,
};

pub(crate) const DROP: &str = "DROP FUNCTION IF EXISTS consume_credits_express";

/// What the function begins with, in every one of its forms: the locks, the instant under them, and nothing at all unless
/// every price is the one in force then.
pub(crate) const LOCK_AND_CHECK_PRICES: &str = r"    PERFORM pg_advisory_xact_lock_shared(price_lock);
    -- The ORDER BY must stay: it is the lock order that keeps two batches from deadlocking.
    PERFORM 1 FROM organization_credits c WHERE c.organization_id = ANY (o_id)
        ORDER BY c.organization_id FOR NO KEY UPDATE;
    at_instant := COALESCE(clock, clock_timestamp());

    IF EXISTS (
        SELECT 1 FROM unnest(p_action, p_version) AS p(action_type, version)
        LEFT JOIN LATERAL (
            SELECT v.version, v.active FROM credit_action_versions v
            WHERE v.action_type = p.action_type AND v.effective_at <= at_instant
            ORDER BY v.effective_at DESC, v.version DESC LIMIT 1
        ) AS in_force ON true
        WHERE in_force.version IS DISTINCT FROM p.version OR NOT in_force.active
    ) THEN
        RETURN;
    END IF;
";

/// The function's text.
///
/// Its arguments are arrays. `o_*` describe organizations, each once: how many items, and their cost in total. `i_*`
/// describe items: `i_nth` counts from 1 within the organization, and `i_<type>_so_far` is the organization's cost up to
/// and including the item, from which its balance afterwards follows. `p_*` are the prices that the items were
/// calculated with.
///
/// Its settings keep the plans: made once for a connection rather than for every call (which costs more than the call
/// itself), and by the indexes however small the tables were when they were made.
pub(crate) fn function() -> String {
    let column = |credit_type: &str| credit_column(credit_type, "available");
    format!(
        r"
CREATE OR REPLACE FUNCTION consume_credits_express(
    price_lock bigint, clock timestamptz,
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
BEGIN
{LOCK_AND_CHECK_PRICES}
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT DISTINCT i.organization_id FROM unnest(i_organization, i_key) AS i(organization_id, key_id)
        JOIN LATERAL (
            SELECT 1 FROM idempotency_keys k
            WHERE k.organization_id = i.organization_id AND k.key_id = i.key_id LIMIT 1
        ) AS bound ON true
    ), taken AS (
        UPDATE organization_credits AS c
        SET {spend}, sequence = c.sequence + o.items, last_movement_at = at_instant
        FROM unnest(o_id, o_items, {o_names}) AS o(id, items, {types})
        WHERE c.organization_id = o.id AND c.status = 'active' AND {affordable}
            AND (c.next_boundary_at IS NULL OR c.next_boundary_at > at_instant)
            AND c.last_movement_at <= at_instant
            AND NOT EXISTS (SELECT 1 FROM known WHERE known.organization_id = c.organization_id)
        RETURNING c.organization_id, c.sequence, c.sequence - o.items AS sequence_before, {after}
    ), logged AS (
        INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, metadata, created_at,
            occurred_at, sequence, price_version, actor, {consumed}, {available_after})
        SELECT i.organization_id, i.id, i.action_type, i.quantity, true, i.metadata::jsonb, at_instant,
            i.occurred_at, t.sequence_before + i.nth, i.version, i.actor, {i_cost}, {i_after}
        FROM unnest(i_organization, i_nth, i_id, i_action, i_quantity, i_version, i_metadata, i_occurred_at, i_actor,
            {i_names}) AS i(organization_id, nth, id, action_type, quantity, version, metadata, occurred_at, actor,
            {i_columns})
        JOIN taken t ON t.organization_id = i.organization_id
    ), bound AS (
        INSERT INTO idempotency_keys (organization_id, key_id, fingerprint, operation, reference, reference_at, expires_on)
        SELECT i.organization_id, i.key_id, i.fingerprint, 'consume', i.id, at_instant,
            ((at_instant AT TIME ZONE 'UTC')::date + i.days)
        FROM unnest(i_organization, i_id, i_key, i_fingerprint, i_days)
            AS i(organization_id, id, key_id, fingerprint, days)
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
        o_names = each(", ", |t| format!("o_{t}")),
        types = each(", ", str::to_owned),
        affordable = each(" AND ", |t| format!("c.{} >= o.{t}", column(t))),
        after = each(", ", |t| format!("c.{} AS {t}_after, o.{t} AS {t}_total", column(t))),
        consumed = each(", ", |t| credit_column(t, "consumed")),
        available_after = each(", ", |t| credit_column(t, "available_after")),
        i_cost = each(", ", |t| format!("i.{t}")),
        i_after = each(", ", |t| format!("t.{t}_after + t.{t}_total - i.{t}_so_far")),
        i_names = each(", ", |t| format!("i_{t}, i_{t}_so_far")),
        i_columns = each(", ", |t| format!("{t}, {t}_so_far")),
        t_after = each(", ", |t| format!("t.{t}_after")),
    )
}

/// Makes the function.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, &function()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DROP).await
    }
}
