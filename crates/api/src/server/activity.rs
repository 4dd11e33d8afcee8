//! When a connection is of no use any more.
//!
//! A client that says nothing, or a head that never ends, keeps a connection for nothing. hyper can bound the time of a
//! head, with a timer that every request sets anew, and neither the time before the first byte nor that of an answer
//! which nobody reads. Here a connection is looked at from time to time: it is of use if since the last look a request
//! began or some of an answer was taken, or if a request is in hand. (What a request itself may take is bounded where
//! it is dealt with.)

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// After how many looks at which nothing had happened it ends: longer than the 90 s for which clients of the usual
/// libraries keep a connection, so that the client ends it first and never sends into one that is being ended.
const LOOKS_MAX: u32 = 11;

/// What happens on a connection.
#[derive(Debug, Default)]
pub struct Activity {
    has_moved: AtomicBool,
    in_hand: AtomicU32,
}

impl Activity {
    /// A request begins, and is in hand until the answer is dropped.
    pub fn begin(self: &Arc<Self>) -> InHand {
        self.has_moved.store(true, Ordering::Relaxed);
        self.in_hand.fetch_add(1, Ordering::Relaxed);
        InHand(Arc::clone(self))
    }

    /// Ends when the connection should: when nothing has happened for long, or, while there `are_others_waiting`, for
    /// one look.
    pub async fn end(&self, are_others_waiting: impl Fn() -> bool) {
        let mut looks = 0;
        while looks < LOOKS_MAX && !(looks > 0 && are_others_waiting()) {
            sleep(LOOK_EVERY).await;
            let is_of_use = self.has_moved.swap(false, Ordering::Relaxed) || self.in_hand.load(Ordering::Relaxed) > 0;
            looks = if is_of_use { 0 } else { looks + 1 };
        }
    }
}

/// That a request is in hand.
#[derive(Debug)]
pub struct InHand(Arc<Activity>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that notes when something was written to it.
pub struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Watched {
    /// Notes it in `activity`.
    pub const fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.activity.has_moved.store(true, Ordering::Relaxed);
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    /// After how many seconds a connection ends on which that happens.
    async fn ends_after(activity: &Activity, are_others_waiting: bool) -> Option<u64> {
        let begun = Instant::now();
        timeout(Duration::from_mins(10), activity.end(|| are_others_waiting)).await.ok()?;
        Some(begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_nothing_happens_for_longer_than_clients_keep_it() {
        assert_eq!(ends_after(&Activity::default(), false).await, Some(110));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_soon_where_others_wait() {
        assert_eq!(ends_after(&Activity::default(), true).await, Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_counts_from_the_look_after_it() {
        let activity = Arc::new(Activity::default());
        drop(activity.begin());
        assert_eq!(ends_after(&activity, false).await, Some(120));
        drop(activity.begin());
        assert_eq!(ends_after(&activity, true).await, Some(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_hand_keeps_it_however_many_wait() {
        let activity = Arc::new(Activity::default());
        let in_hand = activity.begin();
        assert_eq!(ends_after(&activity, true).await, None);
        drop(in_hand);
        assert_eq!(ends_after(&activity, false).await, Some(110));
    }
}
