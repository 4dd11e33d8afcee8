//! Saving a report on a schedule, so that there is something to compare with.
//!
//! Once a period, whichever server comes first: the database takes one report for each. A server looks every hour, so
//! that it need not know how long it has been running, and whatever fails is tried again.

use std::time::{Duration, Instant};

use multicredit_domain::Timestamp;
use multicredit_store::performance::Thresholds;
use multicredit_store::stats::JobOutcome;
use multicredit_store::{Store, StoreError};

use crate::background::Repeating;
use crate::config::ReportSchedule;

/// How long a server waits before its first look: it has better things to do when it starts.
const FIRST_PAUSE: Duration = Duration::from_mins(1);

/// How long it waits between two looks.
const PAUSE: Duration = Duration::from_hours(1);

/// What runs are counted as.
const JOB: &str = "performance_report";

/// The period that an instant belongs to, by name; `None` without a schedule.
pub fn period(schedule: ReportSchedule, at: Timestamp) -> Option<String> {
    let format = match schedule {
        ReportSchedule::Off => return None,
        ReportSchedule::Monthly => "%Y-%m",
        ReportSchedule::Weekly => "%G-W%V",
        ReportSchedule::Daily => "%Y-%m-%d",
    };
    Some(at.format(format).to_string())
}

/// Saves a report of the current period, unless there is one; answers whether it did.
pub async fn save_if_due(store: &Store, schedule: ReportSchedule, thresholds: &Thresholds) -> Result<bool, StoreError> {
    let Some(period) = period(schedule, store.now().await?) else { return Ok(false) };
    if store.has_performance_report(&period).await? {
        return Ok(false);
    }
    let report = store.performance(None, thresholds).await?;
    let saved = store.save_performance_report(&report, Some(&period)).await?;
    if saved {
        tracing::info!(period, grade = report.assessment.grade, "saved a performance report");
    }
    Ok(saved)
}

/// What looks.
#[derive(Debug)]
pub struct ReportKeeper(Option<Repeating>);

impl ReportKeeper {
    /// Begins to look, after a while; not at all without a schedule.
    pub fn start(store: Store, schedule: ReportSchedule, thresholds: Thresholds) -> Self {
        let work = move || {
            let store = store.clone();
            async move {
                let started = Instant::now();
                let saved = save_if_due(&store, schedule, &thresholds).await;
                store.stats().jobs.ran(JOB, JobOutcome::of(&saved), started.elapsed());
                saved
            }
        };
        let is_on = schedule != ReportSchedule::Off;
        Self(is_on.then(|| Repeating::start_after(FIRST_PAUSE, "saving a performance report", PAUSE, work)))
    }

    /// Looks no further, and waits a little for a report that may be under way.
    pub async fn stop(self) {
        if let Some(looking) = self.0 {
            looking.stop().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_the_name_of_its_month_week_or_day() {
        let at = "2027-01-01T00:00:00Z".parse().unwrap();
        let names = [ReportSchedule::Off, ReportSchedule::Monthly, ReportSchedule::Weekly, ReportSchedule::Daily];
        let names = names.map(|schedule| period(schedule, at));
        let expected = [None, Some("2027-01"), Some("2026-W53"), Some("2027-01-01")];
        assert_eq!(names.map(Option::unwrap_or_default), expected.map(Option::unwrap_or_default));
    }
}
