//! The way in: a bounded queue with a bounded share for each organization.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use multicredit_domain::{Consumption, ConsumptionId, IdempotencyKey, OrganizationId};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::writer::Writer;
use super::{Answer, ConsumeItem, Job, Reply, Request, Task, limits};
use crate::clock;
use crate::config::{Engine, StoreConfig};
use crate::error::StoreError;

type Outcome = oneshot::Receiver<Result<Answer<Reply>, StoreError>>;

/// The ledger as the store sees it: hand in a request, wait for what became of it.
pub(crate) struct Ledger {
    /// `None` once the ledger is closed.
    sender: RwLock<Option<mpsc::Sender<Job>>>,
    waiting: Arc<Waiting>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    /// Starts the writer, which connects when the first request comes.
    pub(crate) fn start(engine: Engine, config: StoreConfig) -> Self {
        let (sender, receiver) = mpsc::channel(limits::QUEUE_MAX);
        let waiting = Arc::new(Waiting::default());
        let writer = tokio::spawn(Writer::new(engine, config, Arc::clone(&waiting)).run(receiver));
        Self { sender: RwLock::new(Some(sender)), waiting, writer: Mutex::new(Some(writer)) }
    }

    /// Takes nothing new, finishes what waits, and ends the writer.
    pub(crate) async fn close(&self) {
        self.sender.write().unwrap_or_else(PoisonError::into_inner).take();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the ledger writer ended badly");
        }
    }

    pub(crate) async fn consume(&self, item: ConsumeItem) -> Result<Answer<Consumption>, StoreError> {
        let (consumption_id, outcome) = self.push_consume(item)?;
        wait_consumption(consumption_id, outcome).await
    }

    pub(crate) async fn consume_many(&self, items: Vec<ConsumeItem>) -> Vec<Result<Answer<Consumption>, StoreError>> {
        let pushed: Vec<_> = items.into_iter().map(|item| self.push_consume(item)).collect();
        let mut answers = Vec::with_capacity(pushed.len());
        for push in pushed {
            answers.push(match push {
                Ok((consumption_id, outcome)) => wait_consumption(consumption_id, outcome).await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// Hands in any request and waits for what became of it.
    pub(crate) async fn request(
        &self,
        organization_id: OrganizationId,
        request: Request,
        key: Option<IdempotencyKey>,
    ) -> Result<Answer<Reply>, StoreError> {
        let is_capture = matches!(request, Request::Capture { .. });
        let (id, outcome) = self.push(organization_id, request, key)?;
        wait(outcome, is_capture.then(|| ConsumptionId::new(id))).await
    }

    fn push_consume(&self, item: ConsumeItem) -> Result<(ConsumptionId, Outcome), StoreError> {
        let ConsumeItem { organization_id, request, key } = item;
        self.push(organization_id, Request::Consume(request), key)
            .map(|(id, outcome)| (ConsumptionId::new(id), outcome))
    }

    fn push(
        &self,
        organization_id: OrganizationId,
        request: Request,
        key: Option<IdempotencyKey>,
    ) -> Result<(uuid::Uuid, Outcome), StoreError> {
        let binding = key.map(|key| request.bind(key)).transpose()?;
        let id = clock::new_uuid();
        let (reply, outcome) = oneshot::channel();
        let job = Job { task: Task { organization_id, id, request, binding }, reply };
        self.waiting.enter(organization_id)?;
        let sent = match &*self.sender.read().unwrap_or_else(PoisonError::into_inner) {
            Some(sender) => sender.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Closed(_) => closed(),
            }),
            None => Err(closed()),
        };
        if let Err(error) = sent {
            self.waiting.leave(organization_id);
            return Err(error);
        }
        Ok((id, outcome))
    }
}

/// How many requests of each organization wait.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<OrganizationId, usize>>);

impl Waiting {
    fn enter(&self, organization_id: OrganizationId) -> Result<(), StoreError> {
        let mut waiting = lock(&self.0);
        let count = waiting.entry(organization_id).or_default();
        if *count >= limits::ORGANIZATION_QUEUE_MAX {
            return Err(StoreError::OrganizationBusy);
        }
        *count += 1;
        Ok(())
    }

    /// Must be called once for each request that entered, when it leaves the queue.
    pub(super) fn leave(&self, organization_id: OrganizationId) {
        if let Entry::Occupied(mut entry) = lock(&self.0).entry(organization_id) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A panic while a count was held leaves a count, not a broken invariant.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the writer's answer. Where the outcome is unknown, `consumption_id` is where to look.
async fn wait(outcome: Outcome, consumption_id: Option<ConsumptionId>) -> Result<Answer<Reply>, StoreError> {
    // The writer answers every job that it takes; it drops one only when it dies.
    let answer = outcome.await.unwrap_or(Err(StoreError::OutcomeUnknown { consumption_id: None }));
    answer.map_err(|error| match error {
        StoreError::OutcomeUnknown { .. } => StoreError::OutcomeUnknown { consumption_id },
        error => error,
    })
}

async fn wait_consumption(id: ConsumptionId, outcome: Outcome) -> Result<Answer<Consumption>, StoreError> {
    let answer = wait(outcome, Some(id)).await?;
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
