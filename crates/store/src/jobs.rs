//! Jobs of the background: what keeps the database small and fast, and no answer depends on.
//!
//! Every process that serves asks again and again which jobs are due, and whoever gets a job's lease does it: one process
//! at a time, as often as one process alone would. A lease is short and renewed while the job goes on, so that a process
//! that died is followed soon. It saves work and is not what makes anything correct: each job bears with being done twice
//! at once.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::TimeDelta;
use multicredit_domain::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

use crate::clock;
use crate::config::Engine;
use crate::error::StoreError;
use crate::retention::DroppedHistory;
use crate::sql::{Cell, Column, Kind, Statement};
use crate::store::Store;
use crate::usage::RolledUp;

/// How long a process may say nothing before another one takes its job over.
const LEASE: TimeDelta = TimeDelta::minutes(1);

/// How often a process renews its lease.
const RENEWAL: Duration = Duration::from_secs(15);

/// Further away than any job is due.
const FAR: TimeDelta = TimeDelta::days(36_500);

/// How far back a rollup looks for refusals, from when the one before began: longer than any transaction takes.
const REFUSALS_LOOKBACK: TimeDelta = TimeDelta::minutes(10);

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Adding to the sums of usage what the log has got since.
    RollUpUsage,
    /// Making the summary of usage anew.
    RefreshSummary,
    /// Making the partitions of the months to come.
    MakePartitions,
    /// Deleting the idempotency keys whose days are over.
    PruneKeys,
    /// Deleting the attempts to deliver webhooks that are older than is kept.
    PruneDeliveries,
    /// Dropping the history that is older than is to be kept.
    DropHistory,
    /// Collecting dead rows, and statistics, where there is need.
    Vacuum,
}

impl Job {
    /// Every job, in the order in which they are done where all are due.
    pub const ALL: [Self; 7] = [
        Self::RollUpUsage,
        Self::RefreshSummary,
        Self::MakePartitions,
        Self::PruneKeys,
        Self::PruneDeliveries,
        Self::DropHistory,
        Self::Vacuum,
    ];

    /// The name in the database and to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RollUpUsage => "roll_up_usage",
            Self::RefreshSummary => "refresh_summary",
            Self::MakePartitions => "make_partitions",
            Self::PruneKeys => "prune_keys",
            Self::PruneDeliveries => "prune_deliveries",
            Self::DropHistory => "drop_history",
            Self::Vacuum => "vacuum",
        }
    }
}

/// What a job did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum JobDone {
    /// Usage was rolled up.
    RolledUp(RolledUp),
    /// The summary was made anew.
    Refreshed {
        /// Whether there is anything to refresh: on SQLite it is a view, which is always current.
        materialized: bool,
    },
    /// Partitions were made.
    Partitions {
        /// How many.
        made: u64,
    },
    /// Keys were deleted.
    Pruned {
        /// How many.
        keys: u64,
    },
    /// Attempts to deliver webhooks were deleted.
    PrunedDeliveries {
        /// How many.
        deliveries: u64,
    },
    /// History was dropped.
    Dropped(DroppedHistory),
    /// Tables were vacuumed and analyzed.
    Vacuumed {
        /// Which.
        tables: Vec<String>,
    },
}

/// How it stands with a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRun<T = JobDone> {
    /// It was done here.
    Done(T),
    /// It is not due yet.
    NotDue,
    /// Another process is doing it.
    Elsewhere,
}

static FIND: LazyLock<Statement> = LazyLock::new(|| {
    Statement::new(vec![Column::new("name", Kind::Text)], |d| {
        format!(
            "SELECT b.leased_until, b.due_at, b.done_as_of FROM {} JOIN background_jobs b ON b.name = v.name",
            d.source
        )
    })
});

