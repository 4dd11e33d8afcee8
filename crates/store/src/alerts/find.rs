//! Who has something to be looked at. The answer is a hint: it is asked without a lock, and whoever claims looks again.

use std::collections::VecDeque;
use std::sync::LazyLock;

use multicredit_domain::{CreditType, OrganizationId, Timestamp};

use crate::error::StoreError;
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::Store;

/// How many organizations are found at once.
const PAGE: usize = 200;

fn after() -> Column {
    Column::new("after", Kind::Uuid)
}

/// Which kinds of rules there are: about all organizations, about some, and of top-ups. Where nobody has any, that is all
/// that anybody asks.
static RULES: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("one", Kind::Int)], |d| {
        let is_there = |name: &str, table: &str, condition: &str| {
            let exists = format!("EXISTS (SELECT 1 FROM {table} WHERE active AND {condition})");
            format!("CAST(CASE WHEN {exists} THEN 1 ELSE 0 END AS BIGINT) AS {name}")
        };
        let of_rules = |name: &str, measure: &str, whose: &str| {
            is_there(name, "alert_rules", &format!("measure {measure} 'forecast_days' AND organization_id {whose}"))
        };
        let kinds = [
            of_rules("balances_of_all", "<>", "IS NULL"),
            of_rules("balances_of_some", "<>", "IS NOT NULL"),
            of_rules("forecasts_of_all", "=", "IS NULL"),
            of_rules("forecasts_of_some", "=", "IS NOT NULL"),
            is_there("top_ups", "top_up_rules", "true"),
        ];
        format!("SELECT {} FROM {}", kinds.join(", "), d.source)
    })
});

/// What finds the organizations that rules are about; `None` where there is no such rule.
pub(super) struct Watched {
    pub(super) balances: Option<&'static Statement>,
    pub(super) forecasts: Option<&'static Statement>,
    pub(super) top_ups: Option<&'static Statement>,
}

/// Organizations of some rule of balances that have moved since they were looked at.
static MOVED: LazyLock<Statement> = LazyLock::new(|| {
    moved(
        "(SELECT DISTINCT organization_id FROM alert_rules \
    WHERE active AND measure <> 'forecast_days') r JOIN organization_credits c ON c.organization_id = r.organization_id",
    )
});

/// All organizations that have moved since they were looked at.
static MOVED_OF_ALL: LazyLock<Statement> = LazyLock::new(|| moved("organization_credits c"));

fn moved(whose: &str) -> Statement {
    Statement::new(vec![after()], |d| {
        format!(
            "SELECT c.organization_id FROM {whose} LEFT JOIN alert_cursors a ON a.organization_id = c.organization_id \
             WHERE c.organization_id > (SELECT v.after FROM {}) AND c.sequence > COALESCE(a.sequence, 0) \
             ORDER BY c.organization_id LIMIT {PAGE}",
            d.source
        )
    })
}

/// Organizations of which so little can be spent that a top-up rule may ask for credits.
static SHORT: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![after(), Column::new("now", Kind::Time)], |d| {
        let available = CreditType::ALL.map(|it| format!("WHEN '{it}' THEN c.{it}_credits_available")).join(" ");
        format!(
            "SELECT DISTINCT r.organization_id FROM {} JOIN top_up_rules r ON r.organization_id > v.after \
             JOIN organization_credits c ON c.organization_id = r.organization_id \
             LEFT JOIN top_ups t ON t.organization_id = r.organization_id AND t.credit_type = r.credit_type \
             AND t.state = 'requested' \
             WHERE r.active AND c.status = 'active' AND (CASE r.credit_type {available} END) <= r.threshold \
             AND (r.waits_until IS NULL OR r.waits_until <= v.now) AND (t.id IS NULL OR t.expires_at <= v.now) \
             ORDER BY r.organization_id LIMIT {PAGE}",
            d.source
        )
    })
});

/// Organizations of some rule of forecasts that were not looked at for a while, or not since it has been as it is.
static FORECASTS: LazyLock<Statement> = LazyLock::new(|| {
    forecasts(
        "(SELECT organization_id, MAX(since) AS since \
    FROM alert_rules WHERE active AND measure = 'forecast_days' AND organization_id IS NOT NULL \
    GROUP BY organization_id) r JOIN organization_credits c ON c.organization_id = r.organization_id",
    )
});

/// The same of all organizations.
static FORECASTS_OF_ALL: LazyLock<Statement> = LazyLock::new(|| {
    forecasts(
        "organization_credits c CROSS JOIN \
    (SELECT MAX(since) AS since FROM alert_rules WHERE active AND measure = 'forecast_days') r",
    )
});

fn forecasts(whose: &str) -> Statement {
    Statement::new(vec![after(), Column::new("before", Kind::Time)], |d| {
        format!(
            "SELECT c.organization_id FROM {whose} LEFT JOIN alert_cursors a ON a.organization_id = c.organization_id \
             WHERE c.organization_id > (SELECT v.after FROM {0}) AND c.status <> 'closed' \
             AND (a.forecast_at IS NULL OR a.forecast_at <= (SELECT v.before FROM {0}) OR a.forecast_at <= r.since) \
             ORDER BY c.organization_id LIMIT {PAGE}",
            d.source
        )
    })
}

impl Store {
    /// What is watched for.
    pub(super) async fn watched(&self) -> Result<Watched, StoreError> {
        let mut rows = RULES.rows();
        rows.cell(Cell::Null).end();
        let found = RULES.query(self.database(), &rows).await?;
        let row = found.first().ok_or_else(|| StoreError::Internal("a look for rules answered nothing".to_owned()))?;
        let is_there = |name: &str| row.try_get::<i64>("", name).map(|count| count > 0);
        let either = |all: bool, of_all: &'static Statement, some: bool, of_some: &'static Statement| {
            if all { Some(of_all) } else { some.then_some(of_some) }
        };
        let some = is_there("balances_of_some")?;
        let balances = either(is_there("balances_of_all")?, &MOVED_OF_ALL, some, &MOVED);
        let some = is_there("forecasts_of_some")?;
        let forecasts = either(is_there("forecasts_of_all")?, &FORECASTS_OF_ALL, some, &FORECASTS);
        let top_ups = is_there("top_ups")?.then_some(&*SHORT);
        Ok(Watched { balances, forecasts, top_ups })
    }
}

/// Going through what a statement finds, page by page.
pub(super) struct Finding {
    statement: &'static Statement,
    at: Option<Timestamp>,
    after: OrganizationId,
    page: VecDeque<OrganizationId>,
}

impl Finding {
    /// Begins. `at` is the instant that the statement takes, if it takes one.
    pub(super) const fn new(statement: &'static Statement, at: Option<Timestamp>) -> Self {
        Self { statement, at, after: OrganizationId::MIN, page: VecDeque::new() }
    }

    /// The next organization, in the order of the ids.
    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<OrganizationId>, StoreError> {
        if self.page.is_empty() {
            let mut rows = self.statement.rows();
            rows.cell(Cell::Uuid(self.after.uuid()));
            if let Some(at) = self.at {
                rows.cell(Cell::Time(at));
            }
            rows.end();
            for row in self.statement.query(store.database(), &rows).await? {
                self.page.push_back(OrganizationId::new(row.try_get("", "organization_id")?));
            }
        }
        let next = self.page.pop_front();
        self.after = next.unwrap_or(self.after);
        Ok(next)
    }
}
