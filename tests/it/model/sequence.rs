//! One sequence: each step done to the real ledger and to the oracle, and both held against each other.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    ActionType, Consumption, ConsumptionId, Delta, GrantId, GrantSource, HoldId, NewGrant, NewHold, NewRefund,
    OnExpired, OrganizationId, OrganizationStatus, PlanCode, Quantity,
};
use multicredit_store::{NewPrice, OrganizationUpdate};
use proptest::sample::Index;
use tests::fixtures::{key, of_values, organization, request, values};
use tests::oracle::{MOST, Oracle, OracleGrant, OracleHoldState, OraclePrice, Refused, Vector};

use super::World;
use super::requests::{Reply, Request, agreed, refused};
use super::step::{Action, Anchor, Jump, Pick, Sent, Source, Starts, Step};

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

/// An organization on the real ledger, and its oracle.
pub struct Sequence<'w> {
    pub(super) world: &'w World,
    pub(super) id: OrganizationId,
    pub(super) oracle: Oracle,
    /// What the clock shows.
    clock: DateTime<Utc>,
    /// The action whose price changes, and its prices, each with the instant from which it is in force.
    own: ActionType,
    own_prices: Vec<(DateTime<Utc>, OraclePrice)>,
    /// Ids of the oracle's spendings.
    pub(super) consumptions: Vec<ConsumptionId>,
    /// From where the last subscription counted its days.
    last_anchor: Option<DateTime<Utc>>,
    keyed: Vec<Keyed>,
    keys: usize,
    /// What was answered last at each instant.
    pub(super) answers: BTreeMap<DateTime<Utc>, Balance>,
    /// How many lines of the statement have been compared.
    pub(super) lines_compared: usize,
    /// How many steps ago everything that a step may change was compared, not the balance alone.
    pub(super) balances_compared: u32,
}

