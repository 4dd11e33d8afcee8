//! The ledger: the ONLY code that moves credits.
//!
//! A movement is a message to the *writers*, tasks that each own one connection. A writer takes what waits (without a
//! timer: while batches commit, the next one gathers), decides, writes the batch in one transaction, and only then
//! answers. So an acknowledged movement is durable, a lone request pays nothing for company it does not have, and many
//! at once share the cost of a commit. Two writers are to each other what two servers are: the locks of the rows decide
//! who comes first.
//!
//! | step | module | on PostgreSQL |
//! | --- | --- | --- |
//! | take what waits | `queue` | |
//! | lock the organizations' rows, in order of id | `read` | 2 round trips (BEGIN, lock) |
//! | read what the decision needs, in later statements | `read`, `pages` | 2 to 3 (clock; prices; keys), 5 more for books |
//! | decide, in memory, by the pure rules of the domain | `decide`, `operation` | none |
//! | write everything in bulk | `write` | one for each table that changes |
//! | commit, then answer | `writer` | 1 |
//!
//! Three rules carry it:
//!
//! - **The lock order is the order of organization ids, always.** Two batches that lock the same two rows in different
//!   orders would deadlock; the `ORDER BY` in the locking statement must stay.
//! - **What is read after waiting for a lock is read in a later statement.** The locking statement's snapshot is from
//!   before the wait, except for the locked rows themselves.
//! - **No future of a database call is dropped half-way**, except together with its connection. A caller that hangs up
//!   only stops waiting for the answer; what is in a batch finishes.
//!
//! Most batches go by the `express` path first: one transaction that decides and writes all consumptions that their
//! organizations can afford, and leaves everything else to the path above.
//!
//! `consume`, batches and events are one thing here: a single request is a batch of one.

mod decide;
mod express;
mod fence;
#[cfg(test)]
mod interleavings;
pub(crate) mod limits;
mod operation;
mod pages;
mod queue;
mod read;
mod recorded;
mod refundable;
mod sample;
mod session;
mod top_ups;
mod write;
mod writer;

use std::sync::Arc;
use std::time::Instant;

use multicredit_domain::idempotency::fingerprint;
use multicredit_domain::{
    Consume, Consumption, Credits, Delta, Grant, GrantId, Hold, HoldId, IdempotencyKey, KeyBinding, NewGrant, NewHold,
    NewRefund, OrganizationId, OrganizationStatus, PlanTerms, Quantity, Refund, Subscription, TimeZone, Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::audit::Author;
use crate::error::StoreError;

use decide::Verdict;

pub(crate) use express::explainable_call;
pub(crate) use fence::fence;
pub(crate) use pages::{subscription_columns, subscription_joins};
pub(crate) use queue::{Ledger, unexpected};
pub(crate) use read::{PRICE_LOCK, account_columns, lock_accounts};
pub(crate) use sample::sample;

/// What a caller gets, and whether it had been done before under the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer, as it was first given.
    pub value: T,
    /// Whether nothing was done this time.
    pub replayed: bool,
}

/// One consumption among many.
#[derive(Debug, Clone)]
pub struct ConsumeItem {
    /// Whose credits.
    pub organization_id: OrganizationId,
    /// What is asked for.
    pub request: Consume,
    /// The key under which it counts once.
    pub key: Option<IdempotencyKey>,
}

/// What the writer is asked to do to one organization. Serialized, it is what an idempotency key is bound to.
#[derive(Debug, Clone, Serialize)]
pub(crate) enum Request {
    Consume(Consume),
    Grant(NewGrant),
    Void {
        grant_id: GrantId,
    },
    Adjust {
        change: Delta,
        reason: String,
    },
    Hold(NewHold),
    Capture {
        hold_id: HoldId,
        quantity: Option<Quantity>,
    },
    Release {
        hold_id: HoldId,
    },
    Extend {
        hold_id: HoldId,
        ttl_seconds: i64,
    },
    Refund(NewRefund),
    Subscribe {
        terms: PlanTerms,
        time_zone: TimeZone,
        anchor: Option<Timestamp>,
    },
    Unsubscribe,
    SetStatus(OrganizationStatus),
    /// Bookkeeping that is due, without anything else.
    Settle,
}

impl Request {
    /// The name of the operation, part of what a key is bound to.
    pub(crate) const fn operation(&self) -> &'static str {
        match self {
            Self::Consume(_) => "consume",
            Self::Grant(_) => "grant",
            Self::Void { .. } => "void",
            Self::Adjust { .. } => "adjust",
            Self::Hold(_) => "hold",
            Self::Capture { .. } => "capture",
            Self::Release { .. } => "release",
            Self::Extend { .. } => "extend",
            Self::Refund(_) => "refund",
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::SetStatus(_) => "set_status",
            Self::Settle => "settle",
        }
    }

    /// The key together with a digest of what it came with.
    fn bind(&self, key: IdempotencyKey) -> Result<KeyBinding, StoreError> {
        let content = serde_json::to_string(self).map_err(|error| StoreError::Internal(error.to_string()))?;
        Ok(KeyBinding { key, fingerprint: fingerprint(self.operation(), &content) })
    }
}

/// What became of it. Stored with the key, except for a consumption, which is rebuilt from its log row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    #[serde(skip)]
    Consumption(Box<Consumption>),
    Grant(Box<Grant>),
    Adjustment(Box<Adjustment>),
    Hold(Box<HoldAnswer>),
    Refund(Box<Refund>),
    Subscription(Option<Box<Subscription>>),
    Status(OrganizationStatus),
    Settled,
}

/// A correction that went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// Its id; that of the new lot, if there is one.
    pub id: GrantId,
    /// What it changed.
    pub change: Delta,
    /// Why.
    pub reason: String,
    /// The lot that took what was added.
    pub grant_id: Option<GrantId>,
    /// What could be spent afterwards.
    pub available: Credits,
    /// The movement's number.
    pub sequence: i64,
    /// The movement's instant.
    pub created_at: Timestamp,
}

/// A hold, and what could be spent beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswer {
    /// The hold.
    pub hold: Hold,
    /// What could be spent afterwards.
    pub available: Credits,
}

/// Requests that wait for a writer together: one, or those of a batch call, which are decided in their order.
#[derive(Debug)]
pub(crate) struct Job {
    tasks: Vec<Task>,
    is_batch: bool,
    queued_at: Instant,
    reply: oneshot::Sender<Vec<Verdict>>,
}

/// What a job asks for. Pure data: the decision sees this and never the caller.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) organization_id: OrganizationId,
    /// The id of what the request makes, chosen before the queue so that an unknown outcome can be looked up by it.
    pub(crate) id: Uuid,
    pub(crate) request: Request,
    pub(crate) binding: Option<KeyBinding>,
    /// Who asks, for the audit log.
    pub(crate) author: Option<Arc<Author>>,
}
