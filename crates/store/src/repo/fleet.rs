//! All organizations at once: totals, the newest attempts, and what is spent together.
//!
//! Two indexes of the log exist for this. Attempts by time over all organizations go by `idx_credits_txn_success` and
//! `idx_credits_txn_refused`; spending by combination of types goes by `idx_credits_txn_multi_credit`, which holds all
//! that it needs. All are partial: the queries say the indexes' conditions in so many words, for neither engine finds
//! them behind a bound value.

use std::fmt::Write as _;

use multicredit_domain::credit::COUNT;
use multicredit_domain::{Consumption, CreditType, OrganizationId, OrganizationStatus, Timestamp};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QueryResult,
    QuerySelect, QueryTrait, Select, Statement,
};

use crate::config::Engine;
use crate::entity::credit_consumption_logs::{Column, Entity};
use crate::error::{BadRow, StoreError};
use crate::store::Store;
use crate::usage::SummaryRow;

/// How many of the newest successes say who is busy: the sample of a few minutes or days, and a bounded read.
const BUSY_SAMPLE: u32 = 1_000;

/// Which attempts are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// Those that spent.
    Succeeded,
    /// Those that were refused.
    Refused,
}

impl Attempts {
    /// The condition of the index that has them, in its own letters: SQLite takes `true` for another word than `TRUE`.
    const fn condition(self) -> &'static str {
        match self {
            Self::Succeeded => "success = TRUE",
            Self::Refused => "success = FALSE",
        }
    }
}

/// What all organizations have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetTotals {
    /// How many organizations there are of each status.
    pub organizations: [i64; OrganizationStatus::ALL.len()],
    /// What can be spent, as of the last settlement of each.
    pub available: [i64; COUNT],
    /// What is set aside.
    pub held: [i64; COUNT],
    /// What was consumed in all time, as of the summary. Refunds change nothing here.
    pub consumed: [i64; COUNT],
    /// How many attempts there were, as of the summary.
    pub attempts: i64,
    /// How many of them were refused.
    pub refused: i64,
}

/// What was spent by consumptions that cost credits of exactly these types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combination {
    /// Which types.
    pub types: Vec<CreditType>,
    /// How many consumptions.
    pub count: i64,
    /// What they cost together.
    pub consumed: [i64; COUNT],
}

/// What organizations are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopOrder {
    /// Consumptions.
    Count,
    /// Credits of a type.
    Credits(CreditType),
}

impl TopOrder {
    /// What the summary calls it.
    const fn column(self) -> &'static str {
        match self {
            Self::Count => "transaction_count - refused_count",
            Self::Credits(CreditType::Ai) => "total_ai",
            Self::Credits(CreditType::Whatsapp) => "total_wa",
            Self::Credits(CreditType::Email) => "total_email",
            Self::Credits(CreditType::Sms) => "total_sms",
        }
    }
}

impl Store {
    /// What all organizations have and have used.
    pub async fn fleet_totals(&self) -> Result<FleetTotals, StoreError> {
        let mut totals = FleetTotals::default();
        for row in self.rows("SELECT status, COUNT(*) AS organizations FROM organizations GROUP BY status").await? {
            let status: String = row.try_get("", "status")?;
            let place = OrganizationStatus::ALL.iter().position(|known| known.as_str() == status);
            let place = place.ok_or(BadRow { table: "organizations", column: "status" })?;
            totals.organizations[place] = row.try_get("", "organizations")?;
        }
        let sum = |column: &str| format!("CAST(COALESCE(SUM({column}), 0) AS bigint)");
        let mut columns = String::new();
        for credit_type in CreditType::ALL {
            for part in ["available", "held"] {
                let column = format!("{credit_type}_credits_{part}");
                // Writing into a String cannot fail.
                let _ = write!(columns, "{} AS {column}, ", sum(&column));
            }
        }
        let sql = format!("SELECT {} FROM organization_credits", columns.trim_end_matches(", "));
        if let Some(row) = self.rows(&sql).await?.first() {
            for credit_type in CreditType::ALL {
                totals.available[credit_type as usize] =
                    row.try_get("", &format!("{credit_type}_credits_available"))?;
                totals.held[credit_type as usize] = row.try_get("", &format!("{credit_type}_credits_held"))?;
            }
        }
        let names = ["total_ai", "total_wa", "total_email", "total_sms", "transaction_count", "refused_count"];
        let sums = names.map(|name| format!("{} AS {name}", sum(name))).join(", ");
        if let Some(row) = self.rows(&format!("SELECT {sums} FROM mv_organization_usage_summary")).await?.first() {
            for (total, name) in totals.consumed.iter_mut().zip(names) {
                *total = row.try_get("", name)?;
            }
            totals.attempts = row.try_get("", "transaction_count")?;
            totals.refused = row.try_get("", "refused_count")?;
        }
        Ok(totals)
    }

