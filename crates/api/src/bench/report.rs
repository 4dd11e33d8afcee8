//! What a run found: for people as text or Markdown, for programs as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::histogram::Histogram;
use super::rows::{LIMITS, Limit, Place, Quantity, RATIOS, RESIDENT_REACH_BYTES, Ratio, Row};
use super::usage::Memory;

/// Percentiles of latency, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "a unit stands last in a name, in JSON too")]
pub struct Latency {
    /// Half are faster.
    pub p50_us: f64,
    /// 99 of 100 are faster.
    pub p99_us: f64,
    /// 999 of 1,000 are faster.
    pub p999_us: f64,
}

impl Latency {
    /// Those of a histogram.
    pub fn of(histogram: &Histogram) -> Self {
        let micros = |per_mille| histogram.percentile(per_mille).as_secs_f64() * 1e6;
        Self { p50_us: micros(500), p99_us: micros(990), p999_us: micros(999) }
    }
}

/// Processor time for each thing done (request, row or call), in microseconds; none where it could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "a unit stands last in a name, in JSON too")]
pub struct CpuUse {
    /// The server's.
    pub server_us: Option<f64>,
    /// The load generator's.
    pub load_us: Option<f64>,
    /// PostgreSQL's.
    pub postgres_us: Option<f64>,
}

/// One measurement of a row.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Which round it was of, from 1.
    pub round: u32,
    /// From how many connections.
    pub connections: usize,
    /// Things done a second: requests, calls, or rows where one request has many.
    pub rate: f64,
    /// Latencies of the closed loop.
    #[serde(flatten)]
    pub latency: Latency,
    /// Where the processors' time went.
    pub cpu: CpuUse,
    /// The open loop that followed.
    pub open: Option<OpenSample>,
    /// Webhooks a second that arrived meanwhile, where somebody was told.
    pub webhooks: Option<f64>,
}

/// A measurement at a fixed rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OpenSample {
    /// The rate at which requests were due.
    pub rate: f64,
    /// Latencies from when they were due.
    #[serde(flatten)]
    pub latency: Latency,
}

/// A row as it was measured.
#[derive(Debug, Serialize)]
pub struct RowResult {
    /// Its name.
    pub id: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// Where it was measured.
    pub place: &'static str,
    /// From how many connections: the best of those tried.
    pub connections: Option<usize>,
    /// The median of the rounds' rates.
    pub rate: Option<f64>,
    /// The lowest of the rounds' rates.
    pub rate_min: Option<f64>,
    /// The highest of the rounds' rates.
    pub rate_max: Option<f64>,
    /// The medians of the rounds' percentiles.
    pub latency: Option<Latency>,
    /// The same of the open loop, and its rate.
    pub open: Option<OpenSample>,
    /// The medians of the processor times.
    pub cpu: CpuUse,
    /// The median of the webhooks a second that arrived meanwhile, where somebody was told.
    pub webhooks: Option<f64>,
    /// Every round of the best number of connections.
    pub samples: Vec<Sample>,
    /// The first round of the other numbers of connections.
    pub others: Vec<Sample>,
    /// Why there is nothing.
    pub note: Option<String>,
}

impl RowResult {
    /// The row from its measurements, of whatever numbers of connections.
    pub fn new(row: &Row, samples: Vec<Sample>, note: Option<String>) -> Self {
        let best = best_connections(&samples);
        let (samples, others): (Vec<_>, Vec<_>) = samples.into_iter().partition(|it| Some(it.connections) == best);
        let over = |value: &dyn Fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(value).collect());
        let rates = || samples.iter().map(|sample| sample.rate);
        let latency = |of: &dyn Fn(&Sample) -> Option<Latency>| {
            Some(Latency {
                p50_us: over(&|sample| Some(of(sample)?.p50_us))?,
                p99_us: over(&|sample| Some(of(sample)?.p99_us))?,
                p999_us: over(&|sample| Some(of(sample)?.p999_us))?,
            })
        };
        let open_rate = over(&|sample| Some(sample.open?.rate));
        let open_latency = latency(&|sample| Some(sample.open?.latency));
        Self {
            id: row.id,
            label: row.label,
            place: row.place.name(),
            connections: best,
            rate: over(&|sample| Some(sample.rate)),
            rate_min: rates().reduce(f64::min),
            rate_max: rates().reduce(f64::max),
            latency: latency(&|sample| Some(sample.latency)),
            open: open_rate.zip(open_latency).map(|(rate, latency)| OpenSample { rate, latency }),
            cpu: CpuUse {
                server_us: over(&|sample| sample.cpu.server_us),
                load_us: over(&|sample| sample.cpu.load_us),
                postgres_us: over(&|sample| sample.cpu.postgres_us),
            },
            webhooks: over(&|sample| sample.webhooks),
            samples,
            others,
            note,
        }
    }
}

