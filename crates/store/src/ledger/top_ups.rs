//! Requests for credits that a batch's grants answer: read under a lock, so that none is answered twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use multicredit_domain::{OrganizationId, TopUp, TopUpId};
use sea_orm::FromQueryResult;

use super::{Request, Task};
use crate::entity::top_ups;
use crate::error::AttemptError;
use crate::sql::{Cell, Column, Connection, Kind, Statement, entity_columns};

/// Top-ups by organization and id: an id alone would let one organization answer another's.
pub(super) type TopUps = HashMap<(OrganizationId, TopUpId), TopUp>;

static LOCK_TOP_UPS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("id", Kind::Uuid)];
    Statement::new(columns, |d| {
        // The account's lock keeps other grants away, and this one whoever writes that the time is over.
        format!(
            "SELECT {} FROM {} JOIN top_ups c ON c.organization_id = v.organization_id AND c.id = v.id \
             ORDER BY c.organization_id, c.id {}",
            entity_columns::<top_ups::Entity>("c", ""),
            d.source,
            d.lock_c
        )
    })
});

static ANSWER_TOP_UPS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("id", Kind::Uuid),
        Column::new("state", Kind::Text),
        Column::new("grant_id", Kind::Uuid),
        Column::new("granted_at", Kind::Time),
    ];
    Statement::new(columns, |d| {
        format!(
            "UPDATE top_ups AS t SET state = v.state, grant_id = v.grant_id, granted_at = v.granted_at FROM {} \
             WHERE t.organization_id = v.organization_id AND t.id = v.id",
            d.source
        )
    })
});

/// The top-ups that the batch's grants name.
pub(super) async fn read_top_ups(connection: &mut Connection, tasks: &[&Task]) -> Result<TopUps, AttemptError> {
    let named = tasks.iter().filter_map(|task| match &task.request {
        Request::Grant(new) => new.top_up_id.map(|id| (task.organization_id, id)),
        _ => None,
    });
    let mut rows = LOCK_TOP_UPS.rows();
    for (organization_id, id) in named.collect::<BTreeSet<_>>() {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(id.uuid())).end();
    }
    let mut found = TopUps::new();
    if rows.is_empty() {
        return Ok(found);
    }
    for row in connection.query(&LOCK_TOP_UPS, &rows).await? {
        let row = top_ups::Model::from_query_result(&row, "")?;
        let organization_id = OrganizationId::new(row.organization_id);
        let top_up = TopUp::try_from(row)?;
        found.insert((organization_id, top_up.id), top_up);
    }
    Ok(found)
}

/// Writes the answers, after the grants that they are.
pub(super) async fn answer_top_ups(
    connection: &mut Connection,
    answered: &[(OrganizationId, TopUp)],
) -> Result<(), AttemptError> {
    let mut rows = ANSWER_TOP_UPS.rows();
    for (organization_id, top_up) in answered {
        let (grant_id, granted_at) = top_up.granted.unzip();
        rows.cell(Cell::Uuid(organization_id.uuid()))
            .cell(Cell::Uuid(top_up.id.uuid()))
            .cell(Cell::Static(top_up.state.as_str()))
            .cell(Cell::opt(grant_id, |id| Cell::Uuid(id.uuid())))
            .cell(Cell::opt(granted_at, Cell::Time))
            .end();
    }
    connection.execute(&ANSWER_TOP_UPS, &rows).await?;
    Ok(())
}
