//! `multicredit report`: how the database is, measured now.

use anyhow::{Context, bail};
use multicredit_store::Store;
use multicredit_store::performance::{PerformanceReport, Thresholds};

use super::{Outcome, database, output};
use crate::config::{ReportArgs, ReportFormat, Since};
use crate::report::{self, Style};

/// Measures, prints, and saves if asked to.
pub async fn run(args: ReportArgs) -> anyhow::Result<Outcome> {
    let store = database::open(&args.database, "report").await?;
    let thresholds = args.thresholds.thresholds();
    let made = make(&store, &args, &thresholds).await;
    store.close().await;
    let (report, since) = made?;
    let show = |style| output::print(&report::render(&report, &thresholds, since.as_ref(), style));
    match args.format {
        ReportFormat::Text => show(Style::Terminal)?,
        ReportFormat::Markdown => show(Style::Markdown)?,
        ReportFormat::Json => output::print_json(&report)?,
    }
    Ok(Outcome::Success)
}

async fn make(
    store: &Store,
    args: &ReportArgs,
    thresholds: &Thresholds,
) -> anyhow::Result<(PerformanceReport, Option<PerformanceReport>)> {
    // Before this one is saved, which would be the newest.
    let since = match &args.since {
        Some(since) => Some(earlier(store, since).await?),
        None => None,
    };
    let report = store.performance(None, thresholds).await.context("cannot measure the database")?;
    if args.save {
        store.save_performance_report(&report, None).await.context("cannot save the report")?;
    }
    Ok((report, since))
}

async fn earlier(store: &Store, since: &Since) -> anyhow::Result<PerformanceReport> {
    let found = match since {
        Since::Last => store.saved_performance_report(None).await,
        Since::Time(at) => store.saved_performance_report(Some(*at)).await,
    };
    match found.context("cannot read saved reports")? {
        Some(report) => Ok(report),
        None => bail!(
            "no report was saved by then: `multicredit report --save` saves one, and so does a server every month"
        ),
    }
}
