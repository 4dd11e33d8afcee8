//! Invariants that SQL can add up by itself. Each statement answers the rows that violate one, described.

use std::sync::LazyLock;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};

use super::{Check, EXAMPLES_MAX};
use crate::config::Engine;
use crate::error::StoreError;
use crate::sql::{credit_columns, quarter};

/// An invariant and the SELECT of what violates it. The statement names the column `place`: an organization, with a
/// number where one helps to find the row.
struct Invariant {
    name: &'static str,
    violations: String,
}

impl Invariant {
    fn new(name: &'static str, violations: impl Into<String>) -> Self {
        Self { name, violations: violations.into() }
    }
}

/// `a.x_credits_s <op> b.x_credits_t` over the credit types, joined by `junction`.
fn for_each_type(junction: &str, condition: impl Fn(&str) -> String) -> String {
    let conditions = credit_columns("").map(|column| condition(&column.name));
    format!("({})", conditions.collect::<Vec<_>>().join(junction))
}

/// All movements of the ledger, wherever they are stored, as one relation: number, instant, change, balance after. Of an
/// organization with a checkpoint they are those after it, and one that stands for what came before.
static LEDGER: LazyLock<String> = LazyLock::new(|| {
    let booked = for_each_column(|name| format!("{name}available_change, {name}available_after"));
    let spent = for_each_column(|name| format!("-{name}consumed, {name}available_after"));
    let begun = for_each_column(|name| format!("0, k.{name}available"));
    format!(
        "SELECT m.organization_id, m.sequence, m.created_at, FALSE AS is_beginning, {booked} FROM credit_movements m \
         LEFT JOIN retention_checkpoints k ON k.organization_id = m.organization_id \
         WHERE k.sequence IS NULL OR m.sequence > k.sequence \
         UNION ALL \
         SELECT l.organization_id, l.sequence, l.created_at, FALSE, {spent} FROM ({KEPT}) AS l \
         WHERE l.sequence IS NOT NULL AND l.hold_id IS NULL \
         UNION ALL \
         SELECT k.organization_id, k.sequence, k.through, TRUE, {begun} FROM retention_checkpoints k"
    )
});

/// The rows of the log that no checkpoint stands for. Those that one stands for may be there still.
const KEPT: &str = "SELECT l.* FROM credit_consumption_logs l \
    LEFT JOIN retention_checkpoints k ON k.organization_id = l.organization_id \
    WHERE k.through IS NULL OR l.created_at >= k.through";

fn for_each_column(columns: impl Fn(&str) -> String) -> String {
    credit_columns("").map(|column| columns(&column.name)).collect::<Vec<_>>().join(", ")
}

/// The ledger with the movement before each: for checks from one line to the next.
static STEPS: LazyLock<String> = LazyLock::new(|| {
    let before = for_each_column(|name| {
        format!(
            "LAG({name}available_after, 1, CAST(0 AS BIGINT)) OVER w AS {name}before, {name}available_change, {name}available_after"
        )
    });
    format!(
        "SELECT organization_id, sequence, created_at, is_beginning, LAG(created_at) OVER w AS created_before, \
         LAG(sequence, 1, CAST(0 AS BIGINT)) OVER w AS sequence_before, {before} \
         FROM ({ledger}) AS ledger WINDOW w AS (PARTITION BY organization_id ORDER BY sequence)",
        ledger = *LEDGER
    )
});

