//! The deliverer: sees to it that every endpoint is told of everything that it is to be told of.
//!
//! It looks at everybody every second, and at once at those whom its own process has moved; claims pairs of an endpoint
//! and an organization that have something to be told; and works each off in a task of its own, one event after the
//! other. Any number of servers do so side by side ([`Store::claim_webhooks`] says how). What fails is tried again later
//! and holds up its own pair alone. Nothing is kept here that a crash could lose: an event that was sent and not yet
//! recorded is sent again, under the same id.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use multicredit_domain::webhook::retry_delay;
use multicredit_domain::{EndpointId, OrganizationId, Timestamp, Verdict};
use multicredit_store::{
    DeliveryOutcome, DeliveryReason, Event, NewDelivery, Progress, Store, StoreError, WebhookClaim, WebhookInterest,
};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::courier::{Courier, Letter, Sent};
use super::payload;
use crate::limits::{WEBHOOK_CONCURRENCY_MAX, WEBHOOK_ENDPOINT_CONCURRENCY_MAX, WEBHOOK_PAUSE, WEBHOOK_PAUSE_MIN};

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

/// A deliverer at work. Dropped, it ends as by a crash.
#[derive(Debug)]
pub struct Deliverer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Deliverer {
    /// Begins at once.
    pub fn start(store: Store, courier: Courier) -> Self {
        let (stop, stopped) = watch::channel(false);
        let round = Round {
            store,
            courier: Arc::new(courier),
            stopped,
            tasks: JoinSet::new(),
            at_work: HashMap::new(),
            again: BTreeSet::new(),
            others_wait: false,
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

/// Up to where refused attempts were looked for.
#[derive(Debug, Default)]
struct Refusals {
    since: Option<Timestamp>,
    deep_at: Option<Timestamp>,
}

/// What the deliverer knows between two looks.
struct Round {
    store: Store,
    courier: Arc<Courier>,
    stopped: watch::Receiver<bool>,
    tasks: JoinSet<Worked>,
    /// How many pairs of each endpoint are being worked off.
    at_work: HashMap<EndpointId, usize>,
    /// Whom to look at again at once.
    again: BTreeSet<OrganizationId>,
    /// Whether there were more pairs than could be worked off, which get their turn as soon as others have ended.
    others_wait: bool,
    refusals: Refusals,
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
            let at_work = self.tasks.len();
            tokio::select! {
                // Also when whoever could stop it is gone.
                _ = stopped.changed() => break,
                _ = looks.tick() => self.look_at_all().await,
                () = store.webhook_news() => {}
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.end(done),
            }
            self.again.extend(store.moved_organizations());
            if self.others_wait && self.tasks.len() < at_work {
                // Everybody, and those with them.
                self.again.clear();
                self.look_at_those_who_wait().await;
                sleep(WEBHOOK_PAUSE_MIN).await;
            } else if !self.again.is_empty() {
                self.look_at_some().await;
                sleep(WEBHOOK_PAUSE_MIN).await;
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn look_at_all(&mut self) {
        if let Err(error) = self.try_to_look_at_all().await {
            tracing::warn!(%error, "webhooks could not be looked for");
        }
    }

    async fn try_to_look_at_all(&mut self) -> Result<(), StoreError> {
        let interest = self.store.webhook_interest().await?;
        if interest.endpoints == 0 {
            return Ok(());
        }
        if interest.everybody {
            self.store.complete_webhook_cursors().await?;
        }
        self.look_for_refusals(interest).await?;
        self.claim(None).await
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

    async fn look_at_those_who_wait(&mut self) {
        if let Err(error) = self.claim(None).await {
            tracing::warn!(%error, "webhooks could not be looked for");
        }
    }

    async fn look_at_some(&mut self) {
        let some = std::mem::take(&mut self.again);
        if let Err(error) = self.claim(Some(&some)).await {
            tracing::warn!(%error, "webhooks could not be looked for");
        }
    }

    async fn claim(&mut self, only: Option<&BTreeSet<OrganizationId>>) -> Result<(), StoreError> {
        let free = WEBHOOK_CONCURRENCY_MAX.saturating_sub(self.tasks.len());
        if free == 0 {
            self.others_wait = true;
            return Ok(());
        }
        let at_work = &self.at_work;
        let is_busy = |endpoint_id, taken| {
            at_work.get(&endpoint_id).copied().unwrap_or_default() + taken >= WEBHOOK_ENDPOINT_CONCURRENCY_MAX
        };
        let claimed = self.store.claim_webhooks(only, WEBHOOK_ENDPOINT_CONCURRENCY_MAX, free, is_busy).await?;
        let (claims, others_wait) = claimed;
        // A look at some says nothing of the others.
        self.others_wait = others_wait || (self.others_wait && only.is_some());
        for claim in claims {
            *self.at_work.entry(claim.endpoint.id).or_default() += 1;
            let pair =
                Pair { store: self.store.clone(), courier: Arc::clone(&self.courier), stopped: self.stopped.clone() };
            self.tasks.spawn(pair.work(claim));
        }
        Ok(())
    }

    fn end(&mut self, done: Result<Worked, tokio::task::JoinError>) {
        let Ok(worked) = done else {
            // Which one it was is not known; its lease runs out.
            tracing::error!("a webhook's task ended abruptly");
            if self.tasks.is_empty() {
                self.at_work.clear();
            }
            return;
        };
        if let Some(count) = self.at_work.get_mut(&worked.endpoint_id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.at_work.remove(&worked.endpoint_id);
            }
        }
        if worked.has_more {
            self.again.insert(worked.organization_id);
        }
    }
}

/// What is needed to work a pair off.
struct Pair {
    store: Store,
    courier: Arc<Courier>,
    stopped: watch::Receiver<bool>,
}

impl Pair {
    async fn work(mut self, mut claim: WebhookClaim) -> Worked {
        let (organization_id, endpoint_id) = (claim.organization_id, claim.endpoint.id);
        let has_more = self.try_to_work(&mut claim).await.unwrap_or_else(|error| {
            // The lease runs out, and somebody goes on from what was recorded.
            tracing::warn!(organization = %organization_id, endpoint = %endpoint_id, %error, "webhooks were not delivered");
            false
        });
        Worked { organization_id, endpoint_id, has_more }
    }

    /// Answers whether there is more to be told at once.
    async fn try_to_work(&mut self, claim: &mut WebhookClaim) -> Result<bool, StoreError> {
        let began = Instant::now();
        let batch = self.store.webhook_events(claim).await?;
        for (event, behind) in &batch.events {
            let is_over = *self.stopped.borrow() || began.elapsed() > TURN;
            let sent = if is_over { None } else { self.attempt(claim, event).await? };
            let Some(sent) = sent else {
                self.store.release_webhook(claim, claim.position()).await?;
                return Ok(true);
            };
            let attempt = claim.failures + 1;
            let (outcome, progress) = match sent.verdict {
                Verdict::Delivered => (DeliveryOutcome::Delivered, Progress::On(*behind)),
                Verdict::Gone => (DeliveryOutcome::Gone, later(attempt, self.store.now().await?)),
                Verdict::Failed => match retry_delay(attempt, chance()) {
                    Some(delay) => {
                        let due_at = self.store.now().await? + delay;
                        (DeliveryOutcome::Failed, Progress::Later { failures: attempt, due_at })
                    }
                    None => (DeliveryOutcome::GivenUp, Progress::On(*behind)),
                },
            };
            self.store.stats().webhooks.sent(outcome, sent.took);
            let delivery = delivery(claim, event, attempt, outcome, sent);
            let is_own = self.store.record_delivery(claim, delivery, progress).await?;
            if outcome == DeliveryOutcome::Gone {
                tracing::info!(endpoint = %claim.endpoint.id, "an endpoint of webhooks is gone and was disabled");
                self.store.disable_gone_endpoint(claim.endpoint.id).await?;
            }
            if !is_own || matches!(progress, Progress::Later { .. }) {
                return Ok(false);
            }
        }
        self.store.release_webhook(claim, batch.end).await?;
        Ok(batch.is_cut)
    }

    /// Sends an event once; `None` if the server stops and it does not arrive soon.
    async fn attempt(&mut self, claim: &WebhookClaim, event: &Event) -> Result<Option<Sent>, StoreError> {
        let body = payload::body(event);
        let letter = Letter { id: event.id.as_str(), body: &body, at: self.store.now().await? };
        let stopping = async {
            let _ = self.stopped.wait_for(|stopped| *stopped).await;
            sleep(LAST_ATTEMPT).await;
        };
        Ok(tokio::select! {
            sent = self.courier.send(&claim.endpoint, letter) => Some(sent),
            () = stopping => None,
        })
    }
}

/// An endpoint that is gone keeps its place, for the case that it comes back.
const fn later(failures: u32, due_at: Timestamp) -> Progress {
    Progress::Later { failures, due_at }
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
