//! `/v1/usage/summary`: what every organization has used in all its time.

use multicredit_domain::Timestamp;
use multicredit_store::{Page as StorePage, PageRequest, SummaryPage, SummaryRow};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use uuid::Uuid;

use super::example;
use crate::auth::{Auth, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page, SummaryPosition};
use crate::param::Query;
use crate::payload::Json;
use crate::problem::{Failure, failures};
use crate::wire::Wire;

/// What an organization has used in all its time.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct UsageSummary {
    organization_id: Wire<Uuid>,
    /// AI credits consumed. Refunds change nothing here.
    total_ai: i64,
    /// `WhatsApp` credits consumed.
    total_wa: i64,
    /// E-mail credits consumed.
    total_email: i64,
    /// SMS credits consumed.
    total_sms: i64,
    /// How many attempts there were, refused ones included.
    transaction_count: i64,
    /// How many were refused.
    refused_count: i64,
    /// When the last one was decided.
    last_attempt_at: Wire<Timestamp>,
}

impl From<SummaryRow> for UsageSummary {
    fn from(row: SummaryRow) -> Self {
        let [total_ai, total_wa, total_email, total_sms] = row.totals;
        Self {
            organization_id: Wire(row.organization_id.uuid()),
            total_ai,
            total_wa,
            total_email,
            total_sms,
            transaction_count: row.transaction_count,
            refused_count: row.refused_count,
            last_attempt_at: Wire(row.last_attempt_at),
        }
    }
}

impl Example for UsageSummary {
    fn example() -> Self {
        Self {
            organization_id: Wire(example::ORGANIZATION_ID.uuid()),
            total_ai: 5,
            total_wa: 0,
            total_email: 0,
            total_sms: 0,
            transaction_count: 1,
            refused_count: 0,
            last_attempt_at: example::time(),
        }
    }
}

/// A page of the summary.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct UsageSummaries {
    /// The organizations that ever tried to consume anything, by id.
    items: Vec<UsageSummary>,
    /// Where the next page begins: send it as `cursor`. `null` at the end.
    #[oai(nullable)]
    next_cursor: Option<String>,
    /// What was decided before this instant is in it; more may be.
    refreshed_at: Wire<Timestamp>,
}

impl Example for UsageSummaries {
    fn example() -> Self {
        Self { items: vec![UsageSummary::example()], next_cursor: None, refreshed_at: example::time() }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Usage")]
impl Api {
    /// Summarize usage
    ///
    /// The rows of `mv_organization_usage_summary`, as of its last refresh. A key that is bound to an organization sees
    /// that one alone.
    ///
    /// Scope: `read`.
    #[oai(path = "/usage/summary", method = "get", operation_id = "getUsageSummary")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<UsageSummaries>, Failure<failures::Listing>> {
        let PageRequest { after, limit } = page::request::<SummaryPosition>(limit, cursor)?;
        let wanted = PageRequest { after: after.map(|SummaryPosition(id)| id), limit };
        let SummaryPage { page, refreshed_at } = auth.store().usage_summary(auth.bound_to(), wanted).await?;
        let page = StorePage { items: page.items, next: page.next.map(SummaryPosition) };
        let (items, next_cursor) = Page::of(page, UsageSummary::from).into_parts();
        Ok(Json(UsageSummaries { items, next_cursor, refreshed_at: Wire(refreshed_at) }))
    }
}

#[cfg(test)]
mod tests {
    use multicredit_domain::CreditType;

    use super::*;

    #[test]
    fn there_is_a_total_for_each_credit_type() {
        let total = serde_json::to_value(UsageSummary::example()).unwrap();
        let totals = total.as_object().unwrap().keys().filter(|name| name.starts_with("total_")).count();
        assert_eq!(totals, CreditType::ALL.len());
    }
}
