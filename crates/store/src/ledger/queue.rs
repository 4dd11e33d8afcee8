//! The way in: a bounded queue with a bounded share for each organization.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use multicredit_domain::{Consumption, ConsumptionId, IdempotencyKey, OrganizationId};
use tokio::runtime;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::decide::Verdict;
use super::writer::{Habits, Writer};
use super::{Answer, ConsumeItem, Job, Reply, Request, Task, limits};
use crate::audit::Author;
use crate::cache::Caches;
use crate::clock;
use crate::config::{Engine, StoreConfig};
use crate::error::StoreError;
use crate::sql::Connection;
use crate::stats::Stats;
use crate::webhook::Wake;

/// Where the verdicts of a job will come.
type Outcome = oneshot::Receiver<Vec<Verdict>>;

/// What waits for the writers.
pub(super) type Queue = Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>;

/// Who takes a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taker {
    /// The writers, or whichever of them is free.
    Any,
    /// The one that helps with large batches, and has nothing else to do.
    Helper,
}

impl Taker {
    /// Who takes what an organization asks for in a batch that is shared: always the same, so that no two halves ever wait
    /// for each other's locks.
    fn of(organization_id: OrganizationId) -> Self {
        // The low bits of a UUID are random.
        if organization_id.uuid().as_bytes()[15] & 1 == 0 { Self::Any } else { Self::Helper }
    }
}

/// The ways into the ledger.
struct Senders {
    any: mpsc::Sender<Job>,
    helper: Option<mpsc::Sender<Job>>,
}

impl Senders {
    fn to(&self, taker: Taker) -> &mpsc::Sender<Job> {
        match taker {
            Taker::Any => &self.any,
            Taker::Helper => self.helper.as_ref().unwrap_or(&self.any),
        }
    }
}

/// How many writers there are, and how much waits for them.
pub(super) struct Crew {
    /// The writers that share a queue.
    pub(super) writers: usize,
    /// Whether one more takes half of each large batch.
    pub(super) has_helper: bool,
    /// The most calls that wait.
    pub(super) calls_max: usize,
}

/// The ledger as the store sees it: hand in a request, wait for what became of it.
pub(crate) struct Ledger {
    /// `None` once the ledger is closed.
    senders: RwLock<Option<Senders>>,
    pub(super) waiting: Arc<Waiting>,
    stats: Arc<Stats>,
    /// Whether large batches are shared with a helper.
    has_helper: bool,
    /// Each is told when a writer has ended.
    writers: Mutex<Vec<oneshot::Receiver<()>>>,
}

impl Ledger {
    /// Starts the writers. Each connects when it takes its first batch.
    pub(crate) fn start(
        engine: Engine,
        config: &StoreConfig,
        caches: &Arc<Caches>,
        stats: &Arc<Stats>,
        wake: &Arc<Wake>,
    ) -> Self {
        let (writers, has_helper) = match engine {
            Engine::Postgres => (config.writers.max(1), true),
            Engine::Sqlite => (1, false),
        };
        let crew = Crew { writers, has_helper, calls_max: limits::CALLS_MAX };
        Self::with_crew(&crew, stats, |waiting, queue| {
            let (caches, stats, wake) = (Arc::clone(caches), Arc::clone(stats), Arc::clone(wake));
            let habits = Habits::of(engine, config.express, config.clock.clone());
            let writer = Writer::<Connection>::new((engine, config.clone()), habits, waiting, caches, stats, wake);
            on_a_thread(|| writer.run(queue))
        })
    }

    /// A ledger with writers that `start` starts; it answers what tells of their end.
    pub(super) fn with_crew(
        crew: &Crew,
        stats: &Arc<Stats>,
        start: impl Fn(Arc<Waiting>, Queue) -> oneshot::Receiver<()>,
    ) -> Self {
        let waiting = Arc::new(Waiting::default());
        let mut writers = Vec::new();
        let mut queue_of = |writers_of_it: usize| {
            let (sender, receiver) = mpsc::channel(crew.calls_max);
            let queue = Arc::new(tokio::sync::Mutex::new(receiver));
            writers.extend((0..writers_of_it).map(|_| start(Arc::clone(&waiting), Arc::clone(&queue))));
            sender
        };
        let senders = Senders { any: queue_of(crew.writers), helper: crew.has_helper.then(|| queue_of(1)) };
        let (senders, writers) = (RwLock::new(Some(senders)), Mutex::new(writers));
        Self { senders, waiting, stats: Arc::clone(stats), has_helper: crew.has_helper, writers }
    }

