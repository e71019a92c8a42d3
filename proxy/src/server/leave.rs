//! The orderly end of a connection: so that a client who is told why can read it.
//!
//! A socket that is closed while bytes of the client are unread makes the kernel send a reset, and a reset throws away
//! what the client has not read yet: the very answer. So our side is closed first, and what still comes is read and
//! dropped, for a while and up to a bound. Source: RFC 9112 section 9.6.

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderValue;
use pingora_core::protocols::http::date::get_cached_date;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::conn::Conn;
use crate::framing::{Limits, Refusal};
use crate::policy::pages::Shown;

/// How long a client gets to read why, and to stop sending.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How much he may send meanwhile.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// What of a message that nobody read is read and dropped, so that the connection can live on. What is more costs more
/// than a new connection.
pub(crate) const LEFT_OVER_BYTES_MAX: u64 = 64 * 1024;

/// What a client is told who is turned away. The date is the one that this thread gives to all its answers: written once
/// per second, and by pingora into those that pass through it.
pub(super) fn answer(refusal: Refusal, page: Option<&Shown>) -> Vec<u8> {
    refusal.answer(date().to_str().unwrap_or_default(), page)
}

/// What time it is, as heads of messages tell it.
pub(crate) fn date() -> HeaderValue {
    get_cached_date()
}

/// Tells the client why, in one line or by a page, and closes.
pub(super) async fn turn_away(mut conn: Conn, refusal: Refusal, page: Option<Shown>) {
    let deadline = Instant::now() + LINGER_MAX;
    let answer = answer(refusal, page.as_ref());
    let mut rest = answer.as_slice();
    while !rest.is_empty() {
        match conn.try_write(rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == WouldBlock => {
                if !matches!(timeout_at(deadline, conn.writable()).await, Ok(Ok(()))) {
                    return conn.abort();
                }
            }
            Err(error) if error.kind() == Interrupted => {}
            Err(_) => return,
        }
    }
    linger(conn).await;
}

/// Closes after an answer.
pub(crate) async fn linger(mut conn: Conn) {
    if conn.shutdown().await.is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER_MAX;
    let mut bytes = BytesMut::with_capacity(16 * 1024);
    let mut dropped = 0;
    while dropped < LINGER_BYTES_MAX {
        bytes.clear();
        match conn.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(n) => dropped += n,
            Err(error) if error.kind() == Interrupted => {}
            // A client who has been answered and has nothing more to say needs no waiting for.
            Err(error) if error.kind() == WouldBlock && conn.is_between_messages() => return,
            Err(error) if error.kind() == WouldBlock => {
                if !matches!(timeout_at(deadline, conn.readable(false)).await, Ok(Ok(()))) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Reads and drops what is left of a message that was answered before its end. False where that is too much or takes
/// too long.
pub(crate) async fn skip_left_over(conn: &mut Conn, limits: &Limits) -> bool {
    conn.skip_mine();
    if conn.is_between_messages() {
        return true;
    }
    let deadline = Instant::now() + limits.head_timeout;
    let mut bytes = vec![0; 4 * 1024];
    let mut left = LEFT_OVER_BYTES_MAX;
    while !conn.is_between_messages() {
        match timeout_at(deadline, conn.read(&mut bytes)).await {
            Ok(Ok(n @ 1..)) if n as u64 <= left => left -= n as u64,
            _ => return false,
        }
    }
    true
}
