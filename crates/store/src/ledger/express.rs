//! The express path: consumptions that their organizations can afford, in one transaction that reads nothing first.
//!
//! Most batches hold nothing else. So the demand of each organization is summed up here, and one call updates every
//! account on which the whole sum fits and nothing is out of the ordinary, and writes the log rows and keys of those
//! organizations alone. It is an optimization with the same meaning: whatever it leaves out takes the portable path, which
//! decides anew.
//!
//! On PostgreSQL the call is one of `consume_credits_express` (a migration has its text and says how it works), in one
//! round trip, which is [`postgres`]; on SQLite it is what [`sqlite`] does.
//!
//! Prices come from a board that the portable path keeps: every item carries the version that it was calculated with,
//! and the call does nothing at all if one of them is no longer the one in force by the database's clock.
//!
//! The call is its own transaction. If the connection breaks before the answer, the server's side of it is ended first,
//! so that nothing of it can happen any more; then the ids of the batch are looked for. Those that are there were spent,
//! the others were not.

mod postgres;
mod sqlite;

pub(crate) use postgres::explainable_call;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::LazyLock;

use multicredit_domain::action::price_at;
use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    ActionType, Consume, Consumption, ConsumptionId, Credits, KeyBinding, OrganizationId, Price, Spending, Timestamp,
};
use sea_orm::FromQueryResult;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::decide::{Facts, Verdict};
use super::session::Session;
use super::writer::{Writer, timed_out};
use super::{Answer, Reply, Request, Task, limits};
use crate::entity::credit_consumption_logs;
use crate::error::{AttemptError, StoreError, is_unique_violation_of, leaves_doubt};
use crate::sql::{Cell, Column, Connection, Kind, Statement, entity_columns};

/// The prices that the writer has seen, and when by the database's clock.
#[derive(Debug, Default)]
pub(super) struct PriceBoard {
    prices: HashMap<ActionType, Vec<Price>>,
    seen: Option<(Timestamp, Instant)>,
}

impl PriceBoard {
    /// The prices that a decision was made from.
    pub(super) fn of(facts: &Facts) -> Self {
        Self { prices: facts.prices.clone(), seen: Some((facts.clock, Instant::now())) }
    }

    /// Takes over what another board has.
    pub(super) fn learn(&mut self, seen: Self) {
        self.prices.extend(seen.prices);
        self.seen = seen.seen;
    }

    /// The price in force now, as far as the board knows.
    fn price(&self, action: &ActionType) -> Option<&Price> {
        let (clock, since) = self.seen?;
        let now = clock + since.elapsed();
        price_at(self.prices.get(action)?, now).ok()
    }
}

/// A key within its organization.
type OwnedKey = (OrganizationId, Uuid);

/// Which keys this writer has bound of late, so that a request that is sent again is expected.
///
/// Keys are not looked for before they are inserted, since nearly all are new; a known one fails the call. That does no
/// harm but costs a call, and PostgreSQL writes a line to its log. Retries come in bursts, and most of them to where the
/// first request went.
#[derive(Debug, Default)]
pub(super) struct RecentKeys {
    known: HashSet<OwnedKey>,
    in_order: VecDeque<OwnedKey>,
    /// For how many more calls keys are looked for whatever they are.
    screened_calls: u32,
}

impl RecentKeys {
    /// Whether to look for keys before the next call, which has these.
    fn screens(&mut self, mut keys: impl Iterator<Item = OwnedKey>) -> bool {
        let expects_some = self.screened_calls > 0;
        self.screened_calls = self.screened_calls.saturating_sub(1);
        expects_some || keys.any(|key| self.known.contains(&key))
    }

    /// A key was known that was not expected to be.
    const fn met_a_known_one(&mut self) {
        self.screened_calls = limits::SCREENED_CALLS;
    }

