//! `/v1/organizations/{organization_id}/usage`: what was consumed when.

use multicredit_domain::usage::UsageSums;
use multicredit_domain::{ActionType, Credits, TimeZone, Timestamp, UsageBucket, UsageLine};
use multicredit_store::{UsageQuery, UsageReport};
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Serialize, Serializer};

use super::example;
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::param::{Path, Query};
use crate::payload::{Table, Tabular, WantsCsv};
use crate::problem::{Failure, failures};
use crate::wire::{Reason, Text, Wire, not_one_of, one_of};

/// What a report can be grouped by, beside time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GroupBy;

const ACTION: &str = "action";

impl Text for GroupBy {
    const NAME: &'static str = "UsageGroup";

    fn schema() -> MetaSchema {
        one_of([ACTION].into_iter(), "`action`: a bucket for each action.")
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        if text == ACTION { Ok(Self) } else { Err(not_one_of([ACTION].into_iter())) }
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ACTION)
    }
}

/// What was done in a bucket of time.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "UsageBucket", example, skip_serializing_if_is_none)]
struct Bucket {
    /// When the hour, day or month begins.
    start: Wire<Timestamp>,
    /// Of which action, where the report is grouped by action.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Wire<ActionType>>,
    /// What was spent. Refunds change nothing here.
    consumed: Wire<Credits>,
    /// What was given back of it, whenever that was.
    refunded: Wire<Credits>,
    /// How many consumptions succeeded.
    count: i64,
    /// How many were refused.
    refused: i64,
}

/// What an organization used.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Usage {
    /// The buckets in which anything happened, in order of time, and of the actions' names within one.
    buckets: Vec<Bucket>,
    /// Everything that was decided before this instant is counted.
    complete_through: Wire<Timestamp>,
}

impl From<UsageLine> for Bucket {
    fn from(line: UsageLine) -> Self {
        let UsageSums { consumed, refunded, count, refused } = line.sums;
        Self {
            start: Wire(line.start),
            action: line.action.map(Wire),
            consumed: Wire(Credits::from_sums(consumed)),
            refunded: Wire(Credits::from_sums(refunded)),
            count,
            refused,
        }
    }
}

impl From<UsageReport> for Usage {
    fn from(report: UsageReport) -> Self {
        Self {
            buckets: report.lines.into_iter().map(Bucket::from).collect(),
            complete_through: Wire(report.complete_through),
        }
    }
}

impl Example for Bucket {
    fn example() -> Self {
        Self {
            start: example::text("2026-11-21T23:00:00Z"),
            action: Some(example::text("ai_tokens")),
            consumed: Wire(example::credits(5, 0)),
            refunded: Wire(Credits::ZERO),
            count: 1,
            refused: 0,
        }
    }
}

impl Example for Usage {
    fn example() -> Self {
        Self { buckets: vec![Bucket::example()], complete_through: example::time() }
    }
}

/// The columns of the report as CSV, in the order of the credit types.
const COLUMNS: [&str; 12] = [
    "start",
    "action",
    "ai_consumed",
    "whatsapp_consumed",
    "email_consumed",
    "sms_consumed",
    "ai_refunded",
    "whatsapp_refunded",
    "email_refunded",
    "sms_refunded",
    "count",
    "refused",
];

impl Tabular for Usage {
    const COLUMNS: &'static [&'static str] = &COLUMNS;
}

/// A line of the report as CSV.
fn record(line: UsageLine) -> impl Serialize {
    let UsageSums { consumed, refunded, count, refused } = line.sums;
    let action = line.action.map(Wire);
    (Wire(line.start), action, consumed, refunded, count, refused)
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Usage")]
impl Api {
    /// Report usage
    ///
    /// What was spent and how often, by the hour, day or month of a time zone's calendar, and by action if wanted. A
    /// consumption counts when it happened (`occurred_at`), else when it was decided; a refund counts where the
    /// consumption does that it gives back. Buckets in which nothing happened are left out. `from` and `to` are moved
    /// outwards to a quarter of an hour; a bucket that they cut counts what lies between them.
    ///
    /// With `Accept: text/csv` the buckets are lines of a table, without `complete_through`.
    ///
    /// Scope: `read`.
    #[oai(path = "/organizations/:organization_id/usage", method = "get", operation_id = "getUsage")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter that the operation documents")]
    async fn get(
        &self,
        auth: Auth<scope::Read>,
        wants_csv: WantsCsv,
        /// The organization.
        organization_id: Path<Tenant>,
        /// From when on. By default a day before `to` for hours, 30 days for days, 365 days for months.
        from: Query<Timestamp>,
        /// Until when, exclusive. By default now.
        to: Query<Timestamp>,
        /// How long a bucket is. By default a day.
        bucket: Query<UsageBucket>,
        /// Whose calendar counts, by its IANA name. By default the organization's.
        time_zone: Query<TimeZone>,
        /// Whether every action has buckets of its own.
        group_by: Query<GroupBy>,
    ) -> Result<Table<Usage>, Failure<failures::Reading>> {
        let id = auth.organization(organization_id.0)?;
        let store = auth.store();
        let time_zone = match time_zone.0 {
            Some(time_zone) => time_zone,
            None => store.organization(id).await?.time_zone,
        };
        let bucket = bucket.0.unwrap_or(UsageBucket::Day);
        let to = match to.0 {
            Some(to) => to,
            // What happens right now is in it.
            None => store.now().await? + chrono::TimeDelta::microseconds(1),
        };
        let from = match from.0 {
            Some(from) => from,
            None => to - bucket.default_period(),
        };
        let query = UsageQuery { from, to, bucket, time_zone, by_action: group_by.0.is_some() };
        let report = store.usage(id, &query).await?;
        Ok(if wants_csv.0 { Table::csv(report.lines.into_iter().map(record))? } else { Table::Json(report.into()) })
    }
}

#[cfg(test)]
mod tests {
    use multicredit_domain::CreditType;

    use super::*;

    #[test]
    fn a_line_of_the_table_has_a_value_for_each_column() {
        let names = |suffix: &str| CreditType::ALL.map(|credit_type| format!("{credit_type}_{suffix}"));
        let columns: Vec<String> = ["start".to_owned(), "action".to_owned()]
            .into_iter()
            .chain(names("consumed"))
            .chain(names("refunded"))
            .chain(["count".to_owned(), "refused".to_owned()])
            .collect();
        assert_eq!(columns, COLUMNS);
        let line = UsageLine {
            start: "2026-11-21T23:00:00Z".parse().unwrap(),
            action: None,
            sums: UsageSums { consumed: [1, 2, 3, 4], refunded: [5, 6, 7, 8], count: 9, refused: 10 },
        };
        let written = crate::payload::lines([record(line)], None).unwrap();
        assert_eq!(written, "2026-11-21T23:00:00Z,,1,2,3,4,5,6,7,8,9,10\n");
    }
}
