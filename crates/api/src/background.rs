//! What a server does while nobody asks: the sweep, which books what has come due, and the jobs that keep the database
//! small and fast.
//!
//! No answer depends on either ([`Store::sweep`] and [`Store::do_job`] say why), so nothing here may end the server: work
//! that fails or panics is logged, and comes again after the same pause.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use multicredit_store::stats::JobOutcome;
use multicredit_store::{Job, JobRun, SWEEP_PAUSE, Store, StoreError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long stopping waits for work that is under way, of the five seconds that there are to close. What takes longer
/// goes on while the store closes, which soon refuses what is left of it.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How long a process waits before it asks again which jobs are due.
const JOBS_PAUSE: Duration = Duration::from_secs(5);

/// How often each job is done, over all processes.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// How often usage is rolled up.
    pub roll_up: Duration,
    /// How often the summary of usage is made anew.
    pub refresh: Duration,
    /// How often everything else is seen to: partitions, keys, old history, dead rows.
    pub maintain: Duration,
}

impl Schedule {
    fn of(&self, job: Job) -> Duration {
        match job {
            Job::RollUpUsage => self.roll_up,
            Job::RefreshSummary => self.refresh,
            Job::MakePartitions | Job::PruneKeys | Job::PruneDeliveries | Job::DropHistory | Job::Vacuum => {
                self.maintain
            }
        }
    }
}

/// Everything that a server does in the background.
#[derive(Debug)]
pub struct Background {
    sweep: Repeating,
    jobs: Repeating,
}

impl Background {
    /// Begins at once.
    pub fn start(store: Store, schedule: Schedule) -> Self {
        let sweep = Repeating::start("a sweep", SWEEP_PAUSE, {
            let store = store.clone();
            move || {
                let store = store.clone();
                async move {
                    let started = Instant::now();
                    let swept = store.sweep().await;
                    store.stats().jobs.ran("sweep", JobOutcome::of(&swept), started.elapsed());
                    swept
                }
            }
        });
        let jobs = Repeating::start("the jobs", JOBS_PAUSE, move || {
            let (store, schedule) = (store.clone(), schedule.clone());
            async move { do_due_jobs(&store, &schedule).await }
        });
        Self { sweep, jobs }
    }

    /// Begins nothing further, and waits for what may be under way.
    pub async fn stop(self) {
        tokio::join!(self.sweep.stop(), self.jobs.stop());
    }
}

/// Does the jobs that are due and nobody else is doing. One that fails does not keep the others from being done.
async fn do_due_jobs(store: &Store, schedule: &Schedule) -> Result<(), StoreError> {
    for job in Job::ALL {
        let started = Instant::now();
        let run = store.do_job(job, Some(schedule.of(job))).await;
        // What was left alone, because it is not due or somebody else does it, is no run.
        if !matches!(run, Ok(JobRun::NotDue | JobRun::Elsewhere)) {
            store.stats().jobs.ran(job.as_str(), JobOutcome::of(&run), started.elapsed());
        }
        match run {
            Ok(JobRun::Done(done)) => tracing::debug!(job = job.as_str(), ?done, "a job is done"),
            Ok(JobRun::NotDue | JobRun::Elsewhere) => {}
            Err(error) => tracing::warn!(job = job.as_str(), %error, "a job failed"),
        }
    }
    Ok(())
}

/// A task that does the same again and again. Where it is dropped instead of stopped, it ends by itself.
#[derive(Debug)]
pub(crate) struct Repeating {
    what: &'static str,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Repeating {
    /// Works at once, and then again and again with a pause in between.
    fn start<W, T>(what: &'static str, pause: Duration, work: impl Fn() -> W + Send + 'static) -> Self
    where
        W: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Debug + Send + 'static,
    {
        Self::start_after(Duration::ZERO, what, pause, work)
    }

    /// The same, for the first time after a while.
    pub(crate) fn start_after<W, T>(
        first_pause: Duration,
        what: &'static str,
        pause: Duration,
        work: impl Fn() -> W + Send + 'static,
    ) -> Self
    where
        W: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Debug + Send + 'static,
    {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            if !first_pause.is_zero() && timeout(first_pause, &mut stopped).await.is_ok() {
                return;
            }
            loop {
                // A task of its own, so that a panic ends this time and no other.
                match tokio::spawn(work()).await {
                    Ok(Ok(done)) => tracing::debug!(?done, "{what}: done"),
                    Ok(Err(error)) => tracing::warn!(%error, "{what} failed"),
                    Err(error) => tracing::error!(%error, "{what} ended abruptly"),
                }
                // Anything but the end of the pause is the end.
                if timeout(pause, &mut stopped).await.is_ok() {
                    return;
                }
            }
        });
        Self { what, stop, task }
    }

    /// Begins nothing further, and waits a little for what may be under way.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        if timeout(STOP_PATIENCE, self.task).await.is_err() {
            tracing::warn!("{} was still under way when the server stopped", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use multicredit_store::Swept;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// A sweeper that counts its sweeps; the first fails and the second panics.
    fn counting() -> (Repeating, impl Fn() -> u32) {
        let count = Arc::new(AtomicU32::new(0));
        let sweeper = Repeating::start("a sweep", SWEEP_PAUSE, {
            let count = count.clone();
            move || {
                let number = count.fetch_add(1, Ordering::SeqCst);
                async move {
                    assert_ne!(number, 1, "the second sweep panics");
                    if number == 0 { Err(StoreError::Busy) } else { Ok(Swept::default()) }
                }
            }
        });
        (sweeper, move || count.load(Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_follow_each_other_whatever_becomes_of_them_until_it_is_stopped() {
        let (sweeper, count) = counting();
        sleep(SWEEP_PAUSE / 2).await;
        assert_eq!(count(), 1);
        sleep(SWEEP_PAUSE * 3).await;
        assert_eq!(count(), 4);
        let asked_at = Instant::now();
        sweeper.stop().await;
        assert_eq!(asked_at.elapsed(), Duration::ZERO, "the pause is not waited for");
        sleep(SWEEP_PAUSE * 3).await;
        assert_eq!(count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_that_hangs_does_not_keep_the_server_from_stopping() {
        let sweeper = Repeating::start("a sweep", SWEEP_PAUSE, std::future::pending::<Result<(), StoreError>>);
        sleep(SWEEP_PAUSE).await;
        let asked_at = Instant::now();
        sweeper.stop().await;
        assert_eq!(asked_at.elapsed(), STOP_PATIENCE);
    }
}
