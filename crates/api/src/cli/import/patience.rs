//! How long a failure is borne that may pass by itself: a full queue, a database that restarts.
//!
//! Whatever an import sends has an idempotency key, so it can all be sent again, even what may have arrived.

use std::time::Duration;

use multicredit_store::StoreError;
use tokio::time::{Instant, sleep};

/// Without any progress for this long, an import ends. A database takes seconds to restart or to fail over; whoever
/// waits longer wants to be told.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a database that is back should not find us asleep.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether the same again may succeed.
pub fn may_pass(error: &StoreError) -> bool {
    match error {
        StoreError::Busy
        | StoreError::OrganizationBusy
        | StoreError::OutcomeUnknown { .. }
        | StoreError::Unavailable(_) => true,
        StoreError::Refused(_) | StoreError::Conflict(_) | StoreError::NotFound | StoreError::Internal(_) => false,
    }
}

/// What is left of it.
#[derive(Debug)]
pub struct Patience {
    since: Instant,
    pause: Duration,
}

impl Patience {
    /// All of it.
    pub fn new() -> Self {
        Self { since: Instant::now(), pause: FIRST_PAUSE }
    }

    /// Waits before the next attempt; an error that does not pass, or not in time, comes back.
    pub async fn wait(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !may_pass(&error) || self.since.elapsed() >= GIVE_UP_AFTER {
            return Err(error);
        }
        tracing::warn!(%error, pause = ?self.pause, "trying again");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Does it until it succeeds, fails for good, or patience ends.
pub async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut patience = Patience::new();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => patience.wait(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use multicredit_domain::Refusal;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for() {
        let mut failures = vec![StoreError::Busy, StoreError::Unavailable("restarting".to_owned())];
        let done = patiently(async || failures.pop().map_or(Ok(7), Err)).await;
        assert_eq!(done.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_ends_at_once_or_when_patience_does() {
        let began = Instant::now();
        let refused = patiently(async || Err::<(), _>(Refusal::UnknownAction.into())).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))));
        assert_eq!(began.elapsed(), Duration::ZERO);

        let down = patiently(async || Err::<(), _>(StoreError::Unavailable("down".to_owned()))).await;
        assert!(matches!(down, Err(StoreError::Unavailable(_))));
        assert!(began.elapsed() >= GIVE_UP_AFTER && began.elapsed() < GIVE_UP_AFTER + 2 * LONGEST_PAUSE);
    }
}
