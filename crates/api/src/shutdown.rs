//! How the server ends: not ready, then no new connections, then what is in hand, then the database.
//!
//! Whoever stopped the process kills it when its patience ends, which is 30 seconds at most of them. So everything
//! together stays below that, each phase has its share, and what a phase does not use is lost to nobody.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// From the signal to the end of the process: below the 30 s after which most supervisors kill.
pub const TOTAL: Duration = Duration::from_secs(25);

/// What is kept of [`TOTAL`] for the writer to finish its queue and for the connections to close. A batch takes
/// milliseconds; this is for a database that has become slow.
pub const CLOSE: Duration = Duration::from_secs(5);

/// The longest that serving may go on after the signal, in milliseconds: half of what is left for requests.
pub const DELAY_MS_MAX: u64 = 10_000;

/// How long requests may take after the last connection was accepted.
pub const fn drain_timeout(delay: Duration) -> Duration {
    TOTAL.saturating_sub(CLOSE).saturating_sub(delay)
}

/// The signals that ask for an end: SIGTERM of a supervisor, SIGINT of a terminal.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over. From now on they do not end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one and answers its name.
    pub async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delay_leaves_time_for_requests_and_the_phases_fit_into_the_total() {
        for delay in [Duration::ZERO, Duration::from_millis(DELAY_MS_MAX)] {
            let drain = drain_timeout(delay);
            assert!(drain >= Duration::from_secs(10), "{drain:?} after {delay:?}");
            assert_eq!(delay + drain + CLOSE, TOTAL);
        }
    }
}
