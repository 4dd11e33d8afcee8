//! What is counted rarely, under names that come with it: jobs and caches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multicredit_domain::Timestamp;

use super::instrument::{AGE_BOUNDS_US, Counter, Histogram};
use crate::clock;

/// How a run of a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// It did what it was for.
    Success,
    /// It did not.
    Failure,
}

impl JobOutcome {
    /// The outcome of what answered so.
    pub const fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(_) => Self::Failure,
        }
    }
}

/// The runs of one job since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobRuns {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many did not.
    pub failed: u64,
    /// How long all of them took together.
    pub took: Duration,
    /// When the last one succeeded, by this machine's clock.
    pub last_success_at: Option<Timestamp>,
}

/// The jobs that have run.
#[derive(Debug, Default)]
pub struct JobStats(Mutex<BTreeMap<&'static str, JobRuns>>);

impl JobStats {
    /// A run of the job of that name ended so, and took that long.
    pub fn ran(&self, job: &'static str, outcome: JobOutcome, took: Duration) {
        let mut jobs = lock(&self.0);
        let runs = jobs.entry(job).or_default();
        runs.took += took;
        match outcome {
            JobOutcome::Success => {
                runs.succeeded += 1;
                runs.last_success_at = Some(clock::now());
            }
            JobOutcome::Failure => runs.failed += 1,
        }
    }

    /// Every job that has run, by name.
    pub fn all(&self) -> Vec<(&'static str, JobRuns)> {
        lock(&self.0).iter().map(|(job, runs)| (*job, *runs)).collect()
    }
}

/// Which level of a cache had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheLevel {
    /// This process's memory.
    Memory,
    /// Redis.
    Redis,
}

/// How often a cache had what was looked for, how old that was, and what looking elsewhere takes.
#[derive(Debug)]
pub struct CacheStats {
    /// It had it.
    pub hits: Counter,
    /// It had it in Redis; part of `hits`.
    pub redis_hits: Counter,
    /// It had to be fetched.
    pub misses: Counter,
    /// How old what it had was.
    pub age: Histogram,
    /// How long fetching took.
    pub load: Histogram,
}

impl Default for CacheStats {
    fn default() -> Self {
        Self {
            hits: Counter::default(),
            redis_hits: Counter::default(),
            misses: Counter::default(),
            age: Histogram::new(AGE_BOUNDS_US),
            load: Histogram::of_durations(),
        }
    }
}

impl CacheStats {
    /// Something was looked for.
    pub fn looked_up(&self, was_there: bool) {
        if was_there { &self.hits } else { &self.misses }.increment();
    }

    /// Something was found that had been kept for `age`.
    pub fn hit(&self, level: CacheLevel, age: Duration) {
        self.hits.increment();
        if level == CacheLevel::Redis {
            self.redis_hits.increment();
        }
        self.age.record_duration(age);
    }

    /// Something was not found, and fetched in that time.
    pub fn loaded(&self, took: Duration) {
        self.misses.increment();
        self.load.record_duration(took);
    }

    /// The share of look-ups that found what they looked for; `None` without any.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn hit_ratio(&self) -> Option<f64> {
        let (hits, misses) = (self.hits.get(), self.misses.get());
        (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
    }

    /// How many seconds of waiting the hits have saved, taking each for an average fetch; 0 before the first fetch.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn saved_seconds(&self) -> f64 {
        let load = self.load.snapshot();
        let count = load.count();
        if count == 0 { 0.0 } else { self.hits.get() as f64 * (load.sum as f64 / count as f64) / 1_000_000.0 }
    }
}

/// The caches that count. A cache asks for its counters once and keeps them.
#[derive(Debug, Default)]
pub struct CacheRegistry(Mutex<BTreeMap<&'static str, Arc<CacheStats>>>);

impl CacheRegistry {
    /// The counters of the cache of that name, the same for everybody who asks.
    pub fn cache(&self, name: &'static str) -> Arc<CacheStats> {
        Arc::clone(lock(&self.0).entry(name).or_default())
    }

    /// Every cache, by name.
    pub fn all(&self) -> Vec<(&'static str, Arc<CacheStats>)> {
        lock(&self.0).iter().map(|(name, cache)| (*name, Arc::clone(cache))).collect()
    }
}

/// Every change is one of a whole entry, so that a panic leaves nothing by halves.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up_and_only_a_success_is_remembered_as_the_last() {
        let jobs = JobStats::default();
        jobs.ran("sweep", JobOutcome::Failure, Duration::from_secs(1));
        assert_eq!(jobs.all()[0].1.last_success_at, None);
        jobs.ran("sweep", JobOutcome::Success, Duration::from_secs(2));
        let [(name, runs)] = jobs.all()[..] else { panic!("one job") };
        assert_eq!((name, runs.succeeded, runs.failed, runs.took), ("sweep", 1, 1, Duration::from_secs(3)));
        assert!(runs.last_success_at.is_some());
    }

    #[test]
    fn whoever_asks_for_a_cache_gets_the_same_counters() {
        let caches = CacheRegistry::default();
        assert_eq!(caches.cache("keys").hit_ratio(), None);
        caches.cache("keys").looked_up(true);
        caches.cache("keys").looked_up(true);
        caches.cache("keys").looked_up(false);
        let ratio = caches.all()[0].1.hit_ratio().unwrap();
        assert!((ratio - 2.0 / 3.0).abs() < 1e-9, "{ratio}");
    }
}
