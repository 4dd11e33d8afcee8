//! The decision: what a batch does, worked out in memory. Pure.
//!
//! Everything that the decision needs comes in as [`Facts`], read under the locks; everything that it changes goes out
//! as [`Effects`]. Requests are decided in the order in which they came, each seeing what those before it did. A key
//! that stands twice in a batch executes once: the first that succeeds binds it, the rest replay that.
//!
//! What each request does is in `operation`; this module keeps the books around it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    Account, ActionType, Book, Consumption, Draw, Grant, GrantId, Hold, HoldId, KeyBinding, Lot, Movement,
    OrganizationId, OrganizationStatus, Pages, Price, Refund, Refusal, Spending, Subscription, Timestamp, TopUp,
};
use uuid::Uuid;

use super::refundable::Refundables;
use super::top_ups::TopUps;
use super::{Answer, Reply, Request, Task, limits};
use crate::audit::Change;
use crate::error::StoreError;

/// What the decision is made from.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// What the database's clock showed under the locks.
    pub(crate) clock: Timestamp,
    /// The locked accounts; an organization that is not here does not exist.
    pub(crate) accounts: BTreeMap<OrganizationId, Account>,
    /// The pages of the organizations that [`needs_pages`] names.
    pub(crate) pages: HashMap<OrganizationId, Pages>,
    /// What callers named the grants among the lots.
    pub(crate) references: HashMap<GrantId, String>,
    /// Consumptions that the batch refunds.
    pub(crate) refundables: Refundables,
    /// Requests for credits that the batch answers.
    pub(crate) top_ups: TopUps,
    /// All prices of the actions that the batch names.
    pub(crate) prices: HashMap<ActionType, Vec<Price>>,
    /// Keys of the batch that are bound already.
    pub(crate) keys: HashMap<(OrganizationId, Uuid), BoundKey>,
}

/// A key that is bound: to what, and what was answered then.
#[derive(Debug, Clone)]
pub(crate) struct BoundKey {
    pub(crate) fingerprint: Uuid,
    pub(crate) reply: Option<Reply>,
}

/// What the decision changes, to be written in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) accounts: Vec<Account>,
    pub(crate) statuses: Vec<(OrganizationId, OrganizationStatus, Timestamp)>,
    pub(crate) consumptions: Vec<Consumption>,
    pub(crate) new_grants: Vec<(OrganizationId, Grant)>,
    pub(crate) changed_lots: Vec<(OrganizationId, Lot)>,
    pub(crate) new_holds: Vec<(OrganizationId, Hold)>,
    pub(crate) changed_holds: Vec<(OrganizationId, Hold)>,
    pub(crate) new_draws: Vec<(OrganizationId, Draw)>,
    pub(crate) changed_draws: Vec<(OrganizationId, Draw)>,
    pub(crate) refunds: Vec<(OrganizationId, Refund)>,
    /// Requests for credits that were answered.
    pub(crate) top_ups: Vec<(OrganizationId, TopUp)>,
    /// Subscriptions as they are now; `None` where there is none any more.
    pub(crate) subscriptions: Vec<(OrganizationId, Option<Subscription>, Timestamp)>,
    pub(crate) movements: Vec<(OrganizationId, Movement)>,
    pub(crate) keys: Vec<NewKey>,
    /// What the audit log is told.
    pub(crate) changes: Vec<Change>,
}

impl Effects {
    /// What was spent of that account, if nothing else has happened to it.
    pub(crate) fn spending(&self, account: &Account) -> Option<Spending> {
        let organization_id = account.organization_id;
        let has_moved = self.movements.iter().any(|(owner, _)| *owner == organization_id)
            || self.changed_lots.iter().any(|(owner, _)| *owner == organization_id);
        let mine = self.consumptions.iter().filter(|it| it.organization_id == organization_id);
        let spent = mine.filter(|it| matches!(it.outcome, Outcome::Spent { .. })).collect::<Vec<_>>();
        if has_moved || spent.iter().any(|it| it.hold_id.is_some()) {
            return None;
        }
        Some(Spending {
            count: i64::try_from(spent.len()).ok()?,
            sequence: account.sequence,
            available: account.available,
            at: account.last_movement_at,
        })
    }
}