/// Takes the lease if nobody has it and the job is due. Whoever comes at the same time finds it taken.
static CLAIM: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("name", Kind::Text),
        Column::new("holder", Kind::Uuid),
        Column::new("leased_until", Kind::Time),
        Column::new("due_at", Kind::Time),
        Column::new("started_at", Kind::Time),
        Column::new("was_due_at", Kind::Time),
    ];
    Statement::new(columns, |d| {
        // `WHERE true`: without it SQLite takes ON for the beginning of a join's condition. What is done now, out of turn,
        // is due again when it was due anyway.
        format!(
            "INSERT INTO background_jobs (name, holder, leased_until, due_at, started_at) \
             SELECT v.name, v.holder, v.leased_until, v.due_at, v.started_at FROM {source} WHERE true \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, leased_until = excluded.leased_until, \
             due_at = CASE WHEN background_jobs.due_at > excluded.due_at THEN background_jobs.due_at \
             ELSE excluded.due_at END, started_at = excluded.started_at \
             WHERE background_jobs.leased_until <= excluded.started_at \
             AND background_jobs.due_at <= (SELECT v.was_due_at FROM {source}) RETURNING name",
            source = d.source
        )
    })
});

static RENEW: LazyLock<Statement> = LazyLock::new(|| {
    let columns =
        vec![Column::new("job", Kind::Text), Column::new("holder_id", Kind::Uuid), Column::new("until", Kind::Time)];
    Statement::new(columns, |d| {
        format!(
            "UPDATE background_jobs AS b SET leased_until = v.until FROM {} \
             WHERE b.name = v.job AND b.holder = v.holder_id RETURNING name",
            d.source
        )
    })
});

static FINISH: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("job", Kind::Text),
        Column::new("holder_id", Kind::Uuid),
        Column::new("at", Kind::Time),
        Column::new("done_as_of", Kind::Time),
        Column::new("outcome", Kind::Text),
    ];
    Statement::new(columns, |d| {
        format!(
            "UPDATE background_jobs AS b SET leased_until = v.at, outcome = v.outcome, \
             done_as_of = COALESCE(v.done_as_of, b.done_as_of) FROM {} \
             WHERE b.name = v.job AND b.holder = v.holder_id RETURNING name",
            d.source
        )
    })
});

/// A lease that this process has.
struct Lease {
    job: Job,
    holder: Uuid,
    started_at: Timestamp,
    /// When the last run began that came to its end.
    done_before: Option<Timestamp>,
}

impl Store {
    /// Does a job if it is due and nobody else is doing it; `every` says when it is due again, and `None` that it is to be
    /// done now.
    pub async fn do_job(&self, job: Job, every: Option<Duration>) -> Result<JobRun, StoreError> {
        let since = |done_before: Option<Timestamp>| match every {
            Some(_) => done_before.map(|at| at - REFUSALS_LOOKBACK),
            None => None,
        };
        self.run_job(job, every, async |done_before| match job {
            Job::RollUpUsage => self.roll_up_usage(since(done_before)).await.map(JobDone::RolledUp),
            Job::RefreshSummary => self.refresh_summary().await.map(|materialized| JobDone::Refreshed { materialized }),
            Job::MakePartitions => self.make_partitions().await.map(|made| JobDone::Partitions { made }),
            Job::PruneKeys => self.prune_keys().await.map(|keys| JobDone::Pruned { keys }),
            Job::PruneDeliveries => {
                self.prune_deliveries().await.map(|deliveries| JobDone::PrunedDeliveries { deliveries })
            }
            Job::DropHistory => self.drop_history().await.map(JobDone::Dropped),
            Job::Vacuum => self.vacuum().await.map(|tables| JobDone::Vacuumed { tables }),
        })
        .await
    }

    /// What a job would do if it were done now. Changes nothing.
    pub async fn plan_job(&self, job: Job) -> Result<JobDone, StoreError> {
        Ok(match job {
            Job::RollUpUsage => JobDone::RolledUp(self.usage_backlog().await?),
            Job::RefreshSummary => JobDone::Refreshed { materialized: self.engine() == Engine::Postgres },
            Job::MakePartitions => JobDone::Partitions { made: self.missing_partitions().await? },
            Job::PruneKeys => JobDone::Pruned { keys: self.expired_keys().await? },
            Job::PruneDeliveries => JobDone::PrunedDeliveries { deliveries: self.old_deliveries().await? },
            Job::DropHistory => JobDone::Dropped(self.droppable_history().await?),
            Job::Vacuum => JobDone::Vacuumed { tables: self.tables_to_vacuum().await? },
        })
    }

