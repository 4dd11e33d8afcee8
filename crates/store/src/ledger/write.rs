//! Writing what was decided: one statement a table, whatever the size of the batch.
//!
//! Nothing is written until everything has been decided. The order of the statements is that of the foreign keys:
//! grants before the draws that name them.

use std::sync::LazyLock;

use chrono::TimeDelta;
use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    Account, Consumption, Draw, Grant, Hold, Lot, Movement, OrganizationId, OrganizationStatus, Refund, Subscription,
    Timestamp,
};

use super::decide::{Effects, NewKey};
use super::top_ups::answer_top_ups;
use crate::audit;
use crate::error::AttemptError;
use crate::sql::{Cell, Column, Connection, Kind, Statement, credit_columns};

fn column(name: &str, kind: Kind) -> Column {
    Column::new(name, kind)
}

/// `a = v.a, b = v.b, ...`
fn assignments(columns: &[Column]) -> String {
    columns.iter().map(|Column { name, .. }| format!("{name} = v.{name}")).collect::<Vec<_>>().join(", ")
}

static UPDATE_ACCOUNTS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns: Vec<_> = credit_columns("available").chain(credit_columns("held")).collect();
    columns.extend([
        column("status", Kind::Text),
        column("sequence", Kind::BigInt),
        column("last_movement_at", Kind::Time),
        column("next_boundary_at", Kind::Time),
        column("settled_sequence", Kind::BigInt),
    ]);
    let assignments = assignments(&columns);
    columns.insert(0, column("organization_id", Kind::Uuid));
    Statement::new(columns, |d| {
        format!(
            "UPDATE organization_credits AS c SET {assignments} FROM {} WHERE c.organization_id = v.organization_id",
            d.source
        )
    })
});

static UPDATE_STATUSES: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![column("id", Kind::Uuid), column("status", Kind::Text), column("updated_at", Kind::Time)];
    Statement::new(columns, |d| {
        format!(
            "UPDATE organizations AS o SET status = v.status, updated_at = v.updated_at FROM {} WHERE o.id = v.id",
            d.source
        )
    })
});

static INSERT_CONSUMPTIONS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        column("organization_id", Kind::Uuid),
        column("id", Kind::Uuid),
        column("action_type", Kind::Text),
        column("quantity", Kind::BigInt),
        column("success", Kind::Bool),
        column("error_code", Kind::Text),
        column("metadata", Kind::Json),
        column("created_at", Kind::Time),
        column("occurred_at", Kind::Time),
        column("sequence", Kind::BigInt),
        column("price_version", Kind::Int),
        column("actor", Kind::Text),
        column("hold_id", Kind::Uuid),
    ];
    columns.extend(credit_columns("consumed").chain(credit_columns("available_after")));
    Statement::insert("credit_consumption_logs", columns)
});

static INSERT_GRANTS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        column("organization_id", Kind::Uuid),
        column("id", Kind::Uuid),
        column("state", Kind::Text),
        column("source", Kind::Text),
        column("priority", Kind::Int),
        column("effective_at", Kind::Time),
        column("expires_at", Kind::Time),
        column("reference", Kind::Text),
        column("created_at", Kind::Time),
        column("voided_at", Kind::Time),
    ];
    columns.extend(credit_columns("granted").chain(credit_columns("remaining")));
    Statement::insert("credit_grants", columns)
});

static UPDATE_LOTS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![column("state", Kind::Text), column("voided_at", Kind::Time)];
    columns.extend(credit_columns("remaining"));
    let assignments = assignments(&columns);
    columns.extend([column("organization_id", Kind::Uuid), column("id", Kind::Uuid)]);
    Statement::new(columns, |d| {
        format!(
            "UPDATE credit_grants AS g SET {assignments} FROM {} \
             WHERE g.organization_id = v.organization_id AND g.id = v.id",
            d.source
        )
    })
});

static INSERT_DRAWS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns =
        vec![column("organization_id", Kind::Uuid), column("sequence", Kind::BigInt), column("grant_id", Kind::Uuid)];
    columns.extend(credit_columns("drawn").chain(credit_columns("returned")));
    Statement::insert("credit_draws", columns)
});

