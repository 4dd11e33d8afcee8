//! What goes wrong, in an order that a seed decides, so that a run can be had again.

use std::str::FromStr;

/// Random numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of that seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below that one, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).unwrap_or_default()
    }

    /// In another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Something that goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $variant,)+
        }

        impl Fault {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in the list of faults of a run.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

faults! {
    /// SIGKILL of a server, and a new one.
    KillApi = "kill_api",
    /// SIGSTOP of a server, and SIGCONT.
    PauseApi = "pause_api",
    /// SIGTERM of a server under load, and a new one.
    TerminateApi = "terminate_api",
    /// SIGKILL of PostgreSQL, and a restart.
    KillPostgres = "kill_postgres",
    /// Connections of the ledger are cut before their commit is passed on.
    CutBeforeCommit = "cut_before_commit",
    /// Connections of the ledger are cut after PostgreSQL has committed and before it says so.
    CutAfterCommit = "cut_after_commit",
    /// Connections of the ledger are cut in the middle of a batch.
    CutMidBatch = "cut_mid_batch",
    /// Nothing gets through to PostgreSQL or back.
    Partition = "partition",
    /// Every message to PostgreSQL and back is late.
    Delay = "delay",
    /// Others keep the disk busy with syncs.
    SlowDisk = "slow_disk",
    /// More readers than connections.
    ExhaustPool = "exhaust_pool",
    /// Clients that go away while they are served.
    ResetClients = "reset_clients",
    /// Redis stands still for a while.
    PauseRedis = "pause_redis",
    /// Redis forgets everything.
    FlushRedis = "flush_redis",
    /// Everything in Redis is replaced with nonsense.
    LyingRedis = "lying_redis",
    /// Redis is killed and stays away.
    KillRedis = "kill_redis",
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name).ok_or_else(|| format!("no fault is named {name}"))
    }
}
