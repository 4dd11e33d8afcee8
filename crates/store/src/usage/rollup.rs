//! Rolling up: adding to the sums what the log has got since.
//!
//! Organizations are taken by the page. For each page a fence is raised, and what lies between the last one and this one
//! is added up and added on, in a transaction that moves `through` along. Nobody who spends waits for that: the locks of
//! accounts are held for raising the fence alone. Two processes that roll up at once wait for each other at the rows of
//! the totals, and the second finds nothing left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use multicredit_domain::{OrganizationId, Timestamp, UsageSums};
use sea_orm::QueryResult;
use sea_orm::prelude::DateTimeUtc;

use super::delta;
use crate::error::{AttemptError, StoreError};
use crate::ledger::fence;
use crate::sql::{Cell, Column, Connection, Kind, Statement};
use crate::store::Store;

/// How many organizations are rolled up together.
const PAGE: usize = 100;

/// How many rows of the log one organization adds at a time. A page at its fullest is a second's work, for which SQLite
/// makes every other writer wait.
const SLICE_ROWS: usize = 5_000;

/// Where `through` is before anything was rolled up. Nothing can have happened before.
const BEGINNING: &str = "0001-01-01T00:00:00+00:00";

/// What rolling up did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct RolledUp {
    /// How many organizations had moved.
    pub organizations: u64,
    /// How many attempts were added to the sums.
    pub attempts: u64,
    /// How many organizations could not be rolled up, which the log explains. Reports stay exact.
    pub failed: u64,
}

fn by_organization() -> Vec<Column> {
    vec![Column::new("organization_id", Kind::Uuid)]
}

/// Organizations with a movement since their fence, and those that were never rolled up. Whoever is fenced in and idle
/// has both instants the same.
static MOVED: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("after", Kind::Uuid)], |d| {
        format!(
            "SELECT c.organization_id FROM organization_credits c \
             LEFT JOIN usage_totals t ON t.organization_id = c.organization_id \
             WHERE c.organization_id > (SELECT v.after FROM {}) \
             AND (t.through IS NULL OR c.last_movement_at > t.through) ORDER BY c.organization_id LIMIT {PAGE}",
            d.source
        )
    })
});

/// Organizations that were refused something since their fence: that moves nothing.
static REFUSED: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("after", Kind::Uuid), Column::new("since", Kind::Time)];
    Statement::new(columns, |d| {
        format!(
            "SELECT DISTINCT t.organization_id FROM credit_consumption_logs l \
             JOIN usage_totals t ON t.organization_id = l.organization_id AND t.through <= l.created_at \
             WHERE l.success = FALSE AND l.created_at >= (SELECT v.since FROM {0}) \
             AND l.organization_id > (SELECT v.after FROM {0}) ORDER BY t.organization_id LIMIT {PAGE}",
            d.source
        )
    })
});

static BEGIN_TOTALS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_organization(), |d| {
        format!(
            "INSERT INTO usage_totals (organization_id, through) SELECT v.organization_id, {} FROM {} WHERE true \
             ON CONFLICT (organization_id) DO NOTHING",
            d.instant(BEGINNING),
            d.source
        )
    })
});

static LOCK_TOTALS: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_organization(), |d| {
        // The ORDER BY keeps two processes that roll up from waiting in a circle.
        format!(
            "SELECT c.organization_id, c.through FROM {} JOIN usage_totals c ON c.organization_id = v.organization_id \
             ORDER BY c.organization_id {}",
            d.source, d.lock_c
        )
    })
});

fn by_range() -> Vec<Column> {
    let mut columns = by_organization();
    columns.extend([Column::new("since", Kind::Time), Column::new("until", Kind::Time)]);
    columns
}