/// A key to bind.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) organization_id: OrganizationId,
    pub(crate) binding: KeyBinding,
    pub(crate) operation: &'static str,
    pub(crate) reference: Uuid,
    pub(crate) reference_at: Timestamp,
    /// The answer, unless it can be rebuilt from the row that it refers to.
    pub(crate) response: Option<String>,
}

/// The verdict on one request.
pub(crate) type Verdict = Result<Answer<Reply>, StoreError>;

/// The organizations of the batch whose lots and holds the decision needs: those with a boundary due, and those that are
/// asked for anything but spending.
pub(crate) fn needs_pages(
    tasks: &[&Task],
    accounts: &BTreeMap<OrganizationId, Account>,
    clock: Timestamp,
) -> Vec<OrganizationId> {
    let spends_only = |task: &Task| match task.request {
        Request::Consume(_) => true,
        Request::SetStatus(status) => status != OrganizationStatus::Closed,
        _ => false,
    };
    let asked: std::collections::HashSet<_> =
        tasks.iter().filter(|task| !spends_only(task)).map(|task| task.organization_id).collect();
    let needs = |account: &&Account| asked.contains(&account.organization_id) || account.is_due(account.instant(clock));
    accounts.values().filter(needs).map(|account| account.organization_id).collect()
}

/// Decides a batch, or as much of its beginning as one transaction may book: the rest is for the next one. Verdicts stand in
/// the order of the tasks, and there is at least one.
///
/// An internal error fails the whole: a book that makes no sense may have been changed by half, and nothing of it must
/// be written. The writer then tries the requests one by one.
pub(crate) fn decide(facts: Facts, tasks: &[&Task]) -> Result<(Vec<Verdict>, Effects), StoreError> {
    let mut batch = Batch::new(facts);
    let mut verdicts = Vec::with_capacity(tasks.len());
    for task in tasks {
        if batch.booked >= limits::BOOKED_MAX {
            break;
        }
        let verdict = batch.decide(task);
        if let Err(StoreError::Internal(error)) = verdict {
            return Err(StoreError::Internal(error));
        }
        verdicts.push(verdict);
    }
    Ok((verdicts, batch.into_effects()))
}

/// One organization while its requests are decided.
pub(super) struct Desk {
    pub(super) book: Book,
    account_before: Account,
    pages_before: Pages,
}

/// What all organizations of a batch share while it is decided.
pub(super) struct Shared {
    pub(super) prices: HashMap<ActionType, Vec<Price>>,
    pub(super) references: HashMap<GrantId, String>,
    pub(super) refundables: Refundables,
    pub(super) top_ups: TopUps,
    pub(super) effects: Effects,
}

struct Batch {
    clock: Timestamp,
    desks: BTreeMap<OrganizationId, Desk>,
    keys: HashMap<(OrganizationId, Uuid), BoundKey>,
    shared: Shared,
    /// How many movements the requests so far have made.
    booked: usize,
}

impl Batch {
    fn new(facts: Facts) -> Self {
        let Facts { clock, accounts, mut pages, references, refundables, top_ups, prices, keys } = facts;
        let desks = accounts.into_iter().map(|(id, account)| {
            let pages_before = pages.remove(&id).unwrap_or_default();
            let book = Book::new(account.clone(), pages_before.clone());
            (id, Desk { book, account_before: account, pages_before })
        });
        Self {
            clock,
            desks: desks.collect(),
            keys,
            shared: Shared { prices, references, refundables, top_ups, effects: Effects::default() },
            booked: 0,
        }
    }

