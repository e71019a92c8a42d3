//! The load's connections: as many as are needed at once, kept alive, bounded.
//!
//! Last in, first out: what is needed only at times sinks to the bottom and goes stale there, instead of being kept warm by
//! taking turns. So a connection that was idle for a while is asked whether it still stands; a request lost on a
//! connection that the proxy had every right to close would be the harness's failure and not the proxy's.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::net::TcpStream;

/// A connection that was idle for less is trusted without asking: that saves a system call per request.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// Connections of one load to one target.
pub(crate) struct Pool {
    target: SocketAddr,
    connections_max: usize,
    idle: RefCell<Vec<Connection>>,
    /// Idle ones and those in slots.
    open: Cell<usize>,
    peak: Cell<usize>,
}

/// One connection and its buffers, which live as long.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: BytesMut,
    pub(crate) request: Vec<u8>,
    idle_since: Instant,
}

/// The right to one connection. Dropping it gives the place back, also when a deadline drops the request half way.
pub(crate) struct Slot<'a> {
    pool: &'a Pool,
    idle: Cell<Option<Connection>>,
    kept: bool,
}

impl Pool {
    /// No connections yet.
    pub(crate) fn new(target: SocketAddr, connections_max: usize) -> Self {
        Self {
            target,
            connections_max,
            idle: RefCell::default(),
            open: Cell::new(0),
            peak: Cell::new(0),
        }
    }

    /// Most connections at the same time so far.
    pub(crate) fn peak(&self) -> usize {
        self.peak.get()
    }

    /// A place for one request. `None` when all connections that are allowed are busy.
    pub(crate) fn slot(&self) -> Option<Slot<'_>> {
        let idle = self.take_idle();
        if idle.is_none() && self.open.get() >= self.connections_max {
            return None;
        }
        self.open.set(self.open.get() + 1);
        self.peak.set(self.peak.get().max(self.open.get()));
        Some(Slot {
            pool: self,
            idle: Cell::new(idle),
            kept: false,
        })
    }

    /// An idle connection that still stands; its place is free then.
    fn take_idle(&self) -> Option<Connection> {
        loop {
            let connection = self.idle.borrow_mut().pop()?;
            self.open.set(self.open.get() - 1);
            if connection.idle_since.elapsed() < TRUSTED_IDLE {
                return Some(connection);
            }
            // Nothing may have arrived: neither an end nor bytes that nobody asked for.
            let silent = connection.stream.try_read(&mut [0]);
            if silent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Some(connection);
            }
        }
    }
}

impl Slot<'_> {
    /// The idle connection that came with the slot, or else a new one.
    pub(crate) async fn connection(&self) -> io::Result<Connection> {
        if let Some(connection) = self.idle.take() {
            return Ok(connection);
        }
        let stream = TcpStream::connect(self.pool.target).await?;
        stream.set_nodelay(true)?;
        let (buffer, request) = (BytesMut::with_capacity(1024), Vec::with_capacity(256));
        Ok(Connection {
            stream,
            buffer,
            request,
            idle_since: Instant::now(),
        })
    }

    /// Keeps the connection for the next request; it goes on taking its place.
    pub(crate) fn keep(mut self, mut connection: Connection) {
        self.kept = true;
        connection.idle_since = Instant::now();
        self.pool.idle.borrow_mut().push(connection);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.pool.open.set(self.pool.open.get() - 1);
        }
    }
}