/// Does the steps of one sequence. An error says at which step what differed.
pub async fn run(world: &World, number: usize, steps: &[Sent]) -> anyhow::Result<()> {
    let mut sequence = Sequence::begin(world, number).await.context("at the beginning")?;
    for (place, (step, with_key)) in steps.iter().enumerate() {
        let at = || format!("at step {place}, {step:?}");
        if sequence.apply(step, *with_key).await.with_context(at)? {
            sequence.compare_some().await.with_context(at)?;
        }
    }
    sequence.end().await.context("at the end")
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
            lines_compared: 0,
            balances_compared: 0,
        };
        sequence.price([1, 2, 0, 0], 3).await?;
        sequence.grant([150, 100, 20, 10], Source::Purchase, 10, Starts::AtOnce, Some(300), false).await?;
        Ok(sequence)
    }

    /// When all has come to its end there is nothing left, and the statement says how that came to be.
    async fn end(mut self) -> anyhow::Result<()> {
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
            Step::Grant { credits, source, priority, starts, lasts } => {
                self.grant(credits, source, priority, starts, lasts, with_key).await?;
            }
            Step::Void { lot } => return self.void(lot, with_key).await,
            Step::Adjust { change } => self.adjust(change, with_key).await?,
            Step::Consume { action, quantity } => self.consume(action, quantity, with_key).await?,
            Step::Hold { action, quantity, ttl } => self.hold(action, quantity, ttl, with_key).await?,
            Step::Capture { hold, part } => return self.capture(hold, part, with_key).await,
            Step::Release { hold } => return self.release(hold, with_key).await,
            Step::Extend { hold, ttl } => return self.extend(hold, ttl, with_key).await,
            Step::Refund { spending, part, new_lot_if_over } => {
                return self.refund(spending, part, new_lot_if_over, with_key).await;
            }
            Step::Subscribe { plan, anchor } => self.subscribe(plan, anchor).await?,
            Step::Unsubscribe => self.unsubscribe().await?,
            Step::SetFrozen(frozen) => self.set_frozen(frozen).await?,
            Step::Price { costs, unit } => self.price(costs, unit).await?,
            Step::Clock(jump) => return self.jump(jump).await,
            Step::Sweep => self.sweep().await?,
            Step::Again { request, other } => return self.send_again(request, other).await,
            Step::LookBack { answer } => self.look_back(answer).await?,
        }
        Ok(true)
    }

    /// Sends a request, and remembers it if it had a key and went through.
    async fn send(&mut self, request: Request, with_key: bool) -> anyhow::Result<Result<Reply, Refused>> {
        let name = with_key.then(|| format!("key-{}", self.keys));
        self.keys += 1;
        let answer = request.clone().send(&self.world.store, self.id, name.as_deref().and_then(key)).await;
        match answer {
            Ok(answer) => {
                ensure!(!answer.replayed, "nothing was sent before under this key");
                if let Some(key) = name {
                    self.keyed.push(Keyed { key, request, reply: answer.value.clone() });
                }
                Ok(Ok(answer.value))
            }
            Err(error) => refused(error).map(Err),
        }
    }

    /// An earlier request under its key does nothing and is answered as it was; another one is refused.
    async fn send_again(&mut self, place: Index, other: bool) -> anyhow::Result<bool> {
        let Some(Keyed { key: name, request, reply }) = pick(&self.keyed, place) else { return Ok(false) };
        let request = if other { request.clone().other() } else { request.clone() };
        let answer = request.send(&self.world.store, self.id, key(name)).await;
        if other {
            let code = answer.map_err(refused).err().context("another request was accepted under the key")??.code;
            ensure!(code == "idempotency_mismatch", "another request was refused as {code}");
        } else {
            let answer = answer?;
            ensure!(answer.replayed && answer.value == *reply, "should be {reply:?} again, and was {answer:?}");
        }
        Ok(true)
    }

    async fn grant(
        &mut self,
        credits: Vector,
        source: Source,
        priority: i32,
        starts: Starts,
        lasts: Option<i64>,
        with_key: bool,
    ) -> anyhow::Result<()> {
        let now = self.oracle.now();
        let from = match starts {
            Starts::AtOnce => None,
            Starts::At(half_hours) => Some(now + minutes(half_hours)),
        };
        let until = lasts.map(|half_hours| from.unwrap_or(now) + minutes(half_hours));
        let (name, source) = match source {
            Source::Purchase => ("purchase", GrantSource::Purchase),
            Source::Promotion => ("promotion", GrantSource::Promotion),
        };
        let reference = Some(format!("order {}", self.keys));
        let new = NewGrant {
            credits: of_values(credits),
            source,
            priority,
            effective_at: from,
            expires_at: until,
            reference: reference.clone(),
        };
        let got = self.send(Request::Grant(new), with_key).await?;
        let expected = self.oracle.grant(&OracleGrant { credits, source: name, priority, from, until });
        let Some((place, reply)) = agreed(expected, got)? else { return Ok(()) };
        let Reply::Grant(grant) = reply else { bail!("a grant was answered {reply:?}") };
        self.oracle.lots[place].id = Some(grant.lot.id.uuid());
        ensure!(grant.reference == reference, "the reference is {:?}", grant.reference);
        self.check_lot(place, &grant)
    }

    async fn void(&mut self, lot: Index, with_key: bool) -> anyhow::Result<bool> {
        let places: Vec<_> = (0..self.oracle.lots.len()).collect();
        let Some(place) = pick(&places, lot) else { return Ok(false) };
        let id = self.oracle.lots[*place].id.context("the lot has a name")?;
        let got = self.send(Request::Void(GrantId::new(id)), with_key).await?;
        self.oracle.void(*place);
        let Some(((), reply)) = agreed(Ok(()), got)? else { bail!("both agree to nothing") };
        let Reply::Grant(grant) = reply else { bail!("a void was answered {reply:?}") };
        self.check_lot(*place, &grant)?;
        Ok(true)
    }

    async fn adjust(&mut self, change: Vector, with_key: bool) -> anyhow::Result<()> {
        let got = self.send(Request::Adjust(Delta::from_array(change), "a reason".to_owned()), with_key).await?;
        let Some((lot, reply)) = agreed(self.oracle.adjust(change), got)? else { return Ok(()) };
        let Reply::Adjustment(adjustment) = reply else { bail!("an adjustment was answered {reply:?}") };
        ensure!(adjustment.grant_id.is_some() == lot.is_some(), "the adjustment's lot is {:?}", adjustment.grant_id);
        if let (Some(place), Some(id)) = (lot, adjustment.grant_id) {
            self.oracle.lots[place].id = Some(id.uuid());
        }
        self.check_movement(adjustment.sequence, values(adjustment.available), adjustment.created_at)
    }

    async fn consume(&mut self, action: Action, quantity: i64, with_key: bool) -> anyhow::Result<()> {
        let (name, price, quantity) = self.action(action, quantity);
        let got = self.send(Request::Consume(request(&name, quantity)), with_key).await?;
        let Some((place, reply)) = agreed(self.oracle.consume(price, quantity), got)? else { return Ok(()) };
        self.check_spending(place, reply)
    }

    async fn hold(&mut self, action: Action, quantity: i64, ttl: i64, with_key: bool) -> anyhow::Result<()> {
        let (name, price, quantity) = self.action(action, quantity);
        let ttl_seconds = minutes(ttl).num_seconds();
        let consume = request(&name, quantity);
        let new = NewHold { action: consume.action, quantity: consume.quantity, ttl_seconds, actor: None };
        let got = self.send(Request::Hold(new), with_key).await?;
        let Some((place, reply)) = agreed(self.oracle.hold(price, quantity, ttl_seconds), got)? else { return Ok(()) };
        let Reply::Hold(answer) = &reply else { bail!("a hold was answered {reply:?}") };
        self.oracle.holds[place].id = Some(answer.hold.id.uuid());
        self.check_hold(place, &reply)
    }

    async fn capture(&mut self, hold: Pick, part: Option<i64>, with_key: bool) -> anyhow::Result<bool> {
        let Some((place, id)) = self.pick_hold(hold) else { return Ok(false) };
        let quantity = part.map(|part| hundredths(self.oracle.holds[place].quantity, part));
        let got = self.send(Request::Capture(id, quantity.map(of_quantity)), with_key).await?;
        let Some((place, reply)) = agreed(self.oracle.capture(place, quantity), got)? else { return Ok(true) };
        self.check_spending(place, reply)?;
        Ok(true)
    }

    async fn release(&mut self, hold: Pick, with_key: bool) -> anyhow::Result<bool> {
        let Some((place, id)) = self.pick_hold(hold) else { return Ok(false) };
        let got = self.send(Request::Release(id), with_key).await?;
        let Some(((), reply)) = agreed(self.oracle.release(place), got)? else { return Ok(true) };
        self.check_hold(place, &reply)?;
        Ok(true)
    }

    async fn extend(&mut self, hold: Pick, ttl: i64, with_key: bool) -> anyhow::Result<bool> {
        let Some((place, id)) = self.pick_hold(hold) else { return Ok(false) };
        let ttl_seconds = minutes(ttl).num_seconds();
        let got = self.send(Request::Extend(id, ttl_seconds), with_key).await?;
        let Some(((), reply)) = agreed(self.oracle.extend(place, ttl_seconds), got)? else { return Ok(true) };
        self.check_hold(place, &reply)?;
        Ok(true)
    }

    async fn refund(
        &mut self,
        spending: Index,
        part: Option<i64>,
        new_lot_if_over: bool,
        with_key: bool,
    ) -> anyhow::Result<bool> {
        let places: Vec<_> = (0..self.consumptions.len()).collect();
        let Some(place) = pick(&places, spending).copied() else { return Ok(false) };
        let quantity = part.map(|part| hundredths(self.oracle.spendings[place].quantity, part));
        let new = NewRefund {
            consumption_id: self.consumptions[place],
            quantity: quantity.map(of_quantity),
            reason: "a reason".to_owned(),
            on_expired: if new_lot_if_over { OnExpired::Grant } else { OnExpired::Refuse },
        };
        let got = self.send(Request::Refund(new), with_key).await?;
        let expected = self.oracle.refund(place, quantity, new_lot_if_over);
        let Some((expected, reply)) = agreed(expected, got)? else { return Ok(true) };
        let Reply::Refund(refund) = reply else { bail!("a refund was answered {reply:?}") };
        let same = refund.quantity.get() == expected.quantity
            && values(refund.refunded) == expected.credits
            && refund.grant_id.is_some() == expected.lot.is_some();
        ensure!(same, "the refund should be {expected:?}, and was {refund:?}");
        if let (Some(place), Some(id)) = (expected.lot, refund.grant_id) {
            self.oracle.lots[place].id = Some(id.uuid());
        }
        self.check_movement(refund.sequence, values(refund.available), refund.created_at)?;
        Ok(true)
    }

    async fn subscribe(&mut self, plan: Index, anchor: Anchor) -> anyhow::Result<()> {
        let plan = plan.get(&self.world.plans);
        let anchor = match anchor {
            Anchor::Unsaid => None,
            Anchor::At(half_hours) => Some(self.oracle.now() + minutes(half_hours)),
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
            unit_size: of_quantity(unit),
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

    async fn jump(&mut self, jump: Jump) -> anyhow::Result<bool> {
        let clock = match jump {
            Jump::Micros(micros) => self.clock + TimeDelta::microseconds(micros),
            Jump::HalfHours(half_hours) => self.clock + minutes(half_hours),
            Jump::Days(days) => self.clock + TimeDelta::days(days),
            Jump::ToBoundary(beside) => {
                let Some(boundary) = self.oracle.next_boundary() else { return Ok(false) };
                // A clock that was set back is behind the oracle's now, which is the instant of the last movement.
                (boundary + TimeDelta::microseconds(beside)).max(self.clock)
            }
            Jump::Back(half_hours) => {
                // What a reader was told of boundaries that nobody had booked would not be so any more.
                self.sweep().await?;
                self.clock - minutes(half_hours)
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

    /// The name and the price of an action, and a quantity that is worth while with its unit.
    fn action(&self, action: Action, quantity: i64) -> (String, Option<OraclePrice>, i64) {
        let now = self.oracle.now();
        let (name, price) = match action {
            Action::Chat => ("ai_chat", Some(OraclePrice { costs: [1, 0, 0, 0], unit: 1 })),
            Action::Tokens => ("ai_tokens", Some(OraclePrice { costs: [1, 0, 0, 0], unit: 1_000 })),
            Action::Reply => ("whatsapp_ai_reply", Some(OraclePrice { costs: [1, 1, 0, 0], unit: 1 })),
            Action::Bundle => (super::BUNDLE, Some(super::BUNDLE_PRICE)),
            Action::Unknown => ("nothing", None),
            Action::Own => {
                let begun = self.own_prices.iter().enumerate().filter(|(_, (from, _))| *from <= now);
                let in_force = begun.max_by_key(|(version, (from, _))| (*from, *version));
                (self.own.as_str(), in_force.map(|(_, (_, price))| *price))
            }
        };
        let scale = price.map_or(1, |price| price.unit / 3 + 1);
        (name.to_owned(), price, quantity.saturating_mul(scale).min(MOST))
    }

    fn pick_hold(&self, hold: Pick) -> Option<(usize, HoldId)> {
        let all: Vec<_> = self.oracle.holds.iter().enumerate().collect();
        let open: Vec<_> = all.iter().copied().filter(|(_, hold)| hold.state == OracleHoldState::Open).collect();
        let (place, hold) = match hold {
            Pick::Open(index) => pick(&open, index).or_else(|| pick(&all, index)),
            Pick::Any(index) => pick(&all, index),
        }?;
        Some((*place, HoldId::new(hold.id?)))
    }

    fn check_spending(&mut self, place: usize, reply: Reply) -> anyhow::Result<()> {
        let Reply::Consumption(consumption) = reply else { bail!("a consumption was answered {reply:?}") };
        let Consumption { id, ref request, consumed, ref outcome, created_at, .. } = consumption;
        self.consumptions.push(id);
        let expected = &self.oracle.spendings[place];
        let Outcome::Spent { sequence, available } = *outcome else { bail!("a success was answered {outcome:?}") };
        let same = values(consumed) == expected.cost
            && request.quantity.get() == expected.quantity
            && sequence == expected.sequence;
        ensure!(same, "the consumption should be {expected:?}, and was {consumption:?}");
        self.check_movement(sequence, values(available), created_at)
    }

    /// The last movement is the one that was answered.
    fn check_movement(&self, sequence: i64, available: Vector, at: DateTime<Utc>) -> anyhow::Result<()> {
        let line = self.oracle.lines.last().context("there is a movement")?;
        let (expected, got) = ((line.sequence, line.after.0, line.at), (sequence, available, at));
        ensure!(expected == got, "the answer should be\n  {expected:?}\nand was\n  {got:?}");
        Ok(())
    }
}

fn pick<T>(items: &[T], index: Index) -> Option<&T> {
    (!items.is_empty()).then(|| index.get(items))
}

fn minutes(half_hours: i64) -> TimeDelta {
    TimeDelta::minutes(30 * half_hours)
}

/// So many hundredths of a quantity, at least 1.
fn hundredths(quantity: i64, part: i64) -> i64 {
    let product = i128::from(quantity) * i128::from(part) / 100;
    i64::try_from(product).unwrap_or(MOST).clamp(1, MOST)
}

fn of_quantity(quantity: i64) -> Quantity {
    Quantity::new(quantity).expect("the quantity is in range")
}
