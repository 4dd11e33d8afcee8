//! What each request does to the book of its organization: the domain's rule, and the row or reply that comes of it.

use multicredit_domain::consume::{self, Outcome, Spent};
use multicredit_domain::{
    Consume, Consumption, ConsumptionId, Credits, Denial, Grant, GrantId, Hold, HoldId, OrganizationStatus, Price,
    Quantity, RefundId, Refusal, Subscription, Timestamp,
};
use uuid::Uuid;

use super::decide::{Desk, Shared};
use super::refundable::Found;
use super::{Adjustment, HoldAnswer, Reply, Request, Task, recorded};
use crate::error::StoreError;

/// Executes one request at `at`.
pub(super) fn execute(desk: &mut Desk, shared: &mut Shared, task: &Task, at: Timestamp) -> Result<Reply, StoreError> {
    match &task.request {
        Request::Consume(request) => {
            if desk.book.account.is_due(at) {
                desk.book.settle(at)?;
            }
            return consume(desk, shared, task.id, request, at);
        }
        Request::SetStatus(status) => return set_status(desk, shared, task, *status, at),
        _ => desk.book.settle(at)?,
    }
    if !matches!(task.request, Request::Settle | Request::Capture { .. } | Request::Hold(_)) {
        desk.book.account.status.may_receive()?;
    }
    let watched = recorded::watch(&desk.book, shared, task);
    let reply = move_credits(desk, shared, task, at)?;
    if let Some(change) = watched.and_then(|watched| watched.after(&reply, task, at)) {
        shared.effects.changes.push(change);
    }
    Ok(reply)
}

/// Executes one that moves credits, or changes what will, on a book that is settled.
fn move_credits(desk: &mut Desk, shared: &mut Shared, task: &Task, at: Timestamp) -> Result<Reply, StoreError> {
    let book = &mut desk.book;
    Ok(match &task.request {
        Request::Grant(new) => {
            let place = new.top_up_id.map(|id| (task.organization_id, id));
            let top_up = place.map(|place| shared.top_ups.get(&place).ok_or(Refusal::UnknownTopUp)).transpose()?;
            top_up.map_or(Ok(()), |top_up| top_up.may_be_answered(new.credits))?;
            let lot = book.grant(GrantId::new(task.id), new, at)?;
            if let Some(answered) = top_up.map(|top_up| top_up.clone().answered(lot.id, at)) {
                shared.effects.top_ups.push((task.organization_id, answered.clone()));
                shared.top_ups.insert((task.organization_id, answered.id), answered);
            }
            if let Some(reference) = &new.reference {
                shared.references.insert(lot.id, reference.clone());
            }
            Reply::Grant(Box::new(Grant { lot, reference: new.reference.clone() }))
        }
        Request::Void { grant_id } => {
            let lot = book.void(*grant_id, at)?;
            Reply::Grant(Box::new(Grant { reference: shared.references.get(grant_id).cloned(), lot }))
        }
        Request::Adjust { change, reason } => {
            let id = GrantId::new(task.id);
            let lot = book.adjust(id, *change, reason.clone(), at)?;
            Reply::Adjustment(Box::new(Adjustment {
                id,
                change: *change,
                reason: reason.clone(),
                grant_id: lot.map(|lot| lot.id),
                available: book.account.available,
                sequence: book.account.sequence,
                created_at: at,
            }))
        }
        Request::Hold(new) => {
            let prices = shared.prices.get(&new.action).map_or(&[][..], Vec::as_slice);
            let hold = book.place_hold(HoldId::new(task.id), new, prices, at)?;
            Reply::Hold(Box::new(HoldAnswer { hold, available: book.account.available }))
        }
        Request::Capture { hold_id, quantity } => capture(desk, shared, task.id, *hold_id, *quantity, at)?,
        Request::Release { hold_id } => {
            let hold = book.release(*hold_id, at)?;
            Reply::Hold(Box::new(HoldAnswer { hold, available: book.account.available }))
        }
        Request::Extend { hold_id, ttl_seconds } => {
            let hold = book.extend(*hold_id, *ttl_seconds, at)?;
            Reply::Hold(Box::new(HoldAnswer { hold, available: book.account.available }))
        }
        Request::Refund(new) => {
            let place = (task.organization_id, new.consumption_id);
            let refundable = shared.refundables.get_mut(&place).ok_or(Refusal::UnknownConsumption)?;
            let refundable = match refundable {
                Found::Spent(refundable) => refundable,
                Found::Refused => return Err(Refusal::OverRefund.into()),
                Found::BeyondRetention => return Err(Refusal::BeyondRetention.into()),
            };
            let (refund, _) = book.refund(RefundId::new(task.id), new, refundable, at)?;
            shared.effects.refunds.push((task.organization_id, refund.clone()));
            Reply::Refund(Box::new(refund))
        }
        Request::Subscribe { terms, time_zone, anchor } => {
            let current = book.subscription();
            if let (Some(anchor), Some(current)) = (anchor, current)
                && *anchor != current.anchor
            {
                let message = "cannot be moved while there is a subscription";
                return Err(Refusal::InvalidField { field: "anchor", message }.into());
            }
            let anchor = anchor.unwrap_or(at);
            let new = Subscription::new(task.organization_id, terms.clone(), time_zone.clone(), anchor, at);
            Reply::Subscription(Some(Box::new(book.subscribe(new, at)?)))
        }
        Request::Unsubscribe => {
            book.unsubscribe()?;
            Reply::Subscription(None)
        }
        Request::Settle => Reply::Settled,
        Request::Consume(_) | Request::SetStatus(_) => {
            return Err(StoreError::Internal("spending and status are decided before settling".to_owned()));
        }
    })
}

