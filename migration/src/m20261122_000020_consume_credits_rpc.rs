//! `consume_credits_rpc`, PostgreSQL only: spending for those who talk SQL, with the rule, the rows and the answer of the
//! API's call.
//!
//! It is the one writer beside the ledger and follows the ledger's rules. It takes the same locks in the same order (the
//! prices, then the organization's row), reads the clock once it holds them, settles what is due exactly as the domain
//! does, and then decides. So callers of the function and servers mix freely; a differential test holds the two equal
//! (`docs/adr/0007-consume-credits-rpc.md`).
//!
//! `consume_credits_at` is the rule, with the id and the clock as arguments. `consume_credits_rpc` only calls it with a
//! new id and the database's clock.

mod calendar;
pub mod settlement;

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::{
    credits::{AMOUNT_MAX, credit_column, each},
    engine::on_postgres,
};

const DROP: &str = "
DROP FUNCTION IF EXISTS consume_credits_rpc, consume_credits_at, settle_credits, credit_grant_period,
    credit_period_credits, credit_start_lot, credit_expire_lot, credit_expire_hold, credit_next_boundary,
    credit_book_spending, credit_record_movement, credit_period_grant_id, credit_new_id, credit_uuid_v7,
    credit_period_start
";

/// The key of the advisory lock of the prices, which the ledger takes too.
const PRICE_LOCK: i64 = 0x6d63_7072_6963_6531;

/// `{"ai": ..., ...}` of a value for each type.
fn json(value: impl Fn(&str) -> String) -> String {
    format!("jsonb_build_object({})", each(", ", |t| format!("'{t}', {}", value(t))))
}

fn available(credit_type: &str) -> String {
    credit_column(credit_type, "available")
}

/// The rule of spending. The order of the checks is part of it: the organization, what is due, the action and its price,
/// the status, the balance.
fn consume() -> String {
    let cost_variables = each(" ", |t| format!("cost_{t} bigint;"));
    let (decision, writing, answers) = (decision(), writing(), answers());
    format!(
        r"
CREATE OR REPLACE FUNCTION consume_credits_at(
    organization uuid, action text, quantity bigint, consumption uuid, clock timestamptz
) RETURNS jsonb
LANGUAGE plpgsql
AS $function$
DECLARE
    amount_max CONSTANT bigint := {AMOUNT_MAX};
    account organization_credits;
    price record;
    units bigint;
    {cost_variables}
    refusal text;
    instant timestamptz;
    was_due boolean;
    last_period_lot uuid;
BEGIN
    IF organization IS NULL OR action IS NULL OR action !~ '^[A-Za-z0-9._:/-]{{1,100}}$'
        OR quantity IS NULL OR quantity NOT BETWEEN 1 AND amount_max
    THEN
        RETURN jsonb_build_object('success', false, 'error', 'invalid_request');
    END IF;

    PERFORM pg_advisory_xact_lock_shared({PRICE_LOCK});
    SELECT c.* INTO account FROM organization_credits c WHERE c.organization_id = organization FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('success', false, 'error', 'unknown_organization');
    END IF;
    -- Read under the lock, and never before the last movement.
    instant := GREATEST(COALESCE(clock, clock_timestamp()), account.last_movement_at);

    was_due := account.next_boundary_at IS NOT NULL AND account.next_boundary_at <= instant;
    IF was_due THEN
        SELECT s.grant_id INTO last_period_lot FROM subscriptions s WHERE s.organization_id = organization;
        account := settle_credits(account, instant);
    END IF;
{decision}
{writing}
{answers}
END
$function$;
"
    )
}

/// Finds the price in force and what it comes to, and sets `refusal` where that cannot be spent.
fn decision() -> String {
    format!(
        r"
    SELECT v.version, v.active, v.unit_size, {costs} INTO price FROM credit_action_versions v
    WHERE v.action_type = action AND v.effective_at <= instant
    ORDER BY v.effective_at DESC, v.version DESC LIMIT 1;
    IF NOT FOUND OR NOT price.active THEN
        refusal := 'unknown_action';
    ELSE
        units := (quantity + price.unit_size - 1) / price.unit_size;
        IF {too_much} THEN
            refusal := 'out_of_range';
        ELSE
            {multiply}
            refusal := CASE
                WHEN account.status <> 'active' THEN 'organization_' || account.status
                WHEN {short_of_any} THEN 'insufficient_credits'
            END;
        END IF;
    END IF;",
        costs = each(", ", |t| format!("v.{} AS {t}", credit_column(t, "cost"))),
        too_much = each(" OR ", |t| format!("price.{t}::numeric * units > amount_max")),
        multiply = each("\n            ", |t| format!("cost_{t} := price.{t} * units;")),
        short_of_any = each(" OR ", |t| format!("cost_{t} > account.{}", available(t))),
    )
}