static UPDATE_DRAWS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns: Vec<_> = credit_columns("drawn").chain(credit_columns("returned")).collect();
    let assignments = assignments(&columns);
    columns.splice(
        0..0,
        [column("organization_id", Kind::Uuid), column("sequence", Kind::BigInt), column("grant_id", Kind::Uuid)],
    );
    Statement::new(columns, |d| {
        format!(
            "UPDATE credit_draws AS w SET {assignments} FROM {} WHERE w.organization_id = v.organization_id \
             AND w.sequence = v.sequence AND w.grant_id = v.grant_id",
            d.source
        )
    })
});

static INSERT_HOLDS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        column("organization_id", Kind::Uuid),
        column("id", Kind::Uuid),
        column("action_type", Kind::Text),
        column("quantity", Kind::BigInt),
        column("price_version", Kind::Int),
        column("state", Kind::Text),
        column("sequence", Kind::BigInt),
        column("actor", Kind::Text),
        column("created_at", Kind::Time),
        column("expires_at", Kind::Time),
        column("finished_at", Kind::Time),
        column("consumption_id", Kind::Uuid),
    ];
    columns.extend(credit_columns("held"));
    Statement::insert("credit_holds", columns)
});

static UPDATE_HOLDS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        column("state", Kind::Text),
        column("expires_at", Kind::Time),
        column("finished_at", Kind::Time),
        column("consumption_id", Kind::Uuid),
    ];
    let assignments = assignments(&columns);
    columns.extend([column("organization_id", Kind::Uuid), column("id", Kind::Uuid)]);
    Statement::new(columns, |d| {
        format!(
            "UPDATE credit_holds AS h SET {assignments} FROM {} \
             WHERE h.organization_id = v.organization_id AND h.id = v.id",
            d.source
        )
    })
});

static INSERT_REFUNDS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        column("organization_id", Kind::Uuid),
        column("id", Kind::Uuid),
        column("consumption_id", Kind::Uuid),
        column("quantity", Kind::BigInt),
        column("grant_id", Kind::Uuid),
        column("reason", Kind::Text),
        column("sequence", Kind::BigInt),
        column("created_at", Kind::Time),
    ];
    columns.extend(credit_columns("refunded"));
    Statement::insert("credit_refunds", columns)
});

static PUT_SUBSCRIPTIONS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        column("organization_id", Kind::Uuid),
        column("plan_code", Kind::Text),
        column("plan_version", Kind::Int),
        column("time_zone", Kind::Text),
        column("anchor", Kind::Time),
        column("next_index", Kind::BigInt),
        column("period_start", Kind::Time),
        column("period_end", Kind::Time),
        column("grant_id", Kind::Uuid),
        column("next_plan_code", Kind::Text),
        column("next_plan_version", Kind::Int),
        column("created_at", Kind::Time),
        column("updated_at", Kind::Time),
    ];
    let names = columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ");
    let updates = columns[1..].iter().map(|Column { name, .. }| format!("{name} = excluded.{name}"));
    let updates = updates.collect::<Vec<_>>().join(", ");
    Statement::new(columns, |d| {
        // `WHERE true`: without it SQLite takes ON for the beginning of a join's condition.
        format!(
            "INSERT INTO subscriptions ({names}) SELECT {names} FROM {} WHERE true \
             ON CONFLICT (organization_id) DO UPDATE SET {updates}",
            d.source
        )
    })
});

static DELETE_SUBSCRIPTIONS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![column("organization_id", Kind::Uuid)], |d| {
        format!("DELETE FROM subscriptions WHERE organization_id IN (SELECT v.organization_id FROM {})", d.source)
    })
});

static INSERT_MOVEMENTS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = vec![
        column("organization_id", Kind::Uuid),
        column("sequence", Kind::BigInt),
        column("kind", Kind::Text),
        column("reference", Kind::Uuid),
        column("note", Kind::Text),
        column("created_at", Kind::Time),
    ];
    columns.extend(credit_columns("available_change").chain(credit_columns("held_change")));
    columns.extend(credit_columns("available_after").chain(credit_columns("held_after")));
    Statement::insert("credit_movements", columns)
});

static INSERT_KEYS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::insert(
        "idempotency_keys",
        vec![
            column("organization_id", Kind::Uuid),
            column("key_id", Kind::Uuid),
            column("fingerprint", Kind::Uuid),
            column("operation", Kind::Text),
            column("reference", Kind::Uuid),
            column("reference_at", Kind::Time),
            column("response", Kind::Text),
            column("expires_on", Kind::Date),
        ],
    )
});