    /// How many requests wait for a writer to take them.
    pub(crate) fn queued(&self) -> usize {
        self.waiting.total()
    }

    /// Refuses what would be refused as a call. A ledger that is closed says so itself.
    pub(crate) fn has_room(&self) -> Result<(), StoreError> {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        if senders.as_ref().is_none_or(|senders| senders.any.capacity() > 0) {
            return Ok(());
        }
        let error = StoreError::Busy;
        self.stats.ledger.rejected(&error);
        Err(error)
    }

    /// Takes nothing new, finishes what waits, and ends the writers.
    pub(crate) async fn close(&self) {
        self.senders.write().unwrap_or_else(PoisonError::into_inner).take();
        let writers = std::mem::take(&mut *lock(&self.writers));
        for writer in writers {
            if writer.await.is_err() {
                tracing::error!("a ledger writer ended badly");
            }
        }
    }

    pub(crate) async fn consume(&self, item: ConsumeItem) -> Result<Answer<Consumption>, StoreError> {
        let task = task(item.organization_id, Request::Consume(item.request), item.key, None)?;
        let id = task.id;
        consumption(id, self.execute(task).await)
    }

    /// Consumptions that are decided in the order in which each organization asks for them, in few transactions.
    pub(crate) async fn consume_many(&self, items: Vec<ConsumeItem>) -> Vec<Result<Answer<Consumption>, StoreError>> {
        let mut answers = Vec::with_capacity(items.len());
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let chunk = items.by_ref().take(limits::JOB_MAX);
            answers.extend(self.consume_together(chunk).await);
        }
        answers
    }

    async fn consume_together(
        &self,
        items: impl Iterator<Item = ConsumeItem>,
    ) -> Vec<Result<Answer<Consumption>, StoreError>> {
        let mut tasks = Vec::with_capacity(items.size_hint().0);
        // The id of what was handed in, or why it was not.
        let mut asked = Vec::with_capacity(items.size_hint().0);
        for item in items {
            let entered = task(item.organization_id, Request::Consume(item.request), item.key, None).and_then(|task| {
                self.enter(task.organization_id, true)?;
                Ok(task)
            });
            asked.push(entered.map(|task| {
                let id = task.id;
                tasks.push(task);
                id
            }));
        }
        let mut verdicts = self.decide_together(tasks).await.into_iter();
        let answer = |asked: Result<Uuid, StoreError>| {
            let id = asked?;
            consumption(id, verdicts.next().unwrap_or_else(|| Err(unknown())))
        };
        asked.into_iter().map(answer).collect()
    }

    /// Hands in a batch whose requests have entered: as one job, or as two where it is large, one of them for the helper.
    /// Verdicts stand in the order of the tasks.
    async fn decide_together(&self, tasks: Vec<Task>) -> Vec<Verdict> {
        let is_shared = self.has_helper && tasks.len() >= limits::SHARED_BATCH_MIN;
        let mut verdicts: Vec<Verdict> = tasks.iter().map(|_| Err(unknown())).collect();
        let [mut mine, mut helpers] = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        for (place, task) in tasks.into_iter().enumerate() {
            let is_helpers = is_shared && Taker::of(task.organization_id) == Taker::Helper;
            let (places, tasks) = if is_helpers { &mut helpers } else { &mut mine };
            places.push(place);
            tasks.push(task);
        }
        // Both are handed in before one is waited for.
        let jobs = [(Taker::Any, mine), (Taker::Helper, helpers)];
        let jobs = jobs.map(|(taker, (places, tasks))| {
            let outcome = (!tasks.is_empty()).then(|| self.push(tasks, true, taker));
            (places, outcome)
        });
        for (places, outcome) in jobs {
            let count = places.len();
            let decided = match outcome {
                Some(Ok(outcome)) => wait(outcome, count).await,
                Some(Err(error)) => vec![Err(error); count],
                None => continue,
            };
            for (place, verdict) in places.into_iter().zip(decided) {
                verdicts[place] = verdict;
            }
        }
        verdicts
    }

    /// Hands in any request and waits for what became of it.
    pub(crate) async fn request(
        &self,
        organization_id: OrganizationId,
        request: Request,
        key: Option<IdempotencyKey>,
        author: Option<Arc<Author>>,
    ) -> Result<Answer<Reply>, StoreError> {
        let is_capture = matches!(request, Request::Capture { .. });
        let task = task(organization_id, request, key, author)?;
        let id = task.id;
        let verdict = self.execute(task).await;
        if is_capture { to_look_up(id, verdict) } else { verdict }
    }

    async fn execute(&self, task: Task) -> Verdict {
        self.enter(task.organization_id, false)?;
        let outcome = self.push(vec![task], false, Taker::Any)?;
        wait(outcome, 1).await.pop().unwrap_or_else(|| Err(unknown()))
    }

    fn enter(&self, organization_id: OrganizationId, is_batch: bool) -> Result<(), StoreError> {
        self.waiting.enter(organization_id, is_batch).inspect_err(|error| self.stats.ledger.rejected(error))
    }

    /// Hands in requests that have entered.
    fn push(&self, tasks: Vec<Task>, is_batch: bool, taker: Taker) -> Result<Outcome, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let job = Job { tasks, is_batch, reply, queued_at: Instant::now() };
        let sent = match &*self.senders.read().unwrap_or_else(PoisonError::into_inner) {
            Some(senders) => senders.to(taker).try_send(job).map_err(|error| match error {
                TrySendError::Full(job) => (job, StoreError::Busy),
                TrySendError::Closed(job) => (job, closed()),
            }),
            None => Err((job, closed())),
        };
        sent.map_err(|(job, error)| {
            self.waiting.leave(&job);
            self.stats.ledger.rejected(&error);
            error
        })?;
        Ok(outcome)
    }
}

