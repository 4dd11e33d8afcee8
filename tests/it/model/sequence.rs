//! One sequence: each step done to the real ledger and to the oracle, and both held against each other.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use multicredit_domain::{ActionType, ConsumptionId, OrganizationId, OrganizationStatus, PlanCode, Quantity};
use multicredit_store::{Answer, NewPrice, OrganizationUpdate, StoreError};
use proptest::sample::Index;
use tests::fixtures::{key, of_values, organization};
use tests::oracle::{Oracle, OraclePrice, Vector};

use super::World;
use super::asking::Asked;
use super::requests::{Reply, Request, agreed, consume_by_rpc, refused};
use super::step::{Anchor, Jump, Question, Sent, Source, Starts, Step};

/// When every sequence begins.
pub const BEGINNING: DateTime<Utc> = DateTime::from_timestamp(1_772_323_200, 0).expect("1 March 2026");

/// A balance and the number of the last movement in it, as they were answered.
pub type Balance = (i64, (Vector, Vector));

/// A request that went through under a key.
struct Keyed {
    key: String,
    request: Request,
    reply: Reply,
}

impl Keyed {
    /// The same request again does nothing, and is answered as it was.
    fn check_replay(&self, answer: Result<Answer<Reply>, StoreError>) -> anyhow::Result<()> {
        let Answer { value, replayed } = answer?;
        ensure!(replayed && value == self.reply, "should be {:?} again, and was {value:?}", self.reply);
        Ok(())
    }
}

/// An organization on the real ledger, and its oracle.
pub struct Sequence<'w> {
    pub(super) world: &'w World,
    pub(super) id: OrganizationId,
    pub(super) oracle: Oracle,
    /// What the clock shows.
    clock: DateTime<Utc>,
    /// The action whose price changes, and its prices, each with the instant from which it is in force.
    pub(super) own: ActionType,
    pub(super) own_prices: Vec<(DateTime<Utc>, OraclePrice)>,
    /// Ids of the oracle's spendings.
    pub(super) consumptions: Vec<ConsumptionId>,
    /// From where the last subscription counted its days.
    last_anchor: Option<DateTime<Utc>>,
    keyed: Vec<Keyed>,
    keys: usize,
    /// What was answered last at each instant.
    pub(super) answers: BTreeMap<DateTime<Utc>, Balance>,
    /// Where history begins, once something was dropped.
    pub(super) begins: DateTime<Utc>,
    /// Before which the clock can no longer go back.
    fence: DateTime<Utc>,
    /// How many lines of the statement have been compared.
    pub(super) lines_compared: usize,
    /// How many steps ago everything that a step may change was compared, not the balance alone.
    pub(super) balances_compared: u32,
}

/// Does the steps of one sequence. An error says at which step what differed.
pub async fn run(world: &World, number: usize, steps: &[Sent]) -> anyhow::Result<()> {
    let mut sequence = Sequence::begin(world, number).await.context("at the beginning")?;
    let outcome = sequence.through(steps).await;
    if outcome.is_err() {
        // Its plan would go on for ever, and the sweeps of the sequences that follow would have to go through it all.
        let _ = world.store.unsubscribe(sequence.id).await;
    }
    outcome
}

impl<'w> Sequence<'w> {
    /// Some credits, for nothing is refused as often as what comes before the first of them.
    async fn begin(world: &'w World, number: usize) -> anyhow::Result<Self> {
        world.clock.set(BEGINNING);
        let mut sequence = Self {
            world,
            id: organization(&world.store, &format!("sequence {number}"), of_values([0; 4])).await,
            oracle: Oracle::new(BEGINNING),
            clock: BEGINNING,
            own: ActionType::new(format!("own-{number}")).expect("the name is valid"),
            own_prices: Vec::new(),
            consumptions: Vec::new(),
            last_anchor: None,
            keyed: Vec::new(),
            keys: 0,
            answers: BTreeMap::new(),
            begins: BEGINNING,
            fence: BEGINNING,
            lines_compared: 0,
            balances_compared: 0,
        };
        sequence.price([1, 2, 0, 0], 3).await?;
        let credits = [150, 100, 20, 10];
        let (source, starts, lasts) = (Source::Purchase, Starts::AtOnce, Some(300));
        let grant = Question::Grant { credits, source, priority: 10, starts, lasts };
        sequence.ask_together(&[grant], false).await?;
        Ok(sequence)
    }

    async fn through(&mut self, steps: &[Sent]) -> anyhow::Result<()> {
        for (place, (step, with_key)) in steps.iter().enumerate() {
            let at = || format!("at step {place}, {step:?}");
            if self.apply(step, *with_key).await.with_context(at)? {
                self.compare_some().await.with_context(at)?;
            }
        }
        self.end().await.context("at the end")
    }

