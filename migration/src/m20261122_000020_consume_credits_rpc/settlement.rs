//! Settlement: `Book::settle` of the domain, said in SQL.
//!
//! Every function works for one organization whose row of `organization_credits` the caller has locked. That row goes
//! from function to function as the value `account`, and the caller writes it once, when all is done. The rows around it
//! (lots, draws, holds, movements) are written as they change.
//!
//! A boundary is looked for anew after each one that was passed, because one may make another: a hold that gives back
//! revives its lot, and a period brings the next.

use crate::helper::credits::{AMOUNT_MAX, credit_column, each};

/// The functions, in the order in which they are made.
pub fn functions() -> String {
    [
        record_movement("instant"),
        book_spending(),
        next_boundary(),
        expire_hold(),
        expire_lot(),
        start_lot(),
        period_credits(&allowance_alone()),
        grant_period(),
        settle(),
    ]
    .concat()
}

/// A function that takes the account to its next state.
fn transition(name: &str, arguments: &str, variables: &str, body: &str) -> String {
    format!(
        r"
CREATE OR REPLACE FUNCTION {name}(account organization_credits, {arguments}) RETURNS organization_credits
LANGUAGE plpgsql
AS $function$
DECLARE
    before CONSTANT organization_credits := account;
{variables}
BEGIN
{body}
END
$function$;
"
    )
}

/// A line of the ledger for what has changed since `before`; `last_movement_at` is what becomes of the account's.
pub fn record_movement(last_movement_at: &str) -> String {
    let names = |suffix| each(", ", |t| credit_column(t, suffix));
    let change = |side| each(", ", |t| format!("account.{0} - before.{0}", credit_column(t, side)));
    let after = |side| each(", ", |t| format!("account.{}", credit_column(t, side)));
    format!(
        r"
CREATE OR REPLACE FUNCTION credit_record_movement(
    account organization_credits, before organization_credits, movement_kind text, about uuid, instant timestamptz
) RETURNS organization_credits
LANGUAGE plpgsql
AS $function$
BEGIN
    account.sequence := account.sequence + 1;
    account.last_movement_at := {last_movement_at};
    INSERT INTO credit_movements (organization_id, sequence, kind, reference, created_at,
        {}, {}, {}, {})
    VALUES (account.organization_id, account.sequence, movement_kind, about, instant,
        {}, {}, {}, {});
    RETURN account;
END
$function$;
",
        names("available_change"),
        names("held_change"),
        names("available_after"),
        names("held_after"),
        change("available"),
        change("held"),
        after("available"),
        after("held"),
    )
}