impl Effects {
    /// Whether there is nothing to write: a batch of replays and refusals that leave no row.
    pub(super) fn is_empty(&self) -> bool {
        // Whatever else changes changes the account too, or leaves a log row; extending a hold may change the hold alone.
        self.accounts.is_empty()
            && self.statuses.is_empty()
            && self.consumptions.is_empty()
            && self.changed_holds.is_empty()
            && self.subscriptions.is_empty()
            && self.keys.is_empty()
            && self.changes.is_empty()
    }
}

/// Writes the effects of a batch inside the transaction that holds its locks.
pub(super) async fn write(connection: &mut Connection, effects: &Effects) -> Result<(), AttemptError> {
    statuses(connection, &effects.statuses).await?;
    grants(connection, &effects.new_grants).await?;
    answer_top_ups(connection, &effects.top_ups).await?;
    lots(connection, &effects.changed_lots).await?;
    draws(connection, &INSERT_DRAWS, &effects.new_draws).await?;
    draws(connection, &UPDATE_DRAWS, &effects.changed_draws).await?;
    new_holds(connection, &effects.new_holds).await?;
    changed_holds(connection, &effects.changed_holds).await?;
    refunds(connection, &effects.refunds).await?;
    subscriptions(connection, &effects.subscriptions).await?;
    movements(connection, &effects.movements).await?;
    consumptions(connection, &effects.consumptions).await?;
    keys(connection, &effects.keys).await?;
    accounts(connection, &effects.accounts).await?;
    // Last, for it locks: see there.
    audit::record(audit::Session::Ledger(connection), &effects.changes).await
}

async fn accounts(connection: &mut Connection, accounts: &[Account]) -> Result<(), AttemptError> {
    let mut rows = UPDATE_ACCOUNTS.rows();
    for account in accounts {
        rows.cell(Cell::Uuid(account.organization_id.uuid()))
            .credits(account.available)
            .credits(account.held)
            .cell(Cell::Static(account.status.as_str()))
            .cell(Cell::Int(account.sequence))
            .cell(Cell::Time(account.last_movement_at))
            .cell(Cell::opt(account.next_boundary_at, Cell::Time))
            .cell(Cell::Int(account.settled_sequence))
            .end();
    }
    connection.execute(&UPDATE_ACCOUNTS, &rows).await?;
    Ok(())
}

async fn statuses(
    connection: &mut Connection,
    statuses: &[(OrganizationId, OrganizationStatus, Timestamp)],
) -> Result<(), AttemptError> {
    // The last one counts: an UPDATE takes any one of several rows for the same organization.
    let last: std::collections::BTreeMap<_, _> = statuses.iter().map(|(id, status, at)| (id, (status, at))).collect();
    let mut rows = UPDATE_STATUSES.rows();
    for (id, (status, at)) in last {
        rows.cell(Cell::Uuid(id.uuid())).cell(Cell::Static(status.as_str())).cell(Cell::Time(*at)).end();
    }
    connection.execute(&UPDATE_STATUSES, &rows).await?;
    Ok(())
}

async fn consumptions(connection: &mut Connection, consumptions: &[Consumption]) -> Result<(), AttemptError> {
    let mut rows = INSERT_CONSUMPTIONS.rows();
    for consumption in consumptions {
        let request = &consumption.request;
        let (sequence, available, error_code) = match &consumption.outcome {
            Outcome::Spent { sequence, available } => (Some(*sequence), Some(*available), None),
            Outcome::Refused { error_code } => (None, None, Some(error_code)),
        };
        rows.cell(Cell::Uuid(consumption.organization_id.uuid()))
            .cell(Cell::Uuid(consumption.id.uuid()))
            .cell(Cell::Text(request.action.as_str().to_owned()))
            .cell(Cell::Int(request.quantity.get()))
            .cell(Cell::Bool(sequence.is_some()))
            .cell(Cell::opt(error_code, |code| Cell::Text(code.clone())))
            .cell(Cell::opt(request.metadata.as_ref(), |metadata| Cell::Text(metadata.to_json())))
            .cell(Cell::Time(consumption.created_at))
            .cell(Cell::opt(request.occurred_at, Cell::Time))
            .cell(Cell::opt(sequence, Cell::Int))
            .cell(Cell::opt(consumption.price_version, |version| Cell::Int(version.into())))
            .cell(Cell::opt(request.actor.as_ref(), |actor| Cell::Text(actor.as_str().to_owned())))
            .cell(Cell::opt(consumption.hold_id, |id| Cell::Uuid(id.uuid())))
            .credits(consumption.consumed)
            .optional_credits(available)
            .end();
    }
    connection.execute(&INSERT_CONSUMPTIONS, &rows).await?;
    Ok(())
}