    fn remember(&mut self, keys: impl Iterator<Item = OwnedKey>) {
        for key in keys {
            if !self.known.insert(key) {
                continue;
            }
            self.in_order.push_back(key);
            if self.in_order.len() > limits::RECENT_KEYS_MAX
                && let Some(oldest) = self.in_order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

/// The keys of a call.
fn keys(demand: &Demand<'_>) -> impl Iterator<Item = OwnedKey> {
    let items = demand.iter().flat_map(|(organization, items)| items.iter().map(move |item| (organization, item)));
    items.filter_map(|(organization, item)| Some((*organization, item.binding?.key.id())))
}

/// An item of the call.
pub(super) struct Item<'a> {
    pub(super) index: usize,
    pub(super) id: Uuid,
    pub(super) request: &'a Consume,
    pub(super) binding: Option<KeyBinding>,
    pub(super) version: i32,
    pub(super) cost: Credits,
    /// The organization's cost up to and including this item.
    pub(super) so_far: Credits,
}

/// What is asked of each organization.
pub(super) type Demand<'a> = BTreeMap<OrganizationId, Vec<Item<'a>>>;

static FIND_LOGS: LazyLock<Statement> = LazyLock::new(|| {
    let columns = vec![Column::new("organization_id", Kind::Uuid), Column::new("id", Kind::Uuid)];
    Statement::new(columns, |d| {
        format!(
            "SELECT {} FROM {} JOIN credit_consumption_logs l ON l.organization_id = v.organization_id AND l.id = v.id",
            entity_columns::<credit_consumption_logs::Entity>("l", ""),
            d.source
        )
    })
});

impl<S: Session> Writer<S> {
    /// Decides what it can of a batch in one round trip. What is left `None` takes the portable path.
    pub(super) async fn execute_express(&mut self, tasks: &[&Task]) -> Vec<Option<Verdict>> {
        let mut verdicts: Vec<Option<Verdict>> = tasks.iter().map(|_| None).collect();
        let Some(board) = &self.express else { return verdicts };
        let demand = demand(tasks, board);
        // Opening a connection is left to the portable path, which tries for a while: where there is none, nothing was asked
        // for, and nothing is in doubt.
        if demand.is_empty() || self.connection.is_none() {
            return verdicts;
        }
        match self.call_in_time(&demand).await {
            Ok(spent) => {
                self.caches().committed();
                if self.caches().keep_balances() {
                    for (organization_id, spending) in spendings(&spent) {
                        self.caches().spent(organization_id, spending).await;
                    }
                }
                for (index, consumption) in spent {
                    verdicts[index] = Some(Ok(done(consumption)));
                }
            }
            Err(AttemptError::Database(error)) if leaves_doubt(&error) => {
                self.lose_connection();
                tracing::warn!(%error, "the connection was lost under the express path; looking for what became of it");
                self.resolve(&demand, &mut verdicts).await;
                self.forget_all(&demand).await;
            }
            // The call is one transaction: what failed in the database did not happen. The portable path finds out more.
            Err(AttemptError::Database(error)) => {
                tracing::warn!(%error, "the express path failed; its requests take the portable path");
            }
            // It has happened, and the answer makes no sense.
            Err(AttemptError::Store(error)) => {
                tracing::error!(%error, "what the express path answered cannot be read");
                leave_unknown(&demand, &mut verdicts);
                self.forget_all(&demand).await;
            }
        }
        verdicts
    }

    /// The call, with a deadline of our own; once more, with a look for known keys, if one of them was bound already.
    async fn call_in_time(&mut self, demand: &Demand<'_>) -> Result<Vec<(usize, Consumption)>, AttemptError> {
        let deadline = Instant::now() + self.attempt_deadline();
        let timed_out = |_| Err(timed_out().into());
        let screens = self.recent_keys.screens(keys(demand));
        let called = timeout_at(deadline, self.call(demand, screens)).await.unwrap_or_else(timed_out);
        let called = match called {
            Err(AttemptError::Database(error)) if !screens && is_unique_violation_of(&error) => {
                self.recent_keys.met_a_known_one();
                timeout_at(deadline, self.call(demand, true)).await.unwrap_or_else(timed_out)
            }
            called => called,
        };
        if called.is_ok() {
            self.recent_keys.remember(keys(demand));
        }
        called
    }

    /// The call. Answers the consumptions that were spent, each with the place of its task.
    async fn call(&mut self, demand: &Demand<'_>, screens: bool) -> Result<Vec<(usize, Consumption)>, AttemptError> {
        let clock = self.clock().manual_instant();
        self.connection().await?.spend(demand, clock, screens).await
    }

    async fn forget_all(&self, demand: &Demand<'_>) {
        for organization_id in demand.keys() {
            self.caches().forget(*organization_id).await;
        }
    }

    /// Finds out what became of a call whose answer never came.
    async fn resolve(&mut self, demand: &Demand<'_>, verdicts: &mut [Option<Verdict>]) {
        let deadline = Instant::now() + limits::RETRY_DEADLINE;
        let mut pause = limits::RETRY_PAUSE;
        loop {
            let found = timeout_at(deadline, self.find(demand)).await;
            let error = match found.unwrap_or_else(|_| Err(timed_out().into())) {
                Ok(found) => {
                    for consumption in found {
                        answer(verdicts, demand, consumption);
                    }
                    return;
                }
                Err(error) => error,
            };
            self.lose_connection();
            tracing::warn!(?error, "the outcome of a batch is still unknown");
            if Instant::now() + pause >= deadline {
                break;
            }
            self.rest(pause).await;
            pause = (pause * 2).min(limits::RETRY_PAUSE_MAX);
        }
        leave_unknown(demand, verdicts);
    }

    /// The consumptions of a call that are in the log, looked for under the locks that the call would hold.
    async fn find(&mut self, demand: &Demand<'_>) -> Result<Vec<Consumption>, AttemptError> {
        let connection = self.connection().await?;
        connection.begin().await?;
        connection.lock(demand.keys().copied().collect()).await?;
        let found = connection.spent(demand).await?;
        connection.rollback().await?;
        Ok(found)
    }
}

/// Spends what can be spent of a demand.
pub(super) async fn spend(
    connection: &mut Connection,
    demand: &Demand<'_>,
    clock: Option<Timestamp>,
    screens: bool,
) -> Result<Vec<(usize, Consumption)>, AttemptError> {
    match connection {
        Connection::Postgres(..) => postgres::spend(connection, demand, clock, screens).await,
        Connection::Sqlite(..) => sqlite::spend(connection, demand, clock, screens).await,
    }
}

/// The consumptions of a demand that are in the log.
pub(super) async fn spent(connection: &mut Connection, demand: &Demand<'_>) -> Result<Vec<Consumption>, AttemptError> {
    let mut rows = FIND_LOGS.rows();
    for (organization_id, items) in demand {
        for item in items {
            rows.cell(Cell::Uuid(organization_id.uuid())).cell(Cell::Uuid(item.id)).end();
        }
    }
    let mut found = Vec::new();
    for row in connection.query(&FIND_LOGS, &rows).await? {
        found.push(credit_consumption_logs::Model::from_query_result(&row, "")?.try_into()?);
    }
    Ok(found)
}

/// What can go by the express path: consumptions at known prices, of organizations that are asked for nothing else, none
/// of them twice under one key.
fn demand<'a>(tasks: &[&'a Task], board: &PriceBoard) -> Demand<'a> {
    let mut demand = Demand::new();
    let mut ordinary = HashSet::new();
    let mut left_out = HashSet::new();
    for (index, task) in tasks.iter().enumerate() {
        let organization_id = task.organization_id;
        let is_first = task.binding.is_none_or(|it| ordinary.insert((organization_id, it.key.id())));
        let item = item(index, task, board).filter(|_| is_first && !left_out.contains(&organization_id));
        let Some(item) = item.and_then(|item| add_up(demand.entry(organization_id).or_default(), item)) else {
            left_out.insert(organization_id);
            demand.remove(&organization_id);
            continue;
        };
        demand.entry(organization_id).or_default().push(item);
    }
    demand
}