/// Where a slice ends that would be too large.
static CUT: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_range(), |d| {
        format!(
            "SELECT v.organization_id, (SELECT l.created_at FROM credit_consumption_logs l \
             WHERE l.organization_id = v.organization_id AND l.created_at >= v.since AND l.created_at < v.until \
             ORDER BY l.created_at LIMIT 1 OFFSET {SLICE_ROWS}) AS cut FROM {}",
            d.source
        )
    })
});

static ADD_UP: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(by_range(), |d| {
        let owners = format!("(SELECT v.organization_id, v.since, v.until FROM {}) AS o", d.source);
        let events = delta::events(d, &owners, |table| {
            format!("{table}.created_at >= o.since AND {table}.created_at < o.until")
        });
        format!(
            "SELECT e.organization_id, e.bucket_start, e.action_type, MAX(e.attempted_at) AS attempted_at, {} \
             FROM ({events}) AS e GROUP BY e.organization_id, e.bucket_start, e.action_type",
            delta::summed("e")
        )
    })
});

static ADD_ROLLUPS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = by_organization();
    columns.extend([Column::new("bucket_start", Kind::Time), Column::new("action_type", Kind::Text)]);
    columns.extend(delta::columns());
    let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    Statement::new(columns, |d| {
        // `WHERE true`: without it SQLite takes ON for the beginning of a join's condition.
        format!(
            "INSERT INTO usage_rollups ({names}) SELECT {names} FROM {} WHERE true \
             ON CONFLICT (organization_id, bucket_start, action_type) DO UPDATE SET {}",
            d.source,
            delta::each(|name| format!("{name} = usage_rollups.{name} + excluded.{name}"))
        )
    })
});

static ADD_TOTALS: LazyLock<Statement> = LazyLock::new(|| {
    let mut columns = by_organization();
    columns.extend([Column::new("through", Kind::Time), Column::new("last_attempt_at", Kind::Time)]);
    columns.extend(delta::columns());
    Statement::new(columns, |d| {
        format!(
            "UPDATE usage_totals AS t SET through = v.through, \
             last_attempt_at = COALESCE(v.last_attempt_at, t.last_attempt_at), {} \
             FROM {} WHERE t.organization_id = v.organization_id",
            delta::each(|name| format!("{name} = t.{name} + v.{name}")),
            d.source
        )
    })
});

/// What an organization's totals grow by.
#[derive(Default)]
struct Growth {
    sums: UsageSums,
    last_attempt_at: Option<Timestamp>,
}

impl Store {
    /// Adds what the log has got since to the sums of usage, organization by organization, for those that moved. Those
    /// that were only refused are found among the refusals since `refused_since`; `None` looks at all there ever were.
    pub async fn roll_up_usage(&self, refused_since: Option<Timestamp>) -> Result<RolledUp, StoreError> {
        let mut rolling = Rolling { store: self, connection: self.job_connection().await?, done: RolledUp::default() };
        let outcome = rolling.run(refused_since.unwrap_or(DateTimeUtc::UNIX_EPOCH)).await;
        let Rolling { connection, done, .. } = rolling;
        match outcome {
            Ok(()) => connection.close().await?,
            // Whatever is open on it ends with it.
            Err(error) => {
                drop(connection);
                return Err(error.into());
            }
        }
        Ok(done)
    }
}

impl Store {
    /// Adds what the log has got since to the sums of usage of these organizations, where nobody is in the way.
    pub(crate) async fn roll_up_organizations(&self, page: &BTreeSet<OrganizationId>) -> Result<(), StoreError> {
        let mut rolling = Rolling { store: self, connection: self.job_connection().await?, done: RolledUp::default() };
        rolling.together(page).await?;
        Ok(rolling.connection.close().await?)
    }
}