async fn grants(connection: &mut Connection, grants: &[(OrganizationId, Grant)]) -> Result<(), AttemptError> {
    let mut rows = INSERT_GRANTS.rows();
    for (organization_id, Grant { lot, reference, .. }) in grants {
        rows.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Uuid(lot.id.uuid()))
            .cell(Cell::Static(lot.state.as_str()))
            .cell(Cell::Static(lot.source.as_str()))
            .cell(Cell::Int(lot.priority.into()))
            .cell(Cell::Time(lot.validity.effective_at))
            .cell(Cell::opt(lot.validity.expires_at, Cell::Time))
            .cell(Cell::opt(reference.as_ref(), |text| Cell::Text(text.clone())))
            .cell(Cell::Time(lot.created_at))
            .cell(Cell::opt(lot.voided_at, Cell::Time))
            .credits(lot.granted)
            .credits(lot.remaining)
            .end();
    }
    connection.execute(&INSERT_GRANTS, &rows).await?;
    Ok(())
}

async fn lots(connection: &mut Connection, lots: &[(OrganizationId, Lot)]) -> Result<(), AttemptError> {
    let mut rows = UPDATE_LOTS.rows();
    for (organization_id, lot) in lots {
        rows.cell(Cell::Static(lot.state.as_str()))
            .cell(Cell::opt(lot.voided_at, Cell::Time))
            .credits(lot.remaining)
            .cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Uuid(lot.id.uuid()))
            .end();
    }
    connection.execute(&UPDATE_LOTS, &rows).await?;
    Ok(())
}

async fn draws(
    connection: &mut Connection,
    statement: &Statement,
    draws: &[(OrganizationId, Draw)],
) -> Result<(), AttemptError> {
    let mut rows = statement.rows();
    for (organization_id, draw) in draws {
        rows.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Int(draw.sequence))
            .cell(Cell::Uuid(draw.grant_id.uuid()))
            .credits(draw.drawn)
            .credits(draw.returned)
            .end();
    }
    connection.execute(statement, &rows).await?;
    Ok(())
}

async fn new_holds(connection: &mut Connection, holds: &[(OrganizationId, Hold)]) -> Result<(), AttemptError> {
    let mut rows = INSERT_HOLDS.rows();
    for (organization_id, hold) in holds {
        rows.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Uuid(hold.id.uuid()))
            .cell(Cell::Text(hold.action.as_str().to_owned()))
            .cell(Cell::Int(hold.quantity.get()))
            .cell(Cell::Int(hold.price_version.into()))
            .cell(Cell::Static(hold.state.as_str()))
            .cell(Cell::Int(hold.sequence))
            .cell(Cell::opt(hold.actor.as_ref(), |actor| Cell::Text(actor.as_str().to_owned())))
            .cell(Cell::Time(hold.created_at))
            .cell(Cell::Time(hold.expires_at))
            .cell(Cell::opt(hold.finished_at, Cell::Time))
            .cell(Cell::opt(hold.consumption_id, |id| Cell::Uuid(id.uuid())))
            .credits(hold.credits)
            .end();
    }
    connection.execute(&INSERT_HOLDS, &rows).await?;
    Ok(())
}

async fn changed_holds(connection: &mut Connection, holds: &[(OrganizationId, Hold)]) -> Result<(), AttemptError> {
    let mut rows = UPDATE_HOLDS.rows();
    for (organization_id, hold) in holds {
        rows.cell(Cell::Static(hold.state.as_str()))
            .cell(Cell::Time(hold.expires_at))
            .cell(Cell::opt(hold.finished_at, Cell::Time))
            .cell(Cell::opt(hold.consumption_id, |id| Cell::Uuid(id.uuid())))
            .cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Uuid(hold.id.uuid()))
            .end();
    }
    connection.execute(&UPDATE_HOLDS, &rows).await?;
    Ok(())
}