/// Takes from the lots, in burn order, what was spent since the last settlement.
fn book_spending() -> String {
    let remaining = |t: &str| credit_column(t, "remaining");
    let available = |t: &str| credit_column(t, "available");
    format!(
        r"
CREATE OR REPLACE FUNCTION credit_book_spending(account organization_credits) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    live record;
BEGIN
    SELECT {sums} INTO live FROM credit_grants g
    WHERE g.organization_id = account.organization_id AND g.state = 'active';
    IF {short} THEN
        RAISE EXCEPTION 'the lots of organization % do not add up to its balance', account.organization_id
            USING ERRCODE = 'data_corrupted';
    END IF;
    -- Of each type, a lot gives what the lots before it could not.
    WITH burned AS (
        SELECT g.id, {burned}
        FROM credit_grants g
        WHERE g.organization_id = account.organization_id AND g.state = 'active'
        WINDOW earlier AS (
            ORDER BY g.priority, g.expires_at NULLS LAST, g.source <> 'promotion', g.created_at, g.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ), drawn AS (
        SELECT b.* FROM burned b WHERE {any}
    ), taken AS (
        UPDATE credit_grants g
        SET {take}, state = CASE WHEN {all_gone} THEN 'exhausted' ELSE g.state END
        FROM drawn d WHERE g.organization_id = account.organization_id AND g.id = d.id
    )
    INSERT INTO credit_draws (organization_id, sequence, grant_id, {drawn_columns})
    SELECT account.organization_id, account.sequence, d.id, {drawn} FROM drawn d;
END
$function$;
",
        sums = each(", ", |t| format!("COALESCE(SUM(g.{}), 0) AS {t}", remaining(t))),
        short = each(" OR ", |t| format!("live.{t} < account.{}", available(t))),
        burned = each(",\n            ", |t| {
            let rest =
                format!("live.{t} - account.{} - COALESCE(SUM(g.{}) OVER earlier, 0)", available(t), remaining(t));
            format!("LEAST(g.{}, GREATEST({rest}, 0))::bigint AS {t}", remaining(t))
        }),
        any = each(" OR ", |t| format!("b.{t} > 0")),
        take = each(", ", |t| format!("{0} = g.{0} - d.{t}", remaining(t))),
        all_gone = each(" AND ", |t| format!("g.{} = d.{t}", remaining(t))),
        drawn_columns = each(", ", |t| credit_column(t, "drawn")),
        drawn = each(", ", |t| format!("d.{t}")),
    )
}

/// The next thing that happens by itself, with its place among those of the same instant.
fn next_boundary() -> String {
    r"
CREATE OR REPLACE FUNCTION credit_next_boundary(
    organization uuid, OUT instant timestamptz, OUT event text, OUT about uuid
)
LANGUAGE plpgsql
AS $function$
BEGIN
    SELECT b.instant, b.event, b.about INTO instant, event, about
    FROM (
        SELECT h.expires_at AS instant, 1 AS place, 'hold_expiry' AS event, h.id AS about,
            0 AS priority, NULL::timestamptz AS ends, false AS paid, NULL::timestamptz AS made
        FROM credit_holds h WHERE h.organization_id = organization AND h.state = 'open'
        UNION ALL
        SELECT g.expires_at, 2, 'expiry', g.id, g.priority, g.expires_at, g.source <> 'promotion', g.created_at
        FROM credit_grants g
        WHERE g.organization_id = organization AND g.state = 'active' AND g.expires_at IS NOT NULL
        UNION ALL
        SELECT g.effective_at, 3, 'activation', g.id, g.priority, g.expires_at, g.source <> 'promotion', g.created_at
        FROM credit_grants g WHERE g.organization_id = organization AND g.state = 'pending'
        UNION ALL
        SELECT credit_period_start(s.anchor, s.time_zone, v.period, s.next_index), 4, 'period_grant', NULL, 0, NULL,
            false, NULL
        FROM subscriptions s JOIN plan_versions v ON v.code = s.plan_code AND v.version = s.plan_version
        WHERE s.organization_id = organization
    ) AS b
    WHERE b.instant IS NOT NULL
    ORDER BY b.instant, b.place, b.priority, b.ends NULLS LAST, b.paid, b.made, b.about
    LIMIT 1;
END
$function$;
"
    .to_owned()
}

/// A hold that nobody resolved in time: its parts go back to the lots that have not ended before, which takes in those
/// that end at this very instant.
fn expire_hold() -> String {
    let remaining = |t: &str| credit_column(t, "remaining");
    let (drawn, returned) = (|t: &str| credit_column(t, "drawn"), |t: &str| credit_column(t, "returned"));
    let variables = "    hold credit_holds;\n    back record;";
    let body = format!(
        r"
    SELECT h.* INTO STRICT hold FROM credit_holds h
    WHERE h.organization_id = account.organization_id AND h.id = hold_id;
    WITH part AS (
        SELECT w.grant_id, {open} FROM credit_draws w
        WHERE w.organization_id = account.organization_id AND w.sequence = hold.sequence
    ), closed AS (
        UPDATE credit_draws w SET {close}
        WHERE w.organization_id = account.organization_id AND w.sequence = hold.sequence
    ), put_back AS (
        UPDATE credit_grants g
        SET {put_back}, state = CASE WHEN g.state = 'exhausted' THEN 'active' ELSE g.state END
        FROM part p
        WHERE g.organization_id = account.organization_id AND g.id = p.grant_id AND ({any})
            AND g.state NOT IN ('expired', 'voided') AND (g.expires_at IS NULL OR g.expires_at >= instant)
        RETURNING {parts}
    )
    SELECT {sums} INTO back FROM put_back b;
    {account}
    UPDATE credit_holds h SET state = 'expired', finished_at = instant
    WHERE h.organization_id = account.organization_id AND h.id = hold_id;
    RETURN credit_record_movement(account, before, 'hold_expiry', hold_id, instant);",
        open = each(", ", |t| format!("w.{} - w.{} AS {t}", drawn(t), returned(t))),
        close = each(", ", |t| format!("{} = w.{}", returned(t), drawn(t))),
        put_back = each(", ", |t| format!("{0} = g.{0} + p.{t}", remaining(t))),
        any = each(" OR ", |t| format!("p.{t} > 0")),
        parts = each(", ", |t| format!("p.{t}")),
        sums = each(", ", |t| format!("COALESCE(SUM(b.{t}), 0)::bigint AS {t}")),
        account = each("\n    ", |t| format!(
            "account.{available} := account.{available} + back.{t};\n    account.{held} := account.{held} - hold.{held};",
            available = credit_column(t, "available"),
            held = credit_column(t, "held"),
        )),
    );
    transition("credit_expire_hold", "hold_id uuid, instant timestamptz", variables, &body)
}

/// A lot that ends with something left, which goes.
fn expire_lot() -> String {
    let body = format!(
        r"
    SELECT {gone} INTO STRICT lot FROM credit_grants g
    WHERE g.organization_id = account.organization_id AND g.id = lot_id;
    UPDATE credit_grants g SET state = 'expired', {emptied}
    WHERE g.organization_id = account.organization_id AND g.id = lot_id;
    {account}
    RETURN credit_record_movement(account, before, 'expiry', lot_id, instant);",
        gone = each(", ", |t| format!("g.{} AS {t}", credit_column(t, "remaining"))),
        emptied = each(", ", |t| format!("{} = 0", credit_column(t, "remaining"))),
        account = each("\n    ", |t| format!("account.{0} := account.{0} - lot.{t};", credit_column(t, "available"))),
    );
    transition("credit_expire_lot", "lot_id uuid, instant timestamptz", "    lot record;", &body)
}

/// A lot that starts.
fn start_lot() -> String {
    let body = format!(
        r"
    UPDATE credit_grants g SET state = 'active'
    WHERE g.organization_id = account.organization_id AND g.id = lot_id
    RETURNING {held} INTO STRICT lot;
    {account}
    RETURN credit_record_movement(account, before, 'activation', lot_id, instant);",
        held = each(", ", |t| format!("g.{} AS {t}", credit_column(t, "remaining"))),
        account = each("\n    ", |t| format!("account.{0} := account.{0} + lot.{t};", credit_column(t, "available"))),
    );
    transition("credit_start_lot", "lot_id uuid, instant timestamptz", "    lot record;", &body)
}

/// What a period gives: the allowance and what rolls over, as far as there is room for it.
///
/// What rolls over is what was left of the last period's lot, which has ended at the instant at which this one starts:
/// its movement says how much. `beyond` is what is done where both together may be more than an amount can be.
pub fn period_credits(beyond: &str) -> String {
    format!(
        r"
CREATE OR REPLACE FUNCTION credit_period_credits(
    account organization_credits, last_lot uuid, plan text, plan_version integer, starts timestamptz, {outs}
)
LANGUAGE plpgsql
AS $function$
DECLARE
    amount_max CONSTANT bigint := {AMOUNT_MAX};
    terms record;
    carried record;
    pending record;
BEGIN
    SELECT {allowance}, {rollover} INTO STRICT terms FROM plan_versions v
    WHERE v.code = plan AND v.version = plan_version;
    SELECT {left_over} INTO carried FROM credit_movements m
    WHERE m.organization_id = account.organization_id AND m.created_at = starts AND m.kind = 'expiry'
        AND m.reference = last_lot AND m.sequence > account.settled_sequence;
    SELECT {to_come} INTO pending FROM credit_grants g
    WHERE g.organization_id = account.organization_id AND g.state = 'pending';
    {sum}
    {beyond}
    {room}
END
$function$;
",
        outs = each(", ", |t| format!("OUT {t} bigint")),
        allowance = each(", ", |t| format!("v.{} AS {t}", credit_column(t, "allowance"))),
        rollover = each(", ", |t| format!("COALESCE(v.{}, 0) AS {t}_max", credit_column(t, "rollover_max"))),
        left_over =
            each(", ", |t| format!("COALESCE(SUM(-m.{}), 0)::bigint AS {t}", credit_column(t, "available_change"))),
        to_come = each(", ", |t| format!("COALESCE(SUM(g.{}), 0)::bigint AS {t}", credit_column(t, "remaining"))),
        sum = each("\n    ", |t| format!("{t} := terms.{t} + LEAST(carried.{t}, terms.{t}_max);")),
        room = each("\n    ", |t| format!(
            "{t} := LEAST({t}, GREATEST(amount_max - pending.{t} - account.{} - account.{}, 0));",
            credit_column(t, "available"),
            credit_column(t, "held"),
        )),
    )
}

/// Nothing rolls over of any type where there is more than an amount can be of one.
pub fn allowance_alone() -> String {
    let beyond = each(" OR ", |t| format!("{t} > amount_max"));
    let without = each("\n        ", |t| format!("{t} := terms.{t};"));
    format!("IF {beyond} THEN\n        {without}\n    END IF;")
}

/// A period of a plan that starts.
fn grant_period() -> String {
    let variables = "    subscription subscriptions;\n    terms record;\n    starts timestamptz;\n    ends timestamptz;\n    \
                     lot_id uuid;\n    given record;";
    let body = format!(
        r"
    SELECT s.* INTO STRICT subscription FROM subscriptions s WHERE s.organization_id = account.organization_id;
    starts := instant;
    IF subscription.next_plan_code IS NOT NULL THEN
        -- The new plan's periods are counted from where it begins.
        subscription.plan_code := subscription.next_plan_code;
        subscription.plan_version := subscription.next_plan_version;
        subscription.next_plan_code := NULL;
        subscription.next_plan_version := NULL;
        subscription.anchor := starts;
        subscription.next_index := 0;
    END IF;
    SELECT v.period, v.priority INTO STRICT terms FROM plan_versions v
    WHERE v.code = subscription.plan_code AND v.version = subscription.plan_version;
    subscription.next_index := subscription.next_index + 1;
    ends := credit_period_start(subscription.anchor, subscription.time_zone, terms.period, subscription.next_index);
    IF ends IS NULL THEN
        -- The calendar has no further period.
        DELETE FROM subscriptions s WHERE s.organization_id = account.organization_id;
        RETURN account;
    END IF;
    given := credit_period_credits(
        account, subscription.grant_id, subscription.plan_code, subscription.plan_version, starts
    );
    lot_id := credit_period_grant_id(account.organization_id, subscription.plan_code, starts, ends);
    INSERT INTO credit_grants (organization_id, id, state, source, priority, effective_at, expires_at, created_at,
        {granted}, {remaining})
    VALUES (account.organization_id, lot_id, CASE WHEN {nothing} THEN 'exhausted' ELSE 'active' END, 'plan',
        terms.priority, starts, ends, instant, {given}, {given});
    UPDATE subscriptions s
    SET plan_code = subscription.plan_code, plan_version = subscription.plan_version, anchor = subscription.anchor,
        next_index = subscription.next_index, period_start = starts, period_end = ends, grant_id = lot_id,
        next_plan_code = subscription.next_plan_code, next_plan_version = subscription.next_plan_version,
        updated_at = instant
    WHERE s.organization_id = account.organization_id;
    {account}
    RETURN credit_record_movement(account, before, 'period_grant', lot_id, instant);",
        granted = each(", ", |t| credit_column(t, "granted")),
        remaining = each(", ", |t| credit_column(t, "remaining")),
        nothing = each(" AND ", |t| format!("given.{t} = 0")),
        given = each(", ", |t| format!("given.{t}")),
        account = each("\n    ", |t| format!("account.{0} := account.{0} + given.{t};", credit_column(t, "available"))),
    );
    transition("credit_grant_period", "instant timestamptz", variables, &body)
}

/// Brings an organization up to an instant: what was spent since the last settlement, then every boundary that has come,
/// each at its own instant.
fn settle() -> String {
    r"
CREATE OR REPLACE FUNCTION settle_credits(account organization_credits, until timestamptz)
RETURNS organization_credits
LANGUAGE plpgsql
-- A plan that was made while a table was small would stay when it has grown.
SET enable_seqscan = off
AS $function$
DECLARE
    boundary record;
BEGIN
    PERFORM credit_book_spending(account);
    LOOP
        boundary := credit_next_boundary(account.organization_id);
        EXIT WHEN boundary.instant IS NULL OR boundary.instant > until;
        account := CASE boundary.event
            WHEN 'hold_expiry' THEN credit_expire_hold(account, boundary.about, boundary.instant)
            WHEN 'expiry' THEN credit_expire_lot(account, boundary.about, boundary.instant)
            WHEN 'activation' THEN credit_start_lot(account, boundary.about, boundary.instant)
            ELSE credit_grant_period(account, boundary.instant)
        END;
    END LOOP;
    account.settled_sequence := account.sequence;
    account.next_boundary_at := boundary.instant;
    RETURN account;
END
$function$;
"
    .to_owned()
}