/// Spends where nothing was refused, and writes the account with what was settled.
fn writing() -> String {
    format!(
        r"
    IF refusal IS NULL THEN
        {spend}
        account.sequence := account.sequence + 1;
        account.last_movement_at := instant;
    END IF;
    IF refusal IS NULL OR was_due THEN
        UPDATE organization_credits c
        SET {columns}, sequence = account.sequence, last_movement_at = account.last_movement_at,
            next_boundary_at = account.next_boundary_at, settled_sequence = account.settled_sequence
        WHERE c.organization_id = organization;
    END IF;
    IF was_due THEN
        -- A subscription that changed did so with the last movement.
        UPDATE subscriptions s SET updated_at = account.last_movement_at
        WHERE s.organization_id = organization AND s.grant_id IS DISTINCT FROM last_period_lot;
    END IF;",
        spend = each("\n        ", |t| format!("account.{0} := account.{0} - cost_{t};", available(t))),
        columns =
            each(", ", |t| format!("{0} = account.{0}, {1} = account.{1}", available(t), credit_column(t, "held"))),
    )
}

/// Logs the attempt, if it is one that is logged, and answers.
fn answers() -> String {
    // LEAST leaves nulls out: a type that costs nothing limits nothing.
    let affordable_units = each(", ", |t| format!("account.{} / NULLIF(price.{t}, 0)", available(t)));
    format!(
        r#"
    IF refusal IS NULL THEN
        INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, created_at, sequence,
            price_version, {consumed_columns}, {after_columns})
        VALUES (organization, consumption, action, quantity, true, instant, account.sequence,
            price.version, {consumed}, {after});
        RETURN jsonb_build_object('success', true, 'consumption_id', consumption, 'consumed', {cost_json},
            'available', {available_json}, 'sequence', account.sequence,
            -- As the API writes it: without digits that say nothing.
            'created_at', regexp_replace(
                to_char(instant AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '(\.000)?000Z$', 'Z'));
    END IF;
    IF refusal IN ('insufficient_credits', 'organization_frozen') THEN
        INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, error_code, created_at,
            price_version)
        VALUES (organization, consumption, action, quantity, false, refusal, instant, price.version);
    END IF;
    IF refusal = 'insufficient_credits' THEN
        RETURN jsonb_build_object('success', false, 'error', refusal, 'required', {cost_json},
            'available', {available_json}, 'shortfall', {short_json}, 'max_affordable_quantity',
            LEAST(LEAST({affordable_units}) * price.unit_size::numeric, amount_max)::bigint);
    END IF;
    RETURN jsonb_build_object('success', false, 'error', refusal);"#,
        consumed_columns = each(", ", |t| credit_column(t, "consumed")),
        after_columns = each(", ", |t| credit_column(t, "available_after")),
        consumed = each(", ", |t| format!("cost_{t}")),
        after = each(", ", |t| format!("account.{}", available(t))),
        cost_json = json(|t| format!("cost_{t}")),
        available_json = json(|t| format!("account.{}", available(t))),
        short_json = json(|t| format!("GREATEST(cost_{t} - account.{}, 0)", available(t))),
    )
}

/// What is called from outside.
const RPC: &str = r"
CREATE OR REPLACE FUNCTION consume_credits_rpc(organization uuid, action text, quantity bigint) RETURNS jsonb
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $function$
BEGIN
    RETURN consume_credits_at(organization, action, quantity, credit_new_id(), NULL);
END
$function$;

COMMENT ON FUNCTION consume_credits_rpc(uuid, text, bigint) IS
    'Spends credits: the cost of that quantity of the action, all of it or nothing. The same rule, rows and answer as the API.';
";

/// Makes the functions.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, calendar::FUNCTIONS).await?;
        on_postgres(manager, &settlement::functions()).await?;
        on_postgres(manager, &consume()).await?;
        on_postgres(manager, RPC).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DROP).await
    }
}