/// The ledger adds up, line by line.
fn ledger() -> Vec<Invariant> {
    let steps = &*STEPS;
    let ledger = &*LEDGER;
    // Spending leaves what is held alone, so its rows do not say it.
    let held_before = for_each_column(|name| {
        format!(
            "LAG({name}held_after, 1, CAST(0 AS BIGINT)) OVER w AS {name}before, {name}held_change, {name}held_after"
        )
    });
    let held_steps = format!(
        "SELECT organization_id, sequence, {held_before} FROM credit_movements \
         WINDOW w AS (PARTITION BY organization_id ORDER BY sequence)"
    );
    let held_off = for_each_type(" OR ", |name| format!("{name}before + {name}held_change <> {name}held_after"));
    let off = for_each_type(" OR ", |name| format!("{name}before + {name}available_change <> {name}available_after"));
    let last_differs = for_each_type(" OR ", |name| format!("l.{name}available_after <> c.{name}available"));
    let negative = for_each_type(" OR ", |name| format!("c.{name}available < 0 OR c.{name}held < 0"));
    vec![
        Invariant::new(
            "sequences are dense from 1",
            format!(
                "SELECT organization_id, sequence AS place FROM ({steps}) AS s \
                 WHERE NOT is_beginning AND sequence <> sequence_before + 1"
            ),
        ),
        Invariant::new(
            "the account knows the last movement",
            format!(
                "SELECT c.organization_id, c.sequence AS place FROM organization_credits c LEFT JOIN \
                 (SELECT organization_id, MAX(sequence) AS last FROM ({ledger}) AS l GROUP BY organization_id) AS m \
                 ON m.organization_id = c.organization_id WHERE c.sequence <> COALESCE(m.last, 0)"
            ),
        ),
        Invariant::new(
            "the running sum of changes is the balance after every movement",
            format!("SELECT organization_id, sequence AS place FROM ({steps}) AS s WHERE NOT is_beginning AND {off}"),
        ),
        Invariant::new(
            "the running sum of changes is what is held after every movement",
            format!("SELECT organization_id, sequence AS place FROM ({held_steps}) AS s WHERE {held_off}"),
        ),
        Invariant::new(
            "the balance after the last movement is the account's",
            format!(
                "SELECT c.organization_id, c.sequence AS place FROM organization_credits c \
                 JOIN ({ledger}) AS l ON l.organization_id = c.organization_id AND l.sequence = c.sequence \
                 WHERE {last_differs}"
            ),
        ),
        Invariant::new(
            "instants never decrease with the sequence",
            format!("SELECT organization_id, sequence AS place FROM ({steps}) AS s WHERE created_at < created_before"),
        ),
        Invariant::new(
            "no balance is negative",
            format!("SELECT c.organization_id, c.sequence AS place FROM organization_credits c WHERE {negative}"),
        ),
    ]
}

