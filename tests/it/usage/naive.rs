//! A naive report: everything is read, and each event is put into its bucket by looking at the calendar.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use multicredit_domain::credit::COUNT;
use multicredit_domain::{OrganizationId, Timestamp, UsageBucket, UsageSums};
use multicredit_store::UsageReport;
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};

/// Something that happened: when it counts, of which action, and what it adds.
pub struct Event {
    /// When it counts.
    pub at: Timestamp,
    /// Of which action.
    pub action: String,
    /// What it adds.
    pub sums: UsageSums,
}

const TYPES: [&str; COUNT] = ["ai", "whatsapp", "email", "sms"];

fn vector(row: &QueryResult, suffix: &str) -> [i64; COUNT] {
    TYPES.map(|name| row.try_get("", &format!("{name}_credits_{suffix}")).unwrap())
}

/// Everything that the log and the refunds have of an organization.
pub async fn events(db: &DatabaseConnection, organization_id: OrganizationId) -> Vec<Event> {
    let read = async |sql: String| {
        let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
        rows.into_iter()
            .filter(|row| row.try_get::<uuid::Uuid>("", "organization_id").unwrap() == organization_id.uuid())
            .collect::<Vec<_>>()
    };
    let at = |row: &QueryResult| -> Timestamp {
        let occurred_at: Option<DateTime<Utc>> = row.try_get("", "occurred_at").unwrap();
        occurred_at.unwrap_or_else(|| row.try_get("", "created_at").unwrap())
    };
    let log = read("SELECT * FROM credit_consumption_logs".to_owned()).await;
    let mut events = Vec::new();
    for row in &log {
        let success: bool = row.try_get("", "success").unwrap();
        let sums = UsageSums {
            consumed: vector(row, "consumed"),
            count: i64::from(success),
            refused: i64::from(!success),
            ..UsageSums::default()
        };
        events.push(Event { at: at(row), action: row.try_get("", "action_type").unwrap(), sums });
    }
    for refund in read("SELECT * FROM credit_refunds".to_owned()).await {
        let id: uuid::Uuid = refund.try_get("", "consumption_id").unwrap();
        let row = log.iter().find(|row| row.try_get::<uuid::Uuid>("", "id").unwrap() == id).unwrap();
        let sums = UsageSums { refunded: vector(&refund, "refunded"), ..UsageSums::default() };
        events.push(Event { at: at(row), action: row.try_get("", "action_type").unwrap(), sums });
    }
    events
}

/// What a clock on the wall shows of an instant, cut to the bucket: two instants are in one bucket if that is the same.
pub fn label(bucket: UsageBucket, at: Timestamp, zone: &str) -> String {
    let zoned = jiff::Timestamp::from_microsecond(at.timestamp_micros()).unwrap().in_tz(zone).unwrap();
    match bucket {
        // With the offset: an hour of the clock comes twice where it is set back.
        UsageBucket::Hour => zoned.strftime("%Y-%m-%d %H %z").to_string(),
        UsageBucket::Day => zoned.strftime("%Y-%m-%d").to_string(),
        UsageBucket::Month => zoned.strftime("%Y-%m").to_string(),
    }
}

/// The report of these events between two instants.
pub fn report(
    events: &[Event],
    (from, to): (Timestamp, Timestamp),
    bucket: UsageBucket,
    zone: &str,
    by_action: bool,
) -> BTreeMap<(String, Option<String>), UsageSums> {
    let mut lines = BTreeMap::new();
    for event in events.iter().filter(|event| from <= event.at && event.at < to) {
        let key = (label(bucket, event.at, zone), by_action.then(|| event.action.clone()));
        lines.entry(key).or_insert_with(UsageSums::default).add(&event.sums);
    }
    lines
}

/// A report of the product's, in the same form.
pub fn shown(report: &UsageReport, bucket: UsageBucket, zone: &str) -> BTreeMap<(String, Option<String>), UsageSums> {
    let key = |start, action: &Option<multicredit_domain::ActionType>| {
        (label(bucket, start, zone), action.as_ref().map(|action| action.as_str().to_owned()))
    };
    let lines: BTreeMap<_, _> = report.lines.iter().map(|line| (key(line.start, &line.action), line.sums)).collect();
    assert_eq!(lines.len(), report.lines.len(), "no bucket comes twice");
    lines
}
