//! A database in memory that does nothing by itself: every step of a session waits until the schedule lets it pass.
//!
//! It has what matters to the coordination of writers. Locks are held until the end of a transaction. A session that is
//! lost leaves its *side* behind, which holds its locks, and may be at work on a commit that had reached it, until the
//! schedule has it come to its end, or somebody ends it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::rc::Rc;

use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    Account, ActionType, Consume, Consumption, ConsumptionId, Credits, Grant, KeyBinding, Lot, Movement,
    OrganizationId, OrganizationStatus, Pages, Price, Timestamp,
};
use sqlx::error::{DatabaseError, ErrorKind};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::AttemptError;
use crate::ledger::decide::{BoundKey, Effects, Facts};
use crate::ledger::express::Demand;
use crate::ledger::session::Session;
use crate::ledger::writer::Marker;
use crate::ledger::{Reply, Task};

/// A step of a session, before which it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Open,
    End,
    Begin,
    Lock,
    Read,
    Find,
    Write,
    Commit,
    Rollback,
    Spend,
    Close,
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Passes,
    /// The connection is lost before the answer. Whether the statement had reached the server by then.
    Lost { is_reached: bool },
    /// The server refuses it with that SQLSTATE.
    Complains(&'static str),
    /// There is a bug.
    Panics,
}

/// A serialization failure: the same again may succeed.
pub(super) const CONTENTION: &str = "40001";
/// A constraint that is violated: the same again fails again.
pub(super) const DATA: &str = "23514";
const UNIQUE: &str = "23505";

impl Point {
    /// What can go wrong with it.
    pub(super) const fn faults(self) -> &'static [Fate] {
        const LOST: Fate = Fate::Lost { is_reached: false };
        const REACHED: Fate = Fate::Lost { is_reached: true };
        const CONTENDS: Fate = Fate::Complains(CONTENTION);
        match self {
            Self::Open | Self::End | Self::Begin | Self::Find | Self::Rollback => &[LOST],
            Self::Lock => &[LOST, CONTENDS],
            Self::Read => &[LOST, CONTENDS, Fate::Panics],
            Self::Write => &[LOST, CONTENDS, Fate::Complains(DATA)],
            Self::Commit => &[LOST, REACHED, CONTENDS],
            Self::Spend => &[LOST, REACHED, CONTENDS, Fate::Panics],
            Self::Close => &[],
        }
    }
}

/// A step that waits.
pub(super) struct Gate {
    pub(super) session: u32,
    pub(super) point: Point,
    /// Whose locks it takes.
    locks: BTreeSet<OrganizationId>,
    fate: oneshot::Sender<Fate>,
}

/// What is committed.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) accounts: BTreeMap<OrganizationId, Account>,
    pub(super) lots: BTreeMap<OrganizationId, Vec<Lot>>,
    pub(super) grants: Vec<(OrganizationId, Grant)>,
    pub(super) logs: Vec<Consumption>,
    pub(super) movements: Vec<(OrganizationId, Movement)>,
    pub(super) keys: HashMap<(OrganizationId, Uuid), BoundKey>,
    pub(super) prices: HashMap<ActionType, Vec<Price>>,
}

/// What a transaction has written.
#[derive(Default)]
struct Written {
    accounts: Vec<Account>,
    lots: Vec<(OrganizationId, Lot)>,
    grants: Vec<(OrganizationId, Grant)>,
    logs: Vec<Consumption>,
    movements: Vec<(OrganizationId, Movement)>,
    keys: Vec<((OrganizationId, Uuid), BoundKey)>,
}

/// What has reached the server and commits when it is done.
enum Work {
    Commit,
    Call(Call),
}

/// A call of the express path.
struct Call {
    items: BTreeMap<OrganizationId, Vec<CallItem>>,
    screens: bool,
    at: Timestamp,
}

struct CallItem {
    index: usize,
    id: Uuid,
    request: Consume,
    binding: Option<KeyBinding>,
    version: i32,
    cost: Credits,
}

/// The server's side of a session.
#[derive(Default)]
struct Side {
    locks: BTreeSet<OrganizationId>,
    written: Written,
    work: Option<Work>,
    is_adrift: bool,
}

#[derive(Default)]
struct State {
    kept: Kept,
    sides: BTreeMap<u32, Side>,
    gates: Vec<Gate>,
    opened: u32,
}

/// The database.
pub(super) struct Database {
    state: RefCell<State>,
    /// Whether sessions are lent, so that nobody may end one.
    is_pooled: bool,
    clock: Timestamp,
}

impl Database {
    pub(super) fn new(is_pooled: bool, kept: Kept, clock: Timestamp) -> Rc<Self> {
        Rc::new(Self { state: RefCell::new(State { kept, ..State::default() }), is_pooled, clock })
    }

