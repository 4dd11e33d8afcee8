//! What a server does while nobody asks: the sweep, which books what has come due.
//!
//! No answer depends on it ([`Store::sweep`] says why), so nothing here may end the server: a sweep that fails or panics
//! is logged, and the next one comes after the same pause.

use std::time::Duration;

use multicredit_store::{SWEEP_PAUSE, Store, StoreError, Swept};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long stopping waits for a sweep that is under way, of the five seconds that there are to close. One that takes
/// longer goes on while the store closes, which soon refuses what is left of it.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The task that sweeps. Where it is dropped instead of stopped, it ends by itself.
#[derive(Debug)]
pub struct Sweeper {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Sweeper {
    /// Sweeps at once, and then again and again with a pause in between.
    pub fn start(store: Store) -> Self {
        Self::repeat(move || {
            let store = store.clone();
            async move { store.sweep().await }
        })
    }

    fn repeat<W>(sweep: impl Fn() -> W + Send + 'static) -> Self
    where
        W: Future<Output = Result<Swept, StoreError>> + Send + 'static,
    {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                // A task of its own, so that a panic ends this sweep and no other.
                match tokio::spawn(sweep()).await {
                    Ok(Ok(swept)) => tracing::debug!(settled = swept.settled, failed = swept.failed, "swept"),
                    Ok(Err(error)) => tracing::warn!(%error, "a sweep failed"),
                    Err(error) => tracing::error!(%error, "a sweep ended abruptly"),
                }
                // Anything but the end of the pause is the end.
                if timeout(SWEEP_PAUSE, &mut stopped).await.is_ok() {
                    return;
                }
            }
        });
        Self { stop, task }
    }

    /// Begins no further sweep, and waits for the one that may be under way.
    pub async fn stop(self) {
        drop(self.stop);
        if timeout(STOP_PATIENCE, self.task).await.is_err() {
            tracing::warn!("a sweep was still under way when the server stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    /// A sweeper that counts its sweeps; the first fails and the second panics.
    fn counting() -> (Sweeper, impl Fn() -> u32) {
        let count = Arc::new(AtomicU32::new(0));
        let sweeper = Sweeper::repeat({
            let count = count.clone();
            move || {
                let number = count.fetch_add(1, Ordering::SeqCst);
                async move {
                    assert_ne!(number, 1, "the second sweep panics");
                    if number == 0 { Err(StoreError::Busy) } else { Ok(Swept::default()) }
                }
            }
        });
        (sweeper, move || count.load(Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_follow_each_other_whatever_becomes_of_them_until_it_is_stopped() {
        let (sweeper, count) = counting();
        sleep(SWEEP_PAUSE / 2).await;
        assert_eq!(count(), 1);
        sleep(SWEEP_PAUSE * 3).await;
        assert_eq!(count(), 4);
        let asked_at = Instant::now();
        sweeper.stop().await;
        assert_eq!(asked_at.elapsed(), Duration::ZERO, "the pause is not waited for");
        sleep(SWEEP_PAUSE * 3).await;
        assert_eq!(count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_that_hangs_does_not_keep_the_server_from_stopping() {
        let sweeper = Sweeper::repeat(std::future::pending);
        sleep(SWEEP_PAUSE).await;
        let asked_at = Instant::now();
        sweeper.stop().await;
        assert_eq!(asked_at.elapsed(), STOP_PATIENCE);
    }
}
