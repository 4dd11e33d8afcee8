//! The summary: what every organization has used in all its time, a row each.
//!
//! On PostgreSQL it is a materialized view, so that it costs nothing to look at, and as old as its last refresh. Anybody
//! may refresh it, by SQL too; what `refreshed_at` says is when it was last done from here, so that the rows are never
//! older than that. On SQLite it is a view.

use multicredit_domain::credit::COUNT;
use multicredit_domain::{OrganizationId, Timestamp};
use sea_orm::prelude::Uuid;
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, QueryResult, Statement};

use crate::config::Engine;
use crate::error::StoreError;
use crate::jobs::Job;
use crate::page::{Page, PageRequest};
use crate::store::Store;

/// With the rights of the view's owner: a server's role has none to refresh it.
const REFRESH: &str = "SELECT refresh_organization_usage_summary()";

/// What an organization has used in all its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryRow {
    /// Which organization.
    pub organization_id: OrganizationId,
    /// Credits consumed, by type in the order of the types. Refunds change nothing here.
    pub totals: [i64; COUNT],
    /// How many attempts there were, refused ones included.
    pub transaction_count: i64,
    /// How many were refused.
    pub refused_count: i64,
    /// When the last one was decided.
    pub last_attempt_at: Timestamp,
}

/// A page of the summary.
#[derive(Debug, Clone)]
pub struct SummaryPage {
    /// The rows, by id of the organization.
    pub page: Page<SummaryRow, OrganizationId>,
    /// The rows are at least as young as this.
    pub refreshed_at: Timestamp,
}

#[derive(FromQueryResult)]
struct Row {
    organization_id: Uuid,
    total_ai: i64,
    total_wa: i64,
    total_email: i64,
    total_sms: i64,
    transaction_count: i64,
    refused_count: i64,
    last_attempt_at: Timestamp,
}

impl SummaryRow {
    /// What a row is read from.
    pub(crate) const COLUMNS: &'static str = "organization_id, total_ai, total_wa, total_email, total_sms, \
        transaction_count, refused_count, last_attempt_at";

    /// The row that stands in these columns.
    pub(crate) fn read(row: &QueryResult) -> Result<Self, StoreError> {
        Ok(Row::from_query_result(row, "")?.into())
    }
}

impl Store {
    /// Makes the summary anew; `false` where it is always current.
    pub(crate) async fn refresh_summary(&self) -> Result<bool, StoreError> {
        if self.engine() == Engine::Sqlite {
            return Ok(false);
        }
        let mut connection = self.job_connection().await?;
        connection.run(REFRESH).await?;
        connection.close().await?;
        Ok(true)
    }

    /// A page of the summary, of one organization alone if so wanted.
    pub async fn usage_summary(
        &self,
        only: Option<OrganizationId>,
        page: PageRequest<OrganizationId>,
    ) -> Result<SummaryPage, StoreError> {
        let refreshed_at = match self.engine() {
            Engine::Sqlite => self.now().await?,
            // The migration that made the view left a run of the job behind.
            Engine::Postgres => self.job_done_as_of(Job::RefreshSummary).await?.unwrap_or(Timestamp::UNIX_EPOCH),
        };
        let after = page.after.map_or(Uuid::nil(), OrganizationId::uuid);
        let last = only.map_or(Uuid::max(), OrganizationId::uuid);
        let first = only.map_or(Uuid::nil(), OrganizationId::uuid);
        let backend = self.database().get_database_backend();
        let [a, b, c] = if backend == DbBackend::Postgres { ["$1", "$2", "$3"] } else { ["?1", "?2", "?3"] };
        let sql = format!(
            "SELECT {} FROM mv_organization_usage_summary WHERE organization_id > {a} AND organization_id >= {b} \
             AND organization_id <= {c} ORDER BY organization_id LIMIT {}",
            SummaryRow::COLUMNS,
            page.fetch_limit()
        );
        let values = [after.into(), first.into(), last.into()];
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = Row::find_by_statement(statement).all(self.database()).await?;
        let items = rows.into_iter().map(SummaryRow::from).collect();
        Ok(SummaryPage { page: Page::new(items, page.limit, |row: &SummaryRow| row.organization_id), refreshed_at })
    }
}

impl From<Row> for SummaryRow {
    fn from(row: Row) -> Self {
        Self {
            organization_id: OrganizationId::new(row.organization_id),
            totals: [row.total_ai, row.total_wa, row.total_email, row.total_sms],
            transaction_count: row.transaction_count,
            refused_count: row.refused_count,
            last_attempt_at: row.last_attempt_at,
        }
    }
}
