//! A writer: one thread, one connection, one transaction a batch.
//!
//! Several may share the queue; by default there is one, which was fastest. Whoever is free takes what waits. They are to
//! each other what replicas are.
//!
//! What can go wrong, and what becomes of it:
//!
//! - *Data* (a constraint, a value the database refuses): the transaction is rolled back and every request of the batch
//!   is tried alone, so that one bad row fails its own request and nobody else's.
//! - *Contention* (deadlock, lock timeout, SQLite busy): the whole batch again, decided anew, with jitter, for a while.
//! - *Connection*: the same on a new connection. If the commit had been sent, it may have happened: the rows are looked
//!   for under the same locks before anything is done again, for looking without the locks could miss the commit of a
//!   backend that is still at work.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use multicredit_domain::{OrganizationId, Timestamp};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use super::decide::{Effects, Verdict, decide};
use super::express::{PriceBoard, RecentKeys};
use super::queue::Waiting;
use super::session::Session;
use super::{Job, Request, Task, limits};
use crate::cache::Caches;
use crate::clock::{self, Clock};
use crate::config::Engine;
use crate::error::{AttemptError, Fault, StoreError, leaves_doubt};
use crate::sql::{Cell, Column, Connection, Kind, Statement};
use crate::stats::{DecidedBy, Stats};
use crate::webhook::Wake;

/// A task that moves credits.
pub(crate) struct Writer<S: Session> {
    place: S::Place,
    habits: Habits,
    waiting: Arc<Waiting>,
    caches: Arc<Caches>,
    stats: Arc<Stats>,
    wake: Arc<Wake>,
    pub(super) connection: Option<S>,
    /// The server's side of a connection that was lost, to be ended before anything is looked for or done again.
    lost: Option<S::Backend>,
    /// The prices that the express path goes by; `None` where it is switched off.
    pub(super) express: Option<PriceBoard>,
    /// The keys that went by the express path of late.
    pub(super) recent_keys: RecentKeys,
}

/// How a writer goes about its work.
pub(super) struct Habits {
    /// What time it is.
    pub(super) clock: Clock,
    /// Whether it takes the express path.
    pub(super) is_express: bool,
    /// From how many requests on a batch takes no further jobs.
    pub(super) batch_max: usize,
    /// How long one attempt at a batch may take.
    pub(super) attempt_deadline: Duration,
    /// How long it rests between two tries, of how long it may.
    pub(super) jitter: fn(Duration) -> Duration,
}

impl Habits {
    /// What suits an engine.
    pub(super) fn of(engine: Engine, is_express: bool, clock: Clock) -> Self {
        let attempt_deadline = match engine {
            Engine::Postgres => limits::ATTEMPT_DEADLINE,
            Engine::Sqlite => limits::ATTEMPT_DEADLINE_SQLITE,
        };
        Self { clock, is_express, batch_max: limits::BATCH_MAX, attempt_deadline, jitter: jittered }
    }
}

/// A row that exists if, and only if, a batch was committed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Marker {
    Log { organization_id: OrganizationId, id: Uuid, created_at: Timestamp },
    Movement { organization_id: OrganizationId, sequence: i64, reference: Uuid },
}

/// How an attempt at a batch failed.
enum Failure {
    /// Nothing was committed.
    Before(AttemptError),
    /// The commit was sent and not answered.
    InDoubt { error: String, marker: Option<Marker>, verdicts: Vec<Verdict> },
}

static FIND_LOG: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("id", Kind::Uuid),
        Column::new("created_at", Kind::Time),
    ];
    Statement::new(columns, |d| {
        format!(
            "SELECT 1 AS found FROM {} JOIN credit_consumption_logs l ON l.organization_id = v.organization_id \
             AND l.id = v.id AND l.created_at = v.created_at",
            d.source
        )
    })
});

static FIND_MOVEMENT: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![
        Column::new("organization_id", Kind::Uuid),
        Column::new("sequence", Kind::BigInt),
        Column::new("reference", Kind::Uuid),
    ];
    Statement::new(columns, |d| {
        format!(
            "SELECT 1 AS found FROM {} JOIN credit_movements m ON m.organization_id = v.organization_id \
             AND m.sequence = v.sequence AND m.reference = v.reference",
            d.source
        )
    })
});

/// Jobs that are done, whose answers are to be given.
#[derive(Default)]
struct Decided {
    jobs: Vec<Job>,
    /// Of all their tasks, one job after the other.
    verdicts: Vec<Verdict>,
}

impl Decided {
    /// Gives the answers.
    fn answer(&mut self, stats: &Stats) {
        let mut verdicts = self.verdicts.drain(..);
        for job in self.jobs.drain(..) {
            let verdicts: Vec<Verdict> = verdicts.by_ref().take(job.tasks.len()).collect();
            stats.ledger.decided(job.tasks.iter().map(|task| &task.request), &verdicts);
            // A caller that hung up no longer listens; what it asked for has happened all the same.
            let _ = job.reply.send(verdicts);
        }
    }
}

