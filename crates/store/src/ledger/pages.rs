//! Reading the pages of books: lots, holds, draws and subscriptions, for as many organizations as a batch needs.
//!
//! Only what is still open is read: lots with something left or to come, open holds with their parts. What has ended is
//! read by its id, where a request names it or a part of a hold or refund came from it.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use multicredit_domain::{Grant, GrantId, Hold, HoldId, OrganizationId, Pages};
use sea_orm::FromQueryResult;

use super::refundable::{Found, Refundables};
use super::{Request, Task};
use crate::entity::{credit_draws, credit_grants, credit_holds, plan_versions, subscriptions};
use crate::error::AttemptError;
use crate::sql::{Cell, Column, Connection, Kind, Statement, entity_columns};

/// Pages by organization, and the callers' own names of the grants in them.
#[derive(Default)]
pub(super) struct Library {
    pub(super) pages: HashMap<OrganizationId, Pages>,
    pub(super) references: HashMap<GrantId, String>,
}

fn by_organization() -> Vec<Column> {
    vec![Column::new("organization_id", Kind::Uuid)]
}

fn by_id() -> Vec<Column> {
    vec![Column::new("organization_id", Kind::Uuid), Column::new("id", Kind::Uuid)]
}

static OPEN_LOTS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_organization(), |d| {
        format!(
            "SELECT {} FROM {} JOIN credit_grants g ON g.organization_id = v.organization_id \
             WHERE g.state IN ('pending', 'active')",
            entity_columns::<credit_grants::Entity>("g", ""),
            d.source
        )
    })
});

static LOTS_BY_ID: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_id(), |d| {
        format!(
            "SELECT {} FROM {} JOIN credit_grants g ON g.organization_id = v.organization_id AND g.id = v.id",
            entity_columns::<credit_grants::Entity>("g", ""),
            d.source
        )
    })
});

static OPEN_HOLDS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_organization(), |d| {
        format!(
            "SELECT {} FROM {} JOIN credit_holds h ON h.organization_id = v.organization_id WHERE h.state = 'open'",
            entity_columns::<credit_holds::Entity>("h", ""),
            d.source
        )
    })
});

static HOLDS_BY_ID: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_id(), |d| {
        format!(
            "SELECT {} FROM {} JOIN credit_holds h ON h.organization_id = v.organization_id AND h.id = v.id",
            entity_columns::<credit_holds::Entity>("h", ""),
            d.source
        )
    })
});

/// The draws of the first settlement, hold or capture at or after a movement: for a hold its own, for a consumption
/// those of the settlement that it was part of.
static DRAWS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("sequence", Kind::BigInt)];
    Statement::new(columns, |d| {
        format!(
            "SELECT {} FROM {} JOIN credit_draws w ON w.organization_id = v.organization_id AND w.sequence = \
             (SELECT MIN(x.sequence) FROM credit_draws x \
             WHERE x.organization_id = v.organization_id AND x.sequence >= v.sequence)",
            entity_columns::<credit_draws::Entity>("w", ""),
            d.source
        )
    })
});

static SUBSCRIPTIONS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_organization(), |d| {
        format!(
            "SELECT {} FROM {} JOIN subscriptions s ON s.organization_id = v.organization_id {}",
            subscription_columns(""),
            d.source,
            subscription_joins()
        )
    })
});

/// The columns that a subscription is read from: its own with a prefix, and the terms it names.
pub(crate) fn subscription_columns(prefix: &str) -> String {
    format!(
        "{}, {}, {}",
        entity_columns::<subscriptions::Entity>("s", prefix),
        entity_columns::<plan_versions::Entity>("t", "t_"),
        entity_columns::<plan_versions::Entity>("n", "n_")
    )
}

/// The joins that [`subscription_columns`] needs, after a table of subscriptions called `s`.
pub(crate) fn subscription_joins() -> &'static str {
    "JOIN plan_versions t ON t.code = s.plan_code AND t.version = s.plan_version \
     LEFT JOIN plan_versions n ON n.code = s.next_plan_code AND n.version = s.next_plan_version"
}

/// Reads the pages of these organizations, with whatever else the tasks name in them.
pub(super) async fn read_pages(
    connection: &mut Connection,
    organizations: Vec<OrganizationId>,
    tasks: &[&Task],
    named_lots: BTreeSet<(OrganizationId, GrantId)>,
    refundables: &Refundables,
) -> Result<Library, AttemptError> {
    let mut library = Library::default();
    if organizations.is_empty() {
        return Ok(library);
    }
    let mut rows = OPEN_LOTS.rows();
    for organization_id in &organizations {
        rows.cell(Cell::Uuid(organization_id.uuid())).end();
    }
    for row in connection.query(&OPEN_LOTS, &rows).await? {
        library.shelve_lot(credit_grants::Model::from_query_result(&row, "")?)?;
    }
    for row in connection.query(&OPEN_HOLDS, &rows).await? {
        library.shelve_hold(credit_holds::Model::from_query_result(&row, "")?)?;
    }
    for row in connection.query(&SUBSCRIPTIONS, &rows).await? {
        let subscription = subscriptions::read(&row, "")?;
        let organization_id = subscription.organization_id;
        library.of(organization_id).subscription = Some(subscription);
    }
    read_named_holds(connection, &mut library, tasks).await?;
    read_draws(connection, &mut library, tasks, refundables).await?;
    read_named_lots(connection, &mut library, named_lots).await?;
    Ok(library)
}

