//! A new connection of HTTP/2 to an endpoint, from its first packet to its last.
//!
//! In the clear both sides know that they will speak it (RFC 9113 section 3.3). Over TLS they agree on it (ALPN `h2`): an
//! endpoint that agrees on anything else fails the handshake. One that agrees on nothing may speak it all the same; like
//! in the clear, it does once it has said so.

use std::future::{Future as _, poll_fn};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch as channel;
use tokio::time::timeout;

use super::watch::{Seen, Watched};
use super::{HEAD_BYTES_MAX, Link, Pool, SEND_BYTES_MAX, STREAM_WINDOW_BYTES, Target};
use crate::outcome::Failure;

/// Opens a connection for a pool, tells those who wait for it, and drives it to its end.
pub(super) async fn open(
    pool: Arc<Pool>,
    target: Target,
    tell: channel::Sender<Option<Result<(), Failure>>>,
) {
    let opened = match target.to.connect(&[]).await {
        Ok(socket) => {
            let descriptor = socket.tcp().as_raw_fd();
            match timeout(target.to.limit, begin(socket, descriptor, &target)).await {
                Ok(begun) => begun,
                Err(_) => Err(Failure::ConnectFailed),
            }
        }
        Err(failure) => Err(failure),
    };
    match opened {
        Ok((link, connection)) => {
            pool.keep(target.endpoint, link);
            drop(pool);
            tell.send_replace(Some(Ok(())));
            // How it ended, its streams have been told.
            let _ = connection.await;
        }
        Err(failure) => {
            tell.send_replace(Some(Err(failure)));
        }
    }
}

/// Begins HTTP/2 on a connection, and waits until its other end does.
async fn begin<T>(
    io: T,
    socket: RawFd,
    target: &Target,
) -> Result<(Link, Connection<Watched<T>, Bytes>), Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let seen = Arc::<Seen>::default();
    let handshake = builder(target.terms.streams).handshake(Watched::new(io, seen.clone()));
    let (send, mut connection) = handshake.await.map_err(|_| Failure::ConnectFailed)?;
    // There is room for no stream until the endpoint has said for how many.
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx).is_ready();
        match send.current_max_send_streams() {
            _ if ended => Poll::Ready(Err(Failure::ConnectFailed)),
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    })
    .await?;
    Ok((Link::new(target.to.clone(), send, socket, seen), connection))
}

fn builder(streams: usize) -> Builder {
    let streams = u32::try_from(streams).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES.saturating_mul(streams))
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX);
    builder
}