/// What a rollup of everything would do now.
static BACKLOG: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("one", Kind::Int)], |d| {
        let beginning = d.instant(BEGINNING);
        format!(
            "SELECT COUNT(DISTINCT c.organization_id) AS organizations, COUNT(l.id) AS attempts \
             FROM {} CROSS JOIN organization_credits c \
             LEFT JOIN usage_totals t ON t.organization_id = c.organization_id \
             LEFT JOIN credit_consumption_logs l ON l.organization_id = c.organization_id \
             AND l.created_at >= COALESCE(t.through, {beginning}) \
             WHERE t.through IS NULL OR c.last_movement_at > t.through OR l.id IS NOT NULL",
            d.source
        )
    })
});

impl Store {
    /// How many organizations have moved since they were rolled up, and how many attempts they made.
    pub(crate) async fn usage_backlog(&self) -> Result<RolledUp, StoreError> {
        let mut rows = BACKLOG.rows();
        rows.cell(Cell::Null).end();
        let mut connection = self.job_connection().await?;
        let found = connection.query(&BACKLOG, &rows).await?;
        connection.close().await?;
        let row = found.first().ok_or_else(|| StoreError::Internal("a count answered nothing".to_owned()))?;
        let count = |name| row.try_get::<i64>("", name).map(|count| u64::try_from(count).unwrap_or_default());
        Ok(RolledUp { organizations: count("organizations")?, attempts: count("attempts")?, failed: 0 })
    }
}

struct Rolling<'a> {
    store: &'a Store,
    connection: Connection,
    done: RolledUp,
}

