//! What there is to say of the pool of connections.

use super::instrument::{Counter, Histogram};

/// A share of the pool, with connections that no other share can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolShare {
    /// Reads, and writes to catalogues.
    Reads,
    /// What must be looked up before anybody can spend: keys, and names of organizations.
    Reserved,
}

impl PoolShare {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Reads, Self::Reserved];

    /// The share in words of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Reserved => "reserved",
        }
    }
}

/// What waiting for a connection of a share came to.
#[derive(Debug)]
pub struct ShareStats {
    /// How long it took until one was free.
    pub wait: Histogram,
    /// How often none became free in time.
    pub timeouts: Counter,
}

/// What waiting for connections came to, by share.
#[derive(Debug)]
pub struct PoolStats([ShareStats; 2]);

impl Default for PoolStats {
    fn default() -> Self {
        Self(PoolShare::ALL.map(|_| ShareStats { wait: Histogram::of_durations(), timeouts: Counter::default() }))
    }
}

impl PoolStats {
    /// What waiting for a connection of that share came to.
    pub const fn share(&self, share: PoolShare) -> &ShareStats {
        &self.0[share as usize]
    }
}

/// The pool at some instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolGauges {
    /// How many connections there may be.
    pub max: u32,
    /// How many are open.
    pub open: u32,
    /// How many of those nobody uses.
    pub idle: u32,
}
