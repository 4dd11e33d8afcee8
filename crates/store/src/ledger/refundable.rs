//! Reading what a refund must know of a consumption: what was charged, and how much of it was given back already.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use multicredit_domain::refund::Refundable;
use multicredit_domain::{ConsumptionId, OrganizationId, Quantity};
use sea_orm::FromQueryResult;

use super::{Request, Task};
use crate::entity::credit_action_versions;
use crate::error::{AttemptError, BadRow};
use crate::sql::{Cell, Column, Connection, Kind, Statement, entity_columns};

static CONSUMPTIONS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("id", Kind::Uuid)];
    Statement::new(columns, |d| {
        format!(
            "SELECT l.organization_id, l.id, l.sequence, l.quantity, {}, CAST((SELECT COALESCE(SUM(r.quantity), 0) FROM credit_refunds r \
             WHERE r.organization_id = l.organization_id AND r.consumption_id = l.id) AS BIGINT) AS refunded \
             FROM {} JOIN credit_consumption_logs l ON l.organization_id = v.organization_id AND l.id = v.id \
             LEFT JOIN credit_action_versions p ON p.action_type = l.action_type AND p.version = l.price_version",
            entity_columns::<credit_action_versions::Entity>("p", "p_"),
            d.source
        )
    })
});

/// Consumptions by organization and id: an id alone would let one organization be given another's. `None`: it was
/// refused, so there is nothing to give back.
pub(super) type Refundables = HashMap<(OrganizationId, ConsumptionId), Option<Refundable>>;

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
    for (organization_id, id) in wanted {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(id.uuid())).end();
    }
    for row in connection.query(&CONSUMPTIONS, &rows).await? {
        let organization_id = OrganizationId::new(row.try_get("", "organization_id")?);
        let id = ConsumptionId::new(row.try_get("", "id")?);
        let sequence: Option<i64> = row.try_get("", "sequence")?;
        let price = credit_action_versions::Model::from_query_result_optional(&row, "p_")?;
        let bad = |column| BadRow { table: "credit_consumption_logs", column };
        let refundable = match (sequence, price) {
            (Some(sequence), Some(price)) => Some(Refundable {
                sequence,
                price: price.try_into()?,
                quantity: Quantity::new(row.try_get("", "quantity")?).map_err(|_| bad("quantity"))?,
                refunded: row.try_get("", "refunded")?,
            }),
            (Some(_), None) => return Err(bad("price_version").into()),
            (None, _) => None,
        };
        refundables.insert((organization_id, id), refundable);
    }
    Ok(refundables)
}
