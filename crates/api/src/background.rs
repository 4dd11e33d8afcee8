//! What a server does while nobody asks: the sweep, which books what has come due, the alerts, which tell what became of
//! balances, and the jobs that keep the database small and fast.
//!
//! No answer depends on any ([`Store::sweep`] and [`Store::do_job`] say why), so nothing here may end the server: work
//! that fails or panics is logged, and comes again after the same pause.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use multicredit_store::stats::JobOutcome;
use multicredit_store::{FORECASTS_EVERY, Job, JobRun, SWEEP_PAUSE, Store, StoreError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long stopping waits for work that is under way, of the five seconds that there are to close. What takes longer
/// goes on while the store closes, which soon refuses what is left of it.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How long a process waits before it asks again which jobs are due.
const JOBS_PAUSE: Duration = Duration::from_secs(5);

/// How long it is at least from one evaluation of alerts to the next, whatever happens: under load it is asked that often
/// whether there are rules.
const ALERTS_PAUSE_MIN: Duration = Duration::from_millis(250);

/// How long it is at most, for what other processes have moved.
const ALERTS_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often it is asked which forecasts are to be looked at.
const FORECASTS_PAUSE: Duration = Duration::from_secs(10);

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
    alerts: Repeating,
    forecasts: Repeating,
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
        let alerts = start_alerts(&store);
        let forecasts = Repeating::start("looking at forecasts", FORECASTS_PAUSE, {
            let store = store.clone();
            move || {
                let store = store.clone();
                async move {
                    let started = Instant::now();
                    let evaluated = store.evaluate_forecasts(FORECASTS_EVERY).await;
                    store.stats().jobs.ran("forecasts", JobOutcome::of(&evaluated), started.elapsed());
                    evaluated
                }
            }
        });
        let jobs = Repeating::start("the jobs", JOBS_PAUSE, move || {
            let (store, schedule) = (store.clone(), schedule.clone());
            async move { do_due_jobs(&store, &schedule).await }
        });
        Self { sweep, alerts, forecasts, jobs }
    }

    /// Begins nothing further, and waits for what may be under way.
    pub async fn stop(self) {
        tokio::join!(self.sweep.stop(), self.alerts.stop(), self.forecasts.stop(), self.jobs.stop());
    }
}

/// Evaluates alerts: soon after this process has moved credits, and once a second for what others move.
fn start_alerts(store: &Store) -> Repeating {
    let pauses = Pauses { least: ALERTS_PAUSE_MIN, most: ALERTS_PAUSE_MAX, woken_by: store.moves() };
    Repeating::start_woken("evaluating alerts", pauses, {
        let store = store.clone();
        move || {
            let store = store.clone();
            async move {
                let started = Instant::now();
                let evaluated = store.evaluate_alerts().await;
                store.stats().jobs.ran("alerts", JobOutcome::of(&evaluated), started.elapsed());
                evaluated
            }
        }
    })
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

/// How long something is not done again.
#[derive(Debug)]
struct Pauses {
    /// Not before that.
    least: Duration,
    /// And then when that changes.
    woken_by: watch::Receiver<()>,
    /// Or after this.
    most: Duration,
}

impl Pauses {
    /// Waits until it is time.
    async fn pass(&mut self) {
        tokio::time::sleep(self.least).await;
        // A sender that is gone wakes nobody any more.
        let woken = async {
            if self.woken_by.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        // That nothing happened is the usual end.
        let _ = timeout(self.most.saturating_sub(self.least), woken).await;
    }
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
                do_once(what, work()).await;
                // Anything but the end of the pause is the end.
                if timeout(pause, &mut stopped).await.is_ok() {
                    return;
                }
            }
        });
        Self { what, stop, task }
    }

    /// Works at once, and then again and again, sooner where there is reason to.
    fn start_woken<W, T>(what: &'static str, mut pauses: Pauses, work: impl Fn() -> W + Send + 'static) -> Self
    where
        W: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Debug + Send + 'static,
    {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                do_once(what, work()).await;
                tokio::select! {
                    _ = &mut stopped => return,
                    () = pauses.pass() => {}
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

/// Does it this time.
async fn do_once<W, T>(what: &'static str, work: W)
where
    W: Future<Output = Result<T, StoreError>> + Send + 'static,
    T: Debug + Send + 'static,
{
    // A task of its own, so that a panic ends this time and no other.
    match tokio::spawn(work).await {
        Ok(Ok(done)) => tracing::debug!(?done, "{what}: done"),
        Ok(Err(error)) => tracing::warn!(%error, "{what} failed"),
        Err(error) => tracing::error!(%error, "{what} ended abruptly"),
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
    async fn what_is_woken_comes_soon_but_not_sooner_than_it_may_and_otherwise_in_time() {
        let (count, (wake, woken_by)) = (Arc::new(AtomicU32::new(0)), watch::channel(()));
        let pauses = Pauses { least: Duration::from_millis(100), most: Duration::from_secs(1), woken_by };
        let alerts = Repeating::start_woken("alerts", pauses, {
            let count = count.clone();
            move || {
                count.fetch_add(1, Ordering::SeqCst);
                async { Ok(()) }
            }
        });
        let counted = async |after: u64| {
            sleep(Duration::from_millis(after)).await;
            count.load(Ordering::SeqCst)
        };
        assert_eq!(counted(50).await, 1);
        wake.send_replace(());
        assert_eq!((counted(40).await, counted(20).await), (1, 2));
        assert_eq!((counted(900).await, counted(150).await), (2, 3));
        drop(wake);
        assert_eq!((counted(900).await, counted(150).await), (3, 4), "with nobody to wake it");
        alerts.stop().await;
        assert_eq!(counted(5_000).await, 4);
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