/// Lots, holds and refunds give and take what the ledger says.
fn lots() -> Vec<Invariant> {
    let lot_differs =
        for_each_type(" OR ", |name| format!("g.{name}remaining + COALESCE(d.{name}drawn, 0) <> g.{name}granted"));
    let lot_exceeds =
        for_each_type(" OR ", |name| format!("g.{name}remaining + COALESCE(d.{name}drawn, 0) > g.{name}granted"));
    let drawn = for_each_column(|name| format!("SUM({name}drawn - {name}returned) AS {name}drawn"));
    let sum = |suffix: &str| {
        let columns = credit_columns(suffix).map(|column| format!("SUM({0}) AS {0}", column.name));
        columns.collect::<Vec<_>>().join(", ")
    };
    let (held, refunded) = (sum("held"), sum("refunded"));
    let held_differs = for_each_type(" OR ", |name| format!("c.{name}held <> COALESCE(h.{name}held, 0)"));
    let parts_differ = for_each_type(" OR ", |name| format!("h.{name}held <> COALESCE(d.{name}drawn, 0)"));
    let refund_exceeds = for_each_type(" OR ", |name| format!("r.{name}refunded > l.{name}consumed"));
    // What was consumed beyond the hold came from what was available; what was held is held no more.
    let capture_differs = for_each_type(" OR ", |name| {
        format!(
            "m.{name}held_change <> -h.{name}held \
             OR (l.{name}consumed > h.{name}held AND m.{name}available_change <> h.{name}held - l.{name}consumed) \
             OR (l.{name}consumed <= h.{name}held AND (m.{name}available_change < 0 \
             OR m.{name}available_change > h.{name}held - l.{name}consumed))"
        )
    });
    vec![
        // What came back to a lot that had ended is gone, from whatever state it ended in.
        Invariant::new(
            "what was drawn from a lot and what remains of it make up what was granted",
            format!(
                "SELECT g.organization_id, d.draws AS place FROM credit_grants g LEFT JOIN \
                 (SELECT organization_id, grant_id, COUNT(*) AS draws, {drawn} FROM credit_draws \
                 GROUP BY organization_id, grant_id) AS d \
                 ON d.organization_id = g.organization_id AND d.grant_id = g.id \
                 JOIN organization_credits c ON c.organization_id = g.organization_id \
                 WHERE (g.state IN ('pending', 'active', 'exhausted') \
                 AND (g.expires_at IS NULL OR g.expires_at > c.last_movement_at) AND {lot_differs}) OR {lot_exceeds}"
            ),
        ),
        Invariant::new(
            "what is held is what open holds have set aside",
            format!(
                "SELECT c.organization_id, c.sequence AS place FROM organization_credits c LEFT JOIN \
                 (SELECT organization_id, {held} FROM credit_holds WHERE state = 'open' GROUP BY organization_id) AS h \
                 ON h.organization_id = c.organization_id WHERE {held_differs}"
            ),
        ),
        Invariant::new(
            "the parts of an open hold make up what it has set aside",
            format!(
                "SELECT h.organization_id, h.sequence AS place FROM credit_holds h LEFT JOIN \
                 (SELECT organization_id, sequence, {drawn} FROM credit_draws GROUP BY organization_id, sequence) AS d \
                 ON d.organization_id = h.organization_id AND d.sequence = h.sequence \
                 WHERE h.state = 'open' AND {parts_differ}"
            ),
        ),
        Invariant::new(
            "a hold comes to its end once, as its state says",
            format!(
                "SELECT h.organization_id, h.sequence AS place FROM credit_holds h LEFT JOIN \
             (SELECT organization_id, reference, SUM(CASE kind WHEN 'hold' THEN 1 ELSE 0 END) AS placed, \
             SUM(CASE kind WHEN 'release' THEN 1 ELSE 0 END) AS released, \
             SUM(CASE kind WHEN 'hold_expiry' THEN 1 ELSE 0 END) AS expired FROM credit_movements \
             WHERE kind IN ('hold', 'release', 'hold_expiry') GROUP BY organization_id, reference) AS m \
             ON m.organization_id = h.organization_id AND m.reference = h.id LEFT JOIN \
             (SELECT organization_id, hold_id, COUNT(*) AS captured FROM ({KEPT}) AS l \
             WHERE hold_id IS NOT NULL AND sequence IS NOT NULL GROUP BY organization_id, hold_id) AS l \
             ON l.organization_id = h.organization_id AND l.hold_id = h.id \
             LEFT JOIN retention_checkpoints k ON k.organization_id = h.organization_id \
             WHERE COALESCE(m.placed, 0) <> 1 \
             OR COALESCE(m.released, 0) <> CASE h.state WHEN 'released' THEN 1 ELSE 0 END \
             OR COALESCE(m.expired, 0) <> CASE h.state WHEN 'expired' THEN 1 ELSE 0 END \
             OR COALESCE(l.captured, 0) <> CASE WHEN h.state = 'captured' \
             AND (k.through IS NULL OR h.finished_at >= k.through) THEN 1 ELSE 0 END"
            ),
        ),
        Invariant::new(
            "a capture takes what was not held from what was available",
            format!(
                "SELECT l.organization_id, l.sequence AS place FROM ({KEPT}) AS l \
                 JOIN credit_holds h ON h.organization_id = l.organization_id AND h.id = l.hold_id \
                 LEFT JOIN credit_movements m ON m.organization_id = l.organization_id AND m.sequence = l.sequence \
                 WHERE l.sequence IS NOT NULL AND (m.kind IS NULL OR m.kind <> 'capture' OR {capture_differs})"
            ),
        ),
        Invariant::new(
            "no more is refunded than was consumed",
            format!(
                "SELECT r.organization_id, l.sequence AS place FROM \
                 (SELECT organization_id, consumption_id, SUM(quantity) AS quantity, {refunded} FROM credit_refunds \
                 GROUP BY organization_id, consumption_id) AS r LEFT JOIN credit_consumption_logs l \
                 ON l.organization_id = r.organization_id AND l.id = r.consumption_id \
                 LEFT JOIN retention_checkpoints k ON k.organization_id = r.organization_id \
                 WHERE (l.id IS NULL AND k.through IS NULL) OR (l.id IS NOT NULL AND l.sequence IS NULL) \
                 OR r.quantity > l.quantity OR {refund_exceeds}"
            ),
        ),
    ]
}

/// The one invariant of retention, which takes several statements: each holds the checkpoints against something else
/// that was kept.
const CHECKPOINTS: &str = "retention checkpoints carry the sums of what was dropped";

