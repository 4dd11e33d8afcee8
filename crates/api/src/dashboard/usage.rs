//! What one organization used: by time, and by action.

use std::collections::BTreeMap;

use askama::Template;
use chrono::TimeDelta;
use multicredit_domain::{ActionType, Timestamp, UsageBucket, UsageSums};
use multicredit_store::UsageQuery;
use poem::Response;

use super::Subject;
use super::answer::{self, Shell};
use super::charts::{self, Bars, Bucket};
use super::organization::Heading;
use super::query::Query;
use super::show::{self, Chips, Moment};
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "dashboard/usage.html")]
struct UsagePage {
    shell: Shell,
    heading: Heading,
    periods: Vec<Period>,
    chart: Bars,
    consumed: Chips,
    refunded: Chips,
    count: String,
    refused: String,
    actions: Vec<ActionRow>,
    complete_through: Moment,
    width: f64,
    height: f64,
    spark_width: f64,
    spark_height: f64,
}

/// A period to choose.
struct Period {
    key: &'static str,
    name: &'static str,
    is_chosen: bool,
}

/// What was done of one action.
struct ActionRow {
    action: String,
    spark: Vec<(f64, f64, f64)>,
    spark_bar: f64,
    count: String,
    refused: String,
    consumed: Chips,
    refunded: Chips,
    order: i64,
}

const fn period_name(bucket: UsageBucket) -> &'static str {
    match bucket {
        UsageBucket::Hour => "24 hours",
        UsageBucket::Day => "30 days",
        UsageBucket::Month => "12 months",
    }
}

/// The page.
pub async fn page(subject: &Subject<'_>, query: &Query) -> Result<Response, Problem> {
    let store = subject.auth.store();
    let organization = store.organization(subject.id).await?;
    let bucket = query.get("by").and_then(UsageBucket::from_name).unwrap_or(UsageBucket::Day);
    let zone = organization.time_zone.clone();
    // As the API does where nobody says a period.
    let to = store.now().await? + TimeDelta::microseconds(1);
    let from = to - bucket.default_period();
    let spans = bucket.spans(&zone, from, to).map_err(Problem::from)?;
    let wanted = UsageQuery { from, to, bucket, time_zone: zone.clone(), by_action: true };
    let report = store.usage(subject.id, &wanted).await?;

    let starts: Vec<Timestamp> = spans.iter().map(|span| span.start).collect();
    let mut by_time: BTreeMap<Timestamp, UsageSums> =
        starts.iter().map(|start| (*start, UsageSums::default())).collect();
    let mut by_action: BTreeMap<ActionType, (UsageSums, BTreeMap<Timestamp, i64>)> = BTreeMap::new();
    let mut all = UsageSums::default();
    for line in report.lines {
        by_time.entry(line.start).or_default().add(&line.sums);
        all.add(&line.sums);
        if let Some(action) = line.action {
            let (sums, counts) = by_action.entry(action).or_default();
            sums.add(&line.sums);
            *counts.entry(line.start).or_default() += line.sums.count;
        }
    }
    let buckets: Vec<(String, Bucket)> = by_time
        .iter()
        .map(|(start, sums)| {
            (charts::bucket_name(bucket, &zone, *start), Bucket { count: sums.count, refused: sums.refused })
        })
        .collect();
    let mut actions: Vec<ActionRow> =
        by_action.into_iter().map(|(action, (sums, counts))| row(&action, &sums, &counts, &starts)).collect();
    actions.sort_by_key(|row| std::cmp::Reverse(row.order));
    let periods =
        UsageBucket::ALL.map(|it| Period { key: it.as_str(), name: period_name(it), is_chosen: it == bucket });
    answer::html(&UsagePage {
        shell: subject.visit.shell("organizations"),
        heading: Heading::new(&organization, "usage"),
        periods: periods.into(),
        chart: charts::bars(format!("Consumptions by {}", bucket.as_str()), &buckets),
        consumed: show::sums(all.consumed),
        refunded: show::sums(all.refunded),
        count: show::number(all.count),
        refused: show::number(all.refused),
        actions,
        complete_through: show::moment_to_the_second(report.complete_through),
        width: charts::BARS_WIDTH,
        height: charts::BARS_HEIGHT,
        spark_width: charts::SPARK_WIDTH,
        spark_height: charts::SPARK_HEIGHT,
    })
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn row(action: &ActionType, sums: &UsageSums, counts: &BTreeMap<Timestamp, i64>, starts: &[Timestamp]) -> ActionRow {
    let counts: Vec<i64> = starts.iter().map(|start| counts.get(start).copied().unwrap_or_default()).collect();
    ActionRow {
        action: action.to_string(),
        spark: charts::spark(&counts),
        spark_bar: (charts::SPARK_WIDTH / starts.len().max(1) as f64 * 8.0).round() / 10.0,
        count: show::number(sums.count),
        refused: show::number(sums.refused),
        consumed: show::sums(sums.consumed),
        refunded: show::sums(sums.refunded),
        order: sums.count + sums.refused,
    }
}