    /// The newest attempts of all organizations.
    pub async fn newest_attempts(&self, which: Attempts, limit: u32) -> Result<Vec<Consumption>, StoreError> {
        let rows = newest(which, limit).all(self.database()).await?;
        Ok(rows.into_iter().map(Consumption::try_from).collect::<Result<_, _>>()?)
    }

    /// How many attempts of all organizations there were since an instant.
    pub async fn attempts_since(&self, which: Attempts, since: Timestamp) -> Result<u64, StoreError> {
        let query = Entity::find().filter(Expr::cust(which.condition())).filter(Column::CreatedAt.gte(since));
        Ok(query.count(self.database()).await?)
    }

    /// What was spent by combination of types, over all time; the most frequent first. What cost nothing is not in it.
    pub async fn spending_by_combination(&self) -> Result<Vec<Combination>, StoreError> {
        let mut found = Vec::new();
        for row in self.rows(&combinations()).await? {
            let mut types = Vec::new();
            let mut consumed = [0; COUNT];
            for credit_type in CreditType::ALL {
                let sum: i64 = row.try_get("", &format!("{credit_type}_sum"))?;
                consumed[credit_type as usize] = sum;
                if sum > 0 {
                    types.push(credit_type);
                }
            }
            found.push(Combination { types, count: row.try_get("", "consumptions")?, consumed });
        }
        Ok(found)
    }

    /// The organizations that used the most in all time, as of the summary.
    pub async fn top_organizations(&self, order: TopOrder, limit: u32) -> Result<Vec<SummaryRow>, StoreError> {
        let sql = format!(
            "SELECT {} FROM mv_organization_usage_summary WHERE {column} > 0 \
             ORDER BY {column} DESC, organization_id LIMIT {limit}",
            SummaryRow::COLUMNS,
            column = order.column(),
        );
        self.rows(&sql).await?.iter().map(SummaryRow::read).collect()
    }

    /// The organizations that spend the most often of late, the busiest first.
    pub async fn busy_organizations(&self, limit: u32) -> Result<Vec<OrganizationId>, StoreError> {
        let sql = format!(
            "SELECT organization_id, COUNT(*) AS consumptions FROM (SELECT organization_id FROM \
             credit_consumption_logs WHERE {} ORDER BY created_at DESC LIMIT {BUSY_SAMPLE}) AS newest \
             GROUP BY organization_id ORDER BY consumptions DESC, organization_id LIMIT {limit}",
            Attempts::Succeeded.condition(),
        );
        let rows = self.rows(&sql).await?;
        rows.iter().map(|row| Ok(OrganizationId::new(row.try_get("", "organization_id")?))).collect()
    }

    /// How the engine means to find the newest attempts and the spending by combination of types: for tests.
    #[doc(hidden)]
    pub async fn fleet_plans(&self) -> Result<Vec<String>, StoreError> {
        let backend = self.database().get_database_backend();
        let (explain, column) = match self.engine() {
            Engine::Postgres => ("EXPLAIN (COSTS OFF)", "QUERY PLAN"),
            Engine::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
        };
        let mut plans = Vec::new();
        for statement in [
            newest(Attempts::Succeeded, 20).build(backend),
            newest(Attempts::Refused, 20).build(backend),
            Statement::from_string(backend, combinations()),
        ] {
            let explained = Statement { sql: format!("{explain} {}", statement.sql), ..statement };
            let rows = self.database().query_all_raw(explained).await?;
            let lines = rows.iter().map(|row| row.try_get::<String>("", column)).collect::<Result<Vec<_>, _>>()?;
            plans.push(lines.join("\n"));
        }
        Ok(plans)
    }

    async fn rows(&self, sql: &str) -> Result<Vec<QueryResult>, StoreError> {
        let backend: DbBackend = self.database().get_database_backend();
        Ok(self.database().query_all_raw(Statement::from_string(backend, sql)).await?)
    }
}

/// The newest attempts.
fn newest(which: Attempts, limit: u32) -> Select<Entity> {
    let query = Entity::find().filter(Expr::cust(which.condition()));
    query.order_by_desc(Column::CreatedAt).limit(u64::from(limit))
}

/// A row for each combination of types.
fn combinations() -> String {
    let each = |f: &dyn Fn(CreditType) -> String, separator: &str| CreditType::ALL.map(f).join(separator);
    let groups = each(&|it| format!("{it}_credits_consumed > 0"), ", ");
    format!(
        "SELECT COUNT(*) AS consumptions, {sums} FROM credit_consumption_logs WHERE {any} \
         GROUP BY {groups} ORDER BY consumptions DESC",
        sums = each(&|it| format!("CAST(SUM({it}_credits_consumed) AS bigint) AS {it}_sum"), ", "),
        any = each(&|it| format!("{it}_credits_consumed > 0"), " OR "),
    )
}