/// Checkpoints against what is kept of the time before them: every movement but spending, every refund, every draw.
fn checkpoints() -> Vec<Invariant> {
    let booked = for_each_column(|name| {
        format!(
            "COALESCE(SUM({name}available_change), 0) AS {name}gained, COALESCE(SUM({name}held_change), 0) AS {name}held_then"
        )
    });
    let off = for_each_type(" OR ", |name| {
        format!("m.{name}gained - k.{name}spent <> k.{name}available OR m.{name}held_then <> k.{name}held")
    });
    let refunded = for_each_column(|name| format!("COALESCE(SUM(r.{name}refunded), 0) AS {name}given_back"));
    let refunds_off = for_each_type(" OR ", |name| format!("r.{name}given_back <> k.{name}refunded"));
    vec![
        Invariant::new(
            CHECKPOINTS,
            format!(
                "SELECT k.organization_id, k.sequence AS place FROM retention_checkpoints k JOIN \
                 (SELECT k.organization_id, COUNT(m.sequence) AS booked_count, \
                 COUNT(CASE WHEN m.kind = 'capture' THEN 1 END) AS captured_count, \
                 COUNT(CASE WHEN m.created_at >= k.through THEN 1 END) AS late_count, {booked} \
                 FROM retention_checkpoints k LEFT JOIN credit_movements m \
                 ON m.organization_id = k.organization_id AND m.sequence <= k.sequence GROUP BY k.organization_id) AS m \
                 ON m.organization_id = k.organization_id \
                 WHERE m.booked_count + k.spent_count <> k.sequence OR m.captured_count <> k.captured_count \
                 OR m.late_count > 0 OR {off}"
            ),
        ),
        Invariant::new(
            CHECKPOINTS,
            format!(
                "SELECT k.organization_id, k.sequence AS place FROM retention_checkpoints k JOIN \
                 (SELECT k.organization_id, COUNT(r.id) AS refund_count, {refunded} FROM retention_checkpoints k \
                 LEFT JOIN (SELECT r.* FROM credit_refunds r LEFT JOIN ({KEPT}) AS l \
                 ON l.organization_id = r.organization_id AND l.id = r.consumption_id WHERE l.id IS NULL) AS r \
                 ON r.organization_id = k.organization_id GROUP BY k.organization_id) AS r \
                 ON r.organization_id = k.organization_id \
                 WHERE r.refund_count <> k.refund_count OR {refunds_off}"
            ),
        ),
        // Nothing that is dropped may still have to be said: by lots that are not settled, or in usage.
        Invariant::new(
            CHECKPOINTS,
            "SELECT k.organization_id, k.sequence AS place FROM retention_checkpoints k \
             LEFT JOIN organization_credits c ON c.organization_id = k.organization_id \
             LEFT JOIN usage_totals t ON t.organization_id = k.organization_id \
             WHERE c.settled_sequence IS NULL OR c.settled_sequence < k.sequence \
             OR t.through IS NULL OR t.through < k.through",
        ),
    ]
}

/// Rows of different tables belong together.
fn rows() -> Vec<Invariant> {
    vec![
        Invariant::new(
            "one success per idempotency key",
            "SELECT k.organization_id, COUNT(*) AS place FROM idempotency_keys k \
             GROUP BY k.organization_id, k.reference HAVING COUNT(*) > 1",
        ),
        Invariant::new(
            "a consumption's key names a success",
            "SELECT k.organization_id, 0 AS place FROM idempotency_keys k LEFT JOIN credit_consumption_logs l \
             ON l.organization_id = k.organization_id AND l.id = k.reference AND l.created_at = k.reference_at \
             LEFT JOIN retention_checkpoints c ON c.organization_id = k.organization_id \
             WHERE k.operation = 'consume' AND l.sequence IS NULL \
             AND (c.through IS NULL OR k.reference_at >= c.through)",
        ),
        Invariant::new(
            "no log row or key without its organization",
            "SELECT t.organization_id, 0 AS place FROM (SELECT DISTINCT organization_id FROM credit_consumption_logs \
             UNION SELECT DISTINCT organization_id FROM idempotency_keys) AS t \
             LEFT JOIN organizations o ON o.id = t.organization_id WHERE o.id IS NULL",
        ),
        Invariant::new(
            "every organization has an account, with its status",
            "SELECT o.id AS organization_id, 0 AS place FROM organizations o LEFT JOIN organization_credits c \
             ON c.organization_id = o.id WHERE c.status IS NULL OR c.status <> o.status",
        ),
    ]
}

