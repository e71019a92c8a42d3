//! The head of the next request, from the socket: read, checked, and within one deadline from its first byte to its last.
//!
//! Most heads come whole in the first read; those cost one read, one check, and no timer. The buffer is the worker's from
//! the first byte on, and goes with the head to whoever serves it.

use std::io::ErrorKind::{Interrupted, WouldBlock};

use bytes::{Buf, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::conn::Conn;
use super::local;
use crate::framing::{Head, HeadCheck, Limits, Refusal};

/// What most heads fit in, and many a small body behind them.
const HEAD_USUAL_BYTES: usize = 4 * 1024;

/// What has come.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A request: its head, and the bytes of that and no more.
    Request(Head, BytesMut),
    /// Nothing that will be served, and what has come of it.
    Refused(Refusal, BytesMut),
    /// Nothing yet, after all.
    Nothing,
    /// The client has gone.
    Gone,
}

/// Takes the next head from `conn`, which has something to read, and makes `conn` ready for the rest of the message.
pub(super) async fn arrive(conn: &mut Conn, limits: &Limits) -> Arrival {
    let mut bytes = conn.take_ahead();
    if bytes.is_empty() {
        bytes = local::head_room();
    }
    let mut check = HeadCheck::default();
    let mut deadline = None;
    loop {
        if !bytes.is_empty() {
            match check.advance(&bytes, limits) {
                Ok(None) => {}
                Ok(Some(head)) => return begin(conn, head, bytes, limits),
                Err(refusal) => return Arrival::Refused(refusal, bytes),
            }
        }
        // Grows by doubling, and no further than the check lets a head grow.
        bytes.reserve(HEAD_USUAL_BYTES);
        match conn.try_read(&mut bytes) {
            Ok(0) => return Arrival::Gone,
            Ok(_) => {}
            Err(error) if error.kind() == Interrupted => {}
            Err(error) if error.kind() != WouldBlock => return Arrival::Gone,
            Err(_) if bytes.is_empty() => {
                local::keep_head_room(bytes);
                return Arrival::Nothing;
            }
            Err(_) => {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + limits.head_timeout);
                // Boxed: most heads need no room for it, which the connection's task would keep.
                match Box::pin(timeout_at(deadline, conn.readable(false))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Arrival::Gone,
                    Err(_) => return Arrival::Refused(Refusal::HeadSlow, bytes),
                }
            }
        }
    }
}

fn begin(conn: &mut Conn, head: Head, mut bytes: BytesMut, limits: &Limits) -> Arrival {
    let ahead = match bytes.get(head.place.end..) {
        // Copied: splitting would make shared storage of it, at the price of an allocation, and no room for the next head.
        Some(rest @ [_, ..]) => {
            let mut ahead = local::head_room();
            ahead.extend_from_slice(rest);
            bytes.truncate(head.place.end);
            ahead
        }
        _ => BytesMut::new(),
    };
    bytes.advance(head.place.start);
    match conn.begin(&head, ahead, limits) {
        Ok(()) => Arrival::Request(head, bytes),
        Err(refusal) => Arrival::Refused(refusal, bytes),
    }
}
