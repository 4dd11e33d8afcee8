//! `multicredit bench`: rates and latencies, side by side with what they are compared with.

use std::time::Duration;

use anyhow::{Context, bail};
use multicredit_store::Engine;

use super::{Outcome, output};
use crate::bench::{self, Drawing, Settings};
use crate::config::{BenchArgs, BenchEngine, ReportFormat};
use crate::shutdown::StopSignals;

/// Measures and prints what was found.
pub async fn run(args: BenchArgs) -> anyhow::Result<Outcome> {
    let settings = settings(&args);
    // A signal must not end the process by itself: databases on a server that was given are to be dropped.
    let mut signals = StopSignals::listen().context("cannot take signals over")?;
    let report = tokio::select! {
        report = bench::run(&settings, &output::complain) => report?,
        name = signals.received() => bail!("ended by {name}"),
    };
    match args.format {
        ReportFormat::Text => output::print(&report.draw(Drawing::Text))?,
        ReportFormat::Markdown => output::print(&report.draw(Drawing::Markdown))?,
        ReportFormat::Json => output::print_json(&report)?,
    }
    Ok(if report.passed { Outcome::Success } else { Outcome::Violation })
}

fn settings(args: &BenchArgs) -> Settings {
    let engines = match args.engine {
        BenchEngine::Postgres => vec![Engine::Postgres],
        BenchEngine::Sqlite => vec![Engine::Sqlite],
        BenchEngine::All => vec![Engine::Postgres, Engine::Sqlite],
    };
    Settings {
        engines,
        clients: usize::from(args.clients),
        organizations: args.organizations as usize,
        history: args.history,
        rounds: args.rounds,
        measured: Duration::from_secs_f64(args.seconds),
        only: args.only.clone(),
        postgres_url: args.database_url.as_ref().map(|url| url.expose().to_owned()),
        postgres_bin: args.postgres_bin.clone(),
    }
}