    /// Reads what is committed.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        look(&self.state.borrow().kept)
    }

    /// The steps that wait, in the order in which they came, and whether they could be done now.
    pub(super) fn waiting(&self) -> Vec<(u32, Point, bool)> {
        let mut state = self.state.borrow_mut();
        state.gates.retain(|gate| !gate.fate.is_closed());
        state.gates.iter().map(|gate| (gate.session, gate.point, state.is_free(gate.session, &gate.locks))).collect()
    }

    /// Decides what becomes of a step that waits.
    pub(super) fn decide(&self, number: usize, fate: Fate) {
        let gate = self.state.borrow_mut().gates.remove(number);
        assert!(gate.fate.send(fate).is_ok(), "nobody waits at {:?}", gate.point);
    }

    /// Statements that wait have not reached the server, and never will.
    pub(super) fn swallow(&self) {
        for side in self.state.borrow_mut().sides.values_mut() {
            side.work = None;
        }
    }

    /// The sides of lost sessions that can come to their end now.
    pub(super) fn adrift(&self) -> Vec<u32> {
        let state = self.state.borrow();
        let can_end = |(number, side): (&u32, &Side)| {
            let call = if let Some(Work::Call(call)) = &side.work {
                call.items.keys().copied().collect()
            } else {
                BTreeSet::new()
            };
            (side.is_adrift && state.is_free(*number, &call)).then_some(*number)
        };
        state.sides.iter().filter_map(can_end).collect()
    }

    /// The side of a lost session does what it was at work on, and notices that nobody is there.
    pub(super) fn settle(&self, number: u32) {
        let mut state = self.state.borrow_mut();
        // A call that fails has not happened.
        let _ = state.finish_work(number);
        state.sides.remove(&number);
    }

    /// Whether no session is left, nor a lock of one.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state.borrow();
        state.gates.iter().all(|gate| gate.fate.is_closed()) && state.sides.values().all(|side| side.is_adrift)
    }
}

impl State {
    fn is_free(&self, session: u32, locks: &BTreeSet<OrganizationId>) -> bool {
        self.sides.iter().all(|(number, side)| *number == session || side.locks.is_disjoint(locks))
    }

    fn side(&mut self, number: u32) -> &mut Side {
        self.sides.entry(number).or_default()
    }

    fn finish_work(&mut self, number: u32) -> Result<Vec<(usize, Consumption)>, sqlx::Error> {
        let side = self.side(number);
        match side.work.take() {
            Some(Work::Commit) => {
                let written = std::mem::take(&mut side.written);
                side.locks.clear();
                self.kept.take(written);
                Ok(Vec::new())
            }
            Some(Work::Call(call)) => self.kept.call(&call),
            None => Ok(Vec::new()),
        }
    }
}

impl Kept {
    fn take(&mut self, written: Written) {
        for account in written.accounts {
            self.accounts.insert(account.organization_id, account);
        }
        for (organization, lot) in written.lots {
            let lots = self.lots.entry(organization).or_default();
            lots.retain(|old| old.id != lot.id);
            lots.push(lot);
        }
        self.grants.extend(written.grants);
        self.logs.extend(written.logs);
        self.movements.extend(written.movements);
        self.keys.extend(written.keys);
    }

    /// What the function of the express path does: all that an organization asks for, or nothing.
    fn call(&mut self, call: &Call) -> Result<Vec<(usize, Consumption)>, sqlx::Error> {
        let key = |organization: &OrganizationId, item: &CallItem| Some((*organization, item.binding?.key.id()));
        let is_known = |kept: &Self, organization: &OrganizationId, items: &[CallItem]| {
            items.iter().filter_map(|item| key(organization, item)).any(|key| kept.keys.contains_key(&key))
        };
        if !call.screens && call.items.iter().any(|(organization, items)| is_known(self, organization, items)) {
            return Err(complaint(UNIQUE));
        }
        let mut spent = Vec::new();
        for (organization, items) in &call.items {
            let Some(mut account) = self.accounts.get(organization).cloned() else { continue };
            let at = account.instant(call.at);
            let is_plain = account.status == OrganizationStatus::Active && !account.is_due(at);
            if !is_plain || is_known(self, organization, items) {
                continue;
            }
            let spend = |item: &CallItem| {
                let sequence = account.spend(item.cost, at).ok()?;
                let outcome = Outcome::Spent { sequence, available: account.available };
                Some((item.index, item.consumption(*organization, outcome, at)))
            };
            let Some(consumptions) = items.iter().map(spend).collect::<Option<Vec<_>>>() else { continue };
            for (item, (_, consumption)) in items.iter().zip(&consumptions) {
                self.logs.push(consumption.clone());
                if let (Some(key), Some(binding)) = (key(organization, item), item.binding) {
                    let reply = Some(Reply::Consumption(Box::new(consumption.clone())));
                    self.keys.insert(key, BoundKey { fingerprint: binding.fingerprint, reply });
                }
            }
            self.accounts.insert(*organization, account);
            spent.extend(consumptions);
        }
        Ok(spent)
    }
}

