//! Consumption: THE rule. An action costs a vector of credits, and is paid in full or not at all.

use serde::Serialize;

use crate::account::Account;
use crate::action::{Price, price_at};
use crate::amount::Quantity;
use crate::clock::Timestamp;
use crate::credit::Credits;
use crate::error::{Refusal, Shortfall};
use crate::id::{ConsumptionId, HoldId, OrganizationId};
use crate::metadata::Metadata;
use crate::text::{ActionType, Actor};

/// How far in the past an event may have happened, in days. Only reports use that instant.
pub const MAX_PAST_DAYS: i64 = 35;

/// How far ahead an event may claim to be, in minutes: room for clocks that differ.
pub const MAX_AHEAD_MINUTES: i64 = 5;

/// A consumption as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Consume {
    /// What was done.
    pub action: ActionType,
    /// How often, or how much.
    pub quantity: Quantity,
    /// When it happened, if that was not now. Only reports use it.
    pub occurred_at: Option<Timestamp>,
    /// What the caller wants to remember.
    pub metadata: Option<Metadata>,
    /// Who caused it.
    pub actor: Option<Actor>,
}

/// How an attempt to consume ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The credits were spent.
    Spent {
        /// The movement's number.
        sequence: i64,
        /// What could be spent afterwards.
        available: Credits,
    },
    /// Nothing was spent; the code says why.
    Refused {
        /// [`Refusal::code`].
        error_code: String,
    },
}

/// An attempt to consume, as it is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumption {
    /// Its id.
    pub id: ConsumptionId,
    /// Whose credits.
    pub organization_id: OrganizationId,
    /// What was asked for.
    pub request: Consume,
    /// The hold that it was captured from.
    pub hold_id: Option<HoldId>,
    /// What was spent: the cost, or nothing where it was refused.
    pub consumed: Credits,
    /// The price version that was charged; `None` where it was refused before a price was known.
    pub price_version: Option<i32>,
    /// How it ended.
    pub outcome: Outcome,
    /// The movement's instant.
    pub created_at: Timestamp,
}

/// What a consumption would cost, and whether it would be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Whether it would succeed at this instant.
    pub allowed: bool,
    /// The cost, what could be spent, what is missing, and the largest affordable quantity.
    pub terms: Shortfall,
}

/// What was decided about an attempt: the price version it was judged by, and the verdict.
pub type Verdict = (Option<i32>, Result<Spent, Refusal>);

/// Credits that were spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The movement's number.
    pub sequence: i64,
    /// The cost.
    pub consumed: Credits,
    /// What could be spent afterwards.
    pub available: Credits,
}

/// Decides a consumption at `at` and spends it. `prices` are all versions of the action's price, none where there is no
/// such action. The account must not be due at `at`.
///
/// The order of the checks is part of the rule: an action that does not exist is unknown to everybody, then the
/// organization's status speaks, then the balance.
pub fn consume(account: &mut Account, prices: &[Price], quantity: Quantity, at: Timestamp) -> Verdict {
    let price = match price_at(prices, at) {
        Ok(price) => price,
        Err(refusal) => return (None, Err(refusal)),
    };
    (Some(price.version), spend(account, price, quantity, at))
}

fn spend(account: &mut Account, price: &Price, quantity: Quantity, at: Timestamp) -> Result<Spent, Refusal> {
    let cost = price.cost(quantity)?;
    account.status.may_spend()?;
    match account.spend(cost, at) {
        Ok(sequence) => Ok(Spent { sequence, consumed: cost, available: account.available }),
        Err(shortfall) => {
            let max_affordable_quantity = price.max_affordable_quantity(shortfall.available);
            Err(Refusal::InsufficientCredits(Box::new(Shortfall { max_affordable_quantity, ..shortfall })))
        }
    }
}

/// What a consumption would cost at `at`. The account must be settled; nothing changes.
pub fn quote(account: &Account, prices: &[Price], quantity: Quantity, at: Timestamp) -> Result<Quote, Refusal> {
    let price = price_at(prices, at)?;
    let required = price.cost(quantity)?;
    let available = account.available;
    let shortfall = required.saturating_sub(available);
    Ok(Quote {
        allowed: account.status.may_spend().is_ok() && shortfall.is_zero(),
        terms: Shortfall {
            required,
            available,
            shortfall,
            max_affordable_quantity: price.max_affordable_quantity(available),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::credit::CreditType;

    #[test]
    fn a_refusal_says_what_is_missing_and_what_could_be_had() {
        let now = Timestamp::UNIX_EPOCH;
        let ai = |value| Credits::of(CreditType::Ai, Amount::new(value).unwrap());
        let mut account = Account { available: ai(7), ..Account::open(OrganizationId::MIN, now) };
        let price = Price {
            version: 3,
            costs: ai(2),
            unit_size: Quantity::ONE,
            active: true,
            effective_at: now,
            description: None,
        };
        let (version, refused) = consume(&mut account, &[price], Quantity::new(5).unwrap(), now);
        let expected = Shortfall { required: ai(10), available: ai(7), shortfall: ai(3), max_affordable_quantity: 3 };
        assert_eq!(version, Some(3));
        assert_eq!(refused, Err(Refusal::InsufficientCredits(Box::new(expected))));
        assert_eq!(account.available, ai(7));
    }
}