/// The number of connections with the highest rate in the first round, in which all are tried.
pub fn best_connections(samples: &[Sample]) -> Option<usize> {
    let first = samples.iter().filter(|sample| sample.round == 1);
    first.max_by(|a, b| a.rate.total_cmp(&b.rate)).map(|sample| sample.connections)
}

/// A ratio as it was measured.
#[derive(Debug, Serialize)]
pub struct RatioResult {
    /// Its name.
    pub id: &'static str,
    /// The rows and what of them.
    pub of: String,
    /// The median of the rounds' ratios; none where a row is missing.
    pub value: Option<f64>,
    /// The lowest of the rounds' ratios.
    pub min: Option<f64>,
    /// The highest of the rounds' ratios.
    pub max: Option<f64>,
    /// What it should be.
    pub reach: Option<f64>,
    /// Whether it should be at most, and not at least, that.
    pub at_most: bool,
    /// Whether it is.
    pub met: Option<bool>,
}

/// A latency beside its limit.
#[derive(Debug, Serialize)]
pub struct LimitResult {
    /// The row.
    pub row: &'static str,
    /// `p50` or `p99`.
    pub quantity: &'static str,
    /// The median of the rounds, in microseconds.
    pub value_us: f64,
    /// What the most should be, in microseconds.
    pub reach_us: f64,
    /// Whether it is.
    pub met: bool,
}

/// The memory of a server after all its rows.
#[derive(Debug, Serialize)]
pub struct MemoryResult {
    /// Where it was measured.
    pub place: &'static str,
    /// What it had resident at the end, in bytes.
    pub resident_bytes: u64,
    /// The most that it had, in bytes.
    pub peak_bytes: u64,
    /// What the most should be.
    pub reach_bytes: u64,
    /// Whether it is.
    pub met: bool,
}

impl MemoryResult {
    /// What a server had.
    pub const fn new(place: Place, memory: Memory) -> Self {
        Self {
            place: place.name(),
            resident_bytes: memory.resident,
            peak_bytes: memory.peak,
            reach_bytes: RESIDENT_REACH_BYTES,
            met: memory.peak <= RESIDENT_REACH_BYTES,
        }
    }
}

/// Whether the database holds what was acknowledged.
#[derive(Debug, Serialize)]
pub struct CheckResult {
    /// Where it was measured, or `seed-style`.
    pub database: &'static str,
    /// Consumptions that were acknowledged.
    pub acknowledged: u64,
    /// Consumptions in the log.
    pub charged: u64,
    /// Whether every invariant of the ledger holds, where there is one.
    pub verified: Option<bool>,
}

impl CheckResult {
    fn passed(&self) -> bool {
        self.acknowledged == self.charged && self.verified != Some(false)
    }
}

/// Where and how it was measured.
#[derive(Debug, Serialize)]
pub struct Circumstances {
    /// The program's version.
    pub version: &'static str,
    /// Whether the program was built with optimizations.
    pub optimized: bool,
    /// Processors.
    pub cores: usize,
    /// The server's version.
    pub postgres: Option<String>,
    /// Rounds.
    pub rounds: u32,
    /// Measured seconds of each phase.
    pub seconds: f64,
    /// Clients, where there are many.
    pub clients: usize,
    /// Organizations, where there are many.
    pub organizations: usize,
    /// Rows of the log in the long history, where history is measured.
    pub history: Option<u64>,
    /// The load average before.
    pub load_at_start: Option<f64>,
    /// The load average after.
    pub load_at_end: Option<f64>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where and how.
    pub circumstances: Circumstances,
    /// What to keep in mind.
    pub warnings: Vec<String>,
    /// The rows.
    pub rows: Vec<RowResult>,
    /// The ratios of which a row was wanted.
    pub ratios: Vec<RatioResult>,
    /// The limits of rows.
    pub limits: Vec<LimitResult>,
    /// The servers' memory.
    pub memory: Vec<MemoryResult>,
    /// The databases afterwards.
    pub checks: Vec<CheckResult>,
    /// Answers that were not what they should be.
    pub failures: Vec<String>,
    /// Whether every answer was right and every database as it should be. Ratios do not count.
    pub passed: bool,
}