/// Runs a writer on a thread of its own, and tells of its end.
///
/// Among the tasks of a server it would be one of thousands: when more is asked than can be done, it would wait behind
/// refusals that are being written, and what could be done would be done by halves.
fn on_a_thread<F: Future<Output = ()>>(writer: impl FnOnce() -> F + Send + 'static) -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    let run = move || match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            runtime.block_on(writer());
            // Nobody may wait for it.
            let _ = ended.send(());
        }
        Err(error) => tracing::error!(%error, "a ledger writer has no runtime"),
    };
    if let Err(error) = std::thread::Builder::new().name("ledger".to_owned()).spawn(run) {
        tracing::error!(%error, "a ledger writer has no thread");
    }
    end
}

fn task(
    organization_id: OrganizationId,
    request: Request,
    key: Option<IdempotencyKey>,
    author: Option<Arc<Author>>,
) -> Result<Task, StoreError> {
    let binding = key.map(|key| request.bind(key)).transpose()?;
    Ok(Task { organization_id, id: clock::new_uuid(), request, binding, author })
}

/// How many requests wait, in all and of each organization.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    total: usize,
    by_organization: HashMap<OrganizationId, Share>,
}

/// What waits of one organization.
#[derive(Default)]
struct Share {
    requests: usize,
    /// Those of them that are calls by themselves.
    calls: usize,
}

impl Waiting {
    fn enter(&self, organization_id: OrganizationId, is_batch: bool) -> Result<(), StoreError> {
        let mut counts = lock(&self.0);
        if counts.total >= limits::QUEUE_MAX {
            return Err(StoreError::Busy);
        }
        let share = counts.by_organization.entry(organization_id).or_default();
        let has_many_calls = !is_batch && share.calls >= limits::ORGANIZATION_CALLS_MAX;
        if has_many_calls || share.requests >= limits::ORGANIZATION_QUEUE_MAX {
            return Err(StoreError::OrganizationBusy);
        }
        share.requests += 1;
        share.calls += usize::from(!is_batch);
        counts.total += 1;
        Ok(())
    }

    fn total(&self) -> usize {
        lock(&self.0).total
    }

    /// Whether what waits of each organization adds up to what waits in all, and none is kept of whom nothing waits.
    #[cfg(test)]
    pub(super) fn adds_up(&self) -> bool {
        let counts = lock(&self.0);
        let shares = || counts.by_organization.values();
        counts.total == shares().map(|share| share.requests).sum::<usize>()
            && shares().all(|share| share.requests > 0 && share.calls <= share.requests)
    }

    /// Must be called once for a job whose requests entered, when it leaves the queue.
    pub(super) fn leave(&self, job: &Job) {
        let mut counts = lock(&self.0);
        for task in &job.tasks {
            counts.total -= 1;
            if let Entry::Occupied(mut entry) = counts.by_organization.entry(task.organization_id) {
                let share = entry.get_mut();
                share.requests -= 1;
                share.calls -= usize::from(!job.is_batch);
                if share.requests == 0 {
                    entry.remove();
                }
            }
        }
    }
}

/// A panic while a count was held leaves a count, not a broken invariant.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the verdicts of a writer, which answers every job that it takes; it drops one only when it dies.
async fn wait(outcome: Outcome, count: usize) -> Vec<Verdict> {
    outcome.await.unwrap_or_else(|_| (0..count).map(|_| Err(unknown())).collect())
}