fn item<'a>(index: usize, task: &'a Task, board: &PriceBoard) -> Option<Item<'a>> {
    let Request::Consume(request) = &task.request else { return None };
    let price = board.price(&request.action)?;
    let cost = price.cost(request.quantity).ok()?;
    Some(Item { index, id: task.id, request, binding: task.binding, version: price.version, cost, so_far: cost })
}

/// The item with what came before it of the same organization; `None` beyond the range of an amount.
fn add_up<'a>(before: &mut [Item<'a>], mut item: Item<'a>) -> Option<Item<'a>> {
    if let Some(last) = before.last() {
        item.so_far = last.so_far.checked_add(item.cost)?;
    }
    Some(item)
}

fn leave_unknown(demand: &Demand<'_>, verdicts: &mut [Option<Verdict>]) {
    for item in demand.values().flatten() {
        verdicts[item.index] = Some(Err(StoreError::OutcomeUnknown { consumption_id: None }));
    }
}

/// Answers the item that a consumption which was looked for is about.
fn answer(verdicts: &mut [Option<Verdict>], demand: &Demand<'_>, consumption: Consumption) {
    let items = demand.get(&consumption.organization_id).map_or(&[][..], Vec::as_slice);
    if let Some(item) = items.iter().find(|item| item.id == consumption.id.uuid()) {
        verdicts[item.index] = Some(Ok(done(consumption)));
    }
}

