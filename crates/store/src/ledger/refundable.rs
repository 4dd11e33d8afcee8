//! Reading what a refund must know of a consumption: what was charged, and how much of it was given back already.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use multicredit_domain::refund::Refundable;
use multicredit_domain::{ConsumptionId, OrganizationId, Quantity, Timestamp};
use sea_orm::FromQueryResult;

use super::{Request, Task};
use crate::entity::credit_action_versions;
use crate::error::{AttemptError, BadRow};
use crate::repo::consumption::instant_of;
use crate::sql::{Cell, Column, Connection, Kind, Statement, entity_columns};

static CONSUMPTIONS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("id", Kind::Uuid)];
    Statement::new(columns, |d| {
        format!(
            "SELECT l.organization_id, l.id, l.sequence, l.quantity, l.created_at, {}, CAST((SELECT COALESCE(SUM(r.quantity), 0) FROM credit_refunds r \
             WHERE r.organization_id = l.organization_id AND r.consumption_id = l.id) AS BIGINT) AS refunded \
             FROM {} JOIN credit_consumption_logs l ON l.organization_id = v.organization_id AND l.id = v.id \
             LEFT JOIN credit_action_versions p ON p.action_type = l.action_type AND p.version = l.price_version",
            entity_columns::<credit_action_versions::Entity>("p", "p_"),
            d.source
        )
    })
});

/// Where history begins for the organizations of which something was dropped.
static CHECKPOINTS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid)];
    Statement::new(columns, |d| {
        format!(
            "SELECT k.organization_id, k.through FROM {} \
             JOIN retention_checkpoints k ON k.organization_id = v.organization_id",
            d.source
        )
    })
});

/// Consumptions by organization and id: an id alone would let one organization be given another's.
pub(super) type Refundables = HashMap<(OrganizationId, ConsumptionId), Found>;

/// A consumption that a refund names.
#[derive(Debug)]
pub(super) enum Found {
    /// It can be given back, as far as it was not yet.
    Spent(Refundable),
    /// It was refused, so there is nothing to give back.
    Refused,
    /// It lies before the organization's history begins. Whatever it was, it stays.
    BeyondRetention,
}

/// The consumptions that the batch refunds.
pub(super) async fn read_refundables(
    connection: &mut Connection,
    tasks: &[&Task],
) -> Result<Refundables, AttemptError> {
    let wanted: BTreeSet<_> = tasks
        .iter()
        .filter_map(|task| match &task.request {
            Request::Refund(new) => Some((task.organization_id, new.consumption_id)),
            _ => None,
        })
        .collect();
    let mut refundables = HashMap::new();
    if wanted.is_empty() {
        return Ok(refundables);
    }
    let mut rows = CONSUMPTIONS.rows();
    for (organization_id, id) in &wanted {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(id.uuid())).end();
    }
    let found = connection.query(&CONSUMPTIONS, &rows).await?;
    // After the rows, and under the lock: what is sealed stays as the checkpoint has it.
    let begins = read_checkpoints(connection, &wanted).await?;
    let is_gone = |organization_id: &OrganizationId, made_at: Option<Timestamp>| {
        begins.get(organization_id).zip(made_at).is_some_and(|(begins, made_at)| made_at < *begins)
    };
    for row in found {
        let organization_id = OrganizationId::new(row.try_get("", "organization_id")?);
        let id = ConsumptionId::new(row.try_get("", "id")?);
        let sequence: Option<i64> = row.try_get("", "sequence")?;
        let price = credit_action_versions::Model::from_query_result_optional(&row, "p_")?;
        let bad = |column| BadRow { table: "credit_consumption_logs", column };
        let refundable = match (sequence, price) {
            _ if is_gone(&organization_id, Some(row.try_get("", "created_at")?)) => Found::BeyondRetention,
            (Some(sequence), Some(price)) => Found::Spent(Refundable {
                sequence,
                price: price.try_into()?,
                quantity: Quantity::new(row.try_get("", "quantity")?).map_err(|_| bad("quantity"))?,
                refunded: row.try_get("", "refunded")?,
            }),
            (Some(_), None) => return Err(bad("price_version").into()),
            (None, _) => Found::Refused,
        };
        refundables.insert((organization_id, id), refundable);
    }
    for (organization_id, id) in wanted {
        if is_gone(&organization_id, instant_of(id)) {
            refundables.entry((organization_id, id)).or_insert(Found::BeyondRetention);
        }
    }
    Ok(refundables)
}

async fn read_checkpoints(
    connection: &mut Connection,
    wanted: &BTreeSet<(OrganizationId, ConsumptionId)>,
) -> Result<HashMap<OrganizationId, Timestamp>, AttemptError> {
    let mut rows = CHECKPOINTS.rows();
    for organization_id in wanted.iter().map(|(organization_id, _)| organization_id).collect::<BTreeSet<_>>() {
        rows.cell(Cell::Uuid(organization_id.uuid())).end();
    }
    let mut begins = HashMap::new();
    for row in connection.query(&CHECKPOINTS, &rows).await? {
        begins.insert(OrganizationId::new(row.try_get("", "organization_id")?), row.try_get("", "through")?);
    }
    Ok(begins)
}
