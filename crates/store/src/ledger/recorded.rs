//! What the audit log is told of a batch: for each request that is no consumption, how what it is about was and is.
//!
//! Nothing is told where nothing has changed, such as of a hold that is released again. What time alone brings about
//! (a lot that expires, a period that begins) nobody does; it stands in the ledger.

use multicredit_domain::{Book, Grant, OrganizationStatus, Subscription, Timestamp};
use serde_json::{Value, json};

use super::decide::Shared;
use super::{Reply, Request, Task};
use crate::audit::{AuditOperation, Change, snapshot};

/// What a request is about, before it is executed.
pub(super) struct Watched {
    operation: AuditOperation,
    subject: String,
    before: Option<Value>,
}

/// Looks at what a request is about; `None` where the audit log is told nothing of it.
pub(super) fn watch(book: &Book, shared: &Shared, task: &Task) -> Option<Watched> {
    let own_id = task.id.to_string();
    let (operation, subject, before) = match &task.request {
        Request::Grant(_) => (AuditOperation::CreateGrant, own_id, None),
        Request::Void { grant_id } => {
            let reference = shared.references.get(grant_id).cloned();
            let before = book.lot(*grant_id).map(|lot| snapshot::grant(&Grant { lot: lot.clone(), reference }));
            (AuditOperation::VoidGrant, grant_id.to_string(), before)
        }
        Request::Adjust { .. } => (AuditOperation::CreateAdjustment, own_id, Some(available(book))),
        Request::Refund(_) => (AuditOperation::RefundConsumption, own_id, Some(available(book))),
        Request::Hold(_) => (AuditOperation::PlaceHold, own_id, None),
        Request::Release { hold_id } => {
            (AuditOperation::ReleaseHold, hold_id.to_string(), book.hold(*hold_id).map(snapshot::hold))
        }
        Request::Extend { hold_id, .. } => {
            (AuditOperation::ExtendHold, hold_id.to_string(), book.hold(*hold_id).map(snapshot::hold))
        }
        Request::Subscribe { .. } => (
            AuditOperation::PutSubscription,
            task.organization_id.to_string(),
            book.subscription().map(snapshot::subscription),
        ),
        Request::Unsubscribe => (
            AuditOperation::DeleteSubscription,
            task.organization_id.to_string(),
            book.subscription().map(snapshot::subscription),
        ),
        // Consumptions have a log of their own, settling is nobody's doing, and a status is told of where it is set.
        Request::Consume(_) | Request::Capture { .. } | Request::Settle | Request::SetStatus(_) => return None,
    };
    Some(Watched { operation, subject, before })
}

fn available(book: &Book) -> Value {
    json!({ "available": book.account.available })
}

impl Watched {
    /// The change, if it is one.
    pub(super) fn after(self, reply: &Reply, task: &Task, at: Timestamp) -> Option<Change> {
        let after = match reply {
            Reply::Grant(grant) => Some(snapshot::grant(grant)),
            Reply::Adjustment(adjustment) => Some(snapshot::adjustment(adjustment)),
            Reply::Refund(refund) => Some(snapshot::refund(refund)),
            Reply::Hold(answer) => Some(snapshot::hold(&answer.hold)),
            Reply::Subscription(subscription) => subscription.as_deref().map(snapshot::subscription),
            Reply::Consumption(_) | Reply::Status(_) | Reply::Settled => return None,
        };
        let Self { operation, subject, before } = self;
        (before != after).then(|| change(task, operation, subject, (before, after), at))
    }
}

/// A change of status, if it is one.
pub(super) fn status(
    before: OrganizationStatus,
    after: OrganizationStatus,
    task: &Task,
    at: Timestamp,
) -> Option<Change> {
    let states = (Some(json!({ "status": before })), Some(json!({ "status": after })));
    let subject = task.organization_id.to_string();
    (before != after).then(|| change(task, AuditOperation::UpdateOrganization, subject, states, at))
}

/// The end of a subscription with its organization.
pub(super) fn ended(subscription: &Subscription, task: &Task, at: Timestamp) -> Change {
    let states = (Some(snapshot::subscription(subscription)), None);
    change(task, AuditOperation::DeleteSubscription, task.organization_id.to_string(), states, at)
}

fn change(
    task: &Task,
    operation: AuditOperation,
    subject: String,
    (before, after): (Option<Value>, Option<Value>),
    at: Timestamp,
) -> Change {
    let actor = if let Request::Hold(new) = &task.request { new.actor.clone() } else { None };
    let (organization_id, author) = (Some(task.organization_id), task.author.clone());
    Change { organization_id, author, actor, operation, subject, before, after, at }
}