fn set_status(
    desk: &mut Desk,
    shared: &mut Shared,
    task: &Task,
    status: OrganizationStatus,
    at: Timestamp,
) -> Result<Reply, StoreError> {
    let before = desk.book.account.status;
    let status = before.change_to(status)?;
    if status == OrganizationStatus::Closed {
        // Closed is for good: no period of a plan begins any more.
        desk.book.settle(at)?;
        if let Some(ended) = desk.book.subscription().map(|subscription| recorded::ended(subscription, task, at)) {
            desk.book.unsubscribe()?;
            shared.effects.changes.push(ended);
        }
    }
    desk.book.account.status = status;
    shared.effects.changes.extend(recorded::status(before, status, task, at));
    shared.effects.statuses.push((task.organization_id, status, at));
    Ok(Reply::Status(status))
}

fn consume(
    desk: &mut Desk,
    shared: &mut Shared,
    id: Uuid,
    request: &Consume,
    at: Timestamp,
) -> Result<Reply, StoreError> {
    let prices = shared.prices.get(&request.action).map_or(&[][..], Vec::as_slice);
    let account = &mut desk.book.account;
    let (price_version, verdict) = consume::consume(account, prices, request.quantity, at);
    let attempt = Attempt { desk, id, request: request.clone(), hold_id: None, price_version, at };
    attempt.log(shared, verdict)
}

fn capture(
    desk: &mut Desk,
    shared: &mut Shared,
    id: Uuid,
    hold_id: HoldId,
    quantity: Option<Quantity>,
    at: Timestamp,
) -> Result<Reply, StoreError> {
    desk.book.account.status.may_receive()?;
    let hold = desk.book.hold(hold_id).ok_or(Refusal::UnknownHold)?.clone();
    let price = price_of(&hold, shared)?.clone();
    let verdict = match desk.book.capture(hold_id, quantity, &price, ConsumptionId::new(id), at) {
        Ok(captured) => Ok(captured.spent),
        Err(Denial::Refused(refusal)) => Err(refusal),
        Err(Denial::Corrupt(corrupt)) => return Err(corrupt.into()),
    };
    let request = Consume {
        action: hold.action,
        quantity: quantity.unwrap_or(hold.quantity),
        occurred_at: None,
        metadata: None,
        actor: hold.actor,
    };
    let attempt = Attempt { desk, id, request, hold_id: Some(hold_id), price_version: Some(hold.price_version), at };
    attempt.log(shared, verdict)
}

/// The price at which a hold was placed.
fn price_of<'a>(hold: &Hold, shared: &'a Shared) -> Result<&'a Price, StoreError> {
    let prices = shared.prices.get(&hold.action).map_or(&[][..], Vec::as_slice);
    let price = prices.iter().find(|price| price.version == hold.price_version);
    price.ok_or_else(|| StoreError::Internal(format!("hold {} names a price that does not exist", hold.id)))
}

/// An attempt to consume, about to be logged.
struct Attempt<'a> {
    desk: &'a Desk,
    id: Uuid,
    request: Consume,
    hold_id: Option<HoldId>,
    price_version: Option<i32>,
    at: Timestamp,
}

impl Attempt<'_> {
    fn log(self, shared: &mut Shared, verdict: Result<Spent, Refusal>) -> Result<Reply, StoreError> {
        let (consumed, outcome, refusal) = match verdict {
            Ok(Spent { sequence, consumed, available }) => (consumed, Outcome::Spent { sequence, available }, None),
            Err(refusal) => (Credits::ZERO, Outcome::Refused { error_code: refusal.code().to_owned() }, Some(refusal)),
        };
        let attempt = Consumption {
            id: ConsumptionId::new(self.id),
            organization_id: self.desk.book.account.organization_id,
            request: self.request,
            hold_id: self.hold_id,
            consumed,
            price_version: self.price_version,
            outcome,
            created_at: self.at,
        };
        shared.effects.log(attempt.clone(), refusal.as_ref());
        refusal.map_or(Ok(Reply::Consumption(Box::new(attempt))), |refusal| Err(refusal.into()))
    }
}
