//! The report: rollups and tail in one statement, by the buckets of a calendar.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use multicredit_domain::{
    ActionType, OrganizationId, Refusal, TimeZone, Timestamp, UsageBucket, UsageLine, UsageSpan, UsageSums,
};

use super::delta;
use crate::error::{BadRow, StoreError};
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::Store;

/// What a report is about.
#[derive(Debug, Clone)]
pub struct UsageQuery {
    /// From when on; moved back to a quarter of an hour.
    pub from: Timestamp,
    /// Until when; moved on to a quarter of an hour.
    pub to: Timestamp,
    /// How long a bucket is.
    pub bucket: UsageBucket,
    /// By whose calendar.
    pub time_zone: TimeZone,
    /// Whether every action has lines of its own.
    pub by_action: bool,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    /// The buckets in which anything happened, in their order, and the actions of a bucket by name.
    pub lines: Vec<UsageLine>,
    /// Everything that was decided before this instant is in it. What was decided later may be in it, too.
    pub complete_through: Timestamp,
}

/// A row for each bucket and action, and one row more that says how far it goes: `part` tells them apart.
///
/// The buckets come first in the joins, so that each is a range of the rollups' key.
static REPORT: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("start", Kind::Time),
        Column::new("since", Kind::Time),
        Column::new("until", Kind::Time),
    ];
    Statement::new(columns, |d| {
        let beginning = d.instant("0001-01-01T00:00:00+00:00");
        let owner = format!(
            "(SELECT c.organization_id, c.last_movement_at, COALESCE(t.through, {beginning}) AS through \
             FROM organization_credits c LEFT JOIN usage_totals t ON t.organization_id = c.organization_id \
             WHERE c.organization_id = (SELECT v.organization_id FROM {} LIMIT 1)) AS o",
            d.source
        );
        let events = delta::events(d, &owner, |table| format!("{table}.created_at >= o.through"));
        let tail = format!(
            "SELECT e.bucket_start, e.action_type, {} FROM ({events}) AS e GROUP BY e.bucket_start, e.action_type",
            delta::summed("e")
        );
        format!(
            "SELECT 0 AS part, o.last_movement_at AS start, o.through, '' AS action_type, {nothing} FROM {owner} \
             UNION ALL \
             SELECT 1, x.start, x.start, x.action_type, {sums} FROM ( \
             SELECT v.start, r.action_type, {rollups} FROM {source} CROSS JOIN usage_rollups r \
             WHERE r.organization_id = v.organization_id AND r.bucket_start >= v.since AND r.bucket_start < v.until \
             UNION ALL \
             SELECT v.start, e.action_type, {tails} FROM {source} CROSS JOIN ({tail}) AS e \
             WHERE e.bucket_start >= v.since AND e.bucket_start < v.until \
             ) AS x GROUP BY x.start, x.action_type",
            source = d.source,
            nothing = delta::each(|name| format!("CAST(0 AS BIGINT) AS {name}")),
            sums = delta::summed("x"),
            rollups = delta::each(|name| format!("r.{name}")),
            tails = delta::each(|name| format!("e.{name}")),
        )
    })
});

impl Store {
    /// What an organization used. Exact at this instant, whether a background job has run or not.
    ///
    /// [`Refusal::UnknownOrganization`] if there is none, [`Refusal::InvalidField`] where the period makes no sense.
    pub async fn usage(&self, organization_id: OrganizationId, query: &UsageQuery) -> Result<UsageReport, StoreError> {
        let spans = query.bucket.spans(&query.time_zone, query.from, query.to)?;
        // Before the snapshot: what was under way then would be missing in it.
        let complete = self.nothing_under_way(organization_id).await?;
        let mut rows = REPORT.rows();
        for UsageSpan { start, within } in spans {
            rows.cell(Cell::Uuid(organization_id.uuid()))
                .cell(Cell::Time(start))
                .cell(Cell::Time(within.start))
                .cell(Cell::Time(within.end))
                .end();
        }
        let mut sums: BTreeMap<(Timestamp, Option<ActionType>), UsageSums> = BTreeMap::new();
        let mut complete_through = None;
        for row in REPORT.query(self.database(), &rows).await? {
            let start: Timestamp = row.try_get("", "start")?;
            if row.try_get::<i32>("", "part")? == 0 {
                let seen = start.max(row.try_get("", "through")?);
                complete_through = Some(complete.map_or(seen, |complete| complete.max(seen)));
                continue;
            }
            let action = ActionType::new(row.try_get::<String>("", "action_type")?)
                .map_err(|_| BadRow { table: "usage_rollups", column: "action_type" })?;
            let line = sums.entry((start, query.by_action.then_some(action))).or_default();
            line.add(&delta::read(&row)?);
        }
        let complete_through = complete_through.ok_or(Refusal::UnknownOrganization)?;
        let lines = sums.into_iter().map(|((start, action), sums)| UsageLine { start, action, sums }).collect();
        Ok(UsageReport { lines, complete_through })
    }
}