/// What is added up in advance is what adding it up now gives. Both sides are added, one of them with its sign turned:
/// what is left over is what differs.
fn usage(engine: Engine) -> Vec<Invariant> {
    let counts = ["consumption_count".to_owned(), "refused_count".to_owned()];
    let names: Vec<String> =
        credit_columns("consumed").chain(credit_columns("refunded")).map(|column| column.name).chain(counts).collect();
    let each = |separator: &str, f: &dyn Fn(&str) -> String| {
        names.iter().map(|name| f(name)).collect::<Vec<_>>().join(separator)
    };
    let quarter = quarter(engine, "COALESCE(l.occurred_at, l.created_at)");
    let of_attempt = each(", ", &|name| match name {
        "consumption_count" => "CASE WHEN l.success THEN 1 ELSE 0 END AS consumption_count".to_owned(),
        "refused_count" => "CASE WHEN l.success THEN 0 ELSE 1 END AS refused_count".to_owned(),
        name if name.ends_with("refunded") => format!("0 AS {name}"),
        name => format!("l.{name}"),
    });
    let of_refund = each(", ", &|name| if name.ends_with("refunded") { format!("r.{name}") } else { "0".to_owned() });
    let log = format!(
        "SELECT l.organization_id, {quarter} AS bucket_start, l.action_type, {of_attempt} \
         FROM ({KEPT}) AS l JOIN usage_totals t ON t.organization_id = l.organization_id \
         WHERE l.created_at < t.through \
         UNION ALL \
         SELECT r.organization_id, {quarter}, l.action_type, {of_refund} FROM credit_refunds r \
         JOIN usage_totals t ON t.organization_id = r.organization_id \
         JOIN ({KEPT}) AS l ON l.organization_id = r.organization_id AND l.id = r.consumption_id \
         WHERE r.created_at < t.through"
    );
    // What is in the rollups beyond the log was dropped. It lies in the quarters until history begins, and its sums are
    // the checkpoint's.
    let of_checkpoint = each(", ", &|name| match name {
        "consumption_count" => "spent_count + captured_count".to_owned(),
        name if name.ends_with("consumed") => {
            format!("{} + {}", name.replace("consumed", "spent"), name.replace("consumed", "captured"))
        }
        name => name.to_owned(),
    });
    let sums = each(", ", &|name| format!("SUM({name}) AS {name}"));
    let exceeds = each(" OR ", &|name| format!("s.{name} > 0"));
    let plain = each(", ", &str::to_owned);
    let negated = each(", ", &|name| format!("-{name}"));
    let differs = each(" OR ", &|name| format!("SUM({name}) <> 0"));
    vec![
        Invariant::new(
            "usage rollups are the sums of the log",
            format!(
                "SELECT s.organization_id, 0 AS place FROM \
                 (SELECT organization_id, bucket_start, action_type, {sums} FROM ({log} \
                 UNION ALL SELECT organization_id, bucket_start, action_type, {negated} FROM usage_rollups) AS both_sides \
                 GROUP BY organization_id, bucket_start, action_type HAVING {differs}) AS s \
                 LEFT JOIN retention_checkpoints k ON k.organization_id = s.organization_id \
                 WHERE k.through IS NULL OR s.bucket_start > k.through OR {exceeds}"
            ),
        ),
        Invariant::new(
            CHECKPOINTS,
            format!(
                "SELECT k.organization_id, k.sequence AS place FROM retention_checkpoints k JOIN \
                 (SELECT organization_id FROM ({log} \
                 UNION ALL SELECT organization_id, through, '', {of_checkpoint} FROM retention_checkpoints \
                 UNION ALL SELECT organization_id, bucket_start, action_type, {negated} FROM usage_rollups) AS all_sides \
                 GROUP BY organization_id HAVING {differs}) AS s ON s.organization_id = k.organization_id"
            ),
        ),
        Invariant::new(
            "usage totals are the sums of the rollups",
            format!(
                "SELECT organization_id, 0 AS place FROM (SELECT organization_id, {plain} FROM usage_rollups \
                 UNION ALL SELECT organization_id, {negated} FROM usage_totals) AS both_sides \
                 GROUP BY organization_id HAVING {differs}"
            ),
        ),
    ]
}

/// Checks them all.
pub(super) async fn check(transaction: &DatabaseTransaction) -> Result<Vec<Check>, StoreError> {
    let backend = transaction.get_database_backend();
    let mut found = Vec::new();
    let engine = if backend == DbBackend::Postgres { Engine::Postgres } else { Engine::Sqlite };
    for Invariant { name, violations } in [ledger(), lots(), checkpoints(), rows(), usage(engine)].into_iter().flatten()
    {
        let sql = format!(
            "SELECT v.organization_id, CAST(v.place AS BIGINT) AS place, COUNT(*) OVER () AS violations \
             FROM ({violations}) AS v LIMIT {EXAMPLES_MAX}"
        );
        let rows = transaction.query_all_raw(Statement::from_string(backend, sql)).await?;
        let mut check = Check { name, violations: 0, examples: Vec::with_capacity(rows.len()), is_warning: false };
        for row in rows {
            check.violations = u64::try_from(row.try_get::<i64>("", "violations")?).unwrap_or(u64::MAX);
            let organization_id: uuid::Uuid = row.try_get("", "organization_id")?;
            let place: Option<i64> = row.try_get("", "place")?;
            let place = place.filter(|place| *place > 0).map_or_else(String::new, |place| format!(", number {place}"));
            check.examples.push(format!("organization {organization_id}{place}"));
        }
        // What several statements look for is one invariant.
        match found.iter_mut().find(|other: &&mut Check| other.name == check.name) {
            Some(other) => other.add(check),
            None => found.push(check),
        }
    }
    Ok(found)
}
