//! Why a request was refused, in the terms of the domain.
//!
//! The codes are part of the public contract: they stand in `code` of a problem body and in `error_code` of a log row.
//! What status each becomes is decided once, where HTTP begins.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::account::Corrupt;
use crate::credit::Credits;

/// What was missing from a balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// What the request costs.
    pub required: Credits,
    /// What the organization could spend.
    pub available: Credits,
    /// What was missing, by type.
    pub shortfall: Credits,
    /// The largest quantity that would have been covered; 0 if none, and always 0 where quantity has no meaning.
    pub max_affordable_quantity: i64,
}

/// A request that the rules refuse. Nothing has changed, except that some refusals are logged ([`Refusal::is_logged`]).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// At least one credit type does not suffice.
    #[error("the balance does not cover the cost")]
    InsufficientCredits(Box<Shortfall>),
    /// The organization may not spend at present.
    #[error("the organization is frozen: it can receive credits but not spend them")]
    OrganizationFrozen,
    /// The organization is closed for good.
    #[error("the organization is closed")]
    OrganizationClosed,
    /// There is no such organization.
    #[error("no such organization")]
    UnknownOrganization,
    /// There is no such action, or it is not active.
    #[error("no such action, or it is not active")]
    UnknownAction,
    /// There is no such grant.
    #[error("no such grant")]
    UnknownGrant,
    /// There is no such consumption.
    #[error("no such consumption")]
    UnknownConsumption,
    /// There is no such hold.
    #[error("no such hold")]
    UnknownHold,
    /// There is no such plan.
    #[error("no such plan")]
    UnknownPlan,
    /// The organization has no subscription.
    #[error("the organization has no subscription")]
    UnknownSubscription,
    /// There is no such top-up.
    #[error("no such top-up")]
    UnknownTopUp,
    /// The top-up was answered by another grant.
    #[error("the top-up was answered by another grant")]
    TopUpGranted,
    /// The hold was captured or released before.
    #[error("the hold was captured or released before")]
    HoldFinalized,
    /// The hold has expired.
    #[error("the hold has expired")]
    HoldExpired,
    /// More would be refunded than was consumed.
    #[error("more would be refunded than was consumed and not refunded yet")]
    OverRefund,
    /// The credits came from lots that have ended, and nobody said that a new lot should take them.
    #[error("the credits came from lots that have ended; `on_expired: grant` makes a new one")]
    LotExpired,
    /// It lies before the organization's history begins: what was there is kept as sums alone.
    #[error("this lies before the history that is kept")]
    BeyondRetention,
    /// A cost or a balance would go beyond the range of an amount.
    #[error("a cost or balance would go beyond 9007199254740991")]
    OutOfRange,
    /// The key was used for another request.
    #[error("the idempotency key was already used for a different request")]
    IdempotencyMismatch,
    /// A field that is well formed but makes no sense at this instant.
    #[error("{field} {message}")]
    InvalidField {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        message: &'static str,
    },
}

impl Refusal {
    /// The stable code of the contract.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InsufficientCredits(_) => "insufficient_credits",
            Self::OrganizationFrozen => "organization_frozen",
            Self::OrganizationClosed => "organization_closed",
            Self::UnknownOrganization => "unknown_organization",
            Self::UnknownAction => "unknown_action",
            Self::UnknownGrant => "unknown_grant",
            Self::UnknownConsumption => "unknown_consumption",
            Self::UnknownHold => "unknown_hold",
            Self::UnknownPlan => "unknown_plan",
            Self::UnknownSubscription => "unknown_subscription",
            Self::UnknownTopUp => "unknown_top_up",
            Self::TopUpGranted => "top_up_granted",
            Self::HoldFinalized => "hold_finalized",
            Self::HoldExpired => "hold_expired",
            Self::OverRefund => "over_refund",
            Self::LotExpired => "lot_expired",
            Self::BeyondRetention => "beyond_retention",
            Self::OutOfRange => "out_of_range",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::InvalidField { .. } => "invalid_request",
        }
    }

    /// Whether a consumption that is refused for this leaves a row with `success = false`.
    pub const fn is_logged(&self) -> bool {
        matches!(self, Self::InsufficientCredits(_) | Self::OrganizationFrozen)
    }
}

/// Why an operation on a book did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denial {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the book was made from makes no sense.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but the one that has a shortfall with it.
    const PLAIN: [Refusal; 19] = [
        Refusal::OrganizationFrozen,
        Refusal::OrganizationClosed,
        Refusal::UnknownOrganization,
        Refusal::UnknownAction,
        Refusal::UnknownGrant,
        Refusal::UnknownConsumption,
        Refusal::UnknownHold,
        Refusal::UnknownPlan,
        Refusal::UnknownSubscription,
        Refusal::UnknownTopUp,
        Refusal::TopUpGranted,
        Refusal::HoldFinalized,
        Refusal::HoldExpired,
        Refusal::OverRefund,
        Refusal::LotExpired,
        Refusal::BeyondRetention,
        Refusal::OutOfRange,
        Refusal::IdempotencyMismatch,
        Refusal::InvalidField { field: "ttl_seconds", message: "must be positive" },
    ];

    fn all() -> Vec<Refusal> {
        let shortfall = Shortfall {
            required: Credits::ZERO,
            available: Credits::ZERO,
            shortfall: Credits::ZERO,
            max_affordable_quantity: 0,
        };
        PLAIN.into_iter().chain([Refusal::InsufficientCredits(Box::new(shortfall))]).collect()
    }

    #[test]
    fn a_code_is_the_name_of_what_was_refused() {
        for refusal in all() {
            let named = format!("{refusal:?}");
            let name = named.split(|end: char| !end.is_alphanumeric()).next().unwrap();
            let words = name.chars().enumerate().flat_map(|(at, letter)| {
                [(at > 0 && letter.is_uppercase()).then_some('_'), Some(letter.to_ascii_lowercase())]
            });
            let code = words.flatten().collect::<String>();
            assert_eq!(refusal.code(), if code == "invalid_field" { "invalid_request" } else { &code });
        }
    }

    #[test]
    fn what_an_organization_could_not_pay_is_logged_and_nothing_else() {
        let logged: Vec<&str> = all().iter().filter(|refusal| refusal.is_logged()).map(Refusal::code).collect();
        assert_eq!(logged, ["organization_frozen", "insufficient_credits"]);
    }
}