fn unknown() -> StoreError {
    StoreError::OutcomeUnknown { consumption_id: None }
}

/// Says under which id a consumption can be looked up whose outcome is unknown.
fn to_look_up(id: Uuid, verdict: Verdict) -> Verdict {
    verdict.map_err(|error| match error {
        StoreError::OutcomeUnknown { .. } => {
            StoreError::OutcomeUnknown { consumption_id: Some(ConsumptionId::new(id)) }
        }
        error => error,
    })
}

fn consumption(id: Uuid, verdict: Verdict) -> Result<Answer<Consumption>, StoreError> {
    let answer = to_look_up(id, verdict)?;
    match answer.value {
        Reply::Consumption(consumption) => Ok(Answer { value: *consumption, replayed: answer.replayed }),
        other => Err(unexpected(&other)),
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the ledger is closed".to_owned())
}

pub(crate) fn unexpected(reply: &Reply) -> StoreError {
    StoreError::Internal(format!("the writer answered with {reply:?}"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const LOUD: OrganizationId = OrganizationId::new(Uuid::from_u128(1));
    const QUIET: OrganizationId = OrganizationId::new(Uuid::from_u128(2));

    fn tasks(organization_ids: &[OrganizationId]) -> Vec<Task> {
        organization_ids.iter().map(|id| task(*id, Request::Settle, None, None).unwrap()).collect()
    }

    fn job(organization_ids: &[OrganizationId], is_batch: bool) -> Job {
        Job { tasks: tasks(organization_ids), is_batch, reply: oneshot::channel().0, queued_at: Instant::now() }
    }

    /// A ledger for one call at a time whose writers take nothing, and the queues that they would take from.
    fn idle_crew(has_helper: bool) -> (Ledger, Vec<Queue>) {
        let queues = RefCell::new(Vec::new());
        let crew = Crew { writers: 1, has_helper, calls_max: 1 };
        let ledger = Ledger::with_crew(&crew, &Arc::new(Stats::default()), |_, of_the_writer| {
            queues.borrow_mut().push(of_the_writer);
            oneshot::channel().1
        });
        (ledger, queues.take())
    }

    fn idle() -> (Ledger, Queue) {
        let (ledger, mut queues) = idle_crew(false);
        (ledger, queues.remove(0))
    }

    /// Takes what waits in a queue and answers each task with an error that names its id.
    fn answer(queue: &Queue) -> Vec<OrganizationId> {
        let Ok(job) = queue.try_lock().unwrap().try_recv() else { return Vec::new() };
        let verdicts = job.tasks.iter().map(|task| Err(StoreError::Unavailable(task.id.to_string()))).collect();
        job.reply.send(verdicts).unwrap();
        job.tasks.iter().map(|task| task.organization_id).collect()
    }

    #[tokio::test]
    async fn a_large_batch_is_shared_by_organization_and_answered_in_its_order() {
        for (count, has_helper, is_shared) in [
            (limits::SHARED_BATCH_MIN, true, true),
            (limits::SHARED_BATCH_MIN - 1, true, false),
            (limits::SHARED_BATCH_MIN, false, false),
        ] {
            let (ledger, queues) = idle_crew(has_helper);
            let organizations: Vec<_> = [LOUD, QUIET].into_iter().cycle().take(count).collect();
            let tasks = tasks(&organizations);
            let ids: Vec<_> = tasks.iter().map(|task| task.id.to_string()).collect();
            let answering = async { queues.iter().map(answer).collect::<Vec<_>>() };
            let (verdicts, taken) = tokio::join!(ledger.decide_together(tasks), answering);
            let answered = verdicts.iter().map(|verdict| match verdict {
                Err(StoreError::Unavailable(id)) => id.clone(),
                other => panic!("{other:?}"),
            });
            assert_eq!(answered.collect::<Vec<_>>(), ids);
            let [of_loud, of_quiet] =
                [LOUD, QUIET].map(|whose| organizations.iter().copied().filter(|id| *id == whose).collect::<Vec<_>>());
            match (is_shared, &taken[..]) {
                (true, [of_writers, of_helper]) => assert_eq!((of_writers, of_helper), (&of_quiet, &of_loud)),
                (false, [of_writers, ..]) => assert_eq!(of_writers, &organizations),
                (true, _) | (false, []) => panic!("{taken:?}"),
            }
        }
    }

    #[test]
    fn an_organization_has_a_bounded_number_of_calls_and_a_larger_one_of_requests() {
        let waiting = Waiting::default();
        for _ in 0..limits::ORGANIZATION_CALLS_MAX {
            waiting.enter(LOUD, false).unwrap();
        }
        assert!(matches!(waiting.enter(LOUD, false), Err(StoreError::OrganizationBusy)));
        for _ in limits::ORGANIZATION_CALLS_MAX..limits::ORGANIZATION_QUEUE_MAX {
            waiting.enter(LOUD, true).unwrap();
        }
        assert!(matches!(waiting.enter(LOUD, true), Err(StoreError::OrganizationBusy)));
        assert_eq!(waiting.total(), limits::ORGANIZATION_QUEUE_MAX);
        waiting.enter(QUIET, false).unwrap();
        assert!(waiting.adds_up());
        // One call that goes makes room for one call.
        waiting.leave(&job(&[LOUD], false));
        waiting.enter(LOUD, false).unwrap();
        assert!(matches!(waiting.enter(LOUD, false), Err(StoreError::OrganizationBusy)));
    }

    #[test]
    fn a_batch_that_goes_makes_no_room_for_calls() {
        let waiting = Waiting::default();
        for _ in 0..limits::ORGANIZATION_CALLS_MAX {
            waiting.enter(LOUD, false).unwrap();
        }
        waiting.enter(LOUD, true).unwrap();
        waiting.enter(QUIET, true).unwrap();
        waiting.leave(&job(&[LOUD, QUIET], true));
        assert!(matches!(waiting.enter(LOUD, false), Err(StoreError::OrganizationBusy)));
        assert_eq!(waiting.total(), limits::ORGANIZATION_CALLS_MAX);
        assert!(waiting.adds_up(), "of whom nothing waits nothing is kept");
    }

    #[test]
    fn everybody_is_refused_where_the_queue_is_full() {
        let waiting = Waiting::default();
        let organization = |number: usize| OrganizationId::new(Uuid::from_u128(number as u128));
        for number in 0..limits::QUEUE_MAX {
            waiting.enter(organization(number / limits::ORGANIZATION_QUEUE_MAX), true).unwrap();
        }
        assert!(matches!(waiting.enter(organization(99), false), Err(StoreError::Busy)));
        waiting.leave(&job(&[organization(0)], true));
        waiting.enter(organization(99), false).unwrap();
    }

    #[test]
    fn a_full_queue_says_so_before_and_after_it_is_asked() {
        let (ledger, queue) = idle();
        ledger.has_room().unwrap();
        ledger.enter(LOUD, true).unwrap();
        ledger.enter(QUIET, true).unwrap();
        let outcome = ledger.push(tasks(&[LOUD, QUIET]), true, Taker::Any).unwrap();
        assert_eq!(ledger.queued(), 2);
        assert!(matches!(ledger.has_room(), Err(StoreError::Busy)));
        ledger.enter(LOUD, false).unwrap();
        assert!(matches!(ledger.push(tasks(&[LOUD]), false, Taker::Any), Err(StoreError::Busy)));
        assert_eq!(ledger.queued(), 2, "what was refused does not wait");
        let taken = queue.try_lock().unwrap().try_recv().unwrap();
        assert_eq!((taken.tasks.len(), taken.is_batch), (2, true));
        ledger.has_room().unwrap();
        drop(outcome);
    }

    #[tokio::test]
    async fn a_closed_ledger_takes_nothing_and_says_that_it_is_closed() {
        let (ledger, queue) = idle();
        let (ended, end) = oneshot::channel();
        *lock(&ledger.writers) = vec![end];
        ended.send(()).unwrap();
        ledger.close().await;
        ledger.has_room().unwrap();
        let refused = ledger.request(LOUD, Request::Settle, None, None).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(ledger.queued(), 0);
        assert!(queue.lock().await.recv().await.is_none(), "the writers end");
    }

    #[tokio::test]
    async fn an_unknown_outcome_names_the_consumption_to_look_up_and_nothing_else() {
        for (request, is_consumption) in [
            (Request::Capture { hold_id: multicredit_domain::HoldId::new(Uuid::nil()), quantity: None }, true),
            (Request::Settle, false),
        ] {
            let (ledger, queue) = idle();
            let writer = async {
                // It takes a job and dies.
                let job = queue.lock().await.recv().await.unwrap();
                job.tasks[0].id
            };
            let (answer, id) = tokio::join!(ledger.request(LOUD, request, None, None), writer);
            let Err(StoreError::OutcomeUnknown { consumption_id }) = answer else { panic!("{answer:?}") };
            assert_eq!(consumption_id, is_consumption.then(|| ConsumptionId::new(id)));
        }
    }
}
