//! Movements: the ledger's lines.
//!
//! Whatever changes a balance is a movement with the organization's next sequence number, dense from 1, whatever table
//! it is stored in: consumptions are stored as log rows, everything else as rows of `credit_movements`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::Balance;
use crate::clock::Timestamp;
use crate::credit::Delta;

/// What a movement was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// Credits were granted; a grant that starts later changes nothing yet.
    Grant,
    /// A grant that was to start later has started.
    Activation,
    /// A grant ended, and what was left of it went.
    Expiry,
    /// What was left of a grant was taken back.
    Void,
    /// A correction, with a reason.
    Adjustment,
    /// Credits were spent.
    Consumption,
    /// What was spent was given back.
    Refund,
    /// Credits were set aside.
    Hold,
    /// Credits that had been set aside were spent; the rest came back.
    Capture,
    /// Credits that had been set aside came back.
    Release,
    /// Credits that had been set aside came back because the time was over.
    HoldExpiry,
    /// A plan's period began.
    PeriodGrant,
}

impl MovementKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Grant,
        Self::Activation,
        Self::Expiry,
        Self::Void,
        Self::Adjustment,
        Self::Consumption,
        Self::Refund,
        Self::Hold,
        Self::Capture,
        Self::Release,
        Self::HoldExpiry,
        Self::PeriodGrant,
    ];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Activation => "activation",
            Self::Expiry => "expiry",
            Self::Void => "void",
            Self::Adjustment => "adjustment",
            Self::Consumption => "consumption",
            Self::Refund => "refund",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Release => "release",
            Self::HoldExpiry => "hold_expiry",
            Self::PeriodGrant => "period_grant",
        }
    }

    /// The kind of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A change of the two sides of a balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// What can be spent.
    pub available: Delta,
    /// What open holds have set aside.
    pub held: Delta,
}

/// One line of an organization's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// Its number within the organization, dense from 1.
    pub sequence: i64,
    /// What it was.
    pub kind: MovementKind,
    /// What it changed.
    pub change: Change,
    /// The balance after it.
    pub balance_after: Balance,
    /// The grant, hold or consumption that it is about.
    pub reference: Option<Uuid>,
    /// A reason given by a person.
    pub note: Option<String>,
    /// Its instant; never decreases with the sequence.
    pub created_at: Timestamp,
}
