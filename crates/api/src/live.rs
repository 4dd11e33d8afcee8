//! Live balances: server-sent events of what moves an organization's credits.
//!
//! A stream is asked for by its reader: it reads a page of the ledger when the one before has been taken, and holds no more
//! than that, however slow the reader is and however fast credits move. In between it waits until this process has moved
//! credits, or hears of somebody who has, and looks by itself once a second for what it does not hear of. The id of an event
//! is the movement's number, so whoever comes back with the last one goes on where they were.
//!
//! Streams end: when the server stops, so that stopping waits for none; and after a few minutes, so that a key that was
//! revoked sees no more than that. Browsers and libraries come back by themselves.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use multicredit_domain::OrganizationId;
use multicredit_store::{LiveBalance, LivePlace, Store, StoreError};
use poem::http::{HeaderName, HeaderValue};
use poem::{Body, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::app::Context;
use crate::limits::{
    STREAM_HEARTBEAT, STREAM_LIFETIME, STREAM_PAGE, STREAM_PAUSE_MAX, STREAM_PAUSE_MIN, STREAMS_MAX,
    STREAMS_OF_ORGANIZATION_MAX,
};
use crate::problem::{Code, Problem};
use crate::resource::{balance_event, movement_event};

/// The media type of a stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// Tells nginx to pass on what comes, when it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a stream begins with: after how many milliseconds to come back when it has ended.
const RETRY: &str = "retry: 1000\n\n";

/// A comment, which readers ignore: the connection is alive.
const HEARTBEAT: &str = ": heartbeat\n\n";

/// The streams that are open.
#[derive(Debug)]
pub struct Streams {
    seats: Arc<Semaphore>,
    by_organization: Arc<Mutex<HashMap<OrganizationId, usize>>>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { seats: Arc::new(Semaphore::new(STREAMS_MAX)), by_organization: Arc::default() }
    }
}

/// The place of one stream among them, given up when it ends.
struct Seat {
    organization_id: OrganizationId,
    by_organization: Arc<Mutex<HashMap<OrganizationId, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Streams {
    fn take(&self, organization_id: OrganizationId) -> Result<Seat, Problem> {
        let permit = Arc::clone(&self.seats).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::new(Code::Overloaded))?;
        let mut counts = self.by_organization.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(organization_id).or_default();
        if *count >= STREAMS_OF_ORGANIZATION_MAX {
            return Err(Problem::new(Code::TooManyRequests));
        }
        *count += 1;
        drop(counts);
        Ok(Seat { organization_id, by_organization: Arc::clone(&self.by_organization), _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.by_organization.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.organization_id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.organization_id);
            }
        }
    }
}

/// A stream.
struct Live {
    store: Store,
    organization_id: OrganizationId,
    place: LivePlace,
    /// What it begins with, until that was sent.
    beginning: Option<Bytes>,
    moves: watch::Receiver<()>,
    is_ready: watch::Receiver<bool>,
    ends_at: Instant,
    /// When it last looked and had seen everything.
    looked_at: Option<Instant>,
    _seat: Seat,
}

/// Opens a stream of an organization, after the movement `last` where somebody comes back, else from now on.
pub async fn open(context: &Context, organization_id: OrganizationId, last: Option<i64>) -> Result<Response, Problem> {
    let state = context.state();
    let seat = state.streams.take(organization_id)?;
    // Before the first look: what is moved after it is seen by it or wakes it.
    let moves = state.store.moves();
    let resumed = match last {
        Some(last) => state.store.live_place(organization_id, last).await?,
        None => None,
    };
    let (place, beginning) = if let Some(place) = resumed {
        (place, RETRY.to_owned())
    } else {
        let LiveBalance { place, balance } = state.store.live_balance(organization_id).await?;
        (place, format!("{RETRY}{}", event("balance", place.sequence, &balance_event(place.sequence, balance))))
    };
    let live = Live {
        store: state.store.clone(),
        organization_id,
        place,
        beginning: Some(beginning.into()),
        moves,
        is_ready: state.settings.readiness.watch(),
        ends_at: Instant::now() + STREAM_LIFETIME,
        looked_at: None,
        _seat: seat,
    };
    let body = Body::from_bytes_stream(stream::unfold(live, Live::next));
    let mut response = Response::builder().content_type(CONTENT_TYPE).body(body);
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

impl Live {
    /// What is sent next; `None` ends the stream.
    async fn next(mut self) -> Option<(Result<Bytes, io::Error>, Self)> {
        if let Some(beginning) = self.beginning.take() {
            return Some((Ok(beginning), self));
        }
        let quiet_until = Instant::now() + STREAM_HEARTBEAT;
        loop {
            if !self.wait().await || Instant::now() >= self.ends_at {
                return None;
            }
            match self.read().await {
                Ok(Some(text)) => return Some((Ok(text), self)),
                Ok(None) if Instant::now() >= quiet_until => return Some((Ok(HEARTBEAT.into()), self)),
                Ok(None) => {}
                Err(error) => {
                    // Whoever reads comes back with what was last seen.
                    tracing::warn!(organization = %self.organization_id, %error, "a stream of events was ended");
                    return None;
                }
            }
        }
    }

    /// Waits until it is worth a look. Answers whether the server still wants to serve.
    async fn wait(&mut self) -> bool {
        let Self { moves, is_ready, looked_at, .. } = self;
        let worth_it = async {
            if let Some(looked_at) = looked_at {
                sleep_until(*looked_at + STREAM_PAUSE_MIN).await;
                // That nothing happened is the usual end.
                let _ = timeout_at(*looked_at + STREAM_PAUSE_MAX, moves.changed()).await;
            }
        };
        // A server that is gone wants nothing either.
        let stopping = async { drop(is_ready.wait_for(|is_ready| !is_ready).await) };
        tokio::select! {
            biased;
            () = stopping => false,
            () = worth_it => true,
        }
    }

    /// The next page of events, if anything has happened.
    async fn read(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.moves.mark_unchanged();
        let movements = self.store.movements_after(self.organization_id, self.place, STREAM_PAGE).await?;
        // A full page is followed by the next at once.
        let is_full = movements.len() as u64 >= STREAM_PAGE;
        self.looked_at = (!is_full).then(Instant::now);
        let Some(last) = movements.last() else { return Ok(None) };
        self.place = LivePlace::after(last);
        let events = movements.into_iter().map(|movement| {
            let sequence = movement.sequence;
            event("movement", sequence, &movement_event(movement))
        });
        Ok(Some(events.collect::<String>().into()))
    }
}

/// An event. The data is JSON, which has no line breaks.
pub fn event(name: &str, id: i64, data: &str) -> String {
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_organization_cannot_take_every_seat_and_all_together_cannot_take_more_than_there_are() {
        let streams = Streams::default();
        let id = |number: usize| OrganizationId::new(Uuid::from_u128(number as u128));
        let mut seats = Vec::new();
        while let Ok(seat) = streams.take(id(0)) {
            seats.push(seat);
        }
        assert_eq!(seats.len(), STREAMS_OF_ORGANIZATION_MAX);
        let refusal = |number| streams.take(id(number)).err().map(|problem| problem.code());
        assert_eq!(refusal(0), Some(Code::TooManyRequests));
        seats.extend((1..).map_while(|number| streams.take(id(number)).ok()));
        assert_eq!(seats.len(), STREAMS_MAX);
        assert_eq!(refusal(9_999_999), Some(Code::Overloaded));
        seats.truncate(1);
        assert_eq!(streams.by_organization.lock().unwrap().len(), 1, "who has left is forgotten");
        assert_eq!(refusal(0), None);
    }
}