impl CallItem {
    fn consumption(&self, organization_id: OrganizationId, outcome: Outcome, created_at: Timestamp) -> Consumption {
        Consumption {
            id: ConsumptionId::new(self.id),
            organization_id,
            request: self.request.clone(),
            hold_id: None,
            consumed: self.cost,
            price_version: Some(self.version),
            outcome,
            created_at,
        }
    }
}

impl Written {
    fn of(effects: &Effects) -> Self {
        let new_lots = effects.new_grants.iter().map(|(owner, grant)| (*owner, grant.lot.clone()));
        let keys = effects.keys.iter().map(|key| {
            let consumption = effects.consumptions.iter().find(|it| it.id.uuid() == key.reference);
            let reply = match &key.response {
                Some(response) => serde_json::from_str(response).unwrap(),
                None => Reply::Consumption(Box::new(consumption.unwrap().clone())),
            };
            let bound = BoundKey { fingerprint: key.binding.fingerprint, reply: Some(reply) };
            ((key.organization_id, key.binding.key.id()), bound)
        });
        Self {
            accounts: effects.accounts.clone(),
            lots: new_lots.chain(effects.changed_lots.iter().cloned()).collect(),
            grants: effects.new_grants.clone(),
            logs: effects.consumptions.clone(),
            movements: effects.movements.clone(),
            keys: keys.collect(),
        }
    }
}

/// A session with it.
pub(super) struct FakeSession {
    database: Rc<Database>,
    number: u32,
    /// Whether a step of it was begun and has not ended.
    is_in_a_step: Cell<bool>,
}

impl FakeSession {
    /// Waits until the schedule lets a step pass that takes these locks.
    async fn pass(&self, point: Point, locks: BTreeSet<OrganizationId>) -> Result<(), sqlx::Error> {
        assert!(!self.is_in_a_step.replace(true), "a session goes on after a step of it was dropped half-way");
        let (fate, told) = oneshot::channel();
        let gate = Gate { session: self.number, point, locks: locks.clone(), fate };
        self.database.state.borrow_mut().gates.push(gate);
        let fate = told.await.expect("the schedule comes to an end of every step");
        self.is_in_a_step.set(false);
        let mut state = self.database.state.borrow_mut();
        let side = state.side(self.number);
        match fate {
            Fate::Passes => {
                side.locks.extend(locks);
                Ok(())
            }
            Fate::Lost { is_reached } => {
                side.is_adrift = true;
                if !is_reached {
                    side.work = None;
                }
                Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()))
            }
            Fate::Complains(code) => {
                side.work = None;
                side.written = Written::default();
                if point == Point::Commit {
                    side.locks.clear();
                }
                Err(complaint(code))
            }
            Fate::Panics => {
                drop(state);
                std::panic::resume_unwind(Box::new("a bug that the schedule has"))
            }
        }
    }

    fn work(&self, work: Work) {
        self.database.state.borrow_mut().side(self.number).work = Some(work);
    }

    fn finish(&self) {
        let mut state = self.database.state.borrow_mut();
        let side = state.side(self.number);
        (side.written, side.work) = (Written::default(), None);
        side.locks.clear();
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        if let Some(side) = self.database.state.borrow_mut().sides.get_mut(&self.number) {
            side.is_adrift = true;
        }
    }
}

impl Session for FakeSession {
    type Place = Rc<Database>;
    type Backend = u32;

    async fn open(place: &Self::Place) -> Result<Self, sqlx::Error> {
        let number = {
            let mut state = place.state.borrow_mut();
            state.opened += 1;
            state.opened
        };
        let session = Self { database: Rc::clone(place), number, is_in_a_step: Cell::new(false) };
        session.pass(Point::Open, BTreeSet::new()).await.map(|()| session)
    }

    fn backend(&self) -> Option<u32> {
        (!self.database.is_pooled).then_some(self.number)
    }

    async fn end(&mut self, lost: u32) -> Result<(), sqlx::Error> {
        self.pass(Point::End, BTreeSet::new()).await?;
        self.database.state.borrow_mut().sides.remove(&lost);
        Ok(())
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        self.pass(Point::Close, BTreeSet::new()).await?;
        self.database.state.borrow_mut().sides.remove(&self.number);
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.pass(Point::Begin, BTreeSet::new()).await
    }

