//! A naive ledger, to hold the real one against.
//!
//! It is written from the rules alone and shares no code with the ledger: no vectors, no laziness, no settlement. Every
//! consumption walks the lots at once, one credit type after the other, and every question looks at every lot. Slow and
//! plain is the point: what it says should be obvious.

use chrono::{DateTime, Utc};

/// How many credit types there are.
pub const TYPES: usize = 4;

/// One lot.
#[derive(Debug, Clone)]
pub struct OracleLot {
    /// What is left of each type.
    pub left: [i64; TYPES],
    /// Lower burns first.
    pub priority: i32,
    /// Whether it was given away.
    pub promotion: bool,
    /// The first instant at which it may be spent.
    pub from: DateTime<Utc>,
    /// The instant from which it may no longer be spent.
    pub until: Option<DateTime<Utc>>,
}

impl OracleLot {
    fn live(&self, at: DateTime<Utc>) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// All lots of one organization, in the order in which they were granted.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// The lots.
    pub lots: Vec<OracleLot>,
}

impl Oracle {
    /// What can be spent at `at`.
    pub fn available(&self, at: DateTime<Utc>) -> [i64; TYPES] {
        let mut sum = [0; TYPES];
        for lot in self.lots.iter().filter(|lot| lot.live(at)) {
            for (total, left) in sum.iter_mut().zip(lot.left) {
                *total += left;
            }
        }
        sum
    }

    /// Spends `cost` at `at`, all of it or nothing, and says whether it did.
    pub fn consume(&mut self, cost: [i64; TYPES], at: DateTime<Utc>) -> bool {
        if self.available(at).iter().zip(cost).any(|(available, cost)| *available < cost) {
            return false;
        }
        let mut order: Vec<usize> = (0..self.lots.len()).filter(|index| self.lots[*index].live(at)).collect();
        // Lots that are alike burn in the order in which they were granted: the sort is stable.
        order.sort_by_key(|index| {
            let lot = &self.lots[*index];
            (lot.priority, lot.until.is_none(), lot.until, !lot.promotion)
        });
        for (credit_type, cost) in cost.into_iter().enumerate() {
            let mut rest = cost;
            for index in &order {
                let left = &mut self.lots[*index].left[credit_type];
                let taken = rest.min(*left);
                *left -= taken;
                rest -= taken;
            }
            assert_eq!(rest, 0, "the sum over live lots covered it");
        }
        true
    }
}
