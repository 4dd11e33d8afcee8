//! What readers see on the real ledger, against what the oracle says they should.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use multicredit_domain::consume::Outcome;
use multicredit_domain::{Grant, Hold, Movement, Refusal};
use multicredit_store::{ConsumptionFilter, PageRequest, StoreError};
use proptest::sample::Index;
use tests::fixtures::values;
use tests::oracle::{About, Line, OracleHold, OracleLot, Vector};
use uuid::Uuid;

use super::requests::Reply;
use super::sequence::Sequence;

/// How many lines of the statement are read again at each step, beside those that are new.
const LINES_AGAIN: usize = 2;

/// After how many steps more than the balance is compared: reading the rest costs several times as much.
const BALANCES_ALONE: u32 = 3;

/// How many items a page has where everything is read, so that there are many pages.
const PAGE: u32 = 15;

/// What there is to see of a lot.
#[derive(Debug, PartialEq, Eq)]
struct LotSeen {
    granted: Vector,
    left: Vector,
    state: &'static str,
    source: &'static str,
    priority: i32,
    validity: (DateTime<Utc>, Option<DateTime<Utc>>),
    created_at: DateTime<Utc>,
    voided_at: Option<DateTime<Utc>>,
}

/// What there is to see of a hold.
#[derive(Debug, PartialEq, Eq)]
struct HoldSeen {
    id: Option<Uuid>,
    quantity: i64,
    credits: Vector,
    state: &'static str,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    consumption: Option<Uuid>,
}

/// What there is to see of a movement.
#[derive(Debug, PartialEq, Eq)]
struct LineSeen {
    sequence: i64,
    kind: &'static str,
    change: (Vector, Vector),
    after: (Vector, Vector),
    at: DateTime<Utc>,
    /// `None` where the oracle does not know it.
    reference: Option<Uuid>,
}

