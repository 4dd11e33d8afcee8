//! `multicredit bench`: the server's rates and latencies, and what they are compared with, side by side in one run.
//!
//! Rates alone say little: machines differ, and the same machine differs from minute to minute. So everything is measured
//! against something on the same machine at the same time. Each round measures every row once, one after the other, every
//! other round backwards; a ratio is taken of each round by itself, and the median of the rounds counts.
//!
//! [`rows`] says what is measured, [`stand`] sets a database and a server up and measures them, [`report`] adds up. How
//! things are with a [`history`] is measured by itself, with a short and a long one. The load comes from [`load`], with
//! the requests of [`request`], or from `pgbench` for procedures in the database. `docs/PERFORMANCE.md` explains the method.

pub mod client;
mod data;
mod databases;
mod draw;
pub mod histogram;
mod history;
mod load;
mod pgbench;
mod raw;
mod report;
mod request;
mod rows;
mod server;
mod stand;
mod usage;
mod webhooks;

use std::path::PathBuf;
use std::time::Duration;

use multicredit_store::Engine;

use self::report::{CheckResult, Circumstances, MemoryResult, RowResult, Sample};
use self::rows::{Place, ROWS, Row};
use self::stand::Stand;

pub use self::report::{Drawing, Report};

/// The load average a core from which a machine is too busy to be measured.
const LOAD_MAX: f64 = 0.5;

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The engines.
    pub engines: Vec<Engine>,
    /// Clients, in the rows with many.
    pub clients: usize,
    /// Organizations, in the rows with many.
    pub organizations: usize,
    /// Rows of the log in the long history; then what depends on history is measured, and nothing else.
    pub history: Option<u64>,
    /// Rounds.
    pub rounds: u32,
    /// How long each phase of a round is measured.
    pub measured: Duration,
    /// The rows whose names contain one of these; all if there is none.
    pub only: Vec<String>,
    /// A PostgreSQL server to use, in databases of its own; none starts a throwaway one.
    pub postgres_url: Option<String>,
    /// Where PostgreSQL's programs are; none looks for them.
    pub postgres_bin: Option<PathBuf>,
}

impl Settings {
    /// The places whose rows are measured in turns: those of the same round are compared with each other.
    fn groups(&self) -> Vec<Vec<Place>> {
        if self.history.is_some() {
            return vec![vec![Place::ShortHistory, Place::LongHistory]];
        }
        let places = |engine: &Engine| match engine {
            Engine::Postgres => vec![Place::Postgres, Place::Cached, Place::Told],
            Engine::Sqlite => vec![Place::Sqlite],
        };
        self.engines.iter().flat_map(places).map(|place| vec![place]).collect()
    }

    fn rows(&self, group: &[Place]) -> Vec<&'static Row> {
        let is_wanted =
            |row: &&Row| self.only.is_empty() || self.only.iter().any(|part| row.id.contains(part.as_str()));
        ROWS.iter().filter(|row| group.contains(&row.place)).filter(is_wanted).collect()
    }

    /// How long each phase runs before it is measured.
    fn warm_up(&self) -> Duration {
        (self.measured / 4).min(Duration::from_secs(1))
    }
}

/// Measures, telling `say` how far it is.
pub async fn run(settings: &Settings, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Report> {
    let mut circumstances = Circumstances {
        version: env!("CARGO_PKG_VERSION"),
        optimized: !cfg!(debug_assertions),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        postgres: None,
        rounds: settings.rounds,
        seconds: settings.measured.as_secs_f64(),
        clients: settings.clients,
        organizations: settings.organizations,
        history: settings.history,
        load_at_start: usage::load_average(),
        load_at_end: None,
    };
    let warnings = warnings(&circumstances);
    for warning in &warnings {
        say(&format!("warning: {warning}"));
    }
    let mut found = Found::default();
    for group in settings.groups() {
        let rows = settings.rows(&group);
        let mut stands = Vec::with_capacity(group.len());
        for place in group.into_iter().filter(|place| rows.iter().any(|row| row.place == *place)) {
            say(&format!("{}: making {} organizations", place.name(), settings.organizations));
            stands.push(Stand::build(place, settings, say).await?);
        }
        let versions = || stands.iter().find_map(Stand::postgres_version).map(str::to_owned);
        circumstances.postgres = circumstances.postgres.or_else(versions);
        let measured = measure(&stands, &rows, settings, say, &mut found).await;
        let mut checked = Vec::new();
        for stand in stands {
            checked.push(stand.finish().await);
        }
        measured?;
        for checks in checked {
            found.checks.extend(checks?);
        }
    }
    circumstances.load_at_end = usage::load_average();
    Ok(Report::new(circumstances, warnings, found.rows, found.memory, found.checks, found.failures))
}

#[derive(Default)]
struct Found {
    rows: Vec<RowResult>,
    memory: Vec<MemoryResult>,
    checks: Vec<CheckResult>,
    failures: Vec<String>,
}

async fn measure(
    stands: &[Stand],
    rows: &[&'static Row],
    settings: &Settings,
    say: &(dyn Fn(&str) + Sync),
    found: &mut Found,
) -> anyhow::Result<()> {
    let rows: Vec<(&Row, &Stand)> =
        rows.iter().filter_map(|row| Some((*row, stands.iter().find(|stand| stand.place() == row.place)?))).collect();
    let mut samples: Vec<Vec<Sample>> = rows.iter().map(|_| Vec::new()).collect();
    for round in 1..=settings.rounds {
        for nth in in_turns(round, rows.len()) {
            let ((row, stand), samples) = (rows[nth], &mut samples[nth]);
            if stand.missing(row).is_some() {
                continue;
            }
            // All numbers of connections in the first round, the best of them in the others.
            let best = report::best_connections(samples);
            for connections in best.map_or_else(|| row.connections.variants(settings.clients), |best| vec![best]) {
                let (sample, failures) = stand.measure(row, connections, round, settings).await?;
                say(&format!("round {round}: {}, {connections} connections: {:.0}/s", row.id, sample.rate));
                found.failures.extend(failures);
                samples.push(sample);
            }
        }
    }
    let results = rows.iter().zip(samples);
    found.rows.extend(results.map(|((row, stand), samples)| RowResult::new(row, samples, stand.missing(row))));
    found.memory.extend(stands.iter().filter_map(Stand::memory));
    Ok(())
}

/// The rows in their order, and backwards in every other round: what comes first finds the machine otherwise than what
/// comes next, and a ratio should not say so.
fn in_turns(round: u32, rows: usize) -> Vec<usize> {
    let forwards = 0..rows;
    if round % 2 == 1 { forwards.collect() } else { forwards.rev().collect() }
}

fn warnings(at: &Circumstances) -> Vec<String> {
    let mut warnings = Vec::new();
    if let (Some(load), Ok(cores)) = (at.load_at_start, u32::try_from(at.cores))
        && load > LOAD_MAX * f64::from(cores)
    {
        warnings.push(format!("the machine is busy (load average {load}): rates mean little, ratios less than usual"));
    }
    if !at.optimized {
        warnings.push("this is a build without optimizations: its figures mean nothing".to_owned());
    }
    warnings
}