    /// When the last run of a job began that came to its end: what it made is at least as young.
    pub(crate) async fn job_done_as_of(&self, job: Job) -> Result<Option<Timestamp>, StoreError> {
        let mut rows = FIND.rows();
        rows.cell(Cell::Static(job.as_str())).end();
        let found = FIND.query(self.database(), &rows).await?;
        Ok(found.first().map(|row| row.try_get("", "done_as_of")).transpose()?.flatten())
    }

    /// Does `work` under the lease of a job. It gets the instant at which it was last done to its end.
    async fn run_job<T: std::fmt::Debug>(
        &self,
        job: Job,
        every: Option<Duration>,
        work: impl AsyncFnOnce(Option<Timestamp>) -> Result<T, StoreError>,
    ) -> Result<JobRun<T>, StoreError> {
        let lease = match self.claim(job, every).await? {
            JobRun::Done(lease) => lease,
            JobRun::NotDue => return Ok(JobRun::NotDue),
            JobRun::Elsewhere => return Ok(JobRun::Elsewhere),
        };
        let outcome = {
            let working = work(lease.done_before);
            tokio::pin!(working);
            let mut renewal = interval_at(Instant::now() + RENEWAL, RENEWAL);
            renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    outcome = &mut working => break outcome,
                    _ = renewal.tick() => self.renew(&lease).await,
                }
            }
        };
        self.finish(&lease, &outcome).await?;
        outcome.map(JobRun::Done)
    }

    async fn claim(&self, job: Job, every: Option<Duration>) -> Result<JobRun<Lease>, StoreError> {
        let now = self.now().await?;
        let mut rows = FIND.rows();
        rows.cell(Cell::Static(job.as_str())).end();
        // Asking first: nearly always there is nothing to do, and asking writes nothing.
        let mut done_before = None;
        if let Some(row) = FIND.query(self.database(), &rows).await?.first() {
            let (leased_until, due_at): (Timestamp, Timestamp) =
                (row.try_get("", "leased_until")?, row.try_get("", "due_at")?);
            done_before = row.try_get("", "done_as_of")?;
            if leased_until > now {
                return Ok(JobRun::Elsewhere);
            }
            if every.is_some() && due_at > now {
                return Ok(JobRun::NotDue);
            }
        }
        let holder = clock::new_uuid();
        let pause = every.and_then(|every| TimeDelta::from_std(every).ok()).unwrap_or_default();
        let mut rows = CLAIM.rows();
        rows.cell(Cell::Static(job.as_str()))
            .cell(Cell::Uuid(holder))
            .cell(Cell::Time(now + LEASE))
            .cell(Cell::Time(now + pause))
            .cell(Cell::Time(now))
            .cell(Cell::Time(if every.is_some() { now } else { now + FAR }))
            .end();
        let claimed = !CLAIM.query(self.database(), &rows).await?.is_empty();
        Ok(if claimed { JobRun::Done(Lease { job, holder, started_at: now, done_before }) } else { JobRun::Elsewhere })
    }

    async fn renew(&self, lease: &Lease) {
        let renewed = async {
            let until = self.now().await? + LEASE;
            let mut rows = RENEW.rows();
            rows.cell(Cell::Static(lease.job.as_str())).cell(Cell::Uuid(lease.holder)).cell(Cell::Time(until)).end();
            Ok::<_, StoreError>(RENEW.query(self.database(), &rows).await?)
        };
        // Without the lease the job goes on: at worst somebody else begins it as well.
        if let Err(error) = renewed.await {
            tracing::warn!(job = lease.job.as_str(), %error, "the lease of a job could not be renewed");
        }
    }

    async fn finish<T: std::fmt::Debug>(
        &self,
        lease: &Lease,
        outcome: &Result<T, StoreError>,
    ) -> Result<(), StoreError> {
        let now = self.now().await?;
        let (done_as_of, text) = match outcome {
            Ok(done) => (Some(lease.started_at), format!("{done:?}")),
            Err(error) => (None, error.to_string()),
        };
        let mut rows = FINISH.rows();
        rows.cell(Cell::Static(lease.job.as_str()))
            .cell(Cell::Uuid(lease.holder))
            .cell(Cell::Time(now))
            .cell(Cell::opt(done_as_of, Cell::Time))
            .cell(Cell::Text(text))
            .end();
        FINISH.query(self.database(), &rows).await?;
        Ok(())
    }
}