    fn decide(&mut self, task: &Task) -> Verdict {
        if let Some(binding) = task.binding
            && let Some(bound) = self.keys.get(&(task.organization_id, binding.key.id()))
        {
            if bound.fingerprint != binding.fingerprint {
                return Err(Refusal::IdempotencyMismatch.into());
            }
            let reply = bound.reply.clone().ok_or(Refusal::BeyondRetention)?;
            return Ok(Answer { value: reply, replayed: true });
        }
        let desk = self.desks.get_mut(&task.organization_id).ok_or(Refusal::UnknownOrganization)?;
        let at = desk.book.account.instant(self.clock);
        let before = desk.book.movements().len();
        let reply = super::operation::execute(desk, &mut self.shared, task, at);
        self.booked += desk.book.movements().len() - before;
        let reply = reply?;
        if let Some(binding) = task.binding {
            self.bind(task, binding, &reply, at)?;
        }
        Ok(Answer { value: reply, replayed: false })
    }

    fn bind(&mut self, task: &Task, binding: KeyBinding, reply: &Reply, at: Timestamp) -> Result<(), StoreError> {
        let response = match reply {
            // Rebuilt from the log row.
            Reply::Consumption(_) => None,
            reply => Some(serde_json::to_string(reply).map_err(|error| StoreError::Internal(error.to_string()))?),
        };
        self.shared.effects.keys.push(NewKey {
            organization_id: task.organization_id,
            binding,
            operation: task.request.operation(),
            reference: task.id,
            reference_at: at,
            response,
        });
        let bound = BoundKey { fingerprint: binding.fingerprint, reply: Some(reply.clone()) };
        self.keys.insert((task.organization_id, binding.key.id()), bound);
        Ok(())
    }

    fn into_effects(self) -> Effects {
        let Shared { mut references, mut effects, .. } = self.shared;
        for (id, desk) in self.desks {
            let (account, pages, movements) = desk.book.into_parts();
            let before = desk.pages_before;
            let (new, changed) = compare(before.lots, pages.lots, |lot| lot.id);
            let grants = new.into_iter().map(|lot| (id, Grant { reference: references.remove(&lot.id), lot }));
            effects.new_grants.extend(grants);
            effects.changed_lots.extend(changed.into_iter().map(|lot| (id, lot)));
            let (new, changed) = compare(before.holds, pages.holds, |hold: &Hold| -> HoldId { hold.id });
            effects.new_holds.extend(new.into_iter().map(|hold| (id, hold)));
            effects.changed_holds.extend(changed.into_iter().map(|hold| (id, hold)));
            let (new, changed) = compare(before.draws, pages.draws, |draw| (draw.sequence, draw.grant_id));
            effects.new_draws.extend(new.into_iter().map(|draw| (id, draw)));
            effects.changed_draws.extend(changed.into_iter().map(|draw| (id, draw)));
            if pages.subscription != before.subscription {
                effects.subscriptions.push((id, pages.subscription, account.last_movement_at));
            }
            effects.movements.extend(movements.into_iter().map(|movement| (id, movement)));
            if account != desk.account_before {
                effects.accounts.push(account);
            }
        }
        effects
    }
}

/// What is new among `after`, and what is not as it was `before`.
fn compare<T: PartialEq, K: Eq + Hash>(before: Vec<T>, after: Vec<T>, key: impl Fn(&T) -> K) -> (Vec<T>, Vec<T>) {
    let before: HashMap<K, T> = before.into_iter().map(|item| (key(&item), item)).collect();
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    for item in after {
        match before.get(&key(&item)) {
            None => new.push(item),
            Some(old) if *old != item => changed.push(item),
            Some(_) => {}
        }
    }
    (new, changed)
}

impl Effects {
    /// Logs an attempt to consume: a success, or a refusal of the kind that leaves a row.
    pub(super) fn log(&mut self, attempt: Consumption, refusal: Option<&Refusal>) {
        if refusal.is_none_or(Refusal::is_logged) {
            debug_assert_eq!(refusal.is_none(), matches!(attempt.outcome, Outcome::Spent { .. }));
            self.consumptions.push(attempt);
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
