//! How many connections there are and may be.
//!
//! A connection costs tens of kilobytes and a file descriptor, whatever is asked over it. Beyond a bound they are told
//! that there are too many; beyond a second one, of those that are just being told, they are closed without a word.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use multicredit_store::clock;
use multicredit_store::stats::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{CONNECTIONS_DEFAULT, PROBES_MAX, TURNED_AWAY_MAX};

/// How often the log says that connections are turned away, in seconds.
const WARN_EVERY: i64 = 60;

/// The connections of a process. Its clones count the same ones.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    max: NonZeroU32,
    places: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    turned_away: Counter,
    warned_at: AtomicI64,
}

/// That a connection is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "what counts is that it is held")] OwnedSemaphorePermit);

impl Default for Connections {
    fn default() -> Self {
        Self::new(CONNECTIONS_DEFAULT)
    }
}

impl Connections {
    /// So many at once.
    pub fn new(max: NonZeroU32) -> Self {
        let semaphore = |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Counted {
            max,
            places: semaphore(usize::try_from(max.get()).unwrap_or(usize::MAX)),
            probes: semaphore(PROBES_MAX),
            turns: semaphore(TURNED_AWAY_MAX),
            turned_away: Counter::default(),
            warned_at: AtomicI64::new(0),
        }))
    }

    /// How many there may be.
    pub fn max(&self) -> u32 {
        self.0.max.get()
    }

    /// How many are served.
    pub fn open(&self) -> u32 {
        let free = u32::try_from(self.0.places.available_permits()).unwrap_or(u32::MAX);
        self.max().saturating_sub(free)
    }

    /// How many were turned away.
    pub fn turned_away(&self) -> u64 {
        self.0.turned_away.get()
    }

    /// Whether there is no place left for another.
    pub(super) fn are_scarce(&self) -> bool {
        self.0.places.available_permits() == 0
    }

    pub(super) fn place(&self) -> Option<Place> {
        Arc::clone(&self.0.places).try_acquire_owned().ok().map(Place)
    }

    /// A place beside the others, for somebody who only asks how the process is.
    pub(super) fn place_of_probe(&self) -> Option<Place> {
        Arc::clone(&self.0.probes).try_acquire_owned().ok().map(Place)
    }

    /// Counts one that is turned away. None where too many are being told already.
    pub(super) fn turn_away(&self) -> Option<Place> {
        self.0.turned_away.increment();
        let now = clock::now().timestamp();
        let warned_at = self.0.warned_at.load(Ordering::Relaxed);
        if now - warned_at >= WARN_EVERY {
            self.0.warned_at.store(now, Ordering::Relaxed);
            tracing::warn!(max = self.max(), "connections are turned away: there are too many");
        }
        Arc::clone(&self.0.turns).try_acquire_owned().ok().map(Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_while_they_are_held() {
        let connections = Connections::new(NonZeroU32::new(2).unwrap());
        let held = [connections.place(), connections.place()];
        assert!(held.iter().all(Option::is_some) && connections.place().is_none());
        assert_eq!((connections.open(), connections.are_scarce()), (2, true));
        drop(held);
        assert_eq!((connections.open(), connections.are_scarce()), (0, false));
    }

    #[test]
    fn no_more_are_told_than_may_be() {
        let connections = Connections::default();
        let told: Vec<_> = (0..=TURNED_AWAY_MAX).map(|_| connections.turn_away()).collect();
        assert_eq!(told.iter().flatten().count(), TURNED_AWAY_MAX);
        assert_eq!(connections.turned_away(), u64::try_from(TURNED_AWAY_MAX).unwrap() + 1);
    }
}
