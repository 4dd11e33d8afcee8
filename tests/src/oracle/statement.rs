//! The statement: a line for everything that happened.

use chrono::{DateTime, Utc};

use super::{Oracle, TYPES, Vector, minus};

/// What a line is about, by its place in the oracle's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// One of [`Oracle::lots`].
    Lot(usize),
    /// One of [`Oracle::holds`].
    Hold(usize),
    /// One of [`Oracle::spendings`].
    Spending(usize),
    /// Nothing that the oracle has a list of.
    Nothing,
}

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub sequence: i64,
    /// The name of the contract.
    pub kind: &'static str,
    /// How much more can be spent, and how much more is held.
    pub change: (Vector, Vector),
    /// What can be spent afterwards, and what is held.
    pub after: (Vector, Vector),
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What it is about.
    pub about: About,
}

impl Oracle {
    /// What can be spent, and what is held.
    pub fn balance(&self) -> (Vector, Vector) {
        (self.available(), self.held())
    }

    /// Writes a line for what has happened since `before` and answers its number.
    pub(super) fn write(
        &mut self,
        kind: &'static str,
        before: (Vector, Vector),
        about: About,
        at: DateTime<Utc>,
    ) -> i64 {
        let after = self.balance();
        let change = (minus(after.0, before.0), minus(after.1, before.1));
        let sequence = self.lines.last().map_or(1, |line| line.sequence + 1);
        self.lines.push(Line { sequence, kind, change, after, at, about });
        sequence
    }

    /// The balance at an instant of the past, with the number of the last movement by then.
    pub fn balance_at(&self, at: DateTime<Utc>) -> (i64, (Vector, Vector)) {
        let mut found = (0, ([0; TYPES], [0; TYPES]));
        for line in self.lines.iter().filter(|line| line.at <= at) {
            found = (line.sequence, line.after);
        }
        found
    }
}
