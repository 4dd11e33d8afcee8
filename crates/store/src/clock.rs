//! The one place that asks this machine for the time and for identities.
//!
//! Everything else gets them as arguments. On PostgreSQL the machine's clock decides nothing: the database's time,
//! read under the row lock, does (`docs/adr/0003-time.md`). On SQLite the machine is the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use multicredit_domain::Timestamp;
use multicredit_domain::clock::to_micros;
use uuid::Uuid;

/// The clock that a store decides by: the database's, or one that is moved by hand, for tests of what time does.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Microseconds since 1970, if this clock is moved by hand.
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// A clock that stands still until it is set. Its clones are the same clock.
    pub fn manual(at: Timestamp) -> Self {
        Self { manual: Some(Arc::new(AtomicI64::new(at.timestamp_micros()))) }
    }

    /// Sets a clock that is moved by hand; any other stays as it is.
    pub fn set(&self, at: Timestamp) {
        if let Some(manual) = &self.manual {
            manual.store(at.timestamp_micros(), Ordering::SeqCst);
        }
    }

    /// The instant to decide by, where the database's clock showed `database`, or has none and is this machine.
    pub(crate) fn instant(&self, database: Option<Timestamp>) -> Timestamp {
        self.manual_instant().or(database).unwrap_or_else(now)
    }

    /// What a clock shows that is moved by hand; `None` for any other.
    pub(crate) fn manual_instant(&self) -> Option<Timestamp> {
        let manual = self.manual.as_ref().map(|manual| manual.load(Ordering::SeqCst));
        manual.and_then(Timestamp::from_timestamp_micros)
    }
}

/// What this machine's clock shows, in whole microseconds.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
pub fn now() -> Timestamp {
    to_micros(chrono::Utc::now())
}

/// A new UUIDv7, larger than those made before it in this process.
#[expect(clippy::disallowed_methods, reason = "the one place that makes identities")]
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}
