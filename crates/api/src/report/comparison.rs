//! A report beside an earlier one.

use multicredit_store::performance::PerformanceReport;

use super::page::Page;
use super::{bytes, count, index_ratio, ms, percent, time};

/// Below this many rows of a table reads by an index say nothing, as in the judgement's default.
const ROWS_MIN: i64 = 1_000;

/// What was and what is, line by line.
pub(super) fn write(page: &mut Page, then: &PerformanceReport, now: &PerformanceReport) {
    page.heading(2, &format!("Since {}", time(then.measured.at)));
    let mut rows = vec![["grade".to_owned(), then.assessment.grade.clone(), now.assessment.grade.clone()]];
    let mut line = |what: String, value: &dyn Fn(&PerformanceReport) -> String| {
        rows.push([what, value(then), value(now)]);
    };
    line("size".to_owned(), &|it| bytes(it.measured.size_bytes));
    let latency = |it: &PerformanceReport, which: usize| {
        let latency = it.measured.consumption.as_ref();
        ms(latency.map(|latency| [latency.p50_ms, latency.p95_ms, latency.p99_ms][which]))
    };
    for (which, name) in ["median", "95 of 100", "99 of 100"].into_iter().enumerate() {
        line(format!("credit consumption, {name}"), &|it| latency(it, which));
    }
    line("reads by an index".to_owned(), &|it| percent(index_ratio(&it.measured, ROWS_MIN)));
    line("blocks found in memory".to_owned(), &|it| percent(it.measured.buffer_hit_ratio));
    for query in &now.measured.queries {
        line(format!("query {}", query.name), &|it| {
            let found = it.measured.queries.iter().find(|other| other.name == query.name);
            ms(found.and_then(|query| query.execution_ms))
        });
    }
    for table in &now.measured.tables {
        let of = |it: &PerformanceReport| it.measured.tables.iter().find(|other| other.name == table.name).cloned();
        line(format!("{}, live rows", table.name), &|it| count(of(it).and_then(|table| table.live)));
        line(format!("{}, dead rows", table.name), &|it| count(of(it).and_then(|table| table.dead)));
    }
    rows.retain(|[_, then, now]| then != now || then.ends_with("ms"));
    page.table(["", "then", "now"], &rows);
}
