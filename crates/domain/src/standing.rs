//! A balance that can be carried forward.
//!
//! Whoever shows balances again and again need not read the lots each time: between two boundaries spending changes
//! nothing but what is available, and what expires next follows from the live lots and that (`book` says why). A
//! standing is as much of a book as that takes. It decides nothing: movements are decided from the database alone.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Balance, Corrupt};
use crate::book::{Book, Expiring, Pages};
use crate::clock::Timestamp;
use crate::credit::Credits;
use crate::grant::{GrantState, Lot};

/// An account and its live lots, settled at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    account: Account,
    /// The live lots in burn order, as of the settlement.
    lots: Vec<Lot>,
    as_of: Timestamp,
}

/// Consumptions of one organization, one right after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spending {
    /// How many.
    pub count: i64,
    /// The number of the last one.
    pub sequence: i64,
    /// What could be spent after it.
    pub available: Credits,
    /// When it was.
    pub at: Timestamp,
}

impl Standing {
    /// The standing of a book that is settled to `as_of`.
    pub fn of(book: &Book, as_of: Timestamp) -> Self {
        let lots = book.lots().iter().filter(|lot| lot.state == GrantState::Active).cloned().collect();
        Self { account: book.account.clone(), lots, as_of }
    }

    /// The number of the last movement that it contains.
    pub const fn sequence(&self) -> i64 {
        self.account.sequence
    }

    /// The instant of which it is true.
    pub const fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// The earliest instant at which it stops being true by itself.
    pub const fn next_boundary_at(&self) -> Option<Timestamp> {
        self.account.next_boundary_at
    }

    /// The balance.
    pub const fn balance(&self) -> Balance {
        self.account.balance()
    }

    /// The same after that spending; `None` if the spending does not follow it without a gap.
    #[must_use]
    pub fn after(&self, spending: &Spending) -> Option<Self> {
        if self.account.sequence.checked_add(spending.count) != Some(spending.sequence)
            || self.account.is_due(spending.at)
        {
            return None;
        }
        let mut next = self.clone();
        next.account.sequence = spending.sequence;
        next.account.available = spending.available;
        next.account.last_movement_at = spending.at;
        next.as_of = self.as_of.max(spending.at);
        Some(next)
    }

    /// What expires next, and when.
    pub fn expiring_next(&self) -> Result<Option<Expiring>, Corrupt> {
        let mut book = Book::new(self.account.clone(), Pages { lots: self.lots.clone(), ..Pages::default() });
        book.settle(self.as_of)?;
        Ok(book.expiring_next())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::grant::{GrantSource, NewGrant};
    use crate::id::{GrantId, OrganizationId};

    fn instant(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn ai(amount: i64) -> Credits {
        let mut credits = Credits::ZERO;
        credits[crate::CreditType::Ai] = crate::Amount::new(amount).unwrap();
        credits
    }

    fn book() -> Book {
        let mut book = Book::new(Account::open(OrganizationId::new(Uuid::nil()), instant(0)), Pages::default());
        for (id, amount, ends) in [(1, 10, Some(100)), (2, 50, None)] {
            let new = NewGrant {
                credits: ai(amount),
                source: GrantSource::Purchase,
                priority: 10,
                effective_at: None,
                expires_at: ends.map(instant),
                reference: None,
                top_up_id: None,
            };
            book.grant(GrantId::new(Uuid::from_u128(id)), &new, instant(1)).unwrap();
        }
        book
    }

    #[test]
    fn spending_carries_it_forward_as_the_book_itself_would_go() {
        let mut book = book();
        let standing = Standing::of(&book, instant(2));
        assert_eq!(standing.next_boundary_at(), Some(instant(100)));
        assert_eq!(standing.expiring_next().unwrap(), Some(Expiring { credits: ai(10), at: instant(100) }));
        for (number, cost) in [(1, 4), (2, 3)] {
            book.account.spend(ai(cost), instant(2 + number)).unwrap();
        }
        let spending =
            Spending { count: 2, sequence: book.account.sequence, available: book.account.available, at: instant(4) };
        let carried = standing.after(&spending).unwrap();
        book.settle(instant(4)).unwrap();
        assert_eq!(carried.balance(), book.account.balance());
        assert_eq!(carried.sequence(), book.account.sequence);
        assert_eq!(carried.expiring_next().unwrap(), book.expiring_next());
        assert_eq!(carried.expiring_next().unwrap(), Some(Expiring { credits: ai(3), at: instant(100) }));
    }

    #[test]
    fn a_gap_an_old_spending_and_a_boundary_end_it() {
        let standing = Standing::of(&book(), instant(2));
        let spending = |count, sequence, at| Spending { count, sequence, available: ai(1), at: instant(at) };
        assert_eq!(standing.after(&spending(1, 4, 5)), None);
        assert_eq!(standing.after(&spending(1, 2, 5)), None);
        assert!(standing.after(&spending(1, 3, 99)).is_some());
        assert_eq!(standing.after(&spending(1, 3, 100)), None);
    }
}