impl Report {
    /// The report, with the ratios that follow from the rows.
    pub fn new(
        circumstances: Circumstances,
        warnings: Vec<String>,
        rows: Vec<RowResult>,
        memory: Vec<MemoryResult>,
        checks: Vec<CheckResult>,
        failures: Vec<String>,
    ) -> Self {
        let was_wanted = |id| rows.iter().any(|row: &RowResult| row.id == id);
        let ratios = RATIOS.iter().filter(|ratio| was_wanted(ratio.over) || was_wanted(ratio.under));
        let ratios = ratios.map(|ratio| measured(ratio, &rows)).collect();
        let limits = LIMITS.iter().filter_map(|limit| kept(limit, &rows)).collect();
        let passed = failures.is_empty() && checks.iter().all(CheckResult::passed);
        Self { circumstances, warnings, rows, ratios, limits, memory, checks, failures, passed }
    }
}

/// A ratio over the rounds: of each round by itself, because what disturbs a round disturbs both rows.
fn measured(ratio: &Ratio, rows: &[RowResult]) -> RatioResult {
    let samples = |id| rows.iter().find(|row| row.id == id).map_or(&[][..], |row| row.samples.as_slice());
    let quantity = |sample: &Sample| ratio.quantity.of(sample.rate, sample.latency);
    let of_round = |over: &Sample| {
        let under = samples(ratio.under).iter().find(|under| under.round == over.round)?;
        Some(quantity(over) / quantity(under)).filter(|value| value.is_finite())
    };
    let values: Vec<f64> = samples(ratio.over).iter().filter_map(of_round).collect();
    let at_most = ratio.quantity != Quantity::Rate;
    let value = median(values.clone());
    let met = value.zip(ratio.reach).map(|(value, reach)| if at_most { value <= reach } else { value >= reach });
    RatioResult {
        id: ratio.id,
        of: format!("{} / {}, {}", ratio.over, ratio.under, ratio.quantity.name()),
        value,
        min: values.iter().copied().reduce(f64::min),
        max: values.iter().copied().reduce(f64::max),
        reach: ratio.reach,
        at_most,
        met,
    }
}

impl Quantity {
    /// Its value.
    const fn of(self, rate: f64, latency: Latency) -> f64 {
        match self {
            Self::Rate => rate,
            Self::P50 => latency.p50_us,
            Self::P99 => latency.p99_us,
        }
    }
}

/// The limit's latency; `None` where the row was not measured.
fn kept(limit: &Limit, rows: &[RowResult]) -> Option<LimitResult> {
    let row = rows.iter().find(|row| row.id == limit.row)?;
    let value_us = limit.quantity.of(row.rate?, row.latency?);
    Some(LimitResult {
        row: limit.row,
        quantity: limit.quantity.name(),
        value_us,
        reach_us: limit.reach_us,
        met: value_us <= limit.reach_us,
    })
}

/// The value in the middle, or the mean of the two there.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*lower, *upper))
}

/// How tables are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// Columns for a terminal.
    Text,
    /// Tables of Markdown.
    Markdown,
}