    async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.work(Work::Commit);
        self.pass(Point::Commit, BTreeSet::new()).await?;
        self.database.state.borrow_mut().finish_work(self.number).map(drop)
    }

    async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.pass(Point::Rollback, BTreeSet::new()).await?;
        self.finish();
        Ok(())
    }

    async fn lock(&mut self, organizations: BTreeSet<OrganizationId>) -> Result<(), AttemptError> {
        Ok(self.pass(Point::Lock, organizations).await?)
    }

    async fn has(&mut self, marker: Marker) -> Result<bool, AttemptError> {
        self.pass(Point::Find, BTreeSet::new()).await?;
        Ok(self.database.look(|kept| match marker {
            Marker::Log { organization_id, id, .. } => {
                kept.logs.iter().any(|log| log.organization_id == organization_id && log.id.uuid() == id)
            }
            Marker::Movement { organization_id, sequence, reference } => {
                let is_it = |it: &Movement| it.sequence == sequence && it.reference == Some(reference);
                kept.movements.iter().any(|(owner, it)| *owner == organization_id && is_it(it))
            }
        }))
    }

    async fn read(&mut self, clock: &Clock, tasks: &[&Task]) -> Result<Facts, AttemptError> {
        let organizations: BTreeSet<_> = tasks.iter().map(|task| task.organization_id).collect();
        self.pass(Point::Read, organizations.clone()).await?;
        let clock = clock.instant(Some(self.database.clock));
        Ok(self.database.look(|kept| {
            let accounts: BTreeMap<_, _> = kept
                .accounts
                .iter()
                .filter(|(id, _)| organizations.contains(id))
                .map(|(id, it)| (*id, it.clone()))
                .collect();
            let needed = crate::ledger::decide::needs_pages(tasks, &accounts, clock);
            let pages = |id: OrganizationId| {
                let lots = kept.lots.get(&id).cloned().unwrap_or_default();
                (id, Pages { lots, ..Pages::default() })
            };
            Facts {
                clock,
                accounts,
                pages: needed.into_iter().map(pages).collect(),
                prices: kept.prices.clone(),
                keys: kept.keys.clone(),
                ..Facts::default()
            }
        }))
    }

    async fn write(&mut self, effects: &Effects) -> Result<(), AttemptError> {
        self.pass(Point::Write, BTreeSet::new()).await?;
        let written = Written::of(effects);
        if self.database.look(|kept| written.keys.iter().any(|(key, _)| kept.keys.contains_key(key))) {
            return Err(complaint(UNIQUE).into());
        }
        self.database.state.borrow_mut().side(self.number).written = written;
        Ok(())
    }

    async fn spend(
        &mut self,
        demand: &Demand<'_>,
        clock: Option<Timestamp>,
        screens: bool,
    ) -> Result<Vec<(usize, Consumption)>, AttemptError> {
        let item = |item: &crate::ledger::express::Item<'_>| CallItem {
            index: item.index,
            id: item.id,
            request: item.request.clone(),
            binding: item.binding,
            version: item.version,
            cost: item.cost,
        };
        let items = demand.iter().map(|(id, items)| (*id, items.iter().map(item).collect())).collect();
        let locks: BTreeSet<_> = demand.keys().copied().collect();
        // Where the session is lent, the call commits by a statement of its own, which is not sent before the call is
        // answered: the call by itself leaves nothing.
        if self.database.is_pooled {
            self.pass(Point::Begin, BTreeSet::new()).await?;
            self.pass(Point::Spend, locks).await?;
            self.work(Work::Call(Call { items, screens, at: clock.unwrap_or(self.database.clock) }));
            let committed = self.pass(Point::Commit, BTreeSet::new()).await;
            if committed.is_ok() {
                let spent = self.database.state.borrow_mut().finish_work(self.number);
                self.finish();
                return Ok(spent?);
            }
            return Err(committed.unwrap_err().into());
        }
        self.work(Work::Call(Call { items, screens, at: clock.unwrap_or(self.database.clock) }));
        self.pass(Point::Spend, locks).await?;
        let spent = self.database.state.borrow_mut().finish_work(self.number);
        self.finish();
        Ok(spent?)
    }

    async fn spent(&mut self, demand: &Demand<'_>) -> Result<Vec<Consumption>, AttemptError> {
        self.pass(Point::Find, BTreeSet::new()).await?;
        let is_asked = |log: &&Consumption| {
            demand.get(&log.organization_id).is_some_and(|items| items.iter().any(|item| item.id == log.id.uuid()))
        };
        Ok(self.database.look(|kept| kept.logs.iter().filter(is_asked).cloned().collect()))
    }
}

/// What the server says when it refuses a statement.
#[derive(Debug)]
struct Complaint(&'static str);

fn complaint(code: &'static str) -> sqlx::Error {
    sqlx::Error::Database(Box::new(Complaint(code)))
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SQLSTATE {}", self.0)
    }
}

impl Error for Complaint {}

impl DatabaseError for Complaint {
    fn message(&self) -> &str {
        self.0
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        if self.0 == UNIQUE { ErrorKind::UniqueViolation } else { ErrorKind::Other }
    }
}
