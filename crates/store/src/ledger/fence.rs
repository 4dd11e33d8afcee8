//! A fence in time: an instant of an organization before which nothing can be added to its ledger or its log any more.
//!
//! Everything that is written for an organization, refused attempts included, gets its instant while the organization's
//! row is locked, and the lock is held until the commit. So whoever holds the lock sees all that was written, and all that
//! will be written comes later, if only the clock does not go back. That it cannot go back behind the fence is seen to by
//! the same rule that keeps movements in order: the instant of whatever follows is never before the row's
//! `last_movement_at`, and the fence is written there.
//!
//! Without the lock there is no such instant. A transaction that is under way has its instant and cannot be seen yet; what
//! it commits would lie behind whoever looked only at what there was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use multicredit_domain::{OrganizationId, Timestamp};

use super::read::{lock_accounts, read_clock};
use crate::clock::Clock;
use crate::error::AttemptError;
use crate::sql::{Cell, Column, Connection, Kind, Statement};

static RAISE_FENCES: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("fence", Kind::Time)];
    Statement::new(columns, |d| {
        format!(
            "UPDATE organization_credits AS c SET last_movement_at = v.fence FROM {} \
             WHERE c.organization_id = v.organization_id AND c.last_movement_at < v.fence",
            d.source
        )
    })
});

/// Raises a fence for each of the organizations, in a transaction of its own that holds their locks for three short
/// statements. After it, everything that has an instant before the fence is there to be seen, and nothing can join it.
pub(crate) async fn fence(
    connection: &mut Connection,
    clock: &Clock,
    organizations: BTreeSet<OrganizationId>,
) -> Result<BTreeMap<OrganizationId, Timestamp>, AttemptError> {
    connection.begin().await?;
    let accounts = lock_accounts(connection, organizations).await?;
    let now = clock.instant(read_clock(connection).await?);
    let fences: BTreeMap<_, _> = accounts.into_iter().map(|(id, account)| (id, account.instant(now))).collect();
    let mut rows = RAISE_FENCES.rows();
    for (organization_id, fence) in &fences {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Time(*fence)).end();
    }
    connection.execute(&RAISE_FENCES, &rows).await?;
    connection.commit().await?;
    Ok(fences)
}
