//! `multicredit maintain`: the jobs of the background, done now.

use std::time::Instant;

use multicredit_store::{DroppedHistory, Job, JobDone, JobRun, RolledUp, Store};
use serde::Serialize;

use super::{Outcome, database, output};
use crate::config::{MaintainArgs, OutputFormat};

/// What became of a job.
#[derive(Debug, Serialize)]
struct Line {
    job: &'static str,
    status: Status,
    /// What was done, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<JobDone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    duration_ms: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It was done.
    Done,
    /// It would be done.
    Planned,
    /// A server is doing it.
    Elsewhere,
    /// It failed.
    Failed,
}

/// Everything, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    jobs: &'a [Line],
}

/// Does every job, or says what it would do. One that fails does not keep the others from being done.
pub async fn run(args: MaintainArgs) -> anyhow::Result<Outcome> {
    let store = database::open_to_maintain(&args.database, args.retention, "maintain").await?;
    let mut lines = Vec::new();
    for job in Job::ALL {
        let line = attend_to(&store, job, args.dry_run).await;
        match args.output.format {
            // At once, so that one sees how far it is.
            OutputFormat::Text => output::print(&describe(&line))?,
            OutputFormat::Json => output::complain(&describe(&line)),
        }
        lines.push(line);
    }
    store.close().await;
    if args.output.format == OutputFormat::Json {
        output::print_json(&Report { dry_run: args.dry_run, jobs: &lines })?;
    }
    let failed = lines.iter().any(|line| line.status == Status::Failed);
    Ok(if failed { Outcome::Violation } else { Outcome::Success })
}

async fn attend_to(store: &Store, job: Job, dry_run: bool) -> Line {
    let began = Instant::now();
    let outcome = if dry_run {
        store.plan_job(job).await.map(|detail| (Status::Planned, Some(detail)))
    } else {
        store.do_job(job, None).await.map(|run| match run {
            JobRun::Done(detail) => (Status::Done, Some(detail)),
            JobRun::NotDue | JobRun::Elsewhere => (Status::Elsewhere, None),
        })
    };
    let (status, detail, error) = match outcome {
        // An organization that was in somebody's way is one that has to be seen to again.
        Ok((Status::Done, Some(JobDone::RolledUp(RolledUp { failed, .. })))) if failed > 0 => {
            (Status::Failed, None, Some(format!("{failed} organizations could not be rolled up")))
        }
        Ok((status, detail)) => (status, detail, None),
        Err(error) => (Status::Failed, None, Some(error.to_string())),
    };
    Line { job: job.as_str(), status, detail, error, duration_ms: began.elapsed().as_millis() }
}

fn describe(line: &Line) -> String {
    let verdict = match line.status {
        Status::Done => "done",
        Status::Planned => "to do",
        Status::Elsewhere => "left",
        Status::Failed => "FAILED",
    };
    let detail = match (&line.detail, &line.error) {
        (_, Some(error)) => error.clone(),
        (None, None) => "a server is doing it".to_owned(),
        (Some(detail), None) => in_words(detail),
    };
    format!("{verdict:6}  {:16} {detail}", line.job)
}

fn in_words(detail: &JobDone) -> String {
    match detail {
        JobDone::RolledUp(RolledUp { organizations, attempts, .. }) => {
            format!("{attempts} attempts of {organizations} organizations")
        }
        JobDone::Refreshed { materialized: true } => "mv_organization_usage_summary".to_owned(),
        JobDone::Refreshed { materialized: false } => "nothing: a view is always current".to_owned(),
        JobDone::Partitions { made } => format!("{made} months"),
        JobDone::Pruned { keys } => format!("{keys} idempotency keys"),
        JobDone::PrunedDeliveries { deliveries } => format!("{deliveries} attempts to deliver webhooks"),
        JobDone::Dropped(DroppedHistory { organizations, attempts, partitions, left }) => {
            let left = if *left > 0 { format!(", {left} left for later") } else { String::new() };
            format!("{attempts} attempts of {organizations} organizations, {partitions} partitions{left}")
        }
        JobDone::Vacuumed { tables } if tables.is_empty() => "no table needs it".to_owned(),
        JobDone::Vacuumed { tables } => tables.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: Status, detail: Option<JobDone>, error: Option<&str>) -> Line {
        Line { job: "prune_keys", status, detail, error: error.map(str::to_owned), duration_ms: 3 }
    }

    #[test]
    fn each_job_has_a_line_that_says_what_became_of_it() {
        let pruned = || Some(JobDone::Pruned { keys: 7 });
        assert_eq!(describe(&line(Status::Done, pruned(), None)), "done    prune_keys       7 idempotency keys");
        assert_eq!(describe(&line(Status::Planned, pruned(), None)), "to do   prune_keys       7 idempotency keys");
        assert_eq!(describe(&line(Status::Elsewhere, None, None)), "left    prune_keys       a server is doing it");
        assert_eq!(describe(&line(Status::Failed, None, Some("no"))), "FAILED  prune_keys       no");
    }

    #[test]
    fn the_json_has_what_was_done_by_name() {
        let lines = [line(Status::Done, Some(JobDone::Pruned { keys: 7 }), None)];
        let json = serde_json::to_value(Report { dry_run: false, jobs: &lines }).unwrap();
        let expected = serde_json::json!({
            "dry_run": false,
            "jobs": [{ "job": "prune_keys", "status": "done", "detail": { "keys": 7 }, "duration_ms": 3 }],
        });
        assert_eq!(json, expected);
    }
}
