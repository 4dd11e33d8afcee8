//! The request's body: read whole, within bounds, before anything else happens.
//!
//! A server that answers while the client is still writing closes the connection under it, and the client sees a reset
//! instead of the answer. So the body is always read to its end first, whatever the answer will be; what is beyond a
//! mebibyte is thrown away as it comes, and only beyond eight does the connection go. (Checking the key first would save
//! reading a body in vain, but only from those who have no key, and at that price.)

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use poem::http::header::{CONTENT_LENGTH, EXPECT};
use poem::{Body, Request};

use crate::limits::{BODY_MAX_BYTES, DRAIN_MAX_BYTES};
use crate::problem::{Code, Problem};

/// Replaces the body by its bytes.
pub async fn read(request: &mut Request, timeout: Duration) -> Result<(), Problem> {
    let body = request.take_body();
    if body.is_empty() {
        return Ok(());
    }
    if is_not_worth_reading(request) {
        return Err(Problem::new(Code::PayloadTooLarge));
    }
    let bytes = tokio::time::timeout(timeout, collect(body.into_bytes_stream()))
        .await
        .map_err(|_| Problem::new(Code::RequestTimeout))??;
    request.set_body(Body::from_bytes(bytes));
    Ok(())
}

/// Whether the client says that it will send more than is read in any case, or asks first and would send too much.
fn is_not_worth_reading(request: &Request) -> bool {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let max = if request.headers().contains_key(EXPECT) { BODY_MAX_BYTES } else { DRAIN_MAX_BYTES };
    length.is_some_and(|length| length > max as u64)
}

async fn collect<E>(chunks: impl Stream<Item = Result<Bytes, E>>) -> Result<Bytes, Problem> {
    let mut chunks = std::pin::pin!(chunks);
    let mut body = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = chunks.next().await {
        // The connection broke, or the body's framing is wrong: nobody may be left to see the answer.
        let chunk = chunk.map_err(|_| Problem::malformed("The body ended before its announced end.".into()))?;
        length += chunk.len();
        if length > DRAIN_MAX_BYTES {
            break;
        }
        if length > BODY_MAX_BYTES {
            (body, rest) = (Bytes::new(), BytesMut::new());
        } else if body.is_empty() && rest.is_empty() {
            // Nearly every body is a single chunk, which needs no copy.
            body = chunk;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut body));
            }
            rest.extend_from_slice(&chunk);
        }
    }
    match length {
        ..=BODY_MAX_BYTES if rest.is_empty() => Ok(body),
        ..=BODY_MAX_BYTES => Ok(rest.freeze()),
        _ => Err(Problem::new(Code::PayloadTooLarge)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;

    /// Collects so many bytes in chunks of that size; answers what came of it and how many bytes were taken.
    async fn collect_of(length: usize, chunk: usize) -> (Result<Bytes, Problem>, usize) {
        let taken = AtomicUsize::new(0);
        let chunks = (0..length).step_by(chunk).map(|start| {
            let bytes = Bytes::from(vec![u8::try_from(start / chunk % 256).unwrap(); chunk.min(length - start)]);
            taken.fetch_add(bytes.len(), Ordering::Relaxed);
            Ok::<_, std::io::Error>(bytes)
        });
        let collected = collect(stream::iter(chunks)).await;
        (collected, taken.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_body_of_up_to_a_mebibyte_arrives_whole_however_it_is_cut() {
        for chunk in [1000, 65536, BODY_MAX_BYTES] {
            let body = collect_of(BODY_MAX_BYTES, chunk).await.0.unwrap();
            assert_eq!(body.len(), BODY_MAX_BYTES);
            assert!(body.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i / chunk % 256), "{chunk}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_read_to_its_end_but_not_for_ever() {
        let (refused, taken) = collect_of(DRAIN_MAX_BYTES, 65536).await;
        assert_eq!((refused.unwrap_err().code(), taken), (Code::PayloadTooLarge, DRAIN_MAX_BYTES));
        let (refused, taken) = collect_of(4 * DRAIN_MAX_BYTES, 65536).await;
        assert_eq!((refused.unwrap_err().code(), taken), (Code::PayloadTooLarge, DRAIN_MAX_BYTES + 65536));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let body = Body::from_bytes_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let mut request = Request::builder().body(body);
        let refused = read(&mut request, Duration::from_millis(1)).await;
        assert_eq!(refused.unwrap_err().code(), Code::RequestTimeout);
    }

    #[tokio::test]
    async fn what_announces_itself_as_too_large_is_not_read() {
        let pending = || Body::from_bytes_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let mut huge = Request::builder().header(CONTENT_LENGTH, "8388609").body(pending());
        let mut asking =
            Request::builder().header(CONTENT_LENGTH, "1048577").header(EXPECT, "100-continue").body(pending());
        for request in [&mut huge, &mut asking] {
            let refused = read(request, Duration::from_mins(1)).await;
            assert_eq!(refused.unwrap_err().code(), Code::PayloadTooLarge);
        }
    }
}
