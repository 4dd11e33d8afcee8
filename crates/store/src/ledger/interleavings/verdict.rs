//! What must hold after a schedule, whatever it was.

use std::collections::{BTreeMap, BTreeSet};

use multicredit_domain::consume::Outcome;
use multicredit_domain::{Consumption, Credits, Grant};

use super::database::Kept;
use crate::error::StoreError;

/// What a caller was told of one thing.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Spent(Box<Consumption>, bool),
    Granted(Box<Grant>, bool),
    Error(StoreError),
    /// The caller was gone before it was told.
    Gone,
}

/// What a schedule came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) done: usize,
    pub(super) replayed: usize,
    pub(super) refused: usize,
    pub(super) busy: usize,
    pub(super) unavailable: usize,
    pub(super) unknown: usize,
    pub(super) cancelled: usize,
    /// Commits whose answer was lost.
    pub(super) doubts: usize,
}

impl Sum {
    pub(super) fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.replayed += other.replayed;
        self.refused += other.refused;
        self.busy += other.busy;
        self.unavailable += other.unavailable;
        self.unknown += other.unknown;
        self.cancelled += other.cancelled;
        self.doubts += other.doubts;
    }

    fn count(&mut self, told: &Told) {
        *match told {
            Told::Spent(_, false) | Told::Granted(_, false) => &mut self.done,
            Told::Spent(_, true) | Told::Granted(_, true) => &mut self.replayed,
            Told::Gone => &mut self.cancelled,
            Told::Error(StoreError::Busy | StoreError::OrganizationBusy) => &mut self.busy,
            Told::Error(StoreError::Unavailable(_)) => &mut self.unavailable,
            Told::Error(StoreError::OutcomeUnknown { .. }) => &mut self.unknown,
            Told::Error(_) => &mut self.refused,
        } += 1;
    }
}

/// How often something of that name is in the database, and as what.
fn kept_of<'a>(kept: &'a Kept, name: &str) -> (Vec<&'a Consumption>, Vec<&'a Grant>) {
    let is_spent = |log: &&Consumption| matches!(log.outcome, Outcome::Spent { .. });
    let is_of = |log: &&Consumption| log.request.actor.as_ref().is_some_and(|actor| actor.as_str() == name);
    let grants = kept.grants.iter().map(|(_, grant)| grant).filter(|it| it.reference.as_deref() == Some(name));
    (kept.logs.iter().filter(is_spent).filter(is_of).collect(), grants.collect())
}

/// Asserts that all that was told of a name is what the database kept of it.
fn check_told(kept: &Kept, name: &str, told: &[Told]) {
    let (spent, granted) = kept_of(kept, name);
    let rows = spent.len() + granted.len();
    assert!(rows <= 1, "{name} happened {rows} times: {told:?}");
    let done = told.iter().filter(|it| matches!(it, Told::Spent(_, false) | Told::Granted(_, false))).count();
    assert!(done <= 1, "{name} was done {done} times");
    let mut may_be_there = false;
    for told in told {
        match told {
            Told::Spent(consumption, _) => assert_eq!(spent, [&**consumption], "{name} was acknowledged"),
            Told::Granted(grant, _) => assert_eq!(granted, [&**grant], "{name} was acknowledged"),
            Told::Gone | Told::Error(StoreError::OutcomeUnknown { .. }) => {}
            Told::Error(_) => continue,
        }
        may_be_there = true;
    }
    assert!(may_be_there || rows == 0, "{name} was refused and has happened: {told:?}");
}

/// Asserts that what is left is what was granted without what was spent, and that no movement has another's number.
fn check_books(kept: &Kept) {
    for (id, account) in &kept.accounts {
        let granted = kept.grants.iter().filter(|(owner, _)| owner == id).map(|(_, grant)| grant.lot.granted);
        let mut left = granted.fold(Credits::ZERO, |sum, granted| sum.checked_add(granted).unwrap());
        let mut numbers: Vec<i64> =
            kept.movements.iter().filter(|(owner, _)| owner == id).map(|(_, movement)| movement.sequence).collect();
        for log in kept.logs.iter().filter(|log| log.organization_id == *id) {
            if let Outcome::Spent { sequence, .. } = log.outcome {
                left = left.checked_sub(log.consumed).expect("no more was spent than there was");
                numbers.push(sequence);
            }
        }
        assert_eq!(account.available, left, "what is left of {id}");
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=account.sequence).collect::<Vec<_>>(), "the movements of {id}");
    }
}

/// Asserts everything that the database has to do with, and counts what was told.
pub(super) fn check(kept: &Kept, told: &BTreeMap<String, Vec<Told>>) -> Sum {
    let mut sum = Sum::default();
    for (name, told) in told {
        check_told(kept, name, told);
        for told in told {
            sum.count(told);
        }
    }
    let names: BTreeSet<_> = kept.logs.iter().filter_map(|log| Some(log.request.actor.as_ref()?.as_str())).collect();
    for name in names {
        assert!(told.contains_key(name), "nobody asked for {name}");
    }
    check_books(kept);
    sum
}