impl Sequence<'_> {
    /// Compares the balance, and every few steps, as what was granted by a plan must be named before it is spent, all that
    /// a step may have changed. What differs then is found in the next steps, or at the end.
    pub async fn compare_some(&mut self) -> anyhow::Result<()> {
        let unnamed = self.oracle.lots.iter().any(|lot| lot.id.is_none());
        if unnamed || self.balances_compared >= BALANCES_ALONE {
            self.balances_compared = 0;
            return self.compare().await;
        }
        self.balances_compared += 1;
        self.compare_balance().await.context("the balance")
    }

    /// Compares what every step may have changed.
    pub async fn compare(&mut self) -> anyhow::Result<()> {
        self.compare_balance().await.context("the balance")?;
        // First the lots: what the oracle learns of their names, the statement may need.
        self.compare_lots().await.context("the lots")?;
        self.compare_holds().await.context("the holds")?;
        self.compare_newest_lines().await.context("the statement")
    }

    /// Compares everything, the whole statement included, page by page.
    pub async fn compare_everything(&mut self) -> anyhow::Result<()> {
        self.compare().await?;
        self.compare_subscription().await.context("the subscription")?;
        self.compare_attempts().await.context("the attempts")?;
        let mut got = Vec::new();
        let mut page = PageRequest::first(PAGE);
        loop {
            let found = self.world.store.ledger(self.id, page).await?;
            got.extend(found.items);
            let Some(next) = found.next else { break };
            page = PageRequest { after: Some(next), limit: PAGE };
        }
        self.check_lines(self.first_line(), &got)
    }

    async fn compare_balance(&mut self) -> anyhow::Result<()> {
        let view = self.world.store.balance(self.id).await?;
        let now = self.oracle.now();
        let expiring = view.expiring_next.map(|expiring| (values(expiring.credits), expiring.at));
        let got = (view.sequence, (values(view.balance.available), values(view.balance.held)));
        let sequence = self.oracle.lines.last().map_or(0, |line| line.sequence);
        let expected = (sequence, self.oracle.balance());
        ensure!(expected == got, "should be\n  {expected:?}\nand was\n  {got:?}");
        let ends_next = self.oracle.expiring_next();
        ensure!(expiring == ends_next, "expiring next should be\n  {ends_next:?}\nand was\n  {expiring:?}");
        ensure!(view.as_of == now, "should be of {now}, and was of {}", view.as_of);
        self.answers.insert(now, got);
        Ok(())
    }

    /// Compares the lots, and tells the oracle the names of those that a plan has made.
    pub async fn compare_lots(&mut self) -> anyhow::Result<()> {
        let mut got = BTreeMap::new();
        let mut page = PageRequest::first(100);
        loop {
            let found = self.world.store.grants(self.id, page).await?;
            for grant in found.items {
                let id = grant.lot.id.uuid();
                ensure!(got.insert(id, grant).is_none(), "grant {id} is on two pages");
            }
            let Some(next) = found.next else { break };
            page = PageRequest { after: Some(next), limit: 100 };
        }
        let known: Vec<_> = self.oracle.lots.iter().filter_map(|lot| lot.id).collect();
        for grant in got.values().filter(|grant| !known.contains(&grant.lot.id.uuid())) {
            let fits = |lot: &&mut OracleLot| {
                lot.id.is_none()
                    && (lot.created_at, lot.from) == (grant.lot.created_at, grant.lot.validity.effective_at)
            };
            let unnamed = self.oracle.lots.iter_mut().find(fits);
            unnamed.with_context(|| format!("nobody made {grant:?}"))?.id = Some(grant.lot.id.uuid());
        }
        ensure!(got.len() == self.oracle.lots.len(), "there are {} of {}", got.len(), self.oracle.lots.len());
        for place in 0..self.oracle.lots.len() {
            let id = self.oracle.lots[place].id;
            let grant = id.and_then(|id| got.get(&id)).with_context(|| format!("{:?}", self.oracle.lots[place]))?;
            self.check_lot(place, grant)?;
        }
        Ok(())
    }

    pub(super) fn check_lot(&self, place: usize, grant: &Grant) -> anyhow::Result<()> {
        let (expected, got) = (LotSeen::expected(&self.oracle.lots[place]), LotSeen::of(grant));
        ensure!(expected == got, "lot {place} should be\n  {expected:?}\nand was\n  {got:?}");
        Ok(())
    }

    async fn compare_holds(&mut self) -> anyhow::Result<()> {
        let mut got = Vec::new();
        let mut page = PageRequest::first(100);
        loop {
            let found = self.world.store.holds(self.id, page).await?;
            got.extend(found.items.iter().map(HoldSeen::of));
            let Some(next) = found.next else { break };
            page = PageRequest { after: Some(next), limit: 100 };
        }
        got.reverse();
        let expected: Vec<_> = self.oracle.holds.iter().map(|hold| self.expected_hold(hold)).collect();
        ensure!(expected == got, "should be\n  {expected:#?}\nand were\n  {got:#?}");
        Ok(())
    }

    pub(super) fn check_hold(&self, place: usize, reply: &Reply) -> anyhow::Result<()> {
        let Reply::Hold(answer) = reply else { anyhow::bail!("a hold was answered {reply:?}") };
        let (expected, got) = (self.expected_hold(&self.oracle.holds[place]), HoldSeen::of(&answer.hold));
        ensure!(expected == got, "the hold should be\n  {expected:?}\nand was\n  {got:?}");
        let available = values(answer.available);
        ensure!(available == self.oracle.available(), "available beside the hold is {available:?}");
        Ok(())
    }

    fn expected_hold(&self, hold: &OracleHold) -> HoldSeen {
        HoldSeen {
            id: hold.id,
            quantity: hold.quantity,
            credits: hold.credits,
            state: hold.state.name(),
            created_at: hold.created_at,
            expires_at: hold.until,
            finished_at: hold.finished_at,
            consumption: hold.spending.map(|place| self.consumptions[place].uuid()),
        }
    }

    async fn compare_newest_lines(&mut self) -> anyhow::Result<()> {
        let begins = self.first_line();
        let first = self.lines_compared.saturating_sub(LINES_AGAIN).max(begins);
        let wanted = self.oracle.lines.len() - first + 1;
        let found = self.world.store.ledger(self.id, PageRequest::first(u32::try_from(wanted)?)).await?;
        let mut lines = found.items;
        if first > begins {
            ensure!(lines.len() == wanted && lines.pop().is_some(), "there are {} of {wanted}", lines.len());
        }
        self.check_lines(first, &lines)?;
        self.lines_compared = self.oracle.lines.len();
        Ok(())
    }

    /// When something was spent.
    pub(super) fn spent_at(&self, place: usize) -> DateTime<Utc> {
        let sequence = self.oracle.spendings[place].sequence;
        self.oracle.lines.iter().find(|line| line.sequence == sequence).map_or(self.begins, |line| line.at)
    }

    /// The first of the oracle's lines that is still history.
    fn first_line(&self) -> usize {
        self.oracle.lines.iter().take_while(|line| line.at < self.begins).count()
    }

    /// Compares movements, highest sequence first, with the oracle's lines from `first` on.
    fn check_lines(&self, first: usize, got: &[Movement]) -> anyhow::Result<()> {
        let mut got: Vec<_> = got.iter().map(LineSeen::of).collect();
        got.reverse();
        let expected: Vec<_> = self.oracle.lines[first..].iter().map(|line| self.expected_line(line)).collect();
        for (expected, got) in expected.iter().zip(&mut got) {
            if expected.reference.is_none() {
                got.reference = None;
            }
        }
        ensure!(expected == got, "should be\n  {expected:#?}\nand was\n  {got:#?}");
        Ok(())
    }

    fn expected_line(&self, line: &Line) -> LineSeen {
        let reference = match line.about {
            About::Lot(place) => self.oracle.lots[place].id,
            About::Hold(place) => self.oracle.holds[place].id,
            About::Spending(place) => Some(self.consumptions[place].uuid()),
            About::Nothing => None,
        };
        let Line { sequence, kind, change, after, at, .. } = *line;
        LineSeen { sequence, kind, change, after, at, reference }
    }

    pub(super) async fn compare_subscription(&mut self) -> anyhow::Result<()> {
        let got = match self.world.store.subscription(self.id).await {
            Ok(subscription) => Some(subscription),
            Err(StoreError::Refused(Refusal::UnknownSubscription)) => None,
            Err(error) => return Err(error.into()),
        };
        let got = got.map(|got| {
            let next = got.next_terms.map(|terms| String::from(terms.code));
            (String::from(got.terms.code), next, got.anchor, got.current)
        });
        let expected = self.oracle.subscription.as_ref().map(|expected| {
            let next = expected.next_plan.as_ref().map(|plan| plan.code.to_owned());
            (expected.plan.code.to_owned(), next, expected.anchor, expected.current)
        });
        ensure!(expected == got, "should be\n  {expected:?}\nand was\n  {got:?}");
        Ok(())
    }

    /// One row for each attempt to spend that succeeded, or was refused for want of credits or because of a freeze.
    async fn compare_attempts(&self) -> anyhow::Result<()> {
        let (mut spent, mut refused) = (0, 0);
        let mut page = PageRequest::first(100);
        loop {
            let found = self.world.store.consumptions(self.id, ConsumptionFilter::default(), page).await?;
            for attempt in &found.items {
                match attempt.outcome {
                    Outcome::Spent { .. } => spent += 1,
                    Outcome::Refused { .. } => refused += 1,
                }
            }
            let Some(next) = found.next else { break };
            page = PageRequest { after: Some(next), limit: 100 };
        }
        let kept = |at: &&DateTime<Utc>| **at >= self.begins;
        let spendings = (0..self.oracle.spendings.len()).filter(|place| self.spent_at(*place) >= self.begins).count();
        let expected = (spendings, self.oracle.refused_at.iter().filter(kept).count());
        ensure!(expected == (spent, refused), "should be {expected:?}, and were {:?}", (spent, refused));
        Ok(())
    }

    /// The balance of an instant in the past is what was answered at that instant.
    pub(super) async fn look_back(&self, answer: Index) -> anyhow::Result<()> {
        let Some((first, _)) = self.answers.first_key_value() else { return Ok(()) };
        let (at, answered) = self.answers.iter().nth(answer.index(self.answers.len())).context("it is in range")?;
        // And one when nobody asked: half-way between that and the first.
        let between = *first + (*at - *first) / 2;
        for (at, expected) in [(*at, *answered), (between, self.oracle.balance_at(between))] {
            let view = self.world.store.balance_at(self.id, at).await?;
            let got = (view.sequence, (values(view.balance.available), values(view.balance.held)));
            ensure!(got == expected, "at {at} it was\n  {expected:?}\nand is now said to have been\n  {got:?}");
        }
        Ok(())
    }
}

