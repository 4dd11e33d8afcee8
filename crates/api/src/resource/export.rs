//! Whole lists as CSV, sent while they are read.
//!
//! Nothing of a list is kept but the page at hand, however long it is. A task of its own reads: a caller that hangs up
//! only ends the sending, and no database call is dropped half-way. It is a page or two ahead of the caller and no more.

use std::io;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use multicredit_store::{Page, PageRequest, StoreError};
use poem::Body;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::payload::lines;
use crate::problem::Problem;

/// How many rows are read at once.
const PAGE_ROWS: u32 = 1_000;

/// How many pages may wait for the caller.
const PAGES_AHEAD: usize = 2;

/// A list from `after` on to its end, with a header. The first page is read before anything is answered, so that what is
/// wrong with the request is said as a problem; a failure after that cuts the answer off.
pub async fn csv<T, P, R, F>(
    header: &'static [&'static str],
    after: Option<P>,
    read: F,
    record: fn(T) -> R,
) -> Result<Body, Problem>
where
    T: Send + 'static,
    P: Send + 'static,
    R: Serialize + 'static,
    F: Fn(PageRequest<P>) -> BoxFuture<'static, Result<Page<T, P>, StoreError>> + Send + 'static,
{
    let mut page = read(PageRequest { after, limit: PAGE_ROWS }).await?;
    let mut chunk = lines(page.items.into_iter().map(record), Some(header))?;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PAGES_AHEAD);
    tokio::spawn(async move {
        loop {
            if sender.send(Ok(chunk)).await.is_err() {
                return;
            }
            let Some(next) = page.next.take() else { return };
            let read = read(PageRequest { after: Some(next), limit: PAGE_ROWS }).await;
            let read = read.map_err(|error| error.to_string()).and_then(|next| {
                page.next = next.next;
                lines(next.items.into_iter().map(record), None).map_err(|problem| format!("{problem:?}"))
            });
            chunk = match read {
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::error!(%error, "an export was cut off");
                    let _ = sender.send(Err(io::Error::other(error))).await;
                    return;
                }
            };
        }
    });
    let chunks = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    Ok(Body::from_bytes_stream(chunks))
}