impl<S: Session> Writer<S> {
    pub(super) fn new(
        place: S::Place,
        habits: Habits,
        waiting: Arc<Waiting>,
        caches: Arc<Caches>,
        stats: Arc<Stats>,
        wake: Arc<Wake>,
    ) -> Self {
        let express = habits.is_express.then(PriceBoard::default);
        Self {
            place,
            habits,
            waiting,
            caches,
            stats,
            wake,
            connection: None,
            lost: None,
            express,
            recent_keys: RecentKeys::default(),
        }
    }

    /// Works until the queue is closed and empty.
    ///
    /// Where a full batch waits already, it is on its way to the database before the answers to the last one are given, so
    /// that the database need not wait for them. A smaller one is left to grow meanwhile: what every call costs is shared
    /// by all that go with it.
    pub(super) async fn run(mut self, queue: Arc<Mutex<mpsc::Receiver<Job>>>) {
        let mut decided = Decided::default();
        loop {
            let full = if decided.jobs.is_empty() { None } else { take_full(&queue, self.habits.batch_max) };
            let jobs = if let Some(jobs) = full {
                jobs
            } else {
                decided.answer(&self.stats);
                take(&queue, self.habits.batch_max).await
            };
            if jobs.is_empty() {
                break;
            }
            let tasks: Vec<&Task> = jobs.iter().flat_map(|job| &job.tasks).collect();
            for job in &jobs {
                self.waiting.leave(job);
            }
            let stats = Arc::clone(&self.stats);
            stats.ledger.batch_taken(tasks.len(), jobs.iter().map(|job| job.queued_at));
            // In this order: the answers are given when the batch waits for the database for the first time.
            let (verdicts, ()) =
                tokio::join!(biased; self.execute_without_panic(&tasks), async { decided.answer(&stats) });
            self.tell_deliverers(&tasks);
            decided = Decided { jobs, verdicts };
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the ledger's connection did not close cleanly");
        }
    }

    /// Executes a batch. A bug that panics must not end the only task that moves credits: it ends its batch, whose
    /// outcome is then unknown, and the connection, which may have been in the middle of anything.
    async fn execute_without_panic(&mut self, tasks: &[&Task]) -> Vec<Verdict> {
        let span = tracing::info_span!("batch", requests = tasks.len());
        let executed = AssertUnwindSafe(self.execute(tasks).instrument(span)).catch_unwind().await;
        executed.unwrap_or_else(|_| {
            tracing::error!(requests = tasks.len(), "a batch panicked");
            self.lose_connection();
            tasks.iter().map(|_| Err(StoreError::OutcomeUnknown { consumption_id: None })).collect()
        })
    }

