//! The deliverer: sees to it that every endpoint is told of everything that it is to be told of.
//!
//! It looks at everybody every second, and at once at those whom its own process has moved; claims pairs of an endpoint
//! and an organization that have something to be told, many at once; and works each off in a task of its own, one event
//! after the other. What became of them is written down for many together ([`Recorder`]). Any number of servers do so side
//! by side ([`Store::claim_webhooks`] says how). What fails is tried again later and holds up its own pair alone. Nothing
//! is kept here that a crash could lose: an event that was sent and not yet recorded is sent again, under the same id.
//!
//! Whoever spends must not wait for whoever is told of it. So a process sends no more than so many a second, looks for what
//! there is to be told for a small part of the time, and writes down what became of many pairs at once; what is left
//! behind is told later.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use multicredit_domain::webhook::retry_delay;
use multicredit_domain::{EndpointId, OrganizationId, Timestamp, Verdict};
use multicredit_store::{
    DeliveryOutcome, DeliveryReason, Event, EventBatch, NewDelivery, Progress, Store, StoreError, WebhookClaim,
    WebhookInterest, WebhookPair, WebhookRecord,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::courier::{Courier, Letter, Sent};
use super::payload;
use crate::limits::{
    WEBHOOK_CONCURRENCY_MAX, WEBHOOK_ENDPOINT_CONCURRENCY_MAX, WEBHOOK_ENDPOINT_PAIRS_MAX, WEBHOOK_PAIRS_MAX,
    WEBHOOK_PAUSE, WEBHOOK_PAUSE_MIN,
};

/// How long an attempt that is under way may go on when the server stops.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

/// How long stopping waits for what is recorded then.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How far back refused attempts are looked for every second: longer than a transaction usually takes.
const REFUSALS_LOOKBACK: TimeDelta = TimeDelta::seconds(5);

/// And every so often: longer than any transaction takes.
const REFUSALS_DEEP_LOOKBACK: TimeDelta = TimeDelta::minutes(10);
const REFUSALS_DEEP_EVERY: TimeDelta = TimeDelta::minutes(1);

/// How long one pair is worked off before the others get their turn.
const TURN: Duration = Duration::from_secs(10);

/// How long a pair waits for its turn to be sent before it is left to others: well below what its lease lasts.
const TURN_PATIENCE: Duration = Duration::from_secs(8);

/// For how many times as long as a look has taken nobody else is looked for, until it is everybody's turn again,
const LOOK_PAUSES: u32 = 30;

/// and for how many times as long as it took to find organizations that came later.
const NEWCOMER_PAUSES: u32 = 100;

/// How long those are not looked for of which many wait, so that all of them are told before the next are looked for.
const WAITING_PAUSE: Duration = Duration::from_secs(3);

/// When more than so many are on their way, what becomes of them is written down together a moment later.
const BUSY_TURNS: usize = 4;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How many records are written down together: as many as are sent at once.
const RECORDS_AT_ONCE: usize = WEBHOOK_CONCURRENCY_MAX;

/// A deliverer at work. Dropped, it ends as by a crash.
#[derive(Debug)]
pub struct Deliverer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Deliverer {
    /// Begins at once, and sends `rate` webhooks a second at the most.
    pub fn start(store: Store, courier: Courier, rate: NonZeroU32) -> Self {
        let (stop, stopped) = watch::channel(false);
        let turns = Arc::new(Semaphore::new(WEBHOOK_CONCURRENCY_MAX));
        let post = Post {
            recorder: Recorder::start(store.clone(), Arc::clone(&turns)),
            store: store.clone(),
            courier,
            stopped: stopped.clone(),
            turns,
            rate: Arc::new(RateLimiter::direct(quota(rate))),
        };
        let round = Round {
            store,
            post,
            stopped,
            tasks: JoinSet::new(),
            endpoints: HashMap::new(),
            waiting: VecDeque::new(),
            again: BTreeSet::new(),
            more_wait: false,
            next_look: Instant::now(),
            next_newcomers: Instant::now(),
            found_at: Instant::now(),
            refusals: Refusals::default(),
        };
        Self { stop, task: tokio::spawn(round.run()) }
    }

    /// Claims nothing further, and waits a little for what is under way.
    pub async fn stop(self) {
        // Nobody listens any more if it has ended by itself.
        let _ = self.stop.send(true);
        if timeout(STOP_PATIENCE, self.task).await.is_err() {
            tracing::warn!("webhooks were still under way when the server stopped; they are sent again");
        }
    }
}

/// Evenly, but for a twentieth of a second's.
fn quota(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(NonZeroU32::MIN.saturating_add(rate.get() / 20))
}

/// Up to where refused attempts were looked for.
#[derive(Debug, Default)]
struct Refusals {
    since: Option<Timestamp>,
    deep_at: Option<Timestamp>,
}

/// What the deliverer knows between two looks.
struct Round {
    store: Store,
    post: Post,
    stopped: watch::Receiver<bool>,
    tasks: JoinSet<Worked>,
    /// The endpoints that are being told something.
    endpoints: HashMap<EndpointId, AtWork>,
    /// Pairs that were found, and not claimed yet.
    waiting: VecDeque<WebhookPair>,
    /// Whom to look at again at once.
    again: BTreeSet<OrganizationId>,
    /// Whether there are more pairs than were found.
    more_wait: bool,
    /// When somebody may be looked for again, beside the look at everybody every second,
    next_look: Instant,
    /// and when organizations that came later.
    next_newcomers: Instant,
    /// When everybody was looked for.
    found_at: Instant,
    refusals: Refusals,
}

/// An endpoint that is being told something.
struct AtWork {
    /// How many of its pairs are in hand.
    pairs: usize,
    /// Whose turn it is to be sent.
    turns: Arc<Semaphore>,
}

/// What became of a pair.
struct Worked {
    organization_id: OrganizationId,
    endpoint_id: EndpointId,
    /// Whether there is more to be told at once.
    has_more: bool,
}

impl Round {
    async fn run(mut self) {
        let mut looks = interval(WEBHOOK_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let store = self.store.clone();
        let mut stopped = self.stopped.clone();
        loop {
            let wants_look = self.may_start() || self.more_wait || !self.again.is_empty();
            tokio::select! {
                // Also when whoever could stop it is gone.
                _ = stopped.changed() => break,
                _ = looks.tick() => self.look_and_claim(Whom::All).await,
                () = sleep_until(self.next_look), if wants_look => self.look_and_claim(self.next()).await,
                () = store.webhook_news() => self.again.extend(store.moved_organizations()),
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.end(done),
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    /// Whom to look for when it is not everybody's turn anyway.
    fn next(&self) -> Whom {
        match () {
            () if self.may_start() => Whom::Nobody,
            () if self.more_wait => Whom::Rest,
            () => Whom::Moved,
        }
    }

    /// Looks for those, and starts what can be started.
    async fn look_and_claim(&mut self, whom: Whom) {
        let began = Instant::now();
        if let Err(error) = self.look(whom).await {
            tracing::warn!(%error, "webhooks could not be looked for");
        }
        let took = began.elapsed();
        if let Err(error) = self.claim().await {
            tracing::warn!(%error, "webhooks could not be claimed");
        }
        self.next_look = Instant::now() + WEBHOOK_PAUSE_MIN.max(took * LOOK_PAUSES).min(WEBHOOK_PAUSE);
    }

    async fn look(&mut self, whom: Whom) -> Result<(), StoreError> {
        match whom {
            Whom::All => self.look_at_all().await,
            Whom::Rest => self.find_all().await,
            Whom::Moved => self.find_moved().await,
            Whom::Nobody => Ok(()),
        }
    }

    async fn look_at_all(&mut self) -> Result<(), StoreError> {
        let interest = self.store.webhook_interest().await?;
        if interest.endpoints == 0 {
            return Ok(());
        }
        let began = Instant::now();
        if interest.everybody && self.next_newcomers <= began {
            self.store.complete_webhook_cursors().await?;
            self.next_newcomers = Instant::now() + began.elapsed() * NEWCOMER_PAUSES;
        }
        self.look_for_refusals(interest).await?;
        // Those who wait may be as many as can be told for a while.
        if self.may_start() && self.found_at.elapsed() < WAITING_PAUSE { Ok(()) } else { self.find_all().await }
    }

    async fn find_all(&mut self) -> Result<(), StoreError> {
        // Whoever has moved is among everybody.
        self.again.clear();
        self.more_wait = false;
        self.found_at = Instant::now();
        let (found, more_wait) = self.store.waiting_webhooks(None).await?;
        self.waiting = found.into();
        self.more_wait = more_wait;
        Ok(())
    }

    /// Those alone whose endpoint has room: the others wait already, or are found with everybody.
    async fn find_moved(&mut self) -> Result<(), StoreError> {
        let moved = std::mem::take(&mut self.again);
        let (found, _) = self.store.waiting_webhooks(Some(&moved)).await?;
        let free = found.into_iter().filter(|(_, endpoint_id)| self.has_room(*endpoint_id));
        let free: Vec<_> = free.collect();
        self.waiting.extend(free);
        Ok(())
    }

    async fn look_for_refusals(&mut self, interest: WebhookInterest) -> Result<(), StoreError> {
        if !interest.refused {
            self.refusals = Refusals::default();
            return Ok(());
        }
        let now = self.store.now().await?;
        let is_deep = self.refusals.deep_at.is_none_or(|at| at + REFUSALS_DEEP_EVERY <= now);
        let since = match self.refusals.since {
            Some(since) if is_deep => since - REFUSALS_DEEP_LOOKBACK,
            Some(since) => since - REFUSALS_LOOKBACK,
            None => self.store.untold_refusals_since().await?.unwrap_or(now),
        };
        self.store.release_refusals(since).await?;
        self.refusals.since = Some(now);
        if is_deep {
            self.refusals.deep_at = Some(now);
        }
        Ok(())
    }

    fn has_room(&self, endpoint_id: EndpointId) -> bool {
        self.endpoints.get(&endpoint_id).is_none_or(|at_work| at_work.pairs < WEBHOOK_ENDPOINT_PAIRS_MAX)
    }

    /// Whether one of those who wait could be claimed.
    fn may_start(&self) -> bool {
        self.tasks.len() < WEBHOOK_PAIRS_MAX && self.waiting.iter().any(|(_, endpoint_id)| self.has_room(*endpoint_id))
    }

    /// Takes out of those who wait whom there is room for.
    fn take(&mut self) -> Vec<WebhookPair> {
        let room = WEBHOOK_PAIRS_MAX.saturating_sub(self.tasks.len());
        let mut of_each: HashMap<EndpointId, usize> = HashMap::new();
        let mut taken = Vec::new();
        let mut left = VecDeque::with_capacity(self.waiting.len());
        for pair in std::mem::take(&mut self.waiting) {
            let count = of_each.entry(pair.1).or_insert_with(|| self.endpoints.get(&pair.1).map_or(0, |it| it.pairs));
            if taken.len() < room && *count < WEBHOOK_ENDPOINT_PAIRS_MAX {
                *count += 1;
                taken.push(pair);
            } else {
                left.push_back(pair);
            }
        }
        self.waiting = left;
        taken
    }

    async fn claim(&mut self) -> Result<(), StoreError> {
        let taken = self.take();
        let claims = self.store.claim_webhooks(&taken).await?;
        if claims.is_empty() {
            return Ok(());
        }
        // If they cannot be read their leases run out.
        let batches = self.store.webhook_events(&claims).await?;
        for (claim, batch) in claims.into_iter().zip(batches) {
            let at_work = self.endpoints.entry(claim.endpoint.id).or_insert_with(AtWork::new);
            at_work.pairs += 1;
            let turns = Arc::clone(&at_work.turns);
            self.tasks.spawn(self.post.clone().work(claim, batch, turns));
        }
        Ok(())
    }

    fn end(&mut self, done: Result<Worked, JoinError>) {
        let Ok(worked) = done else {
            // Which one it was is not known; its lease runs out.
            tracing::error!("a webhook's task ended abruptly");
            if self.tasks.is_empty() {
                self.endpoints.clear();
            }
            return;
        };
        if let Some(at_work) = self.endpoints.get_mut(&worked.endpoint_id) {
            at_work.pairs = at_work.pairs.saturating_sub(1);
            if at_work.pairs == 0 {
                self.endpoints.remove(&worked.endpoint_id);
            }
        }
        if worked.has_more {
            self.again.insert(worked.organization_id);
        }
    }
}

/// Who is looked for.
enum Whom {
    /// Everybody, and whatever else there is to do every second.
    All,
    /// Everybody, since more wait than were found.
    Rest,
    /// Those who have moved.
    Moved,
    /// Nobody: enough of them wait.
    Nobody,
}

impl AtWork {
    fn new() -> Self {
        Self { pairs: 0, turns: Arc::new(Semaphore::new(WEBHOOK_ENDPOINT_CONCURRENCY_MAX)) }
    }
}

/// What is needed to work a pair off. Cheap to clone.
#[derive(Clone)]
struct Post {
    store: Store,
    courier: Courier,
    recorder: Recorder,
    stopped: watch::Receiver<bool>,
    /// Whose turn it is to be sent, of all endpoints.
    turns: Arc<Semaphore>,
    rate: Arc<DefaultDirectRateLimiter>,
}

impl Post {
    async fn work(mut self, mut claim: WebhookClaim, batch: EventBatch, turns: Arc<Semaphore>) -> Worked {
        let (organization_id, endpoint_id) = claim.pair();
        let has_more = self.try_to_work(&mut claim, batch, turns).await.unwrap_or_else(|error| {
            // The lease runs out, and somebody goes on from what was recorded.
            tracing::warn!(organization = %organization_id, endpoint = %endpoint_id, %error, "webhooks were not delivered");
            false
        });
        Worked { organization_id, endpoint_id, has_more }
    }

    /// Answers whether there is more to be told at once.
    async fn try_to_work(
        &mut self,
        claim: &mut WebhookClaim,
        batch: EventBatch,
        turns: Arc<Semaphore>,
    ) -> Result<bool, StoreError> {
        if batch.events.is_empty() {
            self.recorder.record(claim, None, Progress::End(batch.end)).await?;
            return Ok(batch.is_cut);
        }
        let Some(turn) = self.turn(turns).await else { return self.release(claim).await };
        let mut turn = Some(turn);
        let began = Instant::now();
        let last = batch.events.len() - 1;
        for (nth, (event, behind)) in batch.events.iter().enumerate() {
            let is_over = *self.stopped.borrow() || began.elapsed() > TURN;
            let sent = if is_over { None } else { self.attempt(claim, event).await };
            let Some(sent) = sent else { return self.release(claim).await };
            let attempt = claim.failures + 1;
            let on = if nth == last { Progress::End(batch.end) } else { Progress::On(*behind) };
            let (outcome, progress) = outcome(sent.verdict, attempt, on);
            self.store.stats().webhooks.sent(outcome, sent.took);
            let delivery = delivery(claim, event, attempt, outcome, sent);
            if !matches!(progress, Progress::On(_)) {
                // Nothing more is sent, and others may.
                turn = None;
            }
            let is_own = self.recorder.record(claim, Some(delivery), progress).await?;
            if outcome == DeliveryOutcome::Gone {
                tracing::info!(endpoint = %claim.endpoint.id, "an endpoint of webhooks is gone and was disabled");
                self.store.disable_gone_endpoint(claim.endpoint.id).await?;
            }
            if !is_own || matches!(progress, Progress::Later { .. }) {
                return Ok(false);
            }
            claim.go_on(*behind);
        }
        drop(turn);
        Ok(batch.is_cut)
    }

    /// The turn of a pair, of its endpoint's first: those of one that hangs must not take those of the others. `None` if it
    /// does not come soon.
    async fn turn(&self, of_endpoint: Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
        let both = async {
            let one = of_endpoint.acquire_owned().await.ok()?;
            Some([one, Arc::clone(&self.turns).acquire_owned().await.ok()?])
        };
        timeout(TURN_PATIENCE, both).await.ok().flatten()
    }

    /// Leaves a pair to whoever comes next: there is more to be told.
    async fn release(&self, claim: &WebhookClaim) -> Result<bool, StoreError> {
        self.recorder.record(claim, None, Progress::Release).await?;
        Ok(true)
    }

    /// Sends an event once; `None` if the server stops and it does not arrive soon.
    async fn attempt(&mut self, claim: &WebhookClaim, event: &Event) -> Option<Sent> {
        let sending = async {
            self.rate.until_ready().await;
            let body = payload::body(event);
            let letter = Letter { id: event.id.as_str(), body: &body, at: self.store.instant_of(claim) };
            self.courier.send(&claim.endpoint, letter).await
        };
        let stopping = async {
            let _ = self.stopped.wait_for(|stopped| *stopped).await;
            sleep(LAST_ATTEMPT).await;
        };
        tokio::select! {
            sent = sending => Some(sent),
            () = stopping => None,
        }
    }
}

/// What became of an attempt, and of its pair, which goes `on` if it is done with the event.
fn outcome(verdict: Verdict, attempt: u32, on: Progress) -> (DeliveryOutcome, Progress) {
    let later = |delay| Progress::Later { failures: attempt, delay };
    match verdict {
        Verdict::Delivered => (DeliveryOutcome::Delivered, on),
        // An endpoint that is gone keeps its place, for the case that it comes back.
        Verdict::Gone => (DeliveryOutcome::Gone, later(TimeDelta::zero())),
        Verdict::Failed => match retry_delay(attempt, chance()) {
            Some(delay) => (DeliveryOutcome::Failed, later(delay)),
            None => (DeliveryOutcome::GivenUp, on),
        },
    }
}

/// Writes down what became of pairs, for all together that come while the last ones are written.
#[derive(Clone)]
struct Recorder(mpsc::Sender<Said>);

/// What is to be written down, and who waits for it.
type Said = (WebhookRecord, oneshot::Sender<Result<bool, StoreError>>);

impl Recorder {
    fn start(store: Store, turns: Arc<Semaphore>) -> Self {
        let (sender, mut records) = mpsc::channel::<Said>(WEBHOOK_PAIRS_MAX);
        tokio::spawn(async move {
            let mut together = Vec::with_capacity(RECORDS_AT_ONCE);
            // Ends with whoever could say something.
            while let Some(first) = records.recv().await {
                together.push(first);
                if WEBHOOK_CONCURRENCY_MAX - turns.available_permits() > BUSY_TURNS {
                    sleep(BUSY_PAUSE).await;
                }
                while together.len() < RECORDS_AT_ONCE
                    && let Ok(next) = records.try_recv()
                {
                    together.push(next);
                }
                let (records, askers): (Vec<_>, Vec<_>) = together.drain(..).unzip();
                let written = store.record_webhooks(records).await;
                for (nth, asker) in askers.into_iter().enumerate() {
                    let answer = written.as_ref().map(|own| own.get(nth).copied().unwrap_or_default());
                    // Whoever asked may be gone.
                    let _ = asker.send(answer.map_err(Clone::clone));
                }
            }
        });
        Self(sender)
    }

    /// Writes down an attempt and what its pair has come to. `false` if the lease has run out and somebody else may have the
    /// pair: nothing is written then.
    async fn record(
        &self,
        claim: &WebhookClaim,
        delivery: Option<NewDelivery>,
        progress: Progress,
    ) -> Result<bool, StoreError> {
        let (asker, answer) = oneshot::channel();
        let record = WebhookRecord { claim: claim.clone(), delivery, progress };
        let gone = || StoreError::Internal("nobody writes down what became of webhooks".to_owned());
        self.0.send((record, asker)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn delivery(claim: &WebhookClaim, event: &Event, attempt: u32, outcome: DeliveryOutcome, sent: Sent) -> NewDelivery {
    NewDelivery {
        organization_id: Some(claim.organization_id),
        endpoint_id: claim.endpoint.id,
        event_id: event.id.as_str().to_owned(),
        event_type: event.event_type.as_str().to_owned(),
        reason: DeliveryReason::Event,
        attempt,
        outcome,
        status_code: sent.status,
        error: sent.error,
        duration_ms: i64::try_from(sent.took.as_millis()).unwrap_or(i64::MAX),
    }
}

/// By how much a delay is longer.
fn chance() -> u16 {
    let mut bits = [0; 2];
    getrandom::fill(&mut bits).expect("the operating system gives random bytes");
    u16::from_ne_bytes(bits)
}