/// Holds that a task names and that are no longer open.
async fn read_named_holds(
    connection: &mut Connection,
    library: &mut Library,
    tasks: &[&Task],
) -> Result<(), AttemptError> {
    let mut named = BTreeSet::new();
    for task in tasks {
        if let Request::Capture { hold_id, .. } | Request::Release { hold_id } | Request::Extend { hold_id, .. } =
            task.request
            && !library.has_hold(task.organization_id, hold_id)
        {
            named.insert((task.organization_id, hold_id));
        }
    }
    if named.is_empty() {
        return Ok(());
    }
    let mut rows = HOLDS_BY_ID.rows();
    for (organization_id, hold_id) in named {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(hold_id.uuid())).end();
    }
    for row in connection.query(&HOLDS_BY_ID, &rows).await? {
        library.shelve_hold(credit_holds::Model::from_query_result(&row, "")?)?;
    }
    Ok(())
}

/// Draws of the open holds, and those that a refund may give back.
async fn read_draws(
    connection: &mut Connection,
    library: &mut Library,
    tasks: &[&Task],
    refundables: &Refundables,
) -> Result<(), AttemptError> {
    let mut wanted = BTreeSet::new();
    for (organization_id, pages) in &library.pages {
        let open = pages.holds.iter().filter(|hold| hold.finished_at.is_none());
        wanted.extend(open.map(|hold| (*organization_id, hold.sequence)));
    }
    for task in tasks {
        if let Request::Refund(new) = &task.request
            && let Some(Found::Spent(refundable)) = refundables.get(&(task.organization_id, new.consumption_id))
        {
            wanted.insert((task.organization_id, refundable.sequence));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut rows = DRAWS.rows();
    for (organization_id, sequence) in wanted {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Int(sequence)).end();
    }
    let mut seen = BTreeSet::new();
    for row in connection.query(&DRAWS, &rows).await? {
        let (organization_id, draw) = credit_draws::Model::from_query_result(&row, "")?.into_draw()?;
        // Two consumptions of one settlement have the same draws.
        if seen.insert((organization_id, draw.sequence, draw.grant_id)) {
            library.of(organization_id).draws.push(draw);
        }
    }
    Ok(())
}

/// Lots that have ended or are exhausted, where a draw or a task names them.
async fn read_named_lots(
    connection: &mut Connection,
    library: &mut Library,
    mut named: BTreeSet<(OrganizationId, GrantId)>,
) -> Result<(), AttemptError> {
    for (organization_id, pages) in &library.pages {
        named.extend(pages.draws.iter().map(|draw| (*organization_id, draw.grant_id)));
    }
    named.retain(|(organization_id, id)| !library.has_lot(*organization_id, *id));
    if named.is_empty() {
        return Ok(());
    }
    let mut rows = LOTS_BY_ID.rows();
    for (organization_id, grant_id) in named {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(grant_id.uuid())).end();
    }
    for row in connection.query(&LOTS_BY_ID, &rows).await? {
        library.shelve_lot(credit_grants::Model::from_query_result(&row, "")?)?;
    }
    Ok(())
}

impl Library {
    fn of(&mut self, organization_id: OrganizationId) -> &mut Pages {
        self.pages.entry(organization_id).or_default()
    }

    fn has_hold(&self, organization_id: OrganizationId, id: HoldId) -> bool {
        self.pages.get(&organization_id).is_some_and(|pages| pages.holds.iter().any(|hold| hold.id == id))
    }

    fn has_lot(&self, organization_id: OrganizationId, id: GrantId) -> bool {
        self.pages.get(&organization_id).is_some_and(|pages| pages.lots.iter().any(|lot| lot.id == id))
    }

    fn shelve_lot(&mut self, row: credit_grants::Model) -> Result<(), AttemptError> {
        let organization_id = OrganizationId::new(row.organization_id);
        let Grant { lot, reference } = row.try_into()?;
        if let Some(reference) = reference {
            self.references.insert(lot.id, reference);
        }
        self.of(organization_id).lots.push(lot);
        Ok(())
    }

    fn shelve_hold(&mut self, row: credit_holds::Model) -> Result<(), AttemptError> {
        let organization_id = OrganizationId::new(row.organization_id);
        let hold: Hold = row.try_into()?;
        self.of(organization_id).holds.push(hold);
        Ok(())
    }
}