    /// Executes a batch to its end, whatever that is. Verdicts stand in the order of the tasks.
    async fn execute(&mut self, tasks: &[&Task]) -> Vec<Verdict> {
        let started = Instant::now();
        let mut verdicts = self.execute_express(tasks).await;
        let rest: Vec<usize> = (0..tasks.len()).filter(|index| verdicts[*index].is_none()).collect();
        self.stats.ledger.batch_committed(DecidedBy::Express, tasks.len() - rest.len(), started.elapsed());
        if !rest.is_empty() {
            let started = Instant::now();
            let left: Vec<&Task> = rest.iter().map(|index| tasks[*index]).collect();
            for (index, verdict) in rest.into_iter().zip(self.execute_portable(&left).await) {
                verdicts[index] = Some(verdict);
            }
            self.stats.ledger.batch_committed(DecidedBy::Portable, left.len(), started.elapsed());
        }
        verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| Err(unanswered()))).collect()
    }

    /// Executes a batch in one transaction, in several where one would book too much, and one by one where one fails for what
    /// is in it.
    async fn execute_portable(&mut self, tasks: &[&Task]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(tasks.len());
        let mut together = tasks.len();
        while verdicts.len() < tasks.len() {
            let rest = &tasks[verdicts.len()..];
            let next = &rest[..together.min(rest.len())];
            match self.execute_together(next).await {
                Ok(decided) if !decided.is_empty() => verdicts.extend(decided),
                Err(StoreError::Internal(error)) if next.len() > 1 => {
                    tracing::error!(%error, requests = next.len(), "a batch failed; its requests are tried one by one");
                    together = 1;
                }
                // However little was decided, the loop comes to its end.
                outcome => {
                    let error = outcome.err().unwrap_or_else(unanswered);
                    verdicts.extend(next.iter().map(|_| Err(error.clone())));
                }
            }
        }
        verdicts
    }

    /// Tries a batch until it is decided, or the beginning of it, or its time is up. An error of [`StoreError::Internal`] is
    /// one of data.
    async fn execute_together(&mut self, tasks: &[&Task]) -> Result<Vec<Verdict>, StoreError> {
        let deadline = Instant::now() + limits::RETRY_DEADLINE;
        let mut pause = limits::RETRY_PAUSE;
        let mut doubt: Option<(Option<Marker>, Vec<Verdict>)> = None;
        loop {
            let attempt = self.attempt_in_time(tasks, &mut doubt).await;
            let error = match attempt {
                Ok(verdicts) => return Ok(verdicts),
                Err(Failure::Before(AttemptError::Store(error))) => return Err(error),
                Err(Failure::Before(AttemptError::Database(error))) => match Fault::of(&error) {
                    Fault::Data => return Err(StoreError::Internal(error.to_string())),
                    Fault::Contention | Fault::Connection => error.to_string(),
                },
                Err(Failure::InDoubt { error, marker, verdicts }) => {
                    doubt = Some((marker, verdicts));
                    error
                }
            };
            tracing::warn!(%error, in_doubt = doubt.is_some(), requests = tasks.len(), "a batch will be tried again");
            self.stats.ledger.retries.increment();
            if Instant::now() + pause >= deadline {
                return Err(match doubt {
                    Some(_) => StoreError::OutcomeUnknown { consumption_id: None },
                    None => StoreError::Unavailable(error),
                });
            }
            self.rest(pause).await;
            pause = (pause * 2).min(limits::RETRY_PAUSE_MAX);
        }
    }

    /// One attempt, with a deadline of our own. After anything but success or a clean refusal the connection is dropped.
    async fn attempt_in_time(
        &mut self,
        tasks: &[&Task],
        doubt: &mut Option<(Option<Marker>, Vec<Verdict>)>,
    ) -> Result<Vec<Verdict>, Failure> {
        let mut commit_sent = None;
        let attempt = tokio::time::timeout(self.attempt_deadline(), self.attempt(tasks, doubt, &mut commit_sent)).await;
        let error = match attempt {
            Ok(Ok(verdicts)) => return Ok(verdicts),
            Ok(Err(error)) => error,
            Err(_) => timed_out().into(),
        };
        if let Some((marker, verdicts)) = commit_sent
            && let AttemptError::Database(error) = &error
            && leaves_doubt(error)
        {
            self.lose_connection();
            self.forget(tasks).await;
            return Err(Failure::InDoubt { error: error.to_string(), marker, verdicts });
        }
        self.abandon(&error).await;
        Err(Failure::Before(error))
    }

    async fn attempt(
        &mut self,
        tasks: &[&Task],
        doubt: &mut Option<(Option<Marker>, Vec<Verdict>)>,
        commit_sent: &mut Option<(Option<Marker>, Vec<Verdict>)>,
    ) -> Result<Vec<Verdict>, AttemptError> {
        let clock = self.habits.clock.clone();
        let connection = self.connection().await?;
        connection.begin().await?;
        if let Some((Some(marker), _)) = doubt {
            let organizations: BTreeSet<_> = tasks.iter().map(|task| task.organization_id).collect();
            connection.lock(organizations).await?;
            if connection.has(*marker).await? {
                // It has happened, whatever becomes of this attempt: until the verdicts are on their way, a failure or
                // the deadline must leave the doubt as it is, or the batch would be executed once more.
                if connection.rollback().await.is_err() {
                    self.lose_connection();
                }
                self.forget(tasks).await;
                return doubt.take().map(|(_, verdicts)| verdicts).ok_or_else(|| unanswered().into());
            }
            *doubt = None;
        }
        let facts = connection.read(&clock, tasks).await?;
        let seen = PriceBoard::of(&facts);
        let (verdicts, effects) = decide(facts, tasks)?;
        if effects.is_empty() {
            connection.rollback().await?;
            return Ok(verdicts);
        }
        connection.write(&effects).await?;
        *commit_sent = Some((marker(&effects), verdicts));
        connection.commit().await?;
        if let Some(board) = &mut self.express {
            board.learn(seen);
        }
        self.tell(&effects).await;
        commit_sent.take().map(|(_, verdicts)| verdicts).ok_or_else(|| unanswered().into())
    }

    /// Tells whoever follows, and the caches, what was committed: spending, which they can follow, and everything else.
    async fn tell(&self, effects: &Effects) {
        self.caches.committed();
        if !self.caches.keep_balances() {
            return;
        }
        for account in &effects.accounts {
            match effects.spending(account) {
                Some(spending) => self.caches.spent(account.organization_id, spending).await,
                None => self.caches.moved(account.organization_id, account.sequence).await,
            }
        }
    }

    /// Lets whoever delivers events look at once, where anybody wants to be told.
    fn tell_deliverers(&self, tasks: &[&Task]) {
        for task in tasks {
            if self.wake.wants(matches!(task.request, Request::Consume(_))) {
                self.wake.moved(task.organization_id);
            }
        }
    }

    /// Shows nothing any more of what is kept of the organizations of a batch.
    async fn forget(&self, tasks: &[&Task]) {
        for task in tasks {
            self.caches.forget(task.organization_id).await;
        }
    }

    /// The connection, opened if there is none. What is left of a lost one is ended first.
    pub(super) async fn connection(&mut self) -> Result<&mut S, sqlx::Error> {
        if self.connection.is_none() {
            let mut connection = S::open(&self.place).await?;
            if let Some(lost) = self.lost {
                connection.end(lost).await?;
                self.lost = None;
            }
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Drops a connection that can no longer be believed, and remembers the server's side of it.
    pub(super) fn lose_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.lost = connection.backend().or(self.lost);
        }
    }

    pub(super) const fn attempt_deadline(&self) -> Duration {
        self.habits.attempt_deadline
    }

    /// Rests between two tries, for at most so long.
    pub(super) async fn rest(&self, pause: Duration) {
        tokio::time::sleep((self.habits.jitter)(pause)).await;
    }

    pub(super) fn caches(&self) -> &Caches {
        &self.caches
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.habits.clock
    }

    /// Leaves no transaction behind: rolls back, or drops the connection where that cannot be done.
    async fn abandon(&mut self, error: &AttemptError) {
        let broken = matches!(error, AttemptError::Database(error) if Fault::of(error) == Fault::Connection);
        let Some(connection) = &mut self.connection else { return };
        let clean =
            !broken && matches!(tokio::time::timeout(limits::LOCK_TIMEOUT, connection.rollback()).await, Ok(Ok(())));
        if !clean {
            self.lose_connection();
        }
    }
}

