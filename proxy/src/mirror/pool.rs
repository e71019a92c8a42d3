//! The mirror's own connections: opened when needed, kept for the next copy, never shared with users' requests.
//!
//! The one that was used last is used next, so that the surplus of a burst grows old and goes. A kept connection may be
//! closed by the target at the very moment when it is used again; hyper hands the request back if not one byte of it was
//! written, and then it goes out on a new one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Target;
use super::feed::CopyBody;
use crate::upstream::connect::To;

/// Idle connections to one target.
const IDLE_MAX: usize = 64;

/// Bytes that a connection buffers in each direction. What a target sends beyond it waits in the kernel until it was
/// looked at.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How often old connections are looked for.
pub(super) const TIDY: Duration = Duration::from_secs(5);

/// A way to send one request after the other. Dropping it ends the connection at once: hyper alone would first flush what
/// was written, which a target that does not read would put off for ever.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<CopyBody>,
    /// Where it leads, and with whom TLS was agreed on.
    to: To,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connections at rest, by where they lead.
#[derive(Debug, Default)]
pub(super) struct Pool(HashMap<SocketAddr, Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
}

impl Pool {
    /// The connection that was used last, if it still lives.
    pub(super) fn take(&mut self, to: &To) -> Option<Connection> {
        let idle = self.0.get_mut(&to.address)?;
        let now = Instant::now();
        while let Some(Idle { connection, until }) = idle.pop() {
            if now < until && connection.to.secures_like(to) && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose last answer has been read to its end.
    pub(super) fn keep(&mut self, target: &Target, connection: Connection) {
        let idle = self.0.entry(target.to.address).or_default();
        if idle.len() < IDLE_MAX && !connection.sender.is_closed() {
            idle.push(Idle {
                connection,
                until: Instant::now() + target.idle_timeout,
            });
        }
    }

    /// Closes what is too old.
    pub(super) fn tidy(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, idle| {
            idle.retain(|kept| now < kept.until && !kept.connection.sender.is_closed());
            !idle.is_empty()
        });
    }
}

/// Opens a connection.
///
/// # Errors
/// The label of what went wrong.
pub(super) async fn connect(target: &Target) -> Result<Connection, &'static str> {
    let socket = target.to.connect(&[]).await;
    let stream = socket.map_err(|failure| failure.consequence().reason)?;
    let handshake = Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(stream));
    let (sender, driver) = handshake.await.map_err(|_| "connect_failed")?;
    let driver = tokio::spawn(async move {
        // Whoever waits for an answer on it is told the same.
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a mirror's connection broke");
        }
    });
    Ok(Connection {
        sender,
        to: target.to.clone(),
        driver: driver.abort_handle(),
    })
}
