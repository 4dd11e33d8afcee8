//! What is asked of the real ledger, how the oracle is asked the same, and whether both say the same.

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use multicredit_domain::consume::Outcome;
use multicredit_domain::{
    Consumption, Delta, GrantId, GrantSource, HoldId, NewGrant, NewHold, NewRefund, OnExpired, Quantity,
};
use tests::fixtures::{of_values, request, values};
use tests::oracle::{MOST, OracleGrant, OracleHoldState, OraclePrice, Refused, Vector};

use super::requests::{Reply, Request, agreed};
use super::sequence::{Sequence, on_the_clock, pick};
use super::step::{Action, Pick, Question, Source, Starts, Until};

/// A question as the oracle understands it.
#[derive(Clone)]
pub enum Asked {
    Grant(OracleGrant, Option<String>),
    Void(usize),
    Adjust(Vector),
    Consume(Option<OraclePrice>, i64),
    Hold(Option<OraclePrice>, i64, i64),
    Capture(usize, Option<i64>),
    Release(usize),
    Extend(usize, i64),
    Refund(usize, Option<i64>, bool),
}

impl Sequence<'_> {
    /// The same question for both; `None` if there is nothing yet that it could be about.
    pub(super) fn prepare(&self, question: &Question) -> anyhow::Result<Option<(Request, Asked)>> {
        Ok(Some(match *question {
            Question::Grant { credits, source, priority, starts, lasts } => {
                self.prepare_grant(credits, source, priority, starts, lasts)
            }
            Question::Void { lot } => {
                let places: Vec<_> = (0..self.oracle.lots.len()).collect();
                let Some(place) = pick(&places, lot).copied() else { return Ok(None) };
                let id = self.oracle.lots[place].id.context("the lot has a name")?;
                (Request::Void(GrantId::new(id)), Asked::Void(place))
            }
            Question::Adjust { change } => {
                (Request::Adjust(Delta::from_array(change), "a reason".to_owned()), Asked::Adjust(change))
            }
            Question::Consume { action, quantity } => {
                let (name, price, quantity) = self.action(action, quantity);
                (Request::Consume(request(&name, quantity)), Asked::Consume(price, quantity))
            }
            Question::Hold { action, quantity, until } => {
                let (name, price, quantity) = self.action(action, quantity);
                let ttl_seconds = self.ttl_seconds(until);
                let consume = request(&name, quantity);
                let new = NewHold { action: consume.action, quantity: consume.quantity, ttl_seconds, actor: None };
                (Request::Hold(new), Asked::Hold(price, quantity, ttl_seconds))
            }
            Question::Capture { hold, part } => {
                let Some((place, id)) = self.pick_hold(hold) else { return Ok(None) };
                let quantity = part.map(|part| hundredths(self.oracle.holds[place].quantity, part));
                (Request::Capture(id, quantity.map(of_quantity)), Asked::Capture(place, quantity))
            }
            Question::Release { hold } => {
                let Some((place, id)) = self.pick_hold(hold) else { return Ok(None) };
                (Request::Release(id), Asked::Release(place))
            }
            Question::Extend { hold, until } => {
                let Some((place, id)) = self.pick_hold(hold) else { return Ok(None) };
                let ttl_seconds = self.ttl_seconds(until);
                (Request::Extend(id, ttl_seconds), Asked::Extend(place, ttl_seconds))
            }
            Question::Refund { spending, part, new_lot_if_over } => {
                let places: Vec<_> = (0..self.consumptions.len()).collect();
                let Some(place) = pick(&places, spending).copied() else { return Ok(None) };
                let quantity = part.map(|part| hundredths(self.oracle.spendings[place].quantity, part));
                let new = NewRefund {
                    consumption_id: self.consumptions[place],
                    quantity: quantity.map(of_quantity),
                    reason: "a reason".to_owned(),
                    on_expired: if new_lot_if_over { OnExpired::Grant } else { OnExpired::Refuse },
                };
                (Request::Refund(new), Asked::Refund(place, quantity, new_lot_if_over))
            }
        }))
    }

    fn prepare_grant(
        &self,
        credits: Vector,
        source: Source,
        priority: i32,
        starts: Starts,
        lasts: Option<i64>,
    ) -> (Request, Asked) {
        let now = self.oracle.now();
        let from = match starts {
            Starts::AtOnce => None,
            Starts::At(half_hours) => Some(on_the_clock(now, half_hours)),
        };
        let until = lasts.map(|half_hours| on_the_clock(from.unwrap_or(now), half_hours));
        let (name, source) = match source {
            Source::Purchase => ("purchase", GrantSource::Purchase),
            Source::Promotion => ("promotion", GrantSource::Promotion),
        };
        let reference = Some(format!("order {}", self.oracle.lots.len()));
        let new = NewGrant {
            credits: of_values(credits),
            source,
            priority,
            effective_at: from,
            expires_at: until,
            reference: reference.clone(),
            top_up_id: None,
        };
        let asked = OracleGrant { credits, source: name, priority, from, until };
        (Request::Grant(new), Asked::Grant(asked, reference))
    }

    /// Asks the oracle, and holds what the real ledger answered against that.
    pub(super) fn judge(&mut self, asked: &Asked, got: Result<Reply, Refused>) -> anyhow::Result<()> {
        match *asked {
            Asked::Grant(ref new, ref reference) => {
                let Some((place, reply)) = agreed(self.oracle.grant(new), got)? else { return Ok(()) };
                let Reply::Grant(grant) = reply else { bail!("a grant was answered {reply:?}") };
                self.oracle.lots[place].id = Some(grant.lot.id.uuid());
                ensure!(grant.reference == *reference, "the reference is {:?}", grant.reference);
                self.check_lot(place, &grant)
            }
            Asked::Void(place) => {
                self.oracle.void(place);
                let Some(((), reply)) = agreed(Ok(()), got)? else { return Ok(()) };
                let Reply::Grant(grant) = reply else { bail!("a void was answered {reply:?}") };
                self.check_lot(place, &grant)
            }
            Asked::Adjust(change) => {
                let Some((lot, reply)) = agreed(self.oracle.adjust(change), got)? else { return Ok(()) };
                let Reply::Adjustment(adjustment) = reply else { bail!("an adjustment was answered {reply:?}") };
                self.name_lot(lot, adjustment.grant_id)?;
                self.check_movement(adjustment.sequence, values(adjustment.available), adjustment.created_at)
            }
            Asked::Consume(price, quantity) => {
                let Some((place, reply)) = agreed(self.oracle.consume(price, quantity), got)? else { return Ok(()) };
                self.check_spending(place, reply)
            }
            Asked::Hold(price, quantity, ttl_seconds) => {
                let expected = self.oracle.hold(price, quantity, ttl_seconds);
                let Some((place, reply)) = agreed(expected, got)? else { return Ok(()) };
                let Reply::Hold(answer) = &reply else { bail!("a hold was answered {reply:?}") };
                self.oracle.holds[place].id = Some(answer.hold.id.uuid());
                self.check_hold(place, &reply)
            }
            Asked::Capture(place, quantity) => {
                let Some((place, reply)) = agreed(self.oracle.capture(place, quantity), got)? else { return Ok(()) };
                self.check_spending(place, reply)
            }
            Asked::Release(place) => {
                let Some(((), reply)) = agreed(self.oracle.release(place), got)? else { return Ok(()) };
                self.check_hold(place, &reply)
            }
            Asked::Extend(place, ttl_seconds) => {
                let Some(((), reply)) = agreed(self.oracle.extend(place, ttl_seconds), got)? else { return Ok(()) };
                self.check_hold(place, &reply)
            }
            Asked::Refund(place, quantity, new_lot_if_over) => {
                if self.spent_at(place) < self.begins {
                    self.oracle.refund_beyond_history();
                    // The log knows it no more; by its id, which is of the machine's time, it may never have been.
                    let code = got.err().context("something of before history was refunded")?.code;
                    ensure!(["beyond_retention", "unknown_consumption"].contains(&code), "was refused as {code}");
                    return Ok(());
                }
                let expected = self.oracle.refund(place, quantity, new_lot_if_over);
                let Some((expected, reply)) = agreed(expected, got)? else { return Ok(()) };
                let Reply::Refund(refund) = reply else { bail!("a refund was answered {reply:?}") };
                let same = refund.quantity.get() == expected.quantity && values(refund.refunded) == expected.credits;
                ensure!(same, "the refund should be {expected:?}, and was {refund:?}");
                self.name_lot(expected.lot, refund.grant_id)?;
                self.check_movement(refund.sequence, values(refund.available), refund.created_at)
            }
        }
    }

    /// Tells the oracle the name of a lot that came with something else, if one should have.
    fn name_lot(&mut self, expected: Option<usize>, got: Option<GrantId>) -> anyhow::Result<()> {
        ensure!(expected.is_some() == got.is_some(), "the new lot should be {expected:?}, and was {got:?}");
        if let (Some(place), Some(id)) = (expected, got) {
            self.oracle.lots[place].id = Some(id.uuid());
        }
        Ok(())
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

    /// For how long a hold lasts until then: whole seconds, a second at least and a day at most.
    fn ttl_seconds(&self, until: Until) -> i64 {
        let now = self.oracle.now();
        let end = match until {
            Until::HalfHour(half_hours) => on_the_clock(now, half_hours),
            Until::NextLotEnds => self.oracle.expiring_next().map_or(now, |(_, at)| at),
        };
        (end - now).num_seconds().clamp(1, 24 * 60 * 60)
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

/// So many hundredths of a quantity, at least 1.
fn hundredths(quantity: i64, part: i64) -> i64 {
    let product = i128::from(quantity) * i128::from(part) / 100;
    i64::try_from(product).unwrap_or(MOST).clamp(1, MOST)
}

fn of_quantity(quantity: i64) -> Quantity {
    Quantity::new(quantity).expect("the quantity is in range")
}