fn done(consumption: Consumption) -> Answer<Reply> {
    Answer { value: Reply::Consumption(Box::new(consumption)), replayed: false }
}

/// What each organization has spent. The consumptions of one stand together, in their order.
fn spendings(spent: &[(usize, Consumption)]) -> impl Iterator<Item = (OrganizationId, Spending)> {
    spent.chunk_by(|(_, one), (_, next)| one.organization_id == next.organization_id).filter_map(|together| {
        let (_, last) = together.last()?;
        let Outcome::Spent { sequence, available } = last.outcome else { return None };
        let count = i64::try_from(together.len()).ok()?;
        Some((last.organization_id, Spending { count, sequence, available, at: last.created_at }))
    })
}

/// What an organization has after everything that was asked of it was spent.
struct After {
    organization_id: OrganizationId,
    /// The number of its last consumption.
    sequence: i64,
    available: Credits,
    /// The instant of all of them.
    created_at: Timestamp,
}

/// The consumptions of an organization that were spent, each with the place of its task.
fn consumptions(after: &After, demand: &Demand<'_>, spent: &mut Vec<(usize, Consumption)>) -> Result<(), AttemptError> {
    let After { organization_id, sequence, available, created_at } = *after;
    let items = demand.get(&organization_id).map_or(&[][..], Vec::as_slice);
    let Some(total) = items.last().map(|item| item.so_far) else { return Ok(()) };
    let out_of_range = || StoreError::Internal("a balance before spending was out of range".to_owned());
    let before = available.checked_add(total).ok_or_else(out_of_range)?;
    let first_sequence = sequence - i64::try_from(items.len()).unwrap_or(i64::MAX);
    for (sequence, item) in (first_sequence + 1..).zip(items) {
        let available = before.checked_sub(item.so_far).ok_or_else(out_of_range)?;
        let consumption = Consumption {
            id: ConsumptionId::new(item.id),
            organization_id,
            request: item.request.clone(),
            hold_id: None,
            consumed: item.cost,
            price_version: Some(item.version),
            outcome: Outcome::Spent { sequence, available },
            created_at,
        };
        spent.push((item.index, consumption));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