impl LotSeen {
    fn of(grant: &Grant) -> Self {
        let lot = &grant.lot;
        Self {
            granted: values(lot.granted),
            left: values(lot.remaining),
            state: lot.state.as_str(),
            source: lot.source.as_str(),
            priority: lot.priority,
            validity: (lot.validity.effective_at, lot.validity.expires_at),
            created_at: lot.created_at,
            voided_at: lot.voided_at,
        }
    }

    fn expected(lot: &OracleLot) -> Self {
        Self {
            granted: lot.granted,
            left: lot.left,
            state: lot.state(),
            source: lot.source,
            priority: lot.priority,
            validity: (lot.from, lot.until),
            created_at: lot.created_at,
            voided_at: lot.voided_at,
        }
    }
}

impl HoldSeen {
    fn of(hold: &Hold) -> Self {
        Self {
            id: Some(hold.id.uuid()),
            quantity: hold.quantity.get(),
            credits: values(hold.credits),
            state: hold.state.as_str(),
            created_at: hold.created_at,
            expires_at: hold.expires_at,
            finished_at: hold.finished_at,
            consumption: hold.consumption_id.map(multicredit_domain::ConsumptionId::uuid),
        }
    }
}

impl LineSeen {
    fn of(movement: &Movement) -> Self {
        let Movement { sequence, kind, change, balance_after, reference, created_at, .. } = movement;
        Self {
            sequence: *sequence,
            kind: kind.as_str(),
            change: (change.available.to_array(), change.held.to_array()),
            after: (values(balance_after.available), values(balance_after.held)),
            at: *created_at,
            reference: *reference,
        }
    }
}