/// Waits for a job, and takes those that wait with it as long as they make no more than a batch. None: the queue is closed.
async fn take(queue: &Mutex<mpsc::Receiver<Job>>, batch_max: usize) -> Vec<Job> {
    // The lock is held while waiting: the next free writer stands in line behind this one.
    let mut queue = queue.lock().await;
    let first = queue.recv().await;
    batch(first, &mut queue, batch_max)
}

/// Takes a full batch, if one waits and no other writer is about to take it.
fn take_full(queue: &Mutex<mpsc::Receiver<Job>>, batch_max: usize) -> Option<Vec<Job>> {
    let mut queue = queue.try_lock().ok().filter(|queue| queue.len() >= batch_max)?;
    let first = queue.try_recv().ok()?;
    Some(batch(Some(first), &mut queue, batch_max))
}

/// A job and those that wait behind it, as long as they make no more than a batch.
fn batch(first: Option<Job>, queue: &mut mpsc::Receiver<Job>, batch_max: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut next = first;
    let mut tasks = 0;
    while let Some(job) = next {
        tasks += job.tasks.len();
        jobs.push(job);
        next = if tasks < batch_max { queue.try_recv().ok() } else { None };
    }
    jobs
}

pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

fn marker(effects: &Effects) -> Option<Marker> {
    let log = effects.consumptions.first().map(|consumption| Marker::Log {
        organization_id: consumption.organization_id,
        id: consumption.id.uuid(),
        created_at: consumption.created_at,
    });
    log.or_else(|| {
        effects.movements.iter().find_map(|(organization_id, movement)| {
            let (organization_id, sequence) = (*organization_id, movement.sequence);
            movement.reference.map(|reference| Marker::Movement { organization_id, sequence, reference })
        })
    })
}

pub(super) async fn exists(connection: &mut Connection, marker: Marker) -> Result<bool, AttemptError> {
    let (statement, rows) = match marker {
        Marker::Log { organization_id, id, created_at } => {
            let mut rows = FIND_LOG.rows();
            rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(id)).cell(Cell::Time(created_at)).end();
            (&FIND_LOG, rows)
        }
        Marker::Movement { organization_id, sequence, reference } => {
            let mut rows = FIND_MOVEMENT.rows();
            rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Int(sequence)).cell(Cell::Uuid(reference)).end();
            (&FIND_MOVEMENT, rows)
        }
    };
    Ok(!connection.query(statement, &rows).await?.is_empty())
}

/// Between half the pause and all of it. The low bits of a new UUID are random.
fn jittered(pause: Duration) -> Duration {
    let random = f64::from(u32::from(clock::new_uuid().as_bytes()[15])) / 255.0;
    pause.mul_f64(0.5 + random / 2.0)
}

fn unanswered() -> StoreError {
    StoreError::Internal("a request of a batch was left without a verdict".to_owned())
}