    /// When all has come to its end there is nothing left, and the statement says how that came to be.
    async fn end(&mut self) -> anyhow::Result<()> {
        self.compare().await?;
        self.compare_subscription().await.context("the subscription")?;
        self.unsubscribe().await?;
        self.set_clock(self.clock + TimeDelta::days(400));
        self.compare().await.context("once time is over")?;
        self.sweep().await?;
        self.compare_everything().await.context("once that is booked")
    }

    /// Does one step and answers whether there was anything to do.
    async fn apply(&mut self, step: &Step, with_key: bool) -> anyhow::Result<bool> {
        match *step {
            Step::Ask(ref question) => return self.ask_together(std::slice::from_ref(question), with_key).await,
            Step::AskTogether(ref questions) => return self.ask_together(questions, with_key).await,
            Step::Subscribe { plan, anchor } => self.subscribe(plan, anchor).await?,
            Step::Unsubscribe => self.unsubscribe().await?,
            Step::SetFrozen(frozen) => self.set_frozen(frozen).await?,
            Step::Price { costs, unit } => self.price(costs, unit).await?,
            Step::Clock(jump) => return self.jump(jump).await,
            Step::Sweep => self.sweep().await?,
            Step::DropHistory { half_hours } => self.drop_history(half_hours).await?,
            Step::Again { request, other } => return self.send_again(request, other).await,
            Step::LookBack { answer } => self.look_back(answer).await?,
        }
        Ok(true)
    }

    /// Sends requests at once, and holds the answers against what the oracle says when they are asked in this order, in
    /// which they wait for the ledger's writer. What went through under a key is remembered. Answers whether there was
    /// anything to send.
    async fn ask_together(&mut self, questions: &[Question], with_key: bool) -> anyhow::Result<bool> {
        let mut asked = Vec::new();
        for question in questions {
            if let Some((request, asking)) = self.prepare(question)? {
                let name = with_key.then(|| format!("key-{}", self.keys));
                self.keys += 1;
                asked.push((request, asking, name));
            }
        }
        if asked.len() > 1 && with_key {
            // The first once more, under its key: done once, if it is done at all.
            asked.push(asked[0].clone());
        }
        // What is asked together goes to the ledger's queue, whose order is known.
        let rpc = self.world.rpc.as_ref().filter(|_| asked.len() == 1);
        let send = async |(request, _, name): &(Request, Asked, Option<String>)| match (rpc, request, name) {
            (Some(rpc), Request::Consume(consume), None) => consume_by_rpc(rpc, self.id, consume, self.clock).await,
            _ => request.clone().send(&self.world.store, self.id, name.as_deref().and_then(key)).await,
        };
        let answers = join_all(asked.iter().map(send)).await;
        let sent = !asked.is_empty();
        for ((request, asked, name), answer) in asked.into_iter().zip(answers) {
            if let Some(first) = self.keyed.iter().find(|first| Some(&first.key) == name.as_ref()) {
                first.check_replay(answer)?;
                continue;
            }
            let got = match answer {
                Ok(answer) => {
                    ensure!(!answer.replayed, "nothing was sent before under this key");
                    if let Some(key) = name {
                        self.keyed.push(Keyed { key, request: request.clone(), reply: answer.value.clone() });
                    }
                    Ok(answer.value)
                }
                Err(error) => Err(refused(error)?),
            };
            self.judge(&asked, got).with_context(|| format!("{request:?}"))?;
        }
        Ok(sent)
    }

    /// An earlier request under its key does nothing and is answered as it was; another one is refused.
    async fn send_again(&mut self, place: Index, other: bool) -> anyhow::Result<bool> {
        let Some(first) = pick(&self.keyed, place) else { return Ok(false) };
        let request = if other { first.request.clone().other() } else { first.request.clone() };
        let answer = request.send(&self.world.store, self.id, key(&first.key)).await;
        if other {
            let code = answer.map_err(refused).err().context("another request was accepted under the key")??.code;
            ensure!(code == "idempotency_mismatch", "another request was refused as {code}");
        } else {
            first.check_replay(answer)?;
        }
        Ok(true)
    }

    async fn subscribe(&mut self, plan: Index, anchor: Anchor) -> anyhow::Result<()> {
        let plan = plan.get(&self.world.plans);
        let anchor = match anchor {
            Anchor::Unsaid => None,
            Anchor::At(half_hours) => Some(on_the_clock(self.oracle.now(), half_hours)),
            Anchor::Same => self.oracle.subscription.as_ref().map_or(self.last_anchor, |current| Some(current.anchor)),
        };
        let code = PlanCode::new(plan.code)?;
        let got = self.world.store.subscribe(self.id, &code, anchor).await;
        let got = got.map(Ok).or_else(|error| refused(error).map(Err))?;
        if agreed(self.oracle.subscribe(plan, anchor), got)?.is_some() {
            self.compare_lots().await?;
            self.compare_subscription().await?;
            self.last_anchor = self.oracle.subscription.as_ref().map(|subscription| subscription.anchor);
        }
        Ok(())
    }