impl Report {
    /// The report for people.
    pub fn draw(&self, drawing: Drawing) -> String {
        let at = &self.circumstances;
        let mut text = format!(
            "multicredit {} on {} cores, {}; {} rounds of {} s a phase, {} clients, {} organizations{}\n\
             load average {} at the start, {} at the end\n",
            at.version,
            at.cores,
            at.postgres.as_deref().unwrap_or("no PostgreSQL"),
            at.rounds,
            at.seconds,
            at.clients,
            at.organizations,
            at.history.map_or_else(String::new, |rows| format!(", {rows} rows of history")),
            number(at.load_at_start, 2),
            number(at.load_at_end, 2),
        );
        for warning in &self.warnings {
            let _ = writeln!(text, "WARNING: {warning}");
        }
        text.push('\n');
        text.push_str(&table(&self.rows_drawn(), drawing));
        text.push('\n');
        text.push_str(&table(&self.ratios_drawn(), drawing));
        text.push('\n');
        for check in &self.checks {
            let verdict = if check.passed() { "ok" } else { "WRONG" };
            let verified = match check.verified {
                Some(true) => ", every invariant of the ledger holds",
                Some(false) => ", INVARIANTS ARE VIOLATED",
                None => "",
            };
            let CheckResult { database, acknowledged, charged, .. } = check;
            let _ = writeln!(text, "{verdict}: {database}: {acknowledged} acknowledged, {charged} charged{verified}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        text.trim_end().to_owned()
    }

    fn rows_drawn(&self) -> Vec<Vec<String>> {
        let head = [
            "row",
            "connections",
            "rate/s",
            "spread",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "open rate/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "cpu us: server",
            "load",
            "postgres",
        ];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for row in &self.rows {
            let mut line = vec![format!("{}: {}", row.place, row.label)];
            if let Some(note) = &row.note {
                line.push(note.clone());
            } else {
                line.push(row.connections.map_or_else(|| "-".to_owned(), |connections| connections.to_string()));
                line.push(number(row.rate, 0));
                line.push(format!("{}..{}", number(row.rate_min, 0), number(row.rate_max, 0)));
                line.extend(latencies(row.latency));
                line.push(number(row.open.map(|open| open.rate), 0));
                line.extend(latencies(row.open.map(|open| open.latency)));
                line.extend([row.cpu.server_us, row.cpu.load_us, row.cpu.postgres_us].map(|cpu| number(cpu, 1)));
            }
            line.resize(head.len(), String::new());
            lines.push(line);
        }
        lines
    }

    fn ratios_drawn(&self) -> Vec<Vec<String>> {
        let head = ["ratio", "value", "spread", "reach", "met"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let met = |met: Option<bool>| met.map_or("-", |met| if met { "yes" } else { "NO" }).to_owned();
        for ratio in &self.ratios {
            let sign = if ratio.at_most { "<=" } else { ">=" };
            lines.push(vec![
                ratio.of.clone(),
                number(ratio.value, 3),
                format!("{}..{}", number(ratio.min, 3), number(ratio.max, 3)),
                ratio.reach.map_or_else(|| "-".to_owned(), |reach| format!("{sign} {reach}")),
                met(ratio.met),
            ]);
        }
        for row in self.rows.iter().filter(|row| row.webhooks.is_some()) {
            let arrived = format!("{}: webhooks a second that arrived", row.id);
            lines.push(vec![arrived, number(row.webhooks, 0), String::new(), "-".to_owned(), "-".to_owned()]);
        }
        for limit in &self.limits {
            lines.push(vec![
                format!("{}, {}", limit.row, limit.quantity),
                milliseconds(limit.value_us),
                String::new(),
                format!("<= {}", milliseconds(limit.reach_us)),
                met(Some(limit.met)),
            ]);
        }
        for memory in &self.memory {
            lines.push(vec![
                format!("{}: the server's peak resident memory", memory.place),
                mebibytes(memory.peak_bytes),
                format!("{} at the end", mebibytes(memory.resident_bytes)),
                format!("<= {}", mebibytes(memory.reach_bytes)),
                met(Some(memory.met)),
            ]);
        }
        lines
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn milliseconds(micros: f64) -> String {
    format!("{:.3} ms", micros / 1e3)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn latencies(latency: Option<Latency>) -> [String; 3] {
    [latency.map(|it| it.p50_us), latency.map(|it| it.p99_us), latency.map(|it| it.p999_us)]
        .map(|micros| number(micros.map(|micros| micros / 1e3), 3))
}

/// The lines as a table, the first being its head. Numbers are to the right, names to the left.
fn table(lines: &[Vec<String>], drawing: Drawing) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (nth, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match (drawing, column) {
            (Drawing::Markdown, _) => cell.clone(),
            (Drawing::Text, 0) => format!("{cell:width$}"),
            (Drawing::Text, _) => format!("{cell:>width$}"),
        });
        let cells: Vec<String> = cells.collect();
        match drawing {
            Drawing::Text => {
                let _ = writeln!(text, "{}", cells.join("  ").trim_end());
            }
            Drawing::Markdown => {
                let _ = writeln!(text, "| {} |", cells.join(" | "));
                if nth == 0 {
                    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(columns.saturating_sub(1)));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::rows::ROWS;
    use super::*;

    fn sample(round: u32, connections: usize, rate: f64) -> Sample {
        let latency = Latency { p50_us: 1e6 / rate, p99_us: 2e6 / rate, p999_us: 3e6 / rate };
        Sample { round, connections, rate, latency, cpu: CpuUse::default(), open: None, webhooks: None }
    }

    fn result(id: &str, samples: Vec<Sample>) -> RowResult {
        RowResult::new(ROWS.iter().find(|row| row.id == id).unwrap(), samples, None)
    }

    fn report(rows: Vec<RowResult>, checks: Vec<CheckResult>) -> Report {
        let circumstances = Circumstances {
            version: "1",
            optimized: true,
            cores: 2,
            postgres: None,
            rounds: 3,
            seconds: 4.0,
            clients: 64,
            organizations: 10_000,
            history: None,
            load_at_start: None,
            load_at_end: None,
        };
        Report::new(circumstances, Vec::new(), rows, Vec::new(), checks, Vec::new())
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn the_best_of_the_first_round_counts_in_all_rounds() {
        let row =
            result("seed-one", vec![sample(1, 1, 10.0), sample(1, 4, 30.0), sample(2, 4, 50.0), sample(3, 4, 20.0)]);
        assert_eq!(
            (row.connections, row.rate, row.rate_min, row.rate_max),
            (Some(4), Some(30.0), Some(20.0), Some(50.0))
        );
        assert_eq!((row.samples.len(), row.others.len()), (3, 1));
        assert_eq!(row.latency.map(|it| it.p50_us), Some(1e6 / 30.0));
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios_and_says_whether_it_is_reached() {
        let fast = result("consume-one", vec![sample(1, 64, 100.0), sample(2, 64, 10.0), sample(3, 64, 60.0)]);
        let base = result("nothing", vec![sample(1, 64, 200.0), sample(2, 64, 20.0), sample(3, 64, 100.0)]);
        let (slow, seed) = (result("consume-1", vec![sample(1, 1, 10.0)]), result("seed-1", vec![sample(1, 1, 20.0)]));
        let report = report(vec![fast, base, slow, seed], Vec::new());
        let ratio = |id| report.ratios.iter().find(|ratio| ratio.id == id).unwrap();
        let reached = ratio("one-organization-to-nothing");
        assert_eq!(
            (reached.value, reached.min, reached.max, reached.met),
            (Some(0.5), Some(0.5), Some(0.6), Some(true))
        );
        let missed = ratio("one-client-p50-to-seed");
        assert_eq!((missed.value, missed.met), (Some(2.0), Some(false)));
        assert_eq!(ratio("zipf-to-nothing").value, None);
        assert!(report.ratios.iter().all(|ratio| ratio.id != "batch-to-raw-insert"));

        let text = report.draw(Drawing::Text);
        assert!(text.contains("consume-one / nothing, rate") && text.contains(">= 0.5  yes"), "{text}");
        assert!(text.contains("<= 1.25   NO"), "{text}");
        assert!(
            report
                .draw(Drawing::Markdown)
                .contains("| consume-1 / seed-1, p50 | 2.000 | 2.000..2.000 | <= 1.25 | NO |")
        );
    }

    #[test]
    fn a_limit_is_of_a_rows_latency_and_shown_where_the_row_is() {
        let look_up = |rate| report(vec![result("long-look-up", vec![sample(1, 1, rate)])], Vec::new());
        let (fast, slow) = (look_up(10_000.0), look_up(1_000.0));
        assert_eq!((fast.limits[0].value_us, fast.limits[0].met, slow.limits[0].met), (200.0, true, false));
        let text = slow.draw(Drawing::Markdown);
        assert!(text.contains("| long-look-up, p99 | 2.000 ms |  | <= 1.326 ms | NO |"), "{text}");
        assert!(report(Vec::new(), Vec::new()).limits.is_empty());
    }

    #[test]
    fn a_consumption_that_is_missing_fails_the_run() {
        let check = |charged, verified| CheckResult { database: "postgres", acknowledged: 3, charged, verified };
        assert!(report(Vec::new(), vec![check(3, Some(true)), check(3, None)]).passed);
        assert!(!report(Vec::new(), vec![check(2, Some(true))]).passed);
        assert!(!report(Vec::new(), vec![check(3, Some(false))]).passed);
    }
}
