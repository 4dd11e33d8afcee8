//! Refunds: what was spent goes back to the lots that it was drawn from, as far as they are still there.

use super::{About, Oracle, Refused, Spending, TYPES, Vector, minus, plus, smaller};

/// What was drawn from which lot by consumptions that belong together, or by a capture.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    draws: Vec<Draw>,
}

#[derive(Debug, Clone)]
struct Draw {
    lot: usize,
    drawn: Vector,
    returned: Vector,
}

/// A refund that went through.
#[derive(Debug, Clone)]
pub struct OracleRefund {
    /// How much of the quantity.
    pub quantity: i64,
    /// What it had cost.
    pub credits: Vector,
    /// The place of the new lot, if there is one.
    pub lot: Option<usize>,
}

impl Group {
    /// Adds to what was drawn from a lot.
    pub(super) fn add(&mut self, lot: usize, amount: Vector) {
        for draw in &mut self.draws {
            if draw.lot == lot {
                draw.drawn = plus(draw.drawn, amount);
                return;
            }
        }
        self.draws.push(Draw { lot, drawn: amount, returned: [0; TYPES] });
    }

    /// Marks as returned what it can of `rest` to that lot, takes it from `rest`, and answers how much it was.
    fn give_back(&mut self, lot: usize, rest: &mut Vector) -> Vector {
        let mut given = [0; TYPES];
        for draw in self.draws.iter_mut().filter(|draw| draw.lot == lot) {
            given = smaller(*rest, minus(draw.drawn, draw.returned));
            draw.returned = plus(draw.returned, given);
            *rest = minus(*rest, given);
        }
        given
    }
}

impl Oracle {
    /// Gives a spending back, or a quantity of it. What came from lots that are over is refused, or becomes a new lot.
    ///
    /// # Panics
    ///
    /// If its group would give back more than it drew.
    pub fn refund(
        &mut self,
        place: usize,
        quantity: Option<i64>,
        new_lot_if_over: bool,
    ) -> Result<OracleRefund, Refused> {
        self.settle();
        let Spending { price, group, quantity: all, refunded, .. } = self.spendings[place];
        let kept_before = all - refunded;
        let quantity = quantity.unwrap_or(kept_before);
        if quantity > kept_before || quantity == 0 {
            return Err(Refused::because("over_refund"));
        }
        let credits = minus(price.cost(kept_before)?, price.cost(kept_before - quantity)?);

        let mut after = self.groups[group].clone();
        let mut rest = credits;
        let mut returns = Vec::new();
        let order = self.burn_order();
        for lot in order.iter().rev().filter(|lot| !self.lots[**lot].is_over()) {
            returns.push((*lot, after.give_back(*lot, &mut rest)));
        }
        let homeless = rest;
        if homeless != [0; TYPES] && !new_lot_if_over {
            return Err(Refused::because("lot_expired"));
        }
        for lot in order.iter().rev().filter(|lot| self.lots[**lot].is_over()) {
            after.give_back(*lot, &mut rest);
        }
        assert_eq!(rest, [0; TYPES], "no more is given back than the group drew");
        self.check_room_for(credits)?;

        let before = self.balance();
        self.groups[group] = after;
        for (lot, amount) in returns {
            self.put_back(lot, amount);
        }
        let lot = (homeless != [0; TYPES]).then(|| self.add_lot(homeless, "refund", self.now));
        self.spendings[place].refunded += quantity;
        self.write("refund", before, About::Spending(place), self.now);
        self.settle();
        Ok(OracleRefund { quantity, credits, lot })
    }

    /// Refuses to give back what history knows no more. It is an operation all the same, before which the ledger settles.
    pub fn refund_beyond_history(&mut self) {
        self.settle();
    }
}