    async fn unsubscribe(&mut self) -> anyhow::Result<()> {
        let got = self.world.store.unsubscribe(self.id).await;
        let got = got.map(Ok).or_else(|error| refused(error).map(Err))?;
        agreed(self.oracle.unsubscribe(), got)?;
        self.compare_subscription().await
    }

    async fn set_frozen(&mut self, frozen: bool) -> anyhow::Result<()> {
        let status = if frozen { OrganizationStatus::Frozen } else { OrganizationStatus::Active };
        let update = OrganizationUpdate { status: Some(status), ..OrganizationUpdate::default() };
        self.world.store.update_organization(self.id, update).await?;
        self.oracle.set_frozen(frozen);
        Ok(())
    }

    async fn price(&mut self, costs: Vector, unit: i64) -> anyhow::Result<()> {
        let price = NewPrice {
            costs: of_values(costs),
            unit_size: Quantity::new(unit)?,
            description: None,
            active: true,
            effective_at: None,
        };
        self.world.store.put_action(self.own.clone(), price).await?;
        self.own_prices.push((self.clock, OraclePrice { costs, unit }));
        Ok(())
    }

    async fn sweep(&mut self) -> anyhow::Result<()> {
        let swept = self.world.store.sweep().await?;
        ensure!(swept.failed == 0, "the sweep left {} organizations unsettled", swept.failed);
        Ok(())
    }

    /// History before a half hour of the past is dropped; what is not of the log is as it was.
    async fn drop_history(&mut self, half_hours: i64) -> anyhow::Result<()> {
        // Dropping has the organization rolled up behind a fence, before which no clock takes it back.
        // A refund of that very instant would have to wait for it.
        self.set_clock(self.clock.max(self.oracle.now()) + TimeDelta::microseconds(1));
        self.fence = self.clock;
        let cut = on_the_clock(self.clock, -half_hours);
        let dropped = self.world.store.drop_history_before(self.id, cut).await?;
        ensure!(dropped.left == 0, "history could not be dropped: {dropped:?}");
        if dropped.attempts > 0 {
            self.begins = cut;
            self.answers.retain(|at, _| *at >= cut);
            // What was answered from the log is no more known.
            self.keyed.retain(|keyed| !matches!(&keyed.reply, Reply::Consumption(spent) if spent.created_at < cut));
            let early = self.world.store.balance_at(self.id, cut - TimeDelta::microseconds(1)).await;
            let code = refused(early.err().context("a balance of before history was answered")?)?.code;
            ensure!(code == "beyond_retention", "a balance of before history was refused as {code}");
        }
        Ok(())
    }

    async fn jump(&mut self, jump: Jump) -> anyhow::Result<bool> {
        let clock = match jump {
            Jump::Micros(micros) => self.clock + TimeDelta::microseconds(micros),
            Jump::HalfHours(half_hours) => on_the_clock(self.clock, half_hours),
            Jump::Days(days) => self.clock + TimeDelta::days(days),
            Jump::ToBoundary(beside) => {
                let Some(boundary) = self.oracle.next_boundary() else { return Ok(false) };
                // A clock that was set back is behind the oracle's now, which is the instant of the last movement.
                (boundary + TimeDelta::microseconds(beside)).max(self.clock)
            }
            Jump::Back(half_hours) => {
                // What a reader was told of boundaries that nobody had booked would not be so any more.
                self.sweep().await?;
                (self.clock - TimeDelta::minutes(30 * half_hours)).max(self.fence)
            }
        };
        self.set_clock(clock);
        Ok(true)
    }

    fn set_clock(&mut self, clock: DateTime<Utc>) {
        self.clock = clock;
        self.world.clock.set(clock);
        self.oracle.set_clock(clock);
        // What was answered for an instant that is now to come again may turn out differently.
        let now = self.oracle.now();
        self.answers.retain(|at, _| *at < now);
    }
}

/// The item at a random place; `None` if there are none.
pub fn pick<T>(items: &[T], index: Index) -> Option<&T> {
    (!items.is_empty()).then(|| index.get(items))
}

/// The half hour of the clock that is so many after the last one.
pub fn on_the_clock(now: DateTime<Utc>, half_hours: i64) -> DateTime<Utc> {
    let half_hour = 30 * 60;
    let last = now.timestamp().div_euclid(half_hour);
    DateTime::from_timestamp((last + half_hours) * half_hour, 0).expect("an instant of this millennium")
}