impl Rolling<'_> {
    async fn run(&mut self, refused_since: Timestamp) -> Result<(), AttemptError> {
        let mut after = OrganizationId::new(uuid::Uuid::nil());
        loop {
            let mut rows = MOVED.rows();
            rows.cell(Cell::Uuid(after.uuid())).end();
            let Some(last) = self.page(&MOVED, &rows).await? else { break };
            after = last;
        }
        let mut after = OrganizationId::new(uuid::Uuid::nil());
        loop {
            let mut rows = REFUSED.rows();
            rows.cell(Cell::Uuid(after.uuid())).cell(Cell::Time(refused_since)).end();
            let Some(last) = self.page(&REFUSED, &rows).await? else { return Ok(()) };
            after = last;
        }
    }

    /// Rolls a page up and answers the last organization of it; `None` if there is none left.
    async fn page(
        &mut self,
        find: &Statement,
        rows: &crate::sql::Rows,
    ) -> Result<Option<OrganizationId>, AttemptError> {
        let found = self.connection.query(find, rows).await?;
        let page = found.iter().map(organization).collect::<Result<BTreeSet<_>, _>>()?;
        let last = page.last().copied();
        self.together(&page).await?;
        Ok(last)
    }

    /// Rolls organizations up together; one by one where one is in the way: a lock that somebody keeps for long must not
    /// hold up the others.
    async fn together(&mut self, page: &BTreeSet<OrganizationId>) -> Result<(), AttemptError> {
        let before = self.done;
        let Err(error) = self.attempt(page).await else { return Ok(()) };
        self.done = before;
        self.begin_anew(&error).await?;
        for organization_id in page {
            let before = self.done;
            if let Err(error) = self.attempt(&BTreeSet::from([*organization_id])).await {
                self.done = RolledUp { failed: before.failed + 1, ..before };
                self.begin_anew(&error).await?;
                tracing::warn!(organization = %organization_id, ?error, "usage could not be rolled up");
            }
        }
        Ok(())
    }

    /// Goes on with another connection, on which nothing is open.
    async fn begin_anew(&mut self, error: &AttemptError) -> Result<(), AttemptError> {
        tracing::debug!(?error, "a part of a rollup was given up");
        self.connection = self.store.job_connection().await?;
        Ok(())
    }

    async fn attempt(&mut self, page: &BTreeSet<OrganizationId>) -> Result<(), AttemptError> {
        let fences = fence(&mut self.connection, self.store.clock(), page.clone()).await?;
        let mut left = fences;
        while !left.is_empty() {
            left = self.slice(left).await?;
        }
        self.done.organizations += page.len() as u64;
        Ok(())
    }

    /// Adds one slice of each organization, and answers those that have more, with their fences.
    async fn slice(
        &mut self,
        fences: BTreeMap<OrganizationId, Timestamp>,
    ) -> Result<BTreeMap<OrganizationId, Timestamp>, AttemptError> {
        let connection = &mut self.connection;
        connection.begin().await?;
        let mut rows = LOCK_TOTALS.rows();
        for organization_id in fences.keys() {
            rows.cell(Cell::Uuid(organization_id.uuid())).end();
        }
        connection.execute(&BEGIN_TOTALS, &rows).await?;
        let mut ranges = BTreeMap::new();
        for row in connection.query(&LOCK_TOTALS, &rows).await? {
            let organization_id = organization(&row)?;
            let (since, until) = (row.try_get::<DateTimeUtc>("", "through")?, fences[&organization_id]);
            // Another process may have been here meanwhile.
            if since < until {
                ranges.insert(organization_id, since..until);
            }
        }
        let mut rows = CUT.rows();
        range_cells(&mut rows, &ranges);
        let mut more = BTreeMap::new();
        for row in if ranges.is_empty() { Vec::new() } else { connection.query(&CUT, &rows).await? } {
            let organization_id = organization(&row)?;
            let cut: Option<DateTimeUtc> = row.try_get("", "cut")?;
            // Rows of one instant stay together, however many they are.
            if let Some(range) = ranges.get_mut(&organization_id)
                && let Some(cut) = cut.filter(|cut| *cut > range.start)
            {
                range.end = cut;
                more.insert(organization_id, fences[&organization_id]);
            }
        }
        self.add(&ranges).await?;
        self.connection.commit().await?;
        Ok(more)
    }

    async fn add(&mut self, ranges: &Ranges) -> Result<(), AttemptError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let mut rows = ADD_UP.rows();
        range_cells(&mut rows, ranges);
        let mut growths: BTreeMap<OrganizationId, Growth> = BTreeMap::new();
        let mut rollups = ADD_ROLLUPS.rows();
        for row in self.connection.query(&ADD_UP, &rows).await? {
            let (organization_id, sums) = (organization(&row)?, delta::read(&row)?);
            let growth = growths.entry(organization_id).or_default();
            growth.sums.add(&sums);
            growth.last_attempt_at = growth.last_attempt_at.max(row.try_get("", "attempted_at")?);
            rollups
                .cell(Cell::Uuid(organization_id.uuid()))
                .cell(Cell::Time(row.try_get("", "bucket_start")?))
                .cell(Cell::Text(row.try_get("", "action_type")?));
            delta::cells(&mut rollups, &sums);
            rollups.end();
        }
        let mut totals = ADD_TOTALS.rows();
        for (organization_id, range) in ranges {
            let Growth { sums, last_attempt_at } = growths.remove(organization_id).unwrap_or_default();
            totals
                .cell(Cell::Uuid(organization_id.uuid()))
                .cell(Cell::Time(range.end))
                .cell(Cell::opt(last_attempt_at, Cell::Time));
            delta::cells(&mut totals, &sums);
            totals.end();
            self.done.attempts += u64::try_from(sums.count + sums.refused).unwrap_or_default();
        }
        self.connection.execute(&ADD_ROLLUPS, &rollups).await?;
        self.connection.execute(&ADD_TOTALS, &totals).await?;
        Ok(())
    }
}

type Ranges = BTreeMap<OrganizationId, std::ops::Range<Timestamp>>;

fn range_cells(rows: &mut crate::sql::Rows, ranges: &Ranges) {
    for (organization_id, range) in ranges {
        rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Time(range.start)).cell(Cell::Time(range.end)).end();
    }
}

fn organization(row: &QueryResult) -> Result<OrganizationId, sea_orm::DbErr> {
    Ok(OrganizationId::new(row.try_get("", "organization_id")?))
}