async fn refunds(connection: &mut Connection, refunds: &[(OrganizationId, Refund)]) -> Result<(), AttemptError> {
    let mut rows = INSERT_REFUNDS.rows();
    for (organization_id, refund) in refunds {
        rows.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Uuid(refund.id.uuid()))
            .cell(Cell::Uuid(refund.consumption_id.uuid()))
            .cell(Cell::Int(refund.quantity.get()))
            .cell(Cell::opt(refund.grant_id, |id| Cell::Uuid(id.uuid())))
            .cell(Cell::Text(refund.reason.clone()))
            .cell(Cell::Int(refund.sequence))
            .cell(Cell::Time(refund.created_at))
            .credits(refund.refunded)
            .end();
    }
    connection.execute(&INSERT_REFUNDS, &rows).await?;
    Ok(())
}

async fn subscriptions(
    connection: &mut Connection,
    subscriptions: &[(OrganizationId, Option<Subscription>, Timestamp)],
) -> Result<(), AttemptError> {
    let (mut put, mut ended) = (PUT_SUBSCRIPTIONS.rows(), DELETE_SUBSCRIPTIONS.rows());
    for (organization_id, subscription, at) in subscriptions {
        let Some(subscription) = subscription else {
            ended.cell(Cell::Uuid(organization_id.uuid())).end();
            continue;
        };
        let next = subscription.next_terms.as_ref();
        put.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Text(subscription.terms.code.as_str().to_owned()))
            .cell(Cell::Int(subscription.terms.version.into()))
            .cell(Cell::Text(subscription.time_zone.as_str().to_owned()))
            .cell(Cell::Time(subscription.anchor))
            .cell(Cell::Int(subscription.next_index))
            .cell(Cell::opt(subscription.current, |(start, _)| Cell::Time(start)))
            .cell(Cell::opt(subscription.current, |(_, end)| Cell::Time(end)))
            .cell(Cell::opt(subscription.grant_id, |id| Cell::Uuid(id.uuid())))
            .cell(Cell::opt(next, |terms| Cell::Text(terms.code.as_str().to_owned())))
            .cell(Cell::opt(next, |terms| Cell::Int(terms.version.into())))
            .cell(Cell::Time(subscription.created_at))
            .cell(Cell::Time(*at))
            .end();
    }
    connection.execute(&PUT_SUBSCRIPTIONS, &put).await?;
    connection.execute(&DELETE_SUBSCRIPTIONS, &ended).await?;
    Ok(())
}

async fn movements(connection: &mut Connection, movements: &[(OrganizationId, Movement)]) -> Result<(), AttemptError> {
    let mut rows = INSERT_MOVEMENTS.rows();
    for (organization_id, movement) in movements {
        rows.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Int(movement.sequence))
            .cell(Cell::Static(movement.kind.as_str()))
            .cell(Cell::opt(movement.reference, Cell::Uuid))
            .cell(Cell::opt(movement.note.as_ref(), |note| Cell::Text(note.clone())))
            .cell(Cell::Time(movement.created_at))
            .delta(movement.change.available)
            .delta(movement.change.held)
            .credits(movement.balance_after.available)
            .credits(movement.balance_after.held)
            .end();
    }
    connection.execute(&INSERT_MOVEMENTS, &rows).await?;
    Ok(())
}

async fn keys(connection: &mut Connection, keys: &[NewKey]) -> Result<(), AttemptError> {
    let mut rows = INSERT_KEYS.rows();
    for key in keys {
        let days = TimeDelta::days(i64::from(key.binding.key.kept_days()));
        rows.cell(Cell::Uuid(key.organization_id.uuid()))
            .cell(Cell::Uuid(key.binding.key.id()))
            .cell(Cell::Uuid(key.binding.fingerprint))
            .cell(Cell::Static(key.operation))
            .cell(Cell::Uuid(key.reference))
            .cell(Cell::Time(key.reference_at))
            .cell(Cell::opt(key.response.as_ref(), |response| Cell::Text(response.clone())))
            .cell(Cell::Date((key.reference_at + days).date_naive()))
            .end();
    }
    connection.execute(&INSERT_KEYS, &rows).await?;
    Ok(())
}
